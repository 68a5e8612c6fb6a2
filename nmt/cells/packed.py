"""oneDNN's own recurrence by weights that are laid out once: for translating.

A sentence's outputs are the same to the last bit whatever other sentences there are, however long, and however many
threads share the work.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.products import Recurrences

Reading = Callable[[Tensor], Tensor]
"""Inputs of all steps ``[B, T, I]`` -> outputs ``[B, T, H]`` from a state of zeros on; padding is read like others."""

_LSTM = 2  # among torch's kinds of recurrences


def packed_lstm(input_weight: Tensor, recurrent_weight: Tensor, bias: Tensor, how: Recurrences) -> Reading:
    """The outputs of an LSTM with W ``[4H, I]``, R ``[4H, H]`` and b ``[4H]``, its gates in torch's order (i, f, g, o).

    In bf16, c and the gates are fp32 and h is rounded each step, as it is where a step is a product of its own.
    """
    size = recurrent_weight.shape[1]
    # Of inputs as large as the outputs, oneDNN adds up a single sentence in another order than two: one input more.
    extra = 1 if input_weight.shape[1] == size else 0
    weights = [F.pad(input_weight.detach(), (0, extra)).to(how.dtype), recurrent_weight.detach().to(how.dtype)]
    packed = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(*weights, size, False, True, False, None)
    bias = bias.detach().float()
    none = torch.zeros_like(bias)

    @torch.no_grad()  # where a gradient could be asked for, oneDNN computes in another way
    def read(xs: Tensor) -> Tensor:
        steps = F.pad(xs, (0, extra)).to(how.dtype).transpose(0, 1).contiguous()  # [T, B, I]
        h = steps.new_zeros(len(xs), size)
        with how.shared(len(xs) * recurrent_weight.numel()):
            ys, *_ = torch.ops.aten.mkldnn_rnn_layer(
                steps, *packed, bias, none, h, h.float(), False, [], _LSTM, size, 1, True, False, False, False
            )
        outputs: Tensor = ys.transpose(0, 1).float()  # [B, T, H]
        return outputs

    return read
