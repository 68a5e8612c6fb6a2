"""What a run's folder holds, to compare runs by; as a program it prints a hash of that.

python contents.py RUN [FILE_LEFT_OUT...]
"""

import hashlib
import json
import sys
from pathlib import Path

CLOCK = ("seconds", "tokens_per_second")
"""All that may differ: these numbers in metrics.jsonl (and TensorBoard's files, which hold times too)."""


def contents(run: Path) -> dict[str, object]:
    """Every file below a run's folder, without the clock."""
    files: dict[str, object] = {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts
    }
    if "metrics.jsonl" in files:
        records = [json.loads(line) for line in files["metrics.jsonl"].decode().splitlines()]
        files["metrics.jsonl"] = [{k: v for k, v in record.items() if k not in CLOCK} for record in records]
    return files


if __name__ == "__main__":
    found = [(name, held) for name, held in sorted(contents(Path(sys.argv[1])).items()) if name not in sys.argv[2:]]
    print(hashlib.sha256(repr(found).encode()).hexdigest())
