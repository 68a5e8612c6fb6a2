"""SCAN, simple split: trains recipes/scan.yaml and prints the share of test commands whose actions are exactly right.

    python benchmarks/scan.py FOLDER [--out DIR] [KEY=VALUE …]

FOLDER holds simple.train.cmd, simple.train.act, simple.test.cmd and simple.test.act, plain, .gz or .xz.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

import nmt
from nmt.text.files import FilesCorpus

RECIPE = Path(__file__).parent.parent / "recipes" / "scan.yaml"


def file_in(folder: Path, name: str) -> str:
    for ending in ("", ".gz", ".xz"):
        if (folder / f"{name}{ending}").exists():
            return str(folder / f"{name}{ending}")
    sys.exit(f"{folder}: has no {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/scan"))
    arguments = parser.parse_intermixed_args()
    files = {
        f"data.{part}.{side}": file_in(arguments.folder, f"simple.{'train' if part == 'train' else 'test'}.{ending}")
        for part in ("train", "valid", "test")
        for side, ending in (("source", "cmd"), ("target", "act"))
    }
    began = time.monotonic()
    overrides = [*(f"{key}={value}" for key, value in files.items()), *arguments.overrides]
    folder = nmt.train(RECIPE, overrides, out=arguments.out)
    seconds = time.monotonic() - began
    pairs = list(FilesCorpus(source=files["data.test.source"], target=files["data.test.target"]).pairs())
    found = nmt.Translator.load(folder).translate([pair.source for pair in pairs])
    right = sum(ours == pair.target for ours, pair in zip(found, pairs, strict=True))
    result = {
        "benchmark": "scan simple",
        "pairs": len(pairs),
        "exact": right,
        "share": round(right / len(pairs), 5),
        "training_seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(json.dumps(result))
    share = f"{100 * right / len(pairs):.2f} %"
    print(f"\n| SCAN simple split | {right:,} of {len(pairs):,} exact | {share} | {seconds:.0f} s |")


if __name__ == "__main__":
    main()
