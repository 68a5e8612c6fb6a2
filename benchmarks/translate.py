"""What translating costs: speed by batch size, precision and beam; start-up; and whether the batch changes anything.

    python benchmarks/translate.py [MODEL --source FILE --reference FILE] [--parts speed,start,equal]
        [--batch 1,8,32,64,128] [--precision fp32,bf16,int8] [--beam 1,5] [--shortlist] [--threads 1]

Everything goes through nmt-translate, in processes by turns. speed: sentences a CPU second without start-up (what the
lines cost beyond one line alone), BLEU, peak memory. start: the whole command for one line, as a ratio to a bare
`import torch` in the same round. equal: how many translations and scores are the same, to the last bit, as those of
batches of 64 on one thread. Without MODEL, recipes/en-fr.yaml is trained for `--updates` and its test set translated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Ran, Results, Row, parser, ran

import nmt
from nmt.evaluation.metrics import measure
from nmt.recipe_file import read_recipe
from nmt.registry import CORPUS
from nmt.text.lines import InvalidLines, read_lines

RECIPE = Path(__file__).parent.parent / "recipes" / "en-fr.yaml"
COMMAND = (sys.executable, "-c", "from nmt.commands.translate import main; raise SystemExit(main())")
PARTS = ("speed", "start", "equal")
EQUAL_TO = 64


@dataclass(frozen=True)
class Way:
    """A way to translate: the options of nmt-translate."""

    precision: str
    batch: int
    beam: int
    threads: int = 1
    shortlist: bool = False

    def options(self) -> list[str]:
        words = ["--precision", self.precision, "--batch-sentences", str(self.batch), "--beam", str(self.beam)]
        return [*words, "--threads", str(self.threads), *(["--shortlist"] if self.shortlist else [])]

    def row(self) -> Row:
        return dict(vars(self))


@dataclass(frozen=True)
class Task:
    """A model, and lines for it with their reference translations."""

    model: Path
    folder: Path
    source: tuple[str, ...]
    reference: tuple[str, ...]

    def translated(self, way: Way, lines: int, *, full: bool = False) -> tuple[Ran, list[str]]:
        """The command on the first lines: what it used, and its output; with `full`, JSON with whole scores."""
        source, output = self.folder / "source.txt", self.folder / "output.txt"
        source.write_text("".join(f"{line}\n" for line in self.source[:lines]), encoding="utf-8")
        words = [str(self.model), *way.options(), "--input", str(source), "--output", str(output)]
        log = self.folder / "translate.log"
        threads = {"OMP_NUM_THREADS": str(way.threads)}
        done = ran([*COMMAND, *words, *(["--json"] if full else [])], environment=threads, log=log)
        if done.exit_code:
            problem = log.read_text(encoding="utf-8").strip().rpartition("\n")[2]
            sys.exit(f"{way}: {problem}")
        return done, output.read_text(encoding="utf-8").split("\n")[:-1]


def task(arguments: argparse.Namespace) -> Task:
    """The model that is given, or one that is trained here."""
    arguments.work.mkdir(parents=True, exist_ok=True)
    model = arguments.model
    if model is not None:
        source, reference = read(arguments.source), read(arguments.reference)
    else:
        recipe = read_recipe(RECIPE, [f"train.updates={arguments.updates}", "train.threads=1", "train.device=cpu"])
        model = nmt.train(recipe, out=arguments.work / f"en-fr-{arguments.updates}")
        assert recipe.data.test is not None
        pairs = list(itertools.islice(recipe.data.test.build(CORPUS).pairs(), arguments.lines))
        source, reference = [pair.source for pair in pairs], [pair.target for pair in pairs]
    return Task(model, arguments.work, tuple(source[: arguments.lines]), tuple(reference[: arguments.lines]))


def read(path: Path) -> list[str]:
    return [line or "" for line in read_lines(path, invalid="replace", counts=InvalidLines())]


def ways(arguments: argparse.Namespace) -> Iterator[Way]:
    batches, beams = numbers(arguments.batch), numbers(arguments.beam)
    for beam, precision, shortlist, batch in itertools.product(
        beams, arguments.precision.split(","), shortlists(arguments), batches
    ):
        yield Way(precision, batch, beam, arguments.threads, shortlist)


def shortlists(arguments: argparse.Namespace) -> tuple[bool, ...]:
    return (False, True) if arguments.shortlist else (False,)


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def speed(work: Task, arguments: argparse.Namespace, results: Results) -> None:
    """Sentences a CPU second of each way; the one-line runs are shared by batch sizes, which they don't depend on."""
    tried = list(ways(arguments))
    found: dict[Way, list[tuple[Ran, float]]] = {way: [] for way in tried}
    output: dict[Way, list[str]] = {}
    for _ in range(arguments.rounds):
        starts: dict[tuple[str, bool], float] = {}
        for way in tried:
            key = way.precision, way.shortlist
            if key not in starts:
                starts[key] = work.translated(way, 1)[0].cpu_seconds
            done, output[way] = work.translated(way, len(work.source))
            found[way].append((done, done.cpu_seconds - starts[key]))
    bleu = {way: measure(lines, work.reference)[0].value for way, lines in output.items()}
    rows: list[Row] = []
    for way, runs in found.items():
        exact = next(each for each in tried if (each.beam, each.batch) == (way.beam, way.batch))
        seconds = statistics.median(spent for _, spent in runs)
        rows.append(
            {
                "part": "speed",
                **way.row(),
                "lines": len(work.source),
                "sentences_per_cpu_second": round((len(work.source) - 1) / seconds, 2),
                "milliseconds_a_sentence": round(1000 * seconds / (len(work.source) - 1), 2),
                "bleu": round(bleu[way], 2),
                "bleu_change": round(bleu[way] - bleu[exact], 2),
                "lines_changed": sum(a != b for a, b in zip(output[way], output[exact], strict=True)),
                "wall_seconds": round(statistics.median(done.wall_seconds for done, _ in runs), 2),
                "peak_mebibytes": round(max(done.peak_mebibytes for done, _ in runs)),
                "neighbours": statistics.median(done.neighbours or 0.0 for done, _ in runs),
            }
        )
        results.add(rows[-1])
    shown = ("precision", "shortlist", "beam", "batch", "sentences_per_cpu_second", "milliseconds_a_sentence", "bleu")
    results.show({name: name.replace("_", " ") for name in (*shown, "bleu_change", "peak_mebibytes")}, rows)


def start(work: Task, arguments: argparse.Namespace, results: Results) -> None:
    """The whole command for one line against a bare `import torch`, and `--help`."""
    taken: dict[str, list[Ran]] = {}
    environment = {"OMP_NUM_THREADS": str(arguments.threads)}
    for _ in range(arguments.rounds + 1):
        bare = ran([sys.executable, "-c", "import torch"], environment=environment)
        taken.setdefault("import torch", []).append(bare)
        for precision in arguments.precision.split(","):
            done, _ = work.translated(Way(precision, 1, 5, arguments.threads), 1)
            taken.setdefault(f"one line, {precision}", []).append(done)
        taken.setdefault("--help", []).append(ran([*COMMAND, "--help"], environment=environment))
    rows: list[Row] = []
    for what, runs in taken.items():
        counted = list(zip(runs, taken["import torch"], strict=True))[1:]  # the first round warms the disk's cache up
        rows.append(
            {
                "part": "start",
                "what": what,
                "cpu_seconds": round(statistics.median(own.cpu_seconds for own, _ in counted), 3),
                "ratio": round(statistics.median(own.cpu_seconds / base.cpu_seconds for own, base in counted), 2),
                "wall_seconds": round(statistics.median(own.wall_seconds for own, _ in counted), 3),
                "peak_mebibytes": round(max(own.peak_mebibytes for own, _ in counted)),
                "neighbours": statistics.median(own.neighbours or 0.0 for own, _ in counted),
            }
        )
        results.add(rows[-1])
    columns = {"what": "whole command", "cpu_seconds": "CPU seconds", "ratio": "ratio", "peak_mebibytes": "peak, MiB"}
    results.show(columns, rows)


def equal(work: Task, arguments: argparse.Namespace, results: Results) -> None:
    """Translations and scores by batch size and threads, compared to the last bit."""
    rows: list[Row] = []
    beam = max(numbers(arguments.beam))
    for precision, shortlist in itertools.product(arguments.precision.split(","), shortlists(arguments)):
        expected = best(work.translated(Way(precision, EQUAL_TO, beam, 1, shortlist), len(work.source), full=True)[1])
        for threads, batch in itertools.product((1, 2), numbers(arguments.batch)):
            if (batch, threads) == (EQUAL_TO, 1) or threads > (os.cpu_count() or 1):
                continue
            way = Way(precision, batch, beam, threads, shortlist)
            found = best(work.translated(way, len(work.source), full=True)[1])
            pairs = list(zip(found, expected, strict=True))
            row: Row = {"part": "equal", "precision": precision, "shortlist": shortlist, "beam": beam}
            row |= {"batch": batch, "threads": threads}
            row |= {"lines": len(pairs), "translations_equal": sum(a[0] == b[0] for a, b in pairs)}
            row |= {"scores_equal": sum(a[1] == b[1] for a, b in pairs)}
            row |= {"greatest_difference": max(abs(a[1] - b[1]) for a, b in pairs)}
            rows.append(row)
            results.add(row)
    told = ("lines", "translations_equal", "scores_equal", "greatest_difference")
    shown = ("precision", "shortlist", "batch", "threads", *told)
    results.show({name: name.replace("_", " ") for name in shown}, rows)


def best(lines: Sequence[str]) -> list[tuple[str, float]]:
    """The translation and the score of each line."""
    found = [json.loads(line)["translations"][0] for line in lines]
    return [(each["text"], each["score"]) for each in found]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("model", nargs="?", type=Path, help="a run's folder; one is trained unless given")
    made.add_argument("--source", type=Path, help="lines to translate with MODEL")
    made.add_argument("--reference", type=Path, help="their translations")
    made.add_argument("--parts", default=",".join(PARTS), help="(default: %(default)s)")
    made.add_argument("--lines", type=int, default=1000, help="at most (default: %(default)s)")
    made.add_argument("--batch", default="1,8,32,64,128", help="(default: %(default)s)")
    made.add_argument("--precision", default="fp32,bf16,int8", help="the first is compared with (default: %(default)s)")
    made.add_argument("--beam", default="1,5", help="(default: %(default)s)")
    made.add_argument("--shortlist", action="store_true", help="measure with the run's shortlist, too")
    made.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    made.add_argument("--updates", type=int, default=1000, help="of the model that is trained (default: %(default)s)")
    made.add_argument(
        "--work", type=Path, default=Path("runs/benchmark"), help="where things go (default: %(default)s)"
    )
    arguments = made.parse_args()
    if arguments.model is not None and not (arguments.source and arguments.reference):
        made.error("MODEL needs --source and --reference")
    results, work = Results("translate", arguments), task(arguments)
    for name, part in (("speed", speed), ("start", start), ("equal", equal)):
        if name in arguments.parts.split(","):
            part(work, arguments, results)


if __name__ == "__main__":
    main()
