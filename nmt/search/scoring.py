"""The log-probability of given translations, by the model that searches for them."""

from __future__ import annotations

import torch
from torch import Tensor

from nmt.model.seq2seq import Seq2Seq

CHUNK = 512
"""Tokens whose log-probabilities are held at a time."""


@torch.inference_mode()
def score(
    model: Seq2Seq, source: Tensor, source_lengths: Tensor, target: Tensor, target_lengths: Tensor
) -> list[float]:
    """Log-probability of each target sentence in nats, the end mark counted: up to rounding, what search over the whole
    vocabulary gives the same tokens.

    `source` ``[B, S]`` and `target` ``[B, T]`` with their marks, lengths ``[B]`` on the CPU.
    """
    features = model(source, source_lengths, target[:, :-1])
    parts: list[Tensor] = []
    rows: list[int] = []
    for row, length in enumerate((target_lengths - 1).tolist()):
        for start in range(0, length, CHUNK):  # [T, V] of a part of one sentence is all that there is at a time
            end = min(start + CHUNK, length)
            logits = model.decoder.logits(features[row, start:end])
            log_p = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), -1)
            parts.append(log_p.gather(1, target[row, start + 1 : end + 1, None]).sum())
            rows.append(row)
    totals = [0.0] * len(target_lengths)
    known = torch.stack(parts).tolist() if parts else []  # all at once, for it waits for a GPU
    for row, part in zip(rows, known, strict=True):
        totals[row] += part
    return totals
