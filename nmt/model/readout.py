"""From a decoder's top layer to the features that the output layer reads."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.activations import tanh


class Readout(nn.Module):
    """features = tanh(W [h; context; x] + b), of whichever it is told to read; h itself where that is h alone.

    With h and context: the attentional state of Luong et al. 2015, eq. 5. With all three: a deep output layer in the
    manner of Bahdanau et al. 2015, appendix A.2.2, with tanh in place of maxout. A size of 0 leaves a part out.
    """

    def __init__(self, hidden_size: int, context_size: int, embedding_size: int) -> None:
        super().__init__()
        self._reads_context = context_size > 0
        self._reads_embedding = embedding_size > 0
        self._embedding_size = embedding_size
        extra = context_size + embedding_size
        self.mix = nn.Linear(hidden_size + extra, hidden_size) if extra else None

    def forward(self, h: Tensor, context: Tensor, x: Tensor) -> Tensor:
        """``[..., H]``, ``[..., D]`` and ``[..., E] -> [..., H]``."""
        if self.mix is None:
            return h
        parts = [h, *([context] if self._reads_context else []), *([x] if self._reads_embedding else [])]
        return tanh(self.mix(torch.cat(parts, -1)))

    def apart(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]:
        """`forward` in two functions: of all steps' x ``[..., E]``, to what they add before tanh, ``[..., H]``, or
        ``[..., 0]`` where they aren't read; and then of h, context and that.
        """
        mix = self.mix
        if mix is None or not self._reads_embedding:
            return lambda xs: xs[..., :0], self
        size = mix.weight.shape[1] - self._embedding_size
        of_rest, of_embedding = mix.weight.split([size, self._embedding_size], 1)

        def features(h: Tensor, context: Tensor, added: Tensor) -> Tensor:
            read = torch.cat([h, context], -1) if self._reads_context else h
            return tanh(added + F.linear(read, of_rest))

        return lambda xs: F.linear(xs, of_embedding, mix.bias), features
