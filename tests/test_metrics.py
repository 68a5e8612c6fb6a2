"""The metrics: sacrebleu's own numbers, with the signatures that say how they were made."""

import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.errors import UserError
from nmt.evaluation.metrics import measure

REFERENCES = ["The cat sat on the mat.", "He didn't go, did he?", "Nothing here."]


def values(hypotheses: list[str], references: list[str] = REFERENCES) -> dict[str, float]:
    return {each.name: each.value for each in measure(hypotheses, references, ter=True)}


def test_the_references_themselves_are_perfect() -> None:
    assert values(REFERENCES) == pytest.approx({"BLEU": 100, "BLEU lowercased": 100, "chrF": 100, "TER": 0})


def test_case_counts_except_where_it_is_said_not_to() -> None:
    found = values([line.upper() for line in REFERENCES])
    assert found["BLEU lowercased"] == pytest.approx(100)
    assert found["BLEU"] < 50
    assert "|case:mixed|" in measure(REFERENCES, REFERENCES)[0].signature
    assert "|case:lc|" in measure(REFERENCES, REFERENCES)[1].signature


def test_bleu_follows_its_formula() -> None:
    # Five of six words, four of five pairs, three of four, two of three; six words for seven (Papineni et al. 2002).
    found = values(["the cat sat on the rug"], ["the cat sat on the mat today"])
    precisions = math.log(5 / 6) + math.log(4 / 5) + math.log(3 / 4) + math.log(2 / 3)
    assert found["BLEU"] == pytest.approx(100 * math.exp(precisions / 4 + 1 - 7 / 6))


@pytest.mark.parametrize("options", [[], ["--lowercase"]])
def test_random_lines_are_measured_as_by_sacrebleus_own_command(tmp_path: Path, options: list[str]) -> None:
    draw = random.Random(3)
    words = ["the", "The", "cat", "sat", "l'eau", "«", "1,000.5", "&quot;", "naïve-té", "日本", ".", "?!", "\u2028", ""]
    hypotheses, references = ([" ".join(draw.choices(words, k=draw.randint(0, 15))) for _ in range(40)] for _ in "ht")
    (tmp_path / "references").write_text("".join(f"{line}\n" for line in references))
    (tmp_path / "hypotheses").write_text("".join(f"{line}\n" for line in hypotheses))
    command = [sys.executable, "-m", "sacrebleu", "references", "-i", "hypotheses", "-b", "-w", "10", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    ours = values(hypotheses, references)["BLEU lowercased" if options else "BLEU"]
    assert float(done.stdout) == pytest.approx(ours, abs=1e-9)


def test_ter_is_measured_where_asked_for() -> None:
    assert [each.name for each in measure(REFERENCES, REFERENCES)] == ["BLEU", "BLEU lowercased", "chrF"]
    assert [each.name for each in measure(REFERENCES, REFERENCES, ter=True)][3:] == ["TER"]


def test_sides_of_different_length_and_empty_ones_are_refused() -> None:
    with pytest.raises(UserError, match="2 translations for 3 references; line n of both must belong together"):
        measure(REFERENCES[:2], REFERENCES)
    with pytest.raises(UserError, match="nothing to measure"):
        measure([], [])
