"""From a decoder's top layer to the features that the output layer reads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nmt.activations import tanh
from nmt.products import Prepare, Product, plain


class Readout(nn.Module):
    """features = tanh(W [h; context; x] + b), of whichever it is told to read; h itself where that is h alone.

    With h and context: the attentional state of Luong et al. 2015, eq. 5. With all three: a deep output layer in the
    manner of Bahdanau et al. 2015, appendix A.2.2, with tanh in place of maxout. A size of 0 leaves a part out.
    """

    def __init__(self, hidden_size: int, context_size: int, embedding_size: int) -> None:
        super().__init__()
        self._reads_context = context_size > 0
        self.embedded_size = hidden_size if embedding_size else 0
        """Of what x adds."""
        self._embedding_size = embedding_size
        extra = context_size + embedding_size
        self.mix = nn.Linear(hidden_size + extra, hidden_size) if extra else None

    def forward(self, h: Tensor, context: Tensor, x: Tensor) -> Tensor:
        """``[..., H]``, ``[..., D]`` and ``[..., E] -> [..., H]``."""
        if self.mix is None:
            return h
        parts = [h, *([context] if self._reads_context else []), *([x] if self._embedding_size else [])]
        return tanh(self.mix(torch.cat(parts, -1)))

    def apart(self, how: Prepare = plain) -> tuple[Product | None, Callable[[Tensor, Tensor, Tensor], Tensor]]:
        """`forward` in two functions: of all steps' x ``[..., E]``, to what they add before tanh, ``[..., H]``, or None
        where x isn't read; and then of h, context and that, which is ignored there.
        """
        mix = self.mix
        if mix is None or not self._embedding_size:
            return None, self
        size = mix.weight.shape[1] - self._embedding_size
        rest, embedding = mix.weight.split([size, self._embedding_size], 1)
        of_rest, of_embedding = how(rest, None), how(embedding, mix.bias)

        def features(h: Tensor, context: Tensor, added: Tensor) -> Tensor:
            read = torch.cat([h, context], -1) if self._reads_context else h
            return tanh(added + of_rest(read))

        return of_embedding, features
