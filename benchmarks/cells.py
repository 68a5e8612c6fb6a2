"""All installed cells on the same tasks with equal parameters: what they learn, how fast they train and translate.

    python benchmarks/cells.py phrasebook [--cells lstm,gru] [--updates N] [--results FILE]
    python benchmarks/cells.py multi30k --data FOLDER      # train, val, test_2016_flickr: .en and .fr, plain or packed
    python benchmarks/cells.py speed                       # updates on random sentences, cells taking turns
    python benchmarks/cells.py report                      # Markdown tables of what --results holds

Each cell stands in the encoder (both ways) and in the decoder (twice as wide) of recipes/en-fr.yaml, its width chosen
so that the whole model has as many parameters as one of lstm with 128 units a direction. Times are CPU seconds of one
thread; training is timed in one process, cells taking turns, medians over the rounds. Results are JSON lines; a cell
that has one is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import torch
from measure import interleaved, machine, medians

import nmt
from nmt.evaluation.metrics import measure
from nmt.model.seq2seq import Seq2Seq, assemble
from nmt.recipe_file import read_recipe
from nmt.registry import CELL, CORPUS, available, distribution
from nmt.text.batches import Batch
from nmt.training.seeds import seed_of
from nmt.training.updater import Updater

RECIPE = Path(__file__).parent.parent / "recipes" / "en-fr.yaml"
WIDTH, VOCAB_SIZE = 128, 2000
ROUNDS, UPDATES_TIMED, BATCH, STEPS, TRANSLATED = 5, 4, 64, 20, 200


def overrides_for(cell: str, width: int, arguments: argparse.Namespace) -> list[str]:
    """The recipe with this cell; validation only at the end, so that every run has the same updates."""
    chosen = [
        f"model.encoder.cell={cell}",
        f"model.decoder.cell={cell}",
        f"model.encoder.hidden_size={width}",
        f"model.decoder.hidden_size={2 * width}",
        f"train.updates={arguments.updates}",
        f"train.validate_every={arguments.updates}",
        "train.validate_decoded=0",
        "train.threads=1",
        "train.device=cpu",
    ]
    if arguments.task != "multi30k":
        return chosen
    sides = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
    for name, stem in sides.items():
        files = {"source": file_in(arguments.data, f"{stem}.en"), "target": file_in(arguments.data, f"{stem}.fr")}
        limit = f", limit: {arguments.pairs}" if name == "train" else ""
        chosen.append(f"data.{name}={{corpus: files, source: {files['source']}, target: {files['target']}{limit}}}")
    return chosen


def file_in(folder: Path, name: str) -> Path:
    found = [path for path in (folder / f"{name}{ending}" for ending in ("", ".gz", ".xz")) if path.exists()]
    return found[0] if found else sys.exit(f"{folder}: has no {name}")


def model_of(cell: str, width: int, arguments: argparse.Namespace) -> Seq2Seq:
    recipe = read_recipe(RECIPE, overrides_for(cell, width, arguments))
    return assemble(recipe.model, VOCAB_SIZE, VOCAB_SIZE, shared=True)


def size_of(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def width_for(cell: str, wanted: int, arguments: argparse.Namespace) -> tuple[int, int]:
    """The width (a multiple of 8) whose model is nearest to `wanted` parameters, and how many it has."""
    sizes = {width: size_of(model_of(cell, width, arguments)) for width in range(32, 361, 8)}
    width = min(sizes, key=lambda each: abs(sizes[each] - wanted))
    return width, sizes[width]


def learn(recipe: nmt.Recipe, out: Path, tested: int) -> dict[str, float]:
    """Train; BLEU of the first test sentences, and the speed of search. For a process of its own, for its memory."""
    torch.set_num_threads(1)
    began = time.process_time()
    folder = nmt.train(recipe, out=out)
    seconds = time.process_time() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert recipe.data.test is not None
    pairs = list(recipe.data.test.build(CORPUS).pairs())[:tested]
    translator = nmt.Translator.load(folder)
    began = time.process_time()
    found = translator.translate([pair.source for pair in pairs])
    searching = time.process_time() - began
    (bleu, *_) = measure(found, [pair.target for pair in pairs])
    speed = len(pairs) / searching
    return {"bleu": bleu.value, "seconds": seconds, "megabytes": memory, "sentences_per_second": speed}


def some_batch() -> Batch:
    """Random sentences of 10 to 20 tokens, the same for every cell."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(STEPS // 2, STEPS + 1, (BATCH,), generator=generator)
    tokens = torch.randint(4, VOCAB_SIZE, (BATCH, STEPS), generator=generator)
    tokens = tokens.masked_fill(torch.arange(STEPS) >= lengths[:, None], 0)
    return Batch(tokens, lengths, tokens, lengths, numpy.arange(BATCH))


def training_speed(widths: dict[str, int], arguments: argparse.Namespace) -> dict[str, float]:
    """Target tokens a CPU second of whole updates, cells taking turns."""
    batch = some_batch()
    updaters = {}
    for cell, width in widths.items():
        settings = read_recipe(RECIPE, overrides_for(cell, width, arguments)).train
        updaters[cell] = Updater(model_of(cell, width, arguments), settings, torch.device("cpu"), None)
    done = dict.fromkeys(updaters, 0)

    def train(cell: str) -> None:
        for _ in range(UPDATES_TIMED):
            done[cell] += 1
            updaters[cell].update([batch], done[cell], 1e-3, seed_of(1, done[cell]))

    taken = interleaved({cell: partial(train, cell) for cell in updaters}, ROUNDS)
    tokens = UPDATES_TIMED * int((batch.target_lengths - 1).sum())
    return {cell: tokens / seconds for cell, seconds in medians(taken).items()}


def widths(arguments: argparse.Namespace) -> dict[str, tuple[int, int]]:
    """For each cell without a result yet, its width and parameters."""
    wanted = size_of(model_of("lstm", WIDTH, arguments))
    names = arguments.cells.split(",") if arguments.cells else list(available(CELL))
    done = {row["cell"] for row in read(arguments.results) if row["task"] == arguments.task}
    return {cell: width_for(cell, wanted, arguments) for cell in names if cell not in done}


def run(arguments: argparse.Namespace) -> None:
    """Train every cell; append a line of results for each."""
    for cell, (width, parameters) in widths(arguments).items():
        owner = " ".join(distribution(available(CELL)[cell][0]))
        row = {"task": arguments.task, "cell": cell, "distribution": owner, "width": width, "parameters": parameters}
        recipe = read_recipe(RECIPE, overrides_for(cell, width, arguments))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            row |= alone.submit(learn, recipe, arguments.runs / arguments.task / cell, arguments.tested).result()
        record(row | {"updates": arguments.updates}, arguments)


def time_training(arguments: argparse.Namespace) -> None:
    """Time updates of all cells in one process; append a line of results for each."""
    sizes = {cell: width for cell, (width, _) in widths(arguments).items()}
    for cell, speed in training_speed(sizes, arguments).items():
        record({"task": "speed", "cell": cell, "tokens_per_second": speed}, arguments)


def record(row: dict[str, object], arguments: argparse.Namespace) -> None:
    row |= {"machine": machine()}
    with arguments.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(task: str, rows: list[dict[str, Any]]) -> str:
    """The cells of one task, the best first."""
    speeds = {row["cell"]: row["tokens_per_second"] for row in rows if row["task"] == "speed"}
    head = (
        "cell",
        "from",
        "units",
        "parameters",
        "BLEU",
        "training, tokens / s",
        "search, sentences / s",
        "memory, MB",
    )
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in sorted((each for each in rows if each["task"] == task), key=lambda each: -each["bleu"]):
        cells = [row["cell"], row["distribution"], str(row["width"]), f"{row['parameters']:,}", f"{row['bleu']:.1f}"]
        cells.append(f"{speeds[row['cell']]:,.0f}" if row["cell"] in speeds else "not timed")
        cells += [f"{row[key]:,.0f}" for key in ("sentences_per_second", "megabytes")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["phrasebook", "multi30k", "speed", "report"])
    parser.add_argument("--cells", help="names with commas between; all that are installed unless given")
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--pairs", type=int, default=10000, help="pairs of Multi30k to learn from (default: 10000)")
    parser.add_argument("--tested", type=int, default=TRANSLATED, help="test sentences (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="the folder of Multi30k's files")
    parser.add_argument("--runs", type=Path, default=Path("runs/cells"), help="where models go")
    parser.add_argument("--results", type=Path, default=Path("runs/cells.jsonl"))
    arguments = parser.parse_args()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    if arguments.task == "report":
        for task in ("phrasebook", "multi30k"):
            print(f"{task}:\n\n{table(task, read(arguments.results))}\n")
    elif arguments.task == "speed":
        time_training(arguments)
    elif arguments.task == "multi30k" and arguments.data is None:
        parser.error("multi30k needs --data")
    else:
        run(arguments)


if __name__ == "__main__":
    main()
