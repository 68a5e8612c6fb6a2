"""How near to the processor's limits: its matrix and memory rates, and the share that training and search reach.

    python benchmarks/roofline.py [--size small] [--model FOLDER --source FILE] [--precision fp32,bf16,int8]

Rates are per CPU second of one thread, of the products that torch itself offers and of those by weights laid out once
("prepared"), as search has them. Rows: 5 and 160 are beams of 5 for 1 and 32 sentences, 64 a step of training, 1,024 a
whole batch of it. The share of training (updates of the reference model with random weights, `--sentences` of 15
tokens) is of the fp32 or bf16 rate of large products; so is, with a trained model and lines for it, that of search,
whose operations are counted from the tokens that were written: five hypotheses for each, as if all went on to the end.
With --device cuda, seconds are wall time: try 1,024 sentences.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch
from measure import Neighbours, Results, Row, clock_of, interleaved, medians, parser
from reference import SIZES, Training, multiplied, random_batch, reference_model

from nmt.model.seq2seq import build_model
from nmt.products import WeightPrecision, prepare_for
from nmt.recipe_file import read_run
from nmt.text.lines import InvalidLines, read_lines
from nmt.text.tokenizer import Tokenizers
from nmt.translator import Translator

LARGE, LENGTH, BEAM = 2048, 15, 5
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}


def shapes(size: str) -> dict[str, tuple[int, int, int]]:
    """Rows, inputs and outputs of products."""
    hidden, words = SIZES[size]["decoder"], SIZES[size]["vocabulary"]
    large = min(LARGE, 8 * hidden)
    found = {"large": (large, large, large)}
    for rows in (5, 64, 160):
        found[f"recurrent, {rows} rows"] = (rows, hidden, 4 * hidden)
        found[f"output layer, {rows} rows"] = (rows, hidden, words)
    found["output layer, 1024 rows"] = (1024, hidden, words)
    return found


def product(precision: str, rows: int, inputs: int, outputs: int, device: str) -> Callable[[], object]:
    """One product; of integers, as torch offers it."""
    kind = TYPES[precision]
    if kind is torch.int8:
        x = torch.randint(-127, 128, (rows, inputs), dtype=kind, device=device)
        weight = torch.randint(-127, 128, (outputs, inputs), dtype=kind, device=device).t()
        return lambda: torch._int_mm(x, weight)
    x, weight = (torch.randn(size, inputs, device=device).to(kind) for size in (rows, outputs))
    return lambda: torch.nn.functional.linear(x, weight)


def prepared(precision: WeightPrecision, rows: int, inputs: int, outputs: int) -> Callable[[], object]:
    """One product of fp32 rows by weights that are laid out for it, as search makes them."""
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    multiply = prepare_for(precision, torch.device("cpu"), 1).product(weight, None)
    return lambda: multiply(x)


def repeated(call: Callable[[], object], seconds: float, clock: Callable[[], float]) -> tuple[Callable[[], None], int]:
    """The call as often as makes `seconds` of it, and how often that is."""
    call()
    began = clock()
    call()
    times = max(1, int(seconds / max(clock() - began, 1e-6)))

    def run() -> None:
        for _ in range(times):
            call()

    return run, times


def matrix_rates(arguments: argparse.Namespace, results: Results) -> dict[str, float]:
    """Giga-operations a CPU second by shape and precision; the rates of large products."""
    rows: list[Row] = []
    clock = clock_of(arguments.device)
    precisions = arguments.precision.split(",")
    for name, (n, inputs, outputs) in shapes(arguments.size).items():
        calls = {kind: product(kind, n, inputs, outputs, arguments.device) for kind in precisions}
        if arguments.device == "cpu":
            calls |= {f"{kind} prepared": prepared(kind, n, inputs, outputs) for kind in precisions}
        made = {kind: repeated(call, arguments.seconds, clock) for kind, call in calls.items()}
        taken = medians(interleaved({kind: run for kind, (run, _) in made.items()}, arguments.rounds, clock=clock))
        rates = {kind: 2e-9 * n * inputs * outputs * made[kind][1] / seconds for kind, seconds in taken.items()}
        rows.append({"part": "products", "shape": name, **{kind: round(rate, 1) for kind, rate in rates.items()}})
        results.add(rows[-1])
    results.show({"shape": "giga-operations a CPU second", **{kind: kind for kind in rates}}, rows)
    return {kind: float(str(rows[0][kind])) for kind in precisions}


def memory_rates(arguments: argparse.Namespace, results: Results) -> None:
    """Gigabytes a CPU second: of reading (a sum), and of copying (read and written bytes counted)."""
    numbers, other = torch.ones(2, arguments.megabytes * 2**18, device=arguments.device)
    clock = clock_of(arguments.device)
    made = {
        "read": repeated(numbers.sum, arguments.seconds, clock),
        "copy": repeated(lambda: other.copy_(numbers), arguments.seconds, clock),
    }
    taken = medians(interleaved({name: run for name, (run, _) in made.items()}, arguments.rounds, clock=clock))
    size = 4e-9 * numbers.numel()
    row: Row = {"part": "memory", "megabytes": arguments.megabytes}
    row |= {name: round((1 + (name == "copy")) * size * made[name][1] / taken[name], 1) for name in made}
    results.add(row)
    results.show({"megabytes": "array, MB", "read": "read, GB a CPU second", "copy": "copy"}, [row])


def training_share(rates: dict[str, float], arguments: argparse.Namespace, results: Results) -> list[Row]:
    """Operations of updates against the rate of large products."""
    batch = random_batch(arguments.sentences, LENGTH, SIZES[arguments.size]["vocabulary"])
    tokens = arguments.sentences * LENGTH
    candidates: dict[tuple[str, bool], Training] = {}
    for kind in rates:
        for feeding in (True, False) if kind != "int8" else ():
            precision = None if kind == "fp32" else TYPES[kind]
            model = reference_model(arguments.size, input_feeding=feeding)
            candidates[kind, feeding] = Training(model, batch, precision, arguments.device)
    named = {f"{kind} {feeding}": run for (kind, feeding), run in candidates.items()}
    taken = medians(interleaved(named, arguments.rounds, clock=clock_of(arguments.device)))
    rows: list[Row] = []
    for (kind, feeding), run in candidates.items():
        source, target = multiplied(run.model)
        done = 3e-9 * tokens * (source + target)  # backward takes twice what forward does
        rate = done / taken[f"{kind} {feeding}"]
        row: Row = {"part": "training", "what": "input feeding" if feeding else "attention after the decoder"}
        row |= {"precision": kind, "rate": round(rate, 1), "share": round(rate / rates[kind], 2)}
        rows.append({**row, "tokens_per_cpu_second": round(tokens / taken[f"{kind} {feeding}"], 1)})
        results.add(rows[-1])
    return rows


def search_share(rates: dict[str, float], arguments: argparse.Namespace, results: Results) -> list[Row]:
    """Operations of search against the rate of large products, by a model that was trained."""
    lines = [line or "" for line in read_lines(arguments.source, invalid="replace", counts=InvalidLines())]
    lines = lines[: arguments.lines]
    settings, tokenizers = read_run(arguments.model), Tokenizers.load(arguments.model)
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    source, target = multiplied(build_model(settings.model, *sizes, shared=settings.tokenizer.shared))
    rows: list[Row] = []
    for kind in get_args(WeightPrecision):
        if kind not in rates:
            continue
        translator = Translator.load(arguments.model, device=arguments.device, threads=1, precision=kind)
        search, clock = translator.searching(beam=BEAM), clock_of(arguments.device)
        seconds = []
        for _ in range(arguments.rounds + 1):
            began = clock()
            found = translator.translations(lines, search=search, batch_sentences=arguments.batch)
            seconds.append(clock() - began)
        read = sum(len(best.source_pieces) + 1 for best, *_ in found)
        written = sum(len(best.target_pieces) + 1 for best, *_ in found)
        reached = 1e-9 * (read * source + BEAM * written * target) / statistics.median(seconds[1:])
        row: Row = {"part": "search", "what": f"beam {BEAM}, batches of {arguments.batch}", "precision": kind}
        rows.append({**row, "rate": round(reached, 1), "share": round(reached / rates[kind], 2)})
        results.add(rows[-1])
    return rows


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--size", choices=SIZES, default="small", help="of the reference model (default: %(default)s)")
    made.add_argument("--precision", default="fp32,bf16,int8", help="(default: %(default)s)")
    made.add_argument("--seconds", type=float, default=0.3, help="of each turn of a product (default: %(default)s)")
    made.add_argument("--megabytes", type=int, default=256, help="of the array that is read (default: %(default)s)")
    made.add_argument("--sentences", type=int, default=64, help="of an update (default: %(default)s)")
    made.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    made.add_argument("--model", type=Path, help="a run's folder, for the share of search")
    made.add_argument("--source", type=Path, help="lines for it")
    made.add_argument("--lines", type=int, default=200, help="of them at most (default: %(default)s)")
    made.add_argument("--batch", type=int, default=64, help="sentences of a batch in search (default: %(default)s)")
    arguments = made.parse_args()
    if arguments.model is not None and arguments.source is None:
        made.error("--model needs --source")
    torch.set_num_threads(1)
    results = Results("roofline", arguments)
    with Neighbours() as neighbours:
        rates = matrix_rates(arguments, results)
        memory_rates(arguments, results)
        rows = training_share(rates, arguments, results)
        if arguments.model is not None:
            rows += search_share(rates, arguments, results)
    results.add({"part": "machine", "neighbours": neighbours.cores})
    columns = {"part": "part", "what": "what", "precision": "precision", "rate": "giga-operations a CPU second"}
    results.show({**columns, "share": "share of large products' rate"}, rows)


if __name__ == "__main__":
    main()
