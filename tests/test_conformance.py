"""Every installed component keeps its contract: the conformance kit run on everything a recipe can name."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmt.registry import CELL, DECODER, ENCODER, KINDS, available, load
from nmt.testing import Check, check_corpus, checks, needs_options
from nmt.text.datasets import DatasetsCorpus
from nmt.text.files import FilesCorpus

VARIANTS = [
    *((kind, name, {}) for kind in KINDS for name in available(kind)),
    (CELL, "elman", {"nonlinearity": "relu"}),
    (CELL, "lstm", {"forget_bias": 0.0}),
    (ENCODER, "recurrent", {"bidirectional": False, "layers": 3, "residual": True, "dropout": 0.2, "hidden_size": 4}),
    (DECODER, "recurrent", {"layers": 3, "attention_layer": "first", "input_feeding": True, "hidden_size": 4}),
    (DECODER, "recurrent", {"layers": 2, "deep_output": True, "start": "mean", "hidden_size": 8, "dropout": 0.2}),
]


def every_check() -> Iterator[pytest.ParameterSet]:
    for kind, name, options in VARIANTS:
        component = load(kind, name)
        label = "-".join([kind.name, name, *map(str, options.values())])
        reason = "" if options else needs_options(kind, component)
        if reason:
            skip = pytest.mark.skip(reason=f"not checked here without options: {reason}")
            yield pytest.param(Check("", lambda: None), id=label, marks=skip)
            continue
        for check in checks(kind, component, options):
            yield pytest.param(check, id=f"{label}: {check.name}")


@pytest.mark.parametrize("check", list(every_check()))
def test_it_keeps_its_contract(check: Check) -> None:
    check.run()


def test_corpora_of_files_keep_their_contract(tmp_path: Path) -> None:
    pairs = [("one", "un"), ("two", "deux"), ("three", "trois")]
    sides = [tmp_path / "train.en", tmp_path / "train.fr"]
    for index, path in enumerate(sides):
        path.write_text("".join(f"{pair[index]}\n" for pair in pairs))
    check_corpus(FilesCorpus, source=str(sides[0]), target=str(sides[1]))
    lines = tmp_path / "train.jsonl"
    lines.write_text("".join(json.dumps({"en": source, "fr": target}) + "\n" for source, target in pairs))
    check_corpus(DatasetsCorpus, path=str(lines), source="en", target="fr")
