"""One layer along time, forward and backward: every way to run a cell against torch.nn's own layers.

    python benchmarks/layers.py [--cells lstm,gru,mgu] [--sizes 256,512] [--rows 64] [--steps 30] [--results FILE]

Of each cell, its own way (`auto`) and each engine of a recipe's `model.engine`, for sentences of one length and for
sentences of T/2 to T tokens; beside them nn.LSTM, nn.GRU and nn.RNN for one length. Figures are medians of CPU seconds
of one thread, candidates taking turns. `of nn.LSTM` compares with it in the same round; `of equal products` divides
that by the share of its multiplications that the layer does: what a cell's author may expect. With --device cuda it is
wall time.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from measure import Neighbours, Results, clock_of, interleaved, medians, parser, ratios
from torch import Tensor, nn

from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.options import Choice
from nmt.registry import CELL

COLUMNS = {
    "size": "H",
    "layer": "layer",
    "engine": "engine",
    "lengths": "lengths",
    "milliseconds": "ms",
    "ratio": "of nn.LSTM",
    "equal_products": "of equal products",
}
MODULES = {"nn.LSTM": nn.LSTM, "nn.GRU": nn.GRU, "nn.RNN": nn.RNN}


def module_run(module: nn.Module, xs: Tensor) -> Callable[[], None]:
    def run() -> None:
        ys, _ = module(xs)
        ys.backward(torch.ones_like(ys))

    return run


def cell_run(cell: Cell, engine: engines.Engine, xs: Tensor, lengths: Tensor) -> Callable[[], None]:
    unroll = engines.choose(engine)

    def run() -> None:
        ys, _ = unroll(cell, xs, lengths, cell.initial_state(xs.shape[0]))
        ys.backward(torch.ones_like(ys))

    return run


def products(module: nn.Module) -> int:
    """Multiplications of a row and step: the elements of its matrices."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() == 2)


def candidates(
    size: int, arguments: argparse.Namespace
) -> dict[tuple[str, str, str], tuple[nn.Module, Callable[[], None]]]:
    """By layer, engine and kind of lengths; nn.LSTM first."""
    generator = torch.Generator().manual_seed(1)
    rows, steps, device = arguments.rows, arguments.steps, arguments.device
    xs = torch.randn(rows, steps, size, generator=generator).to(device).requires_grad_()
    unequal = torch.randint(steps // 2, steps + 1, (rows,), generator=generator)
    unequal[0] = steps
    every = {"equal": torch.full((rows,), steps), "unequal": unequal}
    found: dict[tuple[str, str, str], tuple[nn.Module, Callable[[], None]]] = {}
    for name, kind in MODULES.items():
        module = kind(size, size, batch_first=True).to(device)
        found[name, "torch", "equal"] = module, module_run(module, xs)
    for name in arguments.cells.split(","):
        cell: Cell = Choice(name).build(CELL, size, size).to(device)
        for engine in arguments.engines.split(","):
            for lengths in every if arguments.unequal else ["equal"]:
                found[name, engine, lengths] = cell, cell_run(cell, engine, xs, every[lengths])
    return found


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--cells", default="lstm,gru,elman,mgu,layernorm-lstm", help="(default: %(default)s)")
    options.add_argument("--engines", default="auto,loop,gathered", help="of model.engine (default: %(default)s)")
    options.add_argument("--sizes", default="256,512", help="units (default: %(default)s)")
    options.add_argument("--rows", type=int, default=64, help="sentences (default: %(default)s)")
    options.add_argument("--steps", type=int, default=30, help="tokens of the longest (default: %(default)s)")
    options.add_argument("--unequal", action="store_true", help="sentences of unequal lengths, too")
    options.add_argument("--device", default="cpu", help="(default: %(default)s)")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    results = Results("layers", arguments)
    for size in map(int, arguments.sizes.split(",")):
        every = candidates(size, arguments)
        runs = {"/".join(key): run for key, (_, run) in every.items()}
        with Neighbours() as neighbours:
            taken = interleaved(runs, arguments.rounds, clock=clock_of(arguments.device))
        middle, ratio = medians(taken), ratios(taken)
        reference = products(every["nn.LSTM", "torch", "equal"][0])
        for (layer, engine, lengths), (module, _) in every.items():
            name = f"{layer}/{engine}/{lengths}"
            row = {
                "size": size,
                "layer": layer,
                "engine": engine,
                "lengths": lengths,
                "rows": arguments.rows,
                "steps": arguments.steps,
                "neighbours": neighbours.cores,
                "milliseconds": middle[name] * 1000,
                "ratio": ratio[name],
                "equal_products": ratio[name] * reference / products(module),
            }
            results.add(row)
    results.show(COLUMNS)


if __name__ == "__main__":
    main()
