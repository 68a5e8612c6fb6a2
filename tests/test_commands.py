"""The commands, as a user runs them: what they print, what they refuse, how they end."""

import errno
import io
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nmt.commands import average, command, data, evaluate, plugins, reading, score, train, translate
from nmt.translator import Translator

COMMANDS = {
    "nmt-train": train,
    "nmt-translate": translate,
    "nmt-score": score,
    "nmt-evaluate": evaluate,
    "nmt-average": average,
    "nmt-plugins": plugins,
    "nmt-data": data,
}
Run = Callable[..., tuple[int, bytes, str]]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A command in this process: its exit code, its output and its complaints."""

    def run_(name: str, *arguments: object, given: bytes = b"") -> tuple[int, bytes, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        given_file = tmp_path_factory.mktemp("given") / "stdin"
        given_file.write_bytes(given)
        capfdbinary.readouterr()
        with given_file.open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            try:
                code = COMMANDS[name].main()
            except SystemExit as left:
                code = left.code
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return run_


# --- all commands


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy_and_names_every_option(name: str) -> None:
    module = COMMANDS[name].__name__
    code = f"import sys; from {module} import parser; parser().format_help(); "
    code += "print([m for m in ('torch', 'pydantic', 'numpy', 'sentencepiece', 'ruamel') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    text = COMMANDS[name].parser().format_help()
    for action in COMMANDS[name].parser()._actions:
        assert action.help, action
        assert not action.option_strings or action.option_strings[-1] in text


@pytest.mark.parametrize("name", COMMANDS)
def test_a_misspelt_option_is_answered_with_the_nearest_one(run: Run, name: str) -> None:
    required = {
        "nmt-train": ["x"],
        "nmt-score": ["x", "--source", "x", "--target", "x"],
        "nmt-average": ["x"],
        "nmt-data": ["check", "x"],
    }.get(name, [])
    code, out, err = run(name, *required, "--versoin")
    assert (code, out) == (2, b"")
    assert err == f"{name}: unknown option --versoin; did you mean --version? (see {name} --help)\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nmt-train", "none.yaml"),
        ("nmt-train", "none.yaml", "--check"),
        ("nmt-translate", "none"),
        ("nmt-translate", "--input", "none.txt"),
        ("nmt-translate", "none", "--beam", "0"),
        ("nmt-translate", "none", "--threads", "100000"),
        ("nmt-translate", "none", "--length-penalty", "nan"),
        ("nmt-translate", "none", "--length-penalty", "-0.5"),
        ("nmt-score", "none", "--source", "none.txt", "--target", "none.txt"),
        ("nmt-evaluate", "none"),
        ("nmt-evaluate", "--hypothesis", "none.txt", "--reference", "none.txt"),
        ("nmt-evaluate", "--hypothesis", "none.txt"),
        ("nmt-evaluate", "--hypothesis", "none.txt", "--reference", "none.txt", "--beam", "3"),
        ("nmt-evaluate", "none", "--source", "none.txt", "--reference", "none.txt", "--split", "valid"),
        ("nmt-evaluate", "none", "--source", "none.txt"),
        ("nmt-average", "none"),
    ],
    ids=" ".join,
)
def test_a_users_mistake_is_one_line_and_code_2(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NMT_MODEL", raising=False)
    code, out, err = run(*arguments)
    assert code == 2
    assert out == b""
    assert re.fullmatch(rf"{arguments[0]}: [^\n]+\n", err), err


# --- nmt-train: what is wrong with the data is told before anything is trained


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({}, "{corpus: files, source: a, target: b}", "a: can't be read (no such file or directory); check the path"),
        ({"a": b"1\n2\n3\n", "b": b"1\n2\n"}, "{corpus: files, source: a, target: b}", "a:3: has no counterpart"),
        ({"a": b"1\n\xff2\n", "b": b"1\n2\n"}, "{corpus: files, source: a, target: b}", "a:2:1: no valid UTF-8"),
        ({"a": b"\n\n", "b": b"1\n2\n"}, "{corpus: files, source: a, target: b}", ""),
        ({"a": b"1 2\n"}, "{corpus: files, tsv: a}", "a:1: 1 columns, column 2 is wanted"),
        ({"a": b"1\n"}, "{corpus: files, source: a}", "1 source files for 0 target files"),
        ({"a.gz": b"1\n"}, "{corpus: files, source: a.gz, target: a.gz}", "a.gz: damaged"),
        ({"a.jsonl": b'{"x": "1", "y": "2"}\n'}, "{corpus: datasets, path: a.jsonl, source: x, target: z}", "a.jsonl"),
        ({}, "{corpus: datasets, path: none.csv}", "none.csv: can't be read (no such file"),
        ({}, "{corpus: digits, longest: 2}", "shortest is 3, longest is 2; make longest the larger one"),
        ({}, "{corpus: phrasebook, size: 99999999}", "the phrasebook's train has"),
    ],
)
def test_bad_data_is_one_line_and_leaves_nothing_behind(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    files: dict[str, bytes],
    settings: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        Path(name).write_bytes(content)
    recipe = Path(__file__).parent.parent / "recipes" / "copy.yaml"
    code, out, err = run("nmt-train", recipe, f"data.train={settings}", "--out", "run")
    assert (code, out) == (2, b"")
    assert re.fullmatch(r"nmt-train: [^\n]+\n", err), err
    assert err.startswith(f"nmt-train: {message}")
    assert not Path("run").exists()


def test_a_full_disk_is_one_line_and_the_checkpoint_before_it_still_loads(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = Path(__file__).parent.parent / "recipes" / "copy.yaml"
    arguments = (recipe, "train.validate_every=5", "train.report_every=5", "--out", tmp_path / "run")
    assert run("nmt-train", *arguments, "train.updates=5", "train.schedule={type: constant}")[0] == 0

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run/training.safetensors")

    monkeypatch.setattr("nmt.training.checkpoint.save_weights", full)
    longer = ("train.updates=10", "train.schedule={type: constant}", "--accept", "train.updates")
    code, _, err = run("nmt-train", *arguments, *longer)
    assert code == 1
    said = "the checkpoint can't be written (no space left on device); the ones before it are as they were"
    assert err.splitlines()[-1] == f"nmt-train: {tmp_path / 'run' / 'update-00000010'}: {said}"
    assert run("nmt-translate", tmp_path / "run", given=b"1\n")[0] == 0


# --- nmt-translate


def digits(count: int, seed: int = 4) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(str(draw.randrange(10)) for _ in range(draw.randint(3, 10))) for _ in range(count)]


def test_every_line_gives_one_line_in_order_whatever_its_bytes(run: Run, copier: Path) -> None:
    draw = random.Random(7)
    lines = [draw.randbytes(draw.randint(0, 12)).replace(b"\n", b"") for _ in range(60)]
    lines += ["1 2\u20283".encode(), b"\x85", b"", b"   ", b"1 2 3\r", b"\x00", "4\u00a05".encode(), b"1 " * 300]
    code, out, _ = run("nmt-translate", copier, "--batch-tokens", 100, given=b"\n".join(lines))
    assert code == 0
    assert out.endswith(b"\n")
    written = out.decode().split("\n")[:-1]
    assert len(written) == len(lines)
    assert all(line.isprintable() for line in written)
    assert written[62] == written[63] == ""
    assert written[64] == "1 2 3"


def test_translations_are_the_same_at_every_batch_size_and_in_every_order(run: Run, copier: Path) -> None:
    lines = digits(120)
    text = "".join(f"{line}\n" for line in lines).encode()
    outputs = {run("nmt-translate", copier, "--batch-tokens", size, given=text)[1] for size in (1, 30, 500)}
    assert len(outputs) == 1
    assert outputs.pop() == text
    backwards = "".join(f"{line}\n" for line in reversed(lines)).encode()
    assert run("nmt-translate", copier, given=backwards)[1] == backwards


def test_n_best_scores_and_alignments_have_the_documented_form(run: Run, copier: Path) -> None:
    given = b"1 2 3\n\n4 5 6\n"
    _, out, _ = run("nmt-translate", copier, "--n-best", 2, "--beam", 3, given=given)
    rows = [line.split(" ||| ") for line in out.decode().splitlines()]
    assert [row[0] for row in rows] == ["0", "0", "1", "2", "2"]
    assert rows[0][1] == "1 2 3"
    assert float(rows[0][2]) >= float(rows[1][2])
    _, out, _ = run("nmt-translate", copier, "--scores", "--alignments", given=given)
    first, blank, _ = out.decode().splitlines()
    value, text, pairs = first.split("\t")
    assert (text, float(value) < 0) == ("1 2 3", True)
    assert all(re.fullmatch(r"\d+-\d+", pair) for pair in pairs.split())
    assert blank == "0.000000\t\t"


def test_json_has_an_object_for_each_line(run: Run, copier: Path) -> None:
    _, out, err = run("nmt-translate", copier, "--json", "--alignments", given=b"1 2 3\n\n" + b"7 " * 1500 + b"\n")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["line"] for record in records] == [0, 1, 2]
    best = records[0]["translations"][0]
    assert (best["text"], best["truncated"]) == ("1 2 3", False)
    assert len(best["weights"]) == len(best["target_pieces"]) + 1
    assert records[1]["translations"][0]["text"] == ""
    assert records[2]["translations"][0]["truncated"]
    assert "line 3: reached the maximum length" in err


def test_output_goes_to_a_file_whole_or_not_at_all(run: Run, copier: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("1 2 3\n")
    assert run("nmt-translate", copier, "--input", source, "--output", target)[0] == 0
    assert target.read_text() == "1 2 3\n"
    code, _, err = run("nmt-translate", copier, "--input", source, "--output", tmp_path / "none" / "out.txt")
    assert code == 2
    assert "can't be written" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.txt"]


def test_output_through_a_link_stays_a_link_and_a_named_pipe_stays_a_pipe(
    run: Run, copier: Path, tmp_path: Path
) -> None:
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to("target")
    assert run("nmt-translate", copier, "--output", link, given=b"1 2 3\n")[0] == 0
    assert link.is_symlink()
    assert (tmp_path / "target").read_text() == "1 2 3\n"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert run("nmt-translate", copier, "--output", pipe, given=b"4 5 6\n")[0] == 0
    assert pipe.is_fifo()
    assert os.read(reader, 100) == b"4 5 6\n"
    os.close(reader)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe", "target"]


def test_input_that_fails_halfway_is_one_line_after_what_came_before(
    run: Run, copier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: io.FileIO, limit: int) -> Iterator[bytes]:
        yield b"1 2 3"
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(reading, "_lines", failing)
    code, out, err = run("nmt-translate", copier)
    assert (code, out) == (2, b"1 2 3\n")
    assert err == "nmt-translate: stdin: can't be read (input/output error); check the path\n"


def test_a_pipe_that_does_not_wait_is_waited_for() -> None:
    outlet, inlet = os.pipe()
    os.set_blocking(outlet, False)
    chunks = [b"", b"1 2", b" 3\n4\n\n", b"5" * 70_000, b"\n\r\n6"]

    def write() -> None:
        for chunk in chunks:
            time.sleep(0.02)
            os.write(inlet, chunk)
        os.close(inlet)

    writer = threading.Thread(target=write)
    writer.start()
    with io.FileIO(outlet) as file:
        assert list(reading._lines(file, 1 << 20)) == b"".join(chunks).split(b"\n")
    writer.join()


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_a_closed_stream_is_one_line(
    copier: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, tmp_path: Path, closed: str
) -> None:
    given = tmp_path / "given"
    given.touch()
    with given.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "argv", ["nmt-translate", str(copier)])
        monkeypatch.setattr(sys, closed, None)
        code = translate.main()
    monkeypatch.undo()
    assert code == 2
    assert capfd.readouterr().err.startswith(f"nmt-translate: {closed} is closed; open it, or give --")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    same = tmp_path / "same"
    same.write_text("The cat sat on the mat.\n")
    code = "import sys; from nmt.commands.evaluate import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--hypothesis", str(same), "--reference", str(same)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "nmt-evaluate: no space left on device\n")


def test_without_a_folder_the_newest_run_is_taken_and_told(
    run: Run, copier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMT_MODEL", str(copier))
    code, out, err = run("nmt-translate", given=b"1 2 3\n")
    assert (code, out, err) == (0, b"1 2 3\n", f"using {copier}\n")
    monkeypatch.delenv("NMT_MODEL")
    (copier.parent / "runs").symlink_to(copier.parent)
    monkeypatch.chdir(copier.parent)
    assert run("nmt-translate", given=b"1 2 3\n")[2] == "using runs/copy\n"


def test_a_pipe_sees_output_before_its_input_ends(copier: Path) -> None:
    code = "import sys; from nmt.commands.translate import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(copier)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdin.write(b"1 2 3\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"1 2 3\n"
    process.stdin.write(b"4 5 6\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"4 5 6\n"
    process.stdout.close()  # the reader leaves; the next line meets a broken pipe
    process.stdin.write(b"7 8 9\n")
    process.stdin.close()
    assert process.wait(timeout=30) == 141
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.parametrize(("before", "then"), [(None, "1"), ("0", "0")])
def test_huge_pages_are_asked_for_unless_somebody_refuses(
    before: str | None, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", before or "")
    if before is None:
        monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    assert command.run("nmt-train", lambda: 0) == 0
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == then


def test_ctrl_c_ends_translating_quietly(copier: Path) -> None:
    code = "import sys; from nmt.commands.translate import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(copier)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdin.write(b"1 2 3\n")
    process.stdin.flush()
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert process.stderr.read() == b""
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


def test_translating_imports_no_optimiser_metrics_or_datasets(copier: Path) -> None:
    code = "import sys, nmt; nmt.Translator.load(sys.argv[1]).translate(['1 2']); "
    code += "print([m for m in ('sacrebleu', 'datasets', 'torch._dynamo', 'nmt.training') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, str(copier)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# --- models that are not what they should be


@pytest.mark.parametrize("harm", ["weights", "manifest", "best", "tokenizer", "recipe", "component"])
def test_a_damaged_model_is_one_line(run: Run, copier: Path, tmp_path: Path, harm: str) -> None:
    import shutil

    folder = shutil.copytree(copier, tmp_path / "model")
    checkpoint = folder / (folder / "best").read_text().strip()
    recipe = folder / "recipe.yaml"
    {
        "weights": lambda: os.truncate(checkpoint / "model.safetensors", 1000),
        "manifest": lambda: (checkpoint / "MANIFEST.json").unlink(),
        "best": lambda: (folder / "best").write_text("../elsewhere"),
        "tokenizer": lambda: (folder / "tokenizer.model").write_bytes(b"no model"),
        "recipe": lambda: recipe.write_text("name: [\n"),
        "component": lambda: recipe.write_text(recipe.read_text().replace("type: lstm", "type: lstn")),
    }[harm]()
    code, out, err = run("nmt-translate", folder, given=b"1 2\n")
    assert (code, out) == (2, b"")
    assert err.count("\n") == 1


# --- nmt-score, nmt-evaluate, nmt-average, nmt-plugins


def test_the_scorer_gives_the_translators_own_scores(run: Run, copier: Path, tmp_path: Path) -> None:
    lines = digits(20)
    found = Translator.load(copier).translations(lines)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("".join(f"{line}\n" for line in lines))
    target.write_text("".join(f"{each[0].text}\n" for each in found))
    code, out, err = run("nmt-score", copier, "--source", source, "--target", target)
    assert code == 0
    for line, each in zip(out.decode().splitlines(), found, strict=True):
        assert float(line) == pytest.approx(each[0].log_probability, abs=2e-5)
    _, out, _ = run("nmt-score", copier, "--source", source, "--target", target, "--json")
    record = json.loads(out)
    assert record["perplexity"] == pytest.approx(math.exp(-sum(record["log_probabilities"]) / record["tokens"]))
    assert f"perplexity {record['perplexity']:.4f}" in err
    empty = tmp_path / "empty"
    empty.touch()
    _, out, _ = run("nmt-score", copier, "--source", empty, "--target", empty, "--json")
    assert json.loads(out) == {"log_probabilities": [], "tokens": 0, "perplexity": None}
    target.write_text(target.read_text() + "one more\n")
    code, _, err = run("nmt-score", copier, "--source", source, "--target", target)
    assert code == 2
    assert f"{target}:21: " in err


def test_evaluating_writes_translations_and_metrics_with_signatures(run: Run, copier: Path, tmp_path: Path) -> None:
    code, out, _ = run("nmt-evaluate", copier)
    assert code == 0
    assert re.search(r"^BLEU +\d+\.\d+ +nrefs:1\|case:mixed\|eff:no\|tok:13a", out.decode(), re.MULTILINE)
    kept = json.loads((copier / "test.metrics.json").read_text())
    assert [metric["name"] for metric in kept["metrics"]] == ["BLEU", "BLEU lowercased", "chrF", "TER"]
    assert kept["checkpoint"] == (copier / "best").read_text().strip()
    assert kept["precision"] == "fp32"
    assert kept["sentences"] == len((copier / "test.translations.txt").read_text().splitlines()) == 100
    source = tmp_path / "own.txt"
    source.write_text("1 2 3 4 5\n")
    _, out, _ = run("nmt-evaluate", copier, "--source", source, "--reference", source, "--json")
    assert json.loads(out)[0]["value"] == pytest.approx(100.0)
    assert (copier / "own.txt.translations.txt").read_text() == "1 2 3 4 5\n"


@pytest.mark.parametrize("command", ["nmt-translate", "nmt-evaluate", "nmt-score"])
def test_memory_that_is_not_enough_is_one_line(
    run: Run, copier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def starving(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2097152000 bytes.\nmore")

    for name in ("translations", "score"):
        monkeypatch.setattr(f"nmt.translator.Translator.{name}", starving)
    (tmp_path / "digits").write_text("1 2\n")
    files = ("--source", tmp_path / "digits", "--target", tmp_path / "digits") if command == "nmt-score" else ()
    code, _, err = run(command, copier, *files, given=b"1 2\n")
    assert code == 1
    assert err.startswith(f"{command}: {copier}: memory was not enough (")
    assert err.count("\n") == 1


def test_a_recipe_is_checked_or_profiled_not_both(run: Run) -> None:
    code, _, err = run("nmt-train", "recipes/copy.yaml", "--check", "--profile")
    assert code == 2
    assert err == "nmt-train: argument --profile: not allowed with argument --check (see nmt-train --help)\n"


def test_metrics_equal_sacrebleus_own_command(run: Run, tmp_path: Path) -> None:
    hypothesis, reference = tmp_path / "hypothesis", tmp_path / "reference"
    hypothesis.write_text("The cat sits on the mat.\nHe did not go, did he?\n\n")
    reference.write_text("The cat sat on the mat.\nHe didn't go, did he?\nNothing here.\n")
    _, out, _ = run("nmt-evaluate", "--hypothesis", hypothesis, "--reference", reference, "--json")
    ours = {metric["name"]: metric for metric in json.loads(out)}
    command = [sys.executable, "-m", "sacrebleu", str(reference), "-i", str(hypothesis), "-m", "bleu", "chrf", "ter"]
    done = subprocess.run([*command, "-w", "8", "-f", "json"], capture_output=True, text=True, check=True)
    for metric in json.loads(done.stdout):
        mine = ours[{"BLEU": "BLEU", "chrF2": "chrF", "TER": "TER"}[metric["name"]]]
        assert mine["value"] == pytest.approx(metric["score"], abs=1e-8)
        assert mine["signature"] == metric["signature"]


def test_average_is_a_model_of_its_own(run: Run, copier: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(copier, tmp_path / "model")
    code, out, _ = run("nmt-average", folder, "--json")
    assert code == 0
    assert json.loads(out)["written"] == str(folder / "average")
    assert run("nmt-translate", folder / "average", given=b"1 2 3\n")[1] == b"1 2 3\n"


def test_plugins_lists_every_component_with_its_options(run: Run) -> None:
    _, out, _ = run("nmt-plugins", "--json")
    rows = {(row["kind"], row["name"]): row for row in map(json.loads, out.splitlines())}
    assert rows["cell", "lstm"]["options"] == {"forget_bias": 1.0}
    assert rows["cell", "lstm"]["distribution"].startswith("recurrent-nmt ")
    assert {kind for kind, _ in rows} == {"cell", "attention", "encoder", "decoder", "corpus"}
    _, out, _ = run("nmt-plugins")
    assert "forget_bias=1.0" in out.decode()


def test_a_broken_plugin_is_shown_as_such_and_breaks_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    information = tmp_path / "nmt_bad-0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: nmt-bad\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text("[nmt.cells]\nbad = nmt_bad:Bad\n")
    (tmp_path / "nmt_bad.py").write_text("raise ValueError('no')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, out, _ = run("nmt-plugins")
    assert code == 0
    assert re.search(r"^cell +bad +nmt-bad 0\.1 +broken: .*ValueError: no", out.decode(), re.MULTILINE)
    assert "lstm" in out.decode()
