"""The log-probability of given translations, by the model that searches for them."""

from __future__ import annotations

import torch
from torch import Tensor

from nmt.model.seq2seq import Seq2Seq


@torch.inference_mode()
def score(
    model: Seq2Seq, source: Tensor, source_lengths: Tensor, target: Tensor, target_lengths: Tensor
) -> list[float]:
    """Log-probability of each target sentence in nats, the end mark counted: what search gives the same tokens.

    `source` ``[B, S]`` and `target` ``[B, T]`` with their marks, lengths ``[B]`` on the CPU.
    """
    features = model(source, source_lengths, target[:, :-1])
    totals = []
    for row, length in enumerate((target_lengths - 1).tolist()):
        logits = model.decoder.logits(features[row, :length])  # [T, V]: a sentence at a time keeps them small
        log_p = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), -1)
        totals.append(float(log_p.gather(1, target[row, 1 : length + 1, None]).sum()))
    return totals
