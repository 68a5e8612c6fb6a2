"""The texts that every tool reads, and one sentencepiece model with a vocabulary file for each of them."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from nmt.evaluation.metrics import measure
from nmt.text.lines import InvalidLines, read_lines

SETS, SIDES = ("train", "valid", "test"), ("source", "target")
MARKS = ("<unk>", "<s>", "</s>", "<pad>")


@dataclass(frozen=True)
class Prepared:
    """A folder with SET.SIDE (plain text), SET.pieces.SIDE (pieces with blanks between) and the vocabulary files."""

    folder: Path
    pairs: int
    """Of training."""
    target_tokens: int
    """Pieces of the target side of training, an end mark for each line counted."""
    test_lines: int

    def names(self) -> dict[str, object]:
        """What commands and files may name."""
        return {"data": str(self.folder), "model": str(self.folder / "joint.model"), "pieces": len(self._pieces)}

    @functools.cached_property
    def _processor(self) -> sentencepiece.SentencePieceProcessor:
        return sentencepiece.SentencePieceProcessor(model_file=str(self.folder / "joint.model"))

    @functools.cached_property
    def _pieces(self) -> list[str]:
        return [self._processor.id_to_piece(index) for index in range(self._processor.get_piece_size())]

    def beginning(self, lines: int, *, pieces: bool) -> Path:
        """A file with the first lines of the test set's source side."""
        name = "test.pieces.source" if pieces else "test.source"
        path = self.folder / f"{name}.{lines}"
        path.write_text("\n".join(read(self.folder / name)[:lines]) + "\n", encoding="utf-8")
        return path

    def plain(self, lines: Sequence[str]) -> list[str]:
        """The text of lines of pieces."""
        return [self._processor.decode(line.split()) for line in lines]

    def bleu(self, found: Sequence[str]) -> float:
        return measure(found, read(self.folder / "test.target")[: len(found)])[0].value


def read(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def prepared(work: Path, texts: Sequence[tuple[Path, Path] | None], pieces: int) -> Prepared:
    """What was prepared in `work`, or what is prepared there now from the three pairs of texts."""
    folder = work / "data"
    summary = folder / "prepared.json"
    if not summary.exists():
        if None in texts:
            sys.exit(f"{folder} isn't prepared yet: give --train, --valid and --test")
        folder.mkdir(parents=True, exist_ok=True)
        counts = prepare(folder, [pair for pair in texts if pair is not None], pieces)
        summary.write_text(json.dumps(counts), encoding="utf-8")
    return Prepared(folder, **json.loads(summary.read_text(encoding="utf-8")))


def prepare(folder: Path, texts: Sequence[tuple[Path, Path]], pieces: int) -> dict[str, int]:
    for name, pair in zip(SETS, texts, strict=True):
        for side, path in zip(SIDES, pair, strict=True):
            lines = [line or "" for line in read_lines(path, invalid="replace", counts=InvalidLines())]
            (folder / f"{name}.{side}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=",".join(str(folder / f"train.{side}") for side in SIDES),
        model_prefix=str(folder / "joint"),
        vocab_size=pieces,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=3,
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "joint.model"))
    tokens: dict[str, int] = {}
    for name in SETS:
        for side in SIDES:
            encoded = processor.encode(read(folder / f"{name}.{side}"), out_type=str)
            text = "".join(" ".join(line) + "\n" for line in encoded)
            (folder / f"{name}.pieces.{side}").write_text(text, encoding="utf-8")
            tokens[f"{name}.{side}"] = sum(len(line) + 1 for line in encoded)
    vocabularies(folder, [processor.id_to_piece(index) for index in range(processor.get_piece_size())])
    pairs, test_lines = (len(read(folder / f"{name}.source")) for name in ("train", "test"))
    return {"pairs": pairs, "target_tokens": tokens["train.target"], "test_lines": test_lines}


def vocabularies(folder: Path, pieces: Sequence[str]) -> None:
    """The same pieces as each tool wants to read them."""
    own = [piece for piece in pieces if piece not in MARKS]
    texts = {
        "joeynmt.vocabulary": "".join(f"{piece}\n" for piece in ("<unk>", "<pad>", "<s>", "</s>", *own)),
        "opennmt.vocabulary": "".join(f"{piece}\t1\n" for piece in ("<unk>", "<blank>", "<s>", "</s>", *own)),
        "fairseq.vocabulary": "".join(f"{piece} 1\n" for piece in own),
        "marian.vocabulary.yml": json.dumps({piece: index for index, piece in enumerate(["</s>", "<unk>", *own])}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
