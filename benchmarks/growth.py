"""What costs grow with: sentence length, vocabulary, batch, beam; and the size of the corpus.

    python benchmarks/growth.py [--parts length,vocabulary,batch,beam] [--size small] [--device cuda [--graphs]]
    python benchmarks/growth.py --parts corpus --source FILE --target FILE [--pairs 35000,140000,560000]

Of the reference model with random weights and sentences, in CPU seconds of one thread: milliseconds of training a
target token and of writing one (beam 5). A part's values take turns, and ratios are to its first. Batches of training
have 1,024 target tokens, those of search 8 sentences, unless that is what grows. corpus: nmt-train in a process of its
own with nothing cached, on the first pairs of two files: CPU and wall seconds to the first update, tokens a CPU second
after ten, and peak memory, which should not grow.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from measure import Neighbours, Results, Row, clock_of, interleaved, medians, parser, ran, ratios
from reference import SIZES, Training, prepared_model, random_batch, reference_model, searched

from nmt.search.captured import AFTER, CapturedRuns

COMMAND = (sys.executable, "-c", "from nmt.commands.train import main; raise SystemExit(main())")
REPORT = re.compile(r'"event": "report"')
UPDATES, WARM_UP = 40, 10


@dataclass(frozen=True)
class Case:
    """What may grow."""

    length: int = 16
    vocabulary: int = 8000
    training_tokens: int = 1024
    sentences: int = 8
    beam: int = 5

    def training(self, size: str, device: str) -> tuple[Callable[[], object], int]:
        """An update, and its target tokens."""
        sentences = max(1, self.training_tokens // self.length)
        batch = random_batch(sentences, self.length, self.vocabulary)
        return Training(reference_model(size, vocabulary=self.vocabulary), batch, None, device), sentences * self.length

    def search(self, size: str, device: str, graphs: bool) -> tuple[Callable[[], object], int]:
        """Translating a batch, with `graphs` by CUDA graphs, and the target tokens written."""
        model = prepared_model(size, vocabulary=self.vocabulary, device=device)
        batch = random_batch(self.sentences, self.length, self.vocabulary)
        captured = CapturedRuns() if graphs else None
        return lambda: searched(model, batch, self.beam, captured), self.sentences * self.length


def cases(part: str, values: list[int]) -> dict[int, Case]:
    """A part's cases by what grows."""
    common = Case()
    if part == "batch":
        return {value: replace(common, training_tokens=value * common.length, sentences=value) for value in values}
    return {value: replace(common, **{part: value}) for value in values}


def grown(part: str, values: list[int], arguments: argparse.Namespace, results: Results) -> None:
    """Cost a target token as one thing grows."""
    rows: dict[int, Row] = {value: {"part": part, "value": value} for value in values}
    clock = clock_of(arguments.device)
    with Neighbours() as neighbours:
        for what in ("training", "search"):
            if part == "beam" and what == "training":
                continue
            made = {
                str(value): case.training(arguments.size, arguments.device)
                if what == "training"
                else case.search(arguments.size, arguments.device, arguments.graphs)
                for value, case in cases(part, values).items()
            }
            calls = {name: call for name, (call, _) in made.items()}
            warm_up = AFTER + 1 if arguments.graphs and what == "search" else 1  # rounds, until runs are captured
            taken = interleaved(calls, arguments.rounds, warm_up=warm_up, clock=clock)
            cost = {name: [each / made[name][1] for each in seconds] for name, seconds in taken.items()}
            shares = ratios(cost)
            for name, seconds in medians(cost).items():
                rows[int(name)] |= {f"{what}_milliseconds": round(1000 * seconds, 3)}
                rows[int(name)] |= {f"{what}_ratio": round(shares[name], 2)}
    for row in rows.values():
        results.add({**row, "size": arguments.size, "neighbours": neighbours.cores})
    shown = ("training_milliseconds", "training_ratio", "search_milliseconds", "search_ratio")
    columns = {name: f"{name.replace('_', ', ')} a token" for name in shown if name in next(iter(rows.values()))}
    results.show({"value": part, **columns}, list(rows.values()))


def corpus(arguments: argparse.Namespace, results: Results) -> None:
    """nmt-train on more and more pairs of the same files."""
    rows: list[Row] = []
    for pairs in numbers(arguments.pairs):
        folder = arguments.work / "growth"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(json.dumps(recipe(pairs, arguments)), encoding="utf-8")
        done = ran(
            [*COMMAND, "recipe.yaml", "--out", "run"],
            environment={"OMP_NUM_THREADS": "1", "NMT_CACHE": str(folder.absolute() / "cache")},
            folder=folder,
            marked=lambda line: REPORT.search(line) is not None,
            log=folder / "train.log",
        )
        if done.exit_code:
            sys.exit(f"{pairs:,} pairs: exit code {done.exit_code}; see {folder / 'train.log'}")
        marks = [(mark, json.loads(mark.line)) for mark in done.marks]
        (first, _), (early, before), (last, after) = marks[0], marks[WARM_UP], marks[-1]
        steady = (after["tokens"] - before["tokens"]) / (last.cpu_seconds - early.cpu_seconds)
        rows.append(
            {
                "part": "corpus",
                "pairs": pairs,
                "first_update_cpu_seconds": round(first.cpu_seconds, 1),
                "first_update_wall_seconds": round(first.wall_seconds, 1),
                "tokens_per_cpu_second": round(steady, 1),
                "peak_mebibytes": round(done.peak_mebibytes),
                "neighbours": done.neighbours,
            }
        )
        results.add(rows[-1])
    shown = ("pairs", "first_update_cpu_seconds", "tokens_per_cpu_second", "peak_mebibytes")
    results.show({name: name.replace("_", " ") for name in shown}, rows)


def recipe(pairs: int, arguments: argparse.Namespace) -> dict[str, object]:
    """The reference model; validation on the first pairs, for it is not what is measured."""
    sizes = SIZES[arguments.size]
    files = {"corpus": "files", "source": str(arguments.source.absolute()), "target": str(arguments.target.absolute())}
    encoder = {"type": "recurrent", "hidden_size": sizes["encoder"], "layers": sizes["layers"], "bidirectional": True}
    decoder = {"type": "recurrent", "hidden_size": sizes["decoder"], "layers": sizes["layers"]}
    training = {"updates": UPDATES, "report_every": 1, "validate_every": UPDATES, "validate_decoded": 0}
    return {
        "name": "growth",
        "data": {
            "source_language": "source",
            "target_language": "target",
            "train": {**files, "limit": pairs},
            "valid": {**files, "limit": 10},
        },
        "tokenizer": {"vocab_size": sizes["vocabulary"]},
        "model": {"embedding_size": sizes["embedding"], "encoder": encoder, "decoder": decoder},
        "train": {**training, "batch_tokens": 1024, "threads": 1, "device": "cpu"},
    }


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--parts", default="length,vocabulary,batch,beam", help="corpus too (default: %(default)s)")
    made.add_argument("--size", choices=SIZES, default="small", help="of the reference model (default: %(default)s)")
    made.add_argument("--length", default="10,20,50,100,200,500", help="of sentences (default: %(default)s)")
    made.add_argument("--vocabulary", default="4000,8000,16000,32000,64000", help="(default: %(default)s)")
    made.add_argument("--batch", default="8,16,32,64,128,256", help="sentences (default: %(default)s)")
    made.add_argument("--beam", default="1,2,5,10,20", help="(default: %(default)s)")
    made.add_argument("--device", default="cpu", help="cpu or cuda, where seconds are wall time (default: %(default)s)")
    made.add_argument("--graphs", action="store_true", help="search by CUDA graphs")
    made.add_argument("--source", type=Path, help="a corpus, plain, .gz or .xz")
    made.add_argument("--target", type=Path, help="its other side")
    made.add_argument("--pairs", default="35000,140000,560000", help="of the corpus (default: %(default)s)")
    made.add_argument(
        "--work", type=Path, default=Path("runs/benchmark"), help="where things go (default: %(default)s)"
    )
    arguments = made.parse_args()
    if arguments.graphs and not arguments.device.startswith("cuda"):
        made.error("--graphs needs --device cuda")
    torch.set_num_threads(1)
    results = Results("growth", arguments)
    for part in arguments.parts.split(","):
        if part != "corpus":
            grown(part, numbers(getattr(arguments, part)), arguments, results)
        elif arguments.source is None or arguments.target is None:
            made.error("corpus needs --source and --target")
        else:
            corpus(arguments, results)


if __name__ == "__main__":
    main()
