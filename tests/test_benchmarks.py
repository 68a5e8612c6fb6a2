"""The benchmarks run: their helps, and the smallest run of those that are cheap."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in path.read_text())
Rows = list[dict[str, Any]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a benchmark in this process, which has imported torch already; what it prints."""

    def run(name: str, *words: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        monkeypatch.syspath_prepend(BENCHMARKS)
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def rows(start: Callable[..., str]) -> Callable[..., Rows]:
    """The JSON lines of a benchmark, each with what every one must say."""

    def run(name: str, *words: str | Path) -> Rows:
        found = [json.loads(line) for line in start(name, "--json", "--rounds", "1", *words).splitlines()]
        assert found
        for row in found:
            assert row["benchmark"] == name
            assert row["machine"]["torch"]
        return found

    return run


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Numbers counted up and down: training, validation and test."""
    folder = tmp_path_factory.mktemp("texts")
    made = {}
    for name, count in (("train", 120), ("valid", 8), ("test", 4)):
        up = [" ".join(str(n * k % 97) for k in range(1, 2 + n % 7)) for n in range(count)]
        paths = folder / f"{name}.up", folder / f"{name}.down"
        for path, lines in zip(paths, (up, [line[::-1] for line in up]), strict=True):
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        made[name] = paths
    return made


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_explains_itself(script: Path, start: Callable[..., str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        start(script.stem, "--help")
    assert ended.value.code == 0
    assert f"python benchmarks/{script.name}" in capsys.readouterr().out


def test_training_by_another_command_line_is_measured(
    rows: Callable[..., Rows], texts: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    sizes = ("--size", "tiny", "--pieces", "60", "--sentences", "8", "--updates", "10", "--skip", "5")
    sets = [word for name, pair in texts.items() for word in (f"--{name}", *pair)]
    (row,) = rows("peers", "train", *sizes, *sets, "--work", tmp_path, "--bin", f"nmt={Path(sys.executable).parent}")
    assert row["tool"] == "nmt"
    assert row["tokens"] > 0 and row["tokens_per_cpu_second"] > 0
    assert row["cpu_seconds"] > 0.1, "the child's time counts"
    assert row["peak_mebibytes"] > 50


def test_the_limits_of_the_machine_are_measured(rows: Callable[..., Rows]) -> None:
    sizes = ("--size", "tiny", "--seconds", "0.001", "--megabytes", "1", "--precision", "fp32")
    found = rows("roofline", *sizes)
    assert {row["part"] for row in found} == {"products", "memory", "training", "machine"}
    assert all(0.0 < row["share"] < 1.0 for row in found if row["part"] == "training")


def test_cost_against_growth_is_measured(rows: Callable[..., Rows]) -> None:
    found = rows("growth", "--size", "tiny", "--parts", "length,beam", "--length", "4,8", "--beam", "1,2")
    assert [(row["part"], row["value"]) for row in found] == [("length", 4), ("length", 8), ("beam", 1), ("beam", 2)]
    assert all(row["search_milliseconds"] > 0 for row in found)


def test_training_is_measured_by_phase(rows: Callable[..., Rows], texts: dict[str, tuple[Path, Path]]) -> None:
    source, target = texts["train"]
    sizes = ("--size", "tiny", "--precision", "fp32", "--feeding", "no", "--updates", "2")
    (row,) = rows("train", *sizes, "--source", source, "--target", target)
    assert (row["size"], row["precision"], row["feeding"], row["ratio"]) == ("tiny", "fp32", "no", 1.0)
    assert row["tokens_per_second"] > 0 and row["peak_mebibytes"] > 50
    assert {"encoder", "decoder", "backward", "optimizer"} < row["milliseconds"].keys()


def test_a_table_says_what_was_not_measured(start: Callable[..., str]) -> None:
    names = runpy.run_path(str(BENCHMARKS / "measure.py"))
    shown = names["table"]([{"tool": "nmt", "speed": 1234.5}, {"tool": "other"}], {"tool": "Tool", "speed": "Speed"})
    assert shown.splitlines() == ["| Tool | Speed |", "| --- | --- |", "| nmt | 1,234 |", "| other | not measured |"]


def test_candidates_take_turns_and_the_first_round_warms_up() -> None:
    names = runpy.run_path(str(BENCHMARKS / "measure.py"))
    called: list[str] = []
    clock = iter(range(1000)).__next__
    calls = {name: lambda name=name: called.append(name) for name in "ab"}
    taken = names["interleaved"](calls, 2, clock=clock)
    assert called == ["a", "b"] * 3
    assert taken == {"a": [1, 1], "b": [1, 1]}
    assert names["ratios"]({"a": [1.0, 2.0, 4.0], "b": [2.0, 4.0, 4.0]}) == {"a": 1.0, "b": 2.0}


def test_a_command_is_measured_with_its_children_and_their_memory(tmp_path: Path) -> None:
    names = runpy.run_path(str(BENCHMARKS / "measure.py"))
    child = "x = bytearray(60 << 20); sum(range(3_000_000)); import time; time.sleep(1.2); print('done')"
    code = f"import subprocess, sys; print('began', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    done = names["ran"]([sys.executable, "-c", code], marked=lambda line: line == "began", log=tmp_path / "log")
    assert done.exit_code == 0
    assert [mark.line for mark in done.marks] == ["began"]
    assert done.cpu_seconds > 0.03
    assert done.peak_mebibytes > 60
    assert (tmp_path / "log").read_text().split() == ["began", "done"]
