"""From a decoder's top layer to the features that the output layer reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Readout(nn.Module):
    """features = tanh(W [h; context; x] + b), of whichever it is told to read; h itself where that is h alone.

    With h and context: the attentional state of Luong et al. 2015, eq. 5. With all three: a deep output layer in the
    manner of Bahdanau et al. 2015, appendix A.2.2, with tanh in place of maxout. A size of 0 leaves a part out.
    """

    def __init__(self, hidden_size: int, context_size: int, embedding_size: int) -> None:
        super().__init__()
        self._reads_context = context_size > 0
        self._reads_embedding = embedding_size > 0
        extra = context_size + embedding_size
        self.mix = nn.Linear(hidden_size + extra, hidden_size) if extra else None

    def forward(self, h: Tensor, context: Tensor, x: Tensor) -> Tensor:
        """``[..., H]``, ``[..., D]`` and ``[..., E] -> [..., H]``."""
        if self.mix is None:
            return h
        parts = [h, *([context] if self._reads_context else []), *([x] if self._reads_embedding else [])]
        return torch.tanh(self.mix(torch.cat(parts, -1)))
