"""From a decoder's top layer to the features that the output layer reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nmt.activations import tanh
from nmt.products import Prepare, Product, plain


class Parts(NamedTuple):
    """A readout in parts, for what is computed before its step."""

    of_embedding: Product | None
    """Of x ``[..., E]``, to what it adds before tanh, ``[..., H]``; None where x isn't read."""
    of_value: Product | None
    """Of an attention's values ``[..., D]``, to what their mean adds before tanh, ``[..., H]``; None where the context
    itself is read, or none."""
    features: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Of h, the mean of values or the context, and what x adds (ignored where x isn't read)."""


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

    def apart(self, how: Prepare = plain, *, averaged: bool = False) -> Parts:
        """`forward` in parts; the context's is apart where it is `averaged`: a mean of values."""
        mix, averaged = self.mix, averaged and self._reads_context
        if mix is None or not (self._embedding_size or averaged):
            return Parts(None, None, self)
        rest_size = mix.weight.shape[1] - self._embedding_size
        rest, embedding = mix.weight.split([rest_size, self._embedding_size], 1)
        of_embedding = how(embedding, mix.bias) if self._embedding_size else None
        bias = None if of_embedding else mix.bias
        size = rest.shape[0] if averaged else rest_size
        of_value = how(rest[:, size:], None) if averaged else None
        of_rest = how(rest[:, :size], bias)

        def features(h: Tensor, context: Tensor, added: Tensor) -> Tensor:
            if averaged:
                total = of_rest(h) + context
            else:
                total = of_rest(torch.cat([h, context], -1) if self._reads_context else h)
            return tanh(total if of_embedding is None else added + total)

        return Parts(of_embedding, of_value, features)
