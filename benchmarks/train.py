"""What training costs: target tokens a CPU second, where an update's time goes, and the peak of memory.

    python benchmarks/train.py [--source FILE --target FILE] [--size small,big] [--precision fp32,bf16]
        [--feeding no,yes] [--updates 12] [--rounds 3] [--threads 1] [--device cpu]

Candidates take turns, each turn a process: `nmt-train --profile` with the reference models of docs/performance.md, 64
sentences an update, no label smoothing. Tokens a second are by the CPU's clock (on a GPU by the wall's), without what
comes before the first updates. Memory is the peak of a whole `nmt-train` of as many updates with a validation and a
checkpoint, in a run of its own. The text is the phrasebook that comes with the package unless files are named.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Results, parser, ran
from reference import SIZES

from nmt.recipe_file import read_recipe
from nmt.training.run import trained_tokenizers

RECIPE = Path(__file__).parent.parent / "recipes" / "en-fr.yaml"
COMMAND = (sys.executable, "-c", "from nmt.commands.train import main; raise SystemExit(main())", str(RECIPE))
VALID_LINES = 200
COLUMNS = {
    "size": "model",
    "precision": "precision",
    "feeding": "input feeding",
    "tokens_per_second": "target tokens a second",
    "ratio": "times the first",
    "peak_mebibytes": "peak, MiB",
    "device_peak_mebibytes": "GPU peak, MiB",
}


@dataclass(frozen=True)
class Way:
    """A model and how it is trained."""

    size: str
    precision: str
    feeding: bool

    def overrides(self) -> list[str]:
        sizes = SIZES[self.size]
        shared = f"layers: {sizes['layers']}, dropout: 0.2, embedding_dropout: 0.2"
        encoder = f"{{type: recurrent, cell: lstm, hidden_size: {sizes['encoder']}, {shared}}}"
        feeding = f"input_feeding: {str(self.feeding).lower()}"
        decoder = f"{{type: recurrent, cell: lstm, hidden_size: {sizes['decoder']}, {feeding}, {shared}}}"
        return [
            f"model={{embedding_size: {sizes['embedding']}, encoder: {encoder}, decoder: {decoder}}}",
            "train.batch_tokens=null",
            "train.batch_sentences=64",
            "train.label_smoothing=0.0",
            "train.validate_decoded=0",
            f"train.precision={self.precision}",
        ]


def data(arguments: argparse.Namespace, work: Path) -> list[str]:
    """The overrides that name the text; a few lines of it serve as the validation set."""
    if arguments.source is None:
        return []
    valid = []
    for name, path in (("source", arguments.source), ("target", arguments.target)):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:VALID_LINES]
        (work / name).write_text("".join(lines), encoding="utf-8")
        valid.append(f"{name}: {work / name}")
    train = f"source: {arguments.source.absolute()}, target: {arguments.target.absolute()}"
    return [f"data.train={{corpus: files, {train}}}", f"data.valid={{corpus: files, {', '.join(valid)}}}"]


def tokenizer(size: str, overrides: Sequence[str], work: Path) -> list[str]:
    """The overrides that name a tokenizer, trained once for each size."""
    vocabulary = f"tokenizer.vocab_size={max(SIZES[size]['vocabulary'], 400)}"
    folder = work / f"tokenizer-{size}"
    folder.mkdir()
    trained_tokenizers(read_recipe(RECIPE, [*overrides, vocabulary])).save(folder)
    return [vocabulary, f"tokenizer.path={folder / 'tokenizer.model'}"]


def profiled(words: Sequence[str], updates: int, work: Path) -> dict[str, Any]:
    """What one process of nmt-train tells of its updates."""
    run([*words, "--profile", str(updates), "--out", str(work / "profile")], work)
    found: dict[str, Any] = json.loads((work / "profile" / "profile.json").read_text())
    return found


def run(words: Sequence[str], work: Path) -> float:
    """nmt-train with these words; its peak of memory in MiB. Ends the program where it fails."""
    done = ran([*COMMAND, *words], environment={"OMP_NUM_THREADS": "1"}, log=work / "log")
    if done.exit_code:
        sys.exit((work / "log").read_text())
    return done.peak_mebibytes


def row_of(way: Way, profiles: Sequence[dict[str, Any]], clock: str) -> dict[str, Any]:
    """Medians over the rounds: tokens a second and milliseconds an update in each phase."""
    rates: list[float] = []
    phases: list[dict[str, float]] = []
    for found in profiles:
        spent = {name: phase[clock] for name, phase in found["phases"].items()}
        rates.append(found["target_tokens"] / sum(spent.values()))
        phases.append({name: 1000 * seconds / found["updates"] for name, seconds in spent.items()})
    row: dict[str, Any] = {**vars(way), "tokens_per_second": round(statistics.median(rates), 1)}
    row["milliseconds"] = {name: round(statistics.median(each[name] for each in phases), 2) for name in phases[0]}
    row["feeding"] = "yes" if way.feeding else "no"
    return {**row, "device_peak_mebibytes": profiles[0]["device_peak_mebibytes"]}


def measured(arguments: argparse.Namespace, results: Results, work: Path) -> None:
    """Every candidate by turns, then the table and one of phases."""
    feedings = [word == "yes" for word in arguments.feeding.split(",")]
    ways = [
        Way(*each) for each in itertools.product(arguments.size.split(","), arguments.precision.split(","), feedings)
    ]
    base = [*data(arguments, work), f"train.threads={arguments.threads}", f"train.device={arguments.device}"]
    tokenizers = {size: tokenizer(size, base, work) for size in dict.fromkeys(way.size for way in ways)}
    words = {way: [*base, *tokenizers[way.size], *way.overrides()] for way in ways}
    profiles: dict[Way, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(arguments.rounds):
        for way in ways:
            profiles[way].append(profiled(words[way], arguments.updates, work))
    ends = [f"train.updates={arguments.updates}", f"train.validate_every={arguments.updates}"]
    rows: list[dict[str, Any]] = []
    for number, way in enumerate(ways):
        row = row_of(way, profiles[way], "cpu_seconds" if arguments.device == "cpu" else "seconds")
        row["peak_mebibytes"] = round(run([*words[way], *ends, "--out", str(work / str(number))], work))
        first = rows[0] if rows else row
        rows.append({**row, "ratio": round(row["tokens_per_second"] / first["tokens_per_second"], 2)})
        results.add(rows[-1])
    results.show(COLUMNS)
    phases = [{key: row[key] for key in ("size", "precision", "feeding")} | row["milliseconds"] for row in rows]
    results.show({key: key for key in phases[0]}, phases)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--source", type=Path, metavar="FILE", help="source lines (default: the phrasebook)")
    options.add_argument("--target", type=Path, metavar="FILE", help="their translations")
    options.add_argument("--size", default="small,big", help="models: small, big, tiny (default: %(default)s)")
    options.add_argument("--precision", default="fp32,bf16", help="default: %(default)s")
    options.add_argument("--feeding", default="no,yes", help="without and with input feeding (default: %(default)s)")
    options.add_argument("--updates", type=int, default=12, help="measured in a turn (default: %(default)s)")
    options.add_argument("--threads", type=int, default=1, help="of the processor (default: %(default)s)")
    options.add_argument("--device", default="cpu", help="default: %(default)s")
    options.set_defaults(rounds=3)
    arguments = options.parse_args()
    if (arguments.source is None) != (arguments.target is None):
        options.error("--source and --target go together")
    results = Results("train", arguments)
    with tempfile.TemporaryDirectory() as work:
        measured(arguments, results, Path(work))


if __name__ == "__main__":
    main()
