"""How far back a cell can learn from: the gradient that comes back over a distance, and the adding problem.

    python benchmarks/long_range.py [--cells lstm,gru] [--results FILE] [--picture FILE.svg]

One layer of 64 units, started as the package starts it. Gradient: the norm of the gradient of the last output with
respect to an input d steps before it, as a share of that at distance 0, in double precision, mean of 16 sequences of
random numbers. Adding problem (Hochreiter and Schmidhuber 1997): T random numbers, two of them marked, one in each
half; the last output must give their sum. Reported: what is left of the variance after 300 updates (1: nothing learnt).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from nmt import recipe
from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.model.initialization import initialize
from nmt.options import Choice
from nmt.registry import CELL, available

HIDDEN_SIZE, SEQUENCES, DISTANCES = 64, 16, (50, 200, 1000)
SHOWN = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 999)
UPDATES, BATCH = 300, 32


def fresh(cell: str, input_size: int) -> Cell:
    torch.manual_seed(1)
    made: Cell = Choice(cell).build(CELL, input_size, HIDDEN_SIZE)
    initialize(made, recipe.Initialization())
    return made


def last_output(cell: Cell, xs: Tensor) -> Tensor:
    """``[B, T, I] -> [B, H]``."""
    lengths = torch.full((xs.shape[0],), xs.shape[1])
    ys, _ = engines.own(cell, xs, lengths, cell.initial_state(xs.shape[0]))
    return ys[:, -1]


def gradient_shares(name: str) -> dict[int, float]:
    """For each distance, the norm of the gradient as a share of that at distance 0."""
    cell = fresh(name, HIDDEN_SIZE).double()
    generator = torch.Generator().manual_seed(2)
    xs = torch.randn(SEQUENCES, SHOWN[-1] + 1, HIDDEN_SIZE, dtype=torch.double, generator=generator)
    direction = torch.randn(HIDDEN_SIZE, dtype=torch.double, generator=generator)
    (gradient,) = torch.autograd.grad((last_output(cell, xs.requires_grad_()) @ direction).sum(), xs)
    norms = gradient.norm(dim=-1).mean(0).flip(0)  # [T], by distance from the end
    return {distance: float(norms[distance] / norms[0]) for distance in SHOWN}


def sums(length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers in (0, 1) and marks ``[B, T, 2]``, and the sums of the marked ones ``[B]``."""
    numbers, rows = torch.rand(BATCH, length, generator=generator), torch.arange(BATCH)
    marks = torch.zeros(BATCH, length)
    for start in (0, length // 2):
        marks[rows, torch.randint(start, start + length // 2, (BATCH,), generator=generator)] = 1.0
    return torch.stack([numbers, marks], -1), (numbers * marks).sum(1)


def adding(name: str, length: int) -> float:
    """The share of the variance (1/6) that is left, mean of the last tenth of the updates."""
    cell, generator = fresh(name, 2), torch.Generator().manual_seed(3)
    reader = nn.Linear(HIDDEN_SIZE, 1)
    nn.init.constant_(reader.bias, 1.0)  # the mean of a sum, so that only what depends on the input is to be learnt
    parameters = [*cell.parameters(), *reader.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    losses: list[float] = []
    for _ in range(UPDATES):
        xs, wanted = sums(length, generator)
        loss = (reader(last_output(cell, xs)).squeeze(-1) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
    last = losses[-UPDATES // 10 :]
    return 6.0 * sum(last) / len(last)


def measure(name: str, lengths: list[int]) -> dict[str, object]:
    began = time.process_time()
    result = {"cell": name, "gradient": gradient_shares(name), "adding": {t: adding(name, t) for t in lengths}}
    return {**result, "cpu_seconds": round(time.process_time() - began, 1), "torch": torch.__version__}


def table(rows: list[dict[str, Any]]) -> str:
    shown = [distance for distance in SHOWN if distance >= 10]
    head = ["cell", *(f"gradient at {d}" for d in shown), *(f"adding, T = {t}" for t in DISTANCES)]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in rows:
        cells = [row["cell"], *(f"{row['gradient'][str(d)]:.0e}" for d in shown)]
        left = {t: row["adding"].get(str(t)) for t in DISTANCES}
        cells += ["not run" if share is None else f"{share:.2f}" for share in left.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", help="names with commas between; all that are installed unless given")
    parser.add_argument(
        "--results", type=Path, default=Path("runs/long_range.jsonl"), help="what is there isn't run again"
    )
    parser.add_argument(
        "--lengths", default=",".join(map(str, DISTANCES)), help="T of the adding problem (default: %(default)s)"
    )
    parser.add_argument("--picture", type=Path, help="draw the gradients into this SVG file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.touch()
    done = {json.loads(line)["cell"] for line in arguments.results.read_text().splitlines()}
    for name in arguments.cells.split(",") if arguments.cells else available(CELL):
        if name not in done:
            with arguments.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(measure(name, [int(t) for t in arguments.lengths.split(",")])) + "\n")
    rows = sorted(map(json.loads, arguments.results.read_text().splitlines()), key=lambda row: row["cell"])
    print(table(rows))
    if arguments.picture:
        from gradient_picture import draw

        arguments.picture.write_text(draw({row["cell"]: row["gradient"] for row in rows}), encoding="utf-8")


if __name__ == "__main__":
    main()
