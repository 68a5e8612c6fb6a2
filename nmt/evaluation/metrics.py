"""Translations against references, by sacrebleu. The only importer of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from nmt.errors import UserError


@dataclass(frozen=True)
class Measured:
    """A metric's value with the signature that says how it was made."""

    name: str
    value: float
    signature: str


def measure(hypotheses: Sequence[str], references: Sequence[str], *, ter: bool = False) -> tuple[Measured, ...]:
    """Corpus BLEU (13a, cased), the same lowercased, chrF and, where asked for (it is slow), TER.

    Raises UserError where there are not as many references as hypotheses, or none.
    """
    if len(hypotheses) != len(references):
        problem = f"{len(hypotheses):,} translations for {len(references):,} references"
        raise UserError(problem, "line n of both must belong together")
    if not hypotheses:
        raise UserError("nothing to measure: no translation", "give at least one line")
    metrics = {
        "BLEU": BLEU(),
        # sacrebleu warns of hypotheses that look tokenised; the user's are what they are.
        "BLEU lowercased": BLEU(lowercase=True, force=True),
        "chrF": CHRF(),
        **({"TER": TER()} if ter else {}),
    }
    measured = []
    for name, metric in metrics.items():
        value = metric.corpus_score(list(hypotheses), [list(references)])
        measured.append(Measured(name, float(value.score), str(metric.get_signature())))
    return tuple(measured)
