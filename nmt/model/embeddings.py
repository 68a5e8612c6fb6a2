"""Tokens to vectors, and back to scores over the vocabulary."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.products import Prepare, Product, plain


class TokenEmbedding(nn.Module):
    """A vector for each token: ``[...] -> [..., E]``.

    With `tied_output`, the output layer made from it scores tokens by the same vectors (Press and Wolf 2017).
    With `within`, its vectors are the first ones of that embedding.
    """

    def __init__(
        self, vocab_size: int, size: int, *, tied_output: bool = False, within: TokenEmbedding | None = None
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.size = size
        self.weight: Tensor = nn.Embedding(vocab_size, size).weight if within is None else within.weight
        self._tied_output = tied_output

    def forward(self, tokens: Tensor) -> Tensor:
        """``[...]`` int64 -> ``[..., E]``."""
        return F.embedding(tokens, self.weight)

    def output_layer(self, features_size: int) -> OutputLayer:
        """The output layer over the same vocabulary, tied or not."""
        return OutputLayer(features_size, self.vocab_size, tied=self if self._tied_output else None)


class OutputLayer(nn.Module):
    """Features to logits over the vocabulary: ``[..., H] -> [..., V]``.

    `narrow` and `vectors` are apart so that a loss can make the logits piece by piece. Tied to embeddings of another
    size than the features, it first projects them to that size.
    """

    def __init__(self, features_size: int, vocab_size: int, *, tied: TokenEmbedding | None) -> None:
        super().__init__()
        fits = tied is None or tied.size == features_size
        self.to_embedding = None if fits or tied is None else nn.Linear(features_size, tied.size, bias=False)
        self.weight = nn.Linear(features_size, vocab_size).weight if tied is None else tied.weight
        self.bias = nn.Parameter(self.weight.new_zeros(vocab_size))
        self._prepare: Prepare = plain
        self._product: Product | None = None
        self._shared: tuple[Tensor, Product] | None = None

    @property
    def vectors(self) -> Tensor:
        """``[V, E]``, one for each token: all of `weight`, unless it has those of further tokens too."""
        return self.weight if len(self.weight) == len(self.bias) else self.weight[: len(self.bias)]

    def prepare(self, prepare: Prepare) -> None:
        """Multiply by prepared weights from now on, as `PreparedLinear` does."""
        self._prepare = prepare
        self._product = prepare(self.vectors, self.bias)

    def over(self, shared: Tensor, further: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """The output layer for some of the tokens, ``[A]`` and ``[F]``: ``[R, H]`` -> ``[R, A]`` and ``[R, F]``.

        Not for training. Once weights are prepared, those of the `shared` tokens are kept for the next call.
        """
        kept = self._shared
        if kept is None or not torch.equal(kept[0], shared):
            kept = shared, self._of(shared)
            self._shared = None if self._product is None else kept
        first, second = kept[1], self._of(further) if len(further) else None

        def products(features: Tensor) -> tuple[Tensor, Tensor]:
            rows = self.narrow(features)
            found = first(rows)
            return found, found[:, :0] if second is None else second(rows)

        return products

    def _of(self, tokens: Tensor) -> Product:
        tokens = tokens.to(self.weight.device)
        return self._prepare(self.weight.index_select(0, tokens), self.bias.index_select(0, tokens))

    def narrow(self, features: Tensor) -> Tensor:
        """``[..., H]`` -> what `vectors` are multiplied with: ``[..., E]`` where tied and of another size."""
        return features if self.to_embedding is None else self.to_embedding(features)

    def forward(self, features: Tensor) -> Tensor:
        """``[..., H] -> [..., V]``."""
        rows = self.narrow(features)
        return F.linear(rows, self.vectors, self.bias) if self._product is None else self._product(rows)
