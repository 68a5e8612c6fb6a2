"""What an update costs along time: forward and backward of cells by their own `unroll`, beside the fused LSTM.

    python benchmarks/parallel.py [--cells mingru,sru] [--steps 16,128] [--rows 16] [--size 256] [--rounds 5] [--json]

CPU seconds on one thread, full lengths, inputs as wide as the cell. Cells take turns, so that a slow minute of the
machine meets them all; of each the median is printed, and how many times faster than the LSTM it is (the median of the
ratios within a round). Cells are named as in a recipe: mingru, or sru:peephole=false with an option.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial

import torch
from measure import interleaved, medians, ratios
from torch import Tensor

from nmt.cells.cell import Cell
from nmt.options import Choice
from nmt.registry import CELL

CELLS = "mingru,minlstm,qrnn,sru:peephole=false,sru"


def choice(name: str) -> Choice:
    """A cell's name, with at most one option as JSON behind a colon."""
    kind, _, option = name.partition(":")
    key, _, value = option.partition("=")
    return Choice(kind, {key: json.loads(value)} if key else {})


def update(cell: Cell, xs: Tensor, lengths: Tensor) -> None:
    """One forward and backward pass."""
    cell.zero_grad()
    ys, _ = cell.unroll(xs, lengths, cell.initial_state(xs.shape[0]))
    ys.sum().backward()


def measured(cells: dict[str, Cell], rows: int, steps: int, size: int, rounds: int) -> list[dict[str, object]]:
    """Each cell's median, and the median of the LSTM's time over the cell's."""
    xs = torch.randn(rows, steps, size).requires_grad_()
    lengths = torch.full((rows,), steps)
    taken = interleaved({name: partial(update, cell, xs, lengths) for name, cell in cells.items()}, rounds)
    times = ratios(taken)
    return [
        {
            "cell": name,
            "steps": steps,
            "rows": rows,
            "size": size,
            "milliseconds": round(1000 * seconds, 2),
            "times_lstm": round(1 / times[name], 2),
        }
        for name, seconds in medians(taken).items()
    ]


def table(names: Sequence[str], steps: Sequence[int], results: Sequence[dict[str, object]]) -> str:
    """The results as Markdown: a row for each length, a column for each cell."""
    found = {(result["cell"], result["steps"]): result for result in results}
    lines = ["| T | " + " | ".join(names) + " |", "| ---: |" + " ---: |" * len(names)]
    for size in steps:
        shown = [found[name, size] for name in names]
        cells = [f"{r['milliseconds']} ms" + ("" if r["cell"] == "lstm" else f" ({r['times_lstm']}×)") for r in shown]
        lines.append(f"| {size} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default=CELLS)
    parser.add_argument("--steps", default="16,32,128,512,2048")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="a line of JSON for each cell and length, no table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    names = ["lstm", *(name for name in arguments.cells.split(",") if name != "lstm")]
    steps = [int(text) for text in arguments.steps.split(",")]
    cells: dict[str, Cell] = {name: choice(name).build(CELL, arguments.size, arguments.size) for name in names}
    results = []
    for size in steps:
        found = measured(cells, arguments.rows, size, arguments.size, arguments.rounds)
        results += found
        if arguments.json:
            print("\n".join(json.dumps(result) for result in found), flush=True)
    if not arguments.json:
        print(table(names, steps, results))


if __name__ == "__main__":
    main()
