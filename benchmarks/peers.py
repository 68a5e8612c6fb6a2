"""The same data and the same model through any command line: training and translating, side by side.

    python benchmarks/peers.py train     --train A.en A.fr --valid B.en B.fr --test C.en C.fr [--tools nmt fairseq]
    python benchmarks/peers.py model     …     # a model of each tool to translate with: an epoch, unless --updates
    python benchmarks/peers.py translate …     # --batch 1,64; BLEU; the whole command, and without its start-up

A tool is a file NAME.json in benchmarks/peers (its README says what is in it and how to install each); its programs are
looked for in `--bin NAME=FOLDER`, then on PATH. In the list of tools "nmt train.precision=bf16" is nmt with a further
word behind its command, "nmt@plain" nmt with a model folder of its own, "nmt@plain WORDS" both. Texts (plain, .gz or
.xz) are prepared once in `--work`: one joint sentencepiece model of 8,000 pieces for all. Tools take turns; figures are
medians of CPU seconds with one thread, whole trees of processes counted.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from measure import Ran, Results, Row, parser
from peers_data import Prepared, prepared
from peers_tools import Tool, fill, newest, tool, window

SIZES = {  # the encoder's is that of one direction
    "small": {"layers": 1, "embedding": 256, "encoder": 256, "decoder": 512},
    "big": {"layers": 2, "embedding": 512, "encoder": 512, "decoder": 1024},
    "tiny": {"layers": 1, "embedding": 16, "encoder": 16, "decoder": 32},
}
REPORT_EVERY = 5


def settings(data: Prepared, folder: Path, arguments: argparse.Namespace) -> Row:
    """What every command and file may name."""
    return {
        **SIZES[arguments.size],
        **data.names(),
        "folder": str(folder),
        "threads": arguments.threads,
        "updates": arguments.updates,
        "report_every": REPORT_EVERY,
        "sentences": arguments.sentences,
        "dropout": 0.2,
        "learning_rate": 0.001,
        "clip_norm": 1.0,
        "beam": arguments.beam,
        "batch": arguments.sentences,
        "longest": 100,
    }


def trained(item: Tool, folder: Path, data: Prepared, arguments: argparse.Namespace) -> Row:
    """Train in an emptied folder: tokens a CPU second after the first `--skip` updates, memory."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    values = settings(data, folder, arguments)
    item.write_files(folder, values)
    for command in item.file.get("prepare", []):
        item.run(fill(command, values), folder, "prepare.log")
    progress = re.compile(item.file["progress"])
    command = [*fill(item.file["train"], values), *item.words]
    found = item.run(command, folder, "train.log", marked=lambda line: progress.search(line) is not None)
    mean = data.target_tokens * arguments.sentences / data.pairs
    tokens, seconds, wall = window(found.marks, progress, arguments.skip, mean)
    return {
        "threads": arguments.threads,
        "tokens_per_cpu_second": round(tokens / seconds, 1),
        "tokens_per_wall_second": round(tokens / wall, 1),
        "tokens": round(tokens),
        "cpu_seconds": round(found.cpu_seconds, 2),
        "peak_mebibytes": round(found.peak_mebibytes),
        "neighbours": found.neighbours,
    }


def train(tools: Sequence[Tool], data: Prepared, arguments: argparse.Namespace, results: Results) -> None:
    rounds: dict[str, list[Row]] = {item.label: [] for item in tools}
    for number in range(arguments.rounds):
        for index, item in enumerate(tools):
            folder = arguments.work.absolute() / "speed" / str(index)
            row = {
                "tool": item.label,
                "size": arguments.size,
                "round": number,
                **trained(item, folder, data, arguments),
            }
            rounds[item.label].append(row)
            results.add(row)
    summarize(rounds, "tokens_per_cpu_second", {"peak_mebibytes": "peak memory, MiB"}, results)


def summarize(rounds: Mapping[str, Sequence[Row]], speed: str, others: Mapping[str, str], results: Results) -> None:
    """A table of medians: the speed with its range, its ratio to the first tool's in the same round, and others."""
    first = next(iter(rounds.values()))
    rows: list[Row] = []
    for label, found in rounds.items():
        values = [float(str(row[speed])) for row in found]
        ratio = statistics.median(own / float(str(base[speed])) for own, base in zip(values, first, strict=True))
        row: Row = {
            "tool": label,
            speed: statistics.median(values),
            "range": f"{min(values):,.4g} to {max(values):,.4g}",
        }
        row |= {key: statistics.median(float(str(each[key])) for each in found) for key in others if key in found[0]}
        rows.append({**row, "ratio": round(ratio, 2)})
    results.show(
        {
            "tool": "tool",
            speed: speed.replace("_", " "),
            "range": "range",
            "ratio": f"times {rows[0]['tool']}",
            **others,
        },
        rows,
    )


def model(tools: Sequence[Tool], data: Prepared, arguments: argparse.Namespace, results: Results) -> None:
    """A model of each tool to translate with, one after the other; what is there is kept."""
    for item in tools:
        if (item.model / "trained").exists():
            continue
        row = trained(item, item.model, data, arguments)
        (item.model / "trained").write_text(json.dumps(row), encoding="utf-8")
        results.add({"tool": item.label, "size": arguments.size, "updates": arguments.updates, **row})
    results.show({"tool": "tool", "tokens_per_cpu_second": "target tokens a CPU second", "cpu_seconds": "CPU seconds"})


def translate(tools: Sequence[Tool], data: Prepared, arguments: argparse.Namespace, results: Results) -> None:
    for batch in map(int, arguments.batch.split(",")):
        rounds: dict[str, list[Row]] = {item.label: [] for item in tools}
        for number in range(arguments.rounds):
            for item in tools:
                row = translated(item, data, batch, arguments)
                rounds[item.label].append({"tool": item.label, "size": arguments.size, "round": number, **row})
                results.add(rounds[item.label][-1])
        others = {
            "cpu_seconds": f"CPU seconds, {arguments.lines} lines, batches of {batch}",
            "one_line_cpu_seconds": "one line, whole command",
            "milliseconds_a_sentence": "ms a sentence without start-up",
            "bleu": "BLEU",
            "peak_mebibytes": "peak memory, MiB",
        }
        summarize(rounds, "sentences_per_cpu_second", others, results)


def translated(item: Tool, data: Prepared, batch: int, arguments: argparse.Namespace) -> Row:
    """Translate the test set, and one line of it: what there is more of in the first is without start-up."""
    if not (item.model / "trained").exists():
        sys.exit(f"{item.label}: has no model in {item.model}: run `peers.py model` first")
    one, _ = searched(item, data, batch, 1, arguments)
    whole, found = searched(item, data, batch, arguments.lines, arguments)
    count = len(found)
    seconds = whole.cpu_seconds - one.cpu_seconds
    return {
        "threads": arguments.threads,
        "batch": batch,
        "lines": count,
        "cpu_seconds": round(whole.cpu_seconds, 2),
        "one_line_cpu_seconds": round(one.cpu_seconds, 2),
        "sentences_per_cpu_second": round((count - 1) / max(seconds, 1e-9), 1),
        "milliseconds_a_sentence": round(1000 * seconds / max(count - 1, 1), 2),
        "bleu": round(data.bleu(found), 2),
        "peak_mebibytes": round(whole.peak_mebibytes),
        "neighbours": whole.neighbours,
    }


def searched(
    item: Tool, data: Prepared, batch: int, lines: int, arguments: argparse.Namespace
) -> tuple[Ran, list[str]]:
    """The command on the first lines of the test set; what it wrote, as plain text."""
    spec = item.file
    source, output = data.beginning(lines, pieces=spec["input"] == "pieces"), item.model / "output.txt"
    output.unlink(missing_ok=True)
    values = settings(data, item.model, arguments) | {"source": str(source), "output": str(output), "batch": batch}
    values |= {
        "checkpoint": newest(item.model, spec["checkpoint"]) if "checkpoint" in spec else "",
        "window": max(batch, 512),
    }
    item.write_files(item.model, values)
    done = item.run(
        [*fill(spec["translate"], values), *item.words],
        item.model,
        "translate.log",
        stdin=source if spec.get("stdin") else None,
        stdout=output if spec.get("stdout") else None,
    )
    found = output.read_text(encoding="utf-8").split("\n")[:-1]
    if "numbered" in spec:  # lines of other kinds between them, and in any order
        numbered = [re.match(spec["numbered"], line) for line in found]
        found = [text for _, text in sorted((int(each[1]), each[2]) for each in numbered if each)]
    if len(found) != lines:
        sys.exit(f"{item.label}: {len(found)} translations of {lines} lines; see {item.model / 'translate.log'}")
    return done, data.plain(found) if spec["output"] == "pieces" else found


def main() -> None:
    made = parser(__doc__)
    made.add_argument("task", choices=["train", "model", "translate"])
    for name in ("train", "valid", "test"):
        made.add_argument(f"--{name}", nargs=2, type=Path, metavar=("SOURCE", "TARGET"), help=f"texts for {name}")
    made.add_argument(
        "--work", type=Path, default=Path("runs/peers"), help="where everything goes (default: %(default)s)"
    )
    made.add_argument("--tools", nargs="+", default=["nmt"], metavar="TOOL", help="the first is what ratios are to")
    made.add_argument("--bin", action="append", default=[], metavar="NAME=FOLDER", help="where a tool's programs are")
    made.add_argument("--size", choices=SIZES, default="small", help="of the model (default: %(default)s)")
    made.add_argument("--pieces", type=int, default=8000, help="of the sentencepiece model (default: %(default)s)")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--updates", type=int, help="of training (default: 40 to measure, an epoch for a model)")
    made.add_argument("--skip", type=int, default=10, help="updates that warm up (default: %(default)s)")
    made.add_argument("--sentences", type=int, default=64, help="of an update (default: %(default)s)")
    made.add_argument("--beam", type=int, default=5)
    made.add_argument("--batch", default="1,64", help="sentences of a batch in search (default: %(default)s)")
    made.add_argument("--lines", type=int, default=1000, help="of the test set to translate (default: %(default)s)")
    arguments = made.parse_args()
    data = prepared(arguments.work.absolute(), [arguments.train, arguments.valid, arguments.test], arguments.pieces)
    if arguments.updates is None:
        epoch = -(-data.pairs // (arguments.sentences * REPORT_EVERY)) * REPORT_EVERY
        arguments.updates = 40 if arguments.task == "train" else epoch
    arguments.lines = min(arguments.lines, data.test_lines)
    tools = [tool(label, arguments) for label in arguments.tools]
    tasks = {"train": train, "model": model, "translate": translate}
    tasks[arguments.task](tools, data, arguments, Results("peers", arguments))


if __name__ == "__main__":
    main()
