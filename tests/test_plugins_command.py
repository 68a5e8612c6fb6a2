"""nmt-plugins: what it shows of components, what it says of their contracts, and the projects that it writes."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from distributions import install, install_project

from nmt import Translator, train
from nmt.commands import plugins
from nmt.errors import UserError
from nmt.registry import ATTENTION, CELL, CORPUS, DECODER, ENCODER, KINDS, Kind, load

ROOT = Path(__file__).parent.parent
COPY = ROOT / "recipes" / "copy.yaml"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Run:
    """The command in this process: its exit code, its output and its complaints."""

    def run_(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nmt-plugins", *map(str, arguments)])
        try:
            code = plugins.main()
        except SystemExit as left:
            code = left.code
        return (code, *capsys.readouterr())

    return run_


def install_cell(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str, *lines: str) -> None:
    head = (
        "from typing import Annotated, Literal\nimport torch\nfrom pydantic import Field\nfrom nmt.options import *\n"
    )
    head += "from nmt.cells.gru import GRUCell\nfrom nmt.cells.cell import Cell\n"
    install(folder, f"nmt-{name}", "nmt.cells", f"{name} = nmt_{name}:Mine", head + code, lines=lines)
    monkeypatch.syspath_prepend(str(folder))


# --- actions


def test_an_unknown_action_is_answered_with_the_nearest_one(run: Run) -> None:
    code, out, err = run("shwo", "lstm")
    assert (code, out) == (2, "")
    assert err == "nmt-plugins: no action 'shwo'; did you mean show? (see nmt-plugins --help)\n"


@pytest.mark.parametrize("action", ["show", "check", "new"])
def test_an_action_tells_its_options(run: Run, action: str) -> None:
    code, out, _ = run(action, "--help")
    assert code == 0
    assert out.startswith(f"usage: nmt-plugins {action} ")


def test_without_plugins_only_the_built_ins_are_listed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_cell(tmp_path, monkeypatch, "besides", "Mine = GRUCell")
    owners = [json.loads(line)["distribution"] for line in run("--json")[1].splitlines()]
    assert "nmt-besides 1.2" in owners
    owners = [json.loads(line)["distribution"] for line in run("--json", "--no-plugins")[1].splitlines()]
    assert set(owners) == {f"recurrent-nmt {version('recurrent-nmt')}"}
    assert run("show", "besides", "--no-plugins")[0] == 2


# --- show


def test_show_gives_formula_options_distribution_and_source(run: Run) -> None:
    code, out, _ = run("show", "lstm")
    assert code == 0
    assert "c' = f ∘ c + i ∘ g" in out
    assert "  forget_bias: float (default: 1.0)" in out
    assert f"from         recurrent-nmt {version('recurrent-nmt')}" in out
    file, line = re.search(r"defined in +(.*):(\d+)$", out, re.MULTILINE).groups()
    assert Path(file).read_text().splitlines()[int(line) - 1] == "class LSTMCell(Cell):"


def test_show_gives_types_bounds_choices_and_what_is_required(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
class Mine(GRUCell):
    "Shown."
    def __init__(self, input_size: int, hidden_size: int, *, size: Annotated[int, Field(gt=0, le=8)],
                 way: Literal["up", "down"] = "up", cell: CellChoice = Choice("gru")) -> None: ...
"""
    install_cell(tmp_path, monkeypatch, "shown", code, "Project-URL: Homepage, https://example.org/shown")
    _, out, _ = run("show", "shown", "--json")
    shown = json.loads(out)
    assert shown["options"] == {
        "size": {"takes": "int, above 0, up to 8"},
        "way": {"takes": "up | down", "default": "up"},
        "cell": {"takes": "a cell", "default": "gru"},
    }
    assert (shown["distribution"], shown["page"]) == ("nmt-shown 1.2", "https://example.org/shown")
    assert "  size: int, above 0, up to 8 (required)\n" in run("show", "shown")[1]


@pytest.mark.parametrize(
    ("body", "speed"),
    [
        ("Mine = GRUCell", "all steps by a way of its own (unroll)"),
        ("class Mine(GRUCell): unroll = Cell.unroll", "a loop of steps, the input projected for all at once (project)"),
        ("class Mine(GRUCell): unroll, project = Cell.unroll, Cell.project", "a loop of steps"),
    ],
)
def test_show_tells_how_a_cell_runs_from_what_it_overrides(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, speed: str
) -> None:
    install_cell(tmp_path, monkeypatch, "paced", body)
    monkeypatch.delitem(sys.modules, "nmt_paced", raising=False)
    assert json.loads(run("show", "paced", "--json")[1])["speed"] == speed


def test_a_name_of_two_kinds_is_shown_twice_or_by_its_kind(run: Run) -> None:
    assert [each["kind"] for each in json.loads(run("show", "recurrent", "--json")[1])] == ["encoder", "decoder"]
    assert json.loads(run("show", "decoder/recurrent", "--json")[1])["kind"] == "decoder"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lsmt", "no component named 'lsmt' is installed; did you mean lstm?"),
        ("cell/dot", "no cell named 'dot' is installed"),
        ("cel/gru", "no kind of component is called 'cel'; did you mean cell?"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(run: Run, name: str, words: str) -> None:
    for action in ("show", "check"):
        code, out, err = run(action, name)
        assert (code, out) == (2, "")
        assert err.startswith(f"nmt-plugins {action}: {words}")


# --- check


def test_check_names_each_promise_that_a_component_keeps(run: Run) -> None:
    code, out, _ = run("check", "attention/dot")
    assert code == 0
    assert out.startswith("attention dot\n  ok      ")
    kept = out.count("\n  ok      ")
    assert kept > 10
    assert out.endswith(f"\n{kept} promises kept, 0 broken\n")


def test_check_says_which_promise_is_broken_and_stops_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
class Mine(GRUCell):
    "Looks at its neighbours."
    def step(self, projected, state, noise=()):
        return super().step(projected - projected.mean(0), state)
"""
    install_cell(tmp_path, monkeypatch, "social", code)
    code, out, _ = run("check", "social")
    assert code == 1
    assert re.search(r"\n  FAILED  .*; .*\n\d+ promises kept, 1 broken\n$", out)


def test_check_takes_options_as_a_recipe_does(run: Run) -> None:
    code, out, _ = run("check", "corpus/digits", "task=sort", "pairs=5")
    assert (code, "0 broken" in out) == (0, True)
    code, out, _ = run("check", "digits", "tusk=sort")
    assert code == 1
    assert "FAILED" in out and "tusk" in out
    code, _, err = run("check", "recurrent", "layers=2")
    assert code == 2
    assert "recurrent is more than one component; give options to one" in err


def test_check_of_a_distribution_says_what_it_cannot_check(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
class Mine(GRUCell):
    "Asks for `size`."
    def __init__(self, input_size: int, hidden_size: int, *, size: int) -> None:
        super().__init__(input_size, hidden_size)
"""
    install_cell(tmp_path, monkeypatch, "asking", code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # its import is watched in another process
    code, out, _ = run("check", "nmt-asking")
    assert code == 0
    assert "ok      importing it has no side effects and is fast" in out
    assert "cell asking: not checked without options: needs size" in out
    assert out.endswith("\n1 promises kept, 0 broken, 1 components not checked\n")


# --- new

PLACES = {
    CELL: ["model.encoder.cell=my-cell", "model.decoder.cell=my-cell"],
    ATTENTION: ["model.decoder.attention=my-attention"],
    ENCODER: ["model.encoder={type: my-encoder, size: 8}"],
    DECODER: ["model.decoder={type: my-decoder, hidden_size: 8}"],
    CORPUS: ["data.train={corpus: my-corpus, path: digits.tsv}"],
}
"""Where a recipe names a component of each kind."""
TINY = [
    "data.train.pairs=200",
    "data.valid.pairs=10",
    "model.embedding_size=8",
    "model.encoder.hidden_size=8",
    "model.decoder.hidden_size=8",
    "train.batch_tokens=300",
    "train.updates=3",
    "train.validate_every=3",
    "train.validate_decoded=2",
]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """A new project of each kind, all in one folder."""
    folder = tmp_path_factory.mktemp("projects")
    with pytest.MonkeyPatch.context() as patch:
        for kind in KINDS:
            words = ["nmt-plugins", "new", f"my-{kind.name}", "--kind", kind.name, "--out", str(folder)]
            patch.setattr(sys, "argv", words)
            assert plugins.main() == 0
    return {kind: folder / f"nmt-my-{kind.name}" for kind in KINDS}


def tool(*words: object, folder: Path, **environment: str) -> str:
    """A development tool run on what was written; nothing of ours is on its path but nmt."""
    ours = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=ours, capture_output=True, text=True)
    return f"{done.stdout}{done.stderr}" if done.returncode else ""


def test_new_projects_are_formatted_and_linted(projects: dict[Kind, Path]) -> None:
    folder = projects[CELL].parent
    assert tool("ruff", "format", "--no-cache", "--check", ".", folder=folder) == ""
    assert tool("ruff", "check", "--no-cache", ".", folder=folder) == ""


def test_new_projects_are_typed(projects: dict[Kind, Path]) -> None:
    folder = projects[CELL].parent
    options = ["--strict", "--config-file", projects[CELL] / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"]
    modules = [path / f"nmt_my_{kind.name}" for kind, path in projects.items()]
    assert tool("mypy", *options, *modules, folder=folder) == ""


def test_new_projects_pass_their_own_tests_at_once(projects: dict[Kind, Path]) -> None:
    folders = os.pathsep.join(map(str, [ROOT, *projects.values()]))
    tests = [path / "tests" for path in projects.values()]
    options = ["-p", "no:cacheprovider", "--import-mode=importlib", "-W", "error"]
    assert tool("pytest", *options, *tests, folder=projects[CELL].parent, PYTHONPATH=folders) == ""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_new_project_trains_and_translates_until_it_is_uninstalled(
    projects: dict[Kind, Path], kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits.tsv").write_text("".join(f"{n} {n} {n}\t{n} {n} {n}\n" for n in range(10)) * 10)
    project = tomllib.loads((projects[kind] / "pyproject.toml").read_text())["project"]
    install_project(tmp_path / "site", project, projects[kind])
    with monkeypatch.context() as installed:
        installed.syspath_prepend(str(projects[kind]))
        installed.syspath_prepend(str(tmp_path / "site"))
        assert load(kind, f"my-{kind.name}").__name__ == f"My{kind.name.capitalize()}"
        taken = {override.split("=")[0] for override in PLACES[kind]}
        tiny = [override for override in TINY if override.rpartition(".")[0] not in taken]
        folder = train(COPY, [*tiny, *PLACES[kind]], out=tmp_path / "run")
        assert len(Translator.load(folder).translate(["1 2 3"])) == 1
    with pytest.raises(UserError) as caught:
        Translator.load(folder)
    said = f"the model needs the {kind.name} my-{kind.name} of nmt-my-{kind.name} 0.1.0, not installed here; "
    assert str(caught.value) == f"{folder}: {said}pip install nmt-my-{kind.name}==0.1.0"


def test_a_new_project_has_what_a_distribution_needs(projects: dict[Kind, Path]) -> None:
    for kind, folder in projects.items():
        module = f"nmt_my_{kind.name}"
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        needed = {"pyproject.toml", "README.md", ".gitignore", f"{module}/__init__.py", f"{module}/py.typed"}
        assert needed | {f"tests/test_{module}.py"} == {file for file in files if "__pycache__" not in file}
        for file in needed:
            assert "$" not in (folder / file).read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["My-Cell"], "'My-Cell' is no name"),
        (["a--b"], "'a--b' is no name"),
        (["../up"], "'../up' is no name"),
        (["é"], "'é' is no name"),
        (["a" * 41], "is no name"),
        (["lstm"], "the cell lstm is recurrent-nmt's already"),
        (["held", "--out", "none"], "none: no such folder"),
        (["held"], "nmt-held: is there already"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    (tmp_path / "nmt-held").mkdir()
    monkeypatch.chdir(tmp_path)
    code, out, err = run("new", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert [path.name for path in tmp_path.rglob("*")] == ["nmt-held"]


def test_the_name_of_an_installed_distribution_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_cell(tmp_path, monkeypatch, "present", "Mine = GRUCell")
    code, _, err = run("new", "present", "--kind", "attention", "--out", tmp_path)
    assert (code, err) == (2, "nmt-plugins new: nmt-present 1.2 is installed already; choose another name\n")


DISK_FULL = """
import pathlib, sys
write_text = pathlib.Path.write_text
def until_full(path, *arguments, **options):
    if path.name == "py.typed":
        raise OSError(28, "No space left on device")
    return write_text(path, *arguments, **options)
pathlib.Path.write_text = until_full
sys.argv = ["nmt-plugins", "new", "halved"]
from nmt.commands.plugins import main
sys.exit(main())
"""


def test_a_project_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    ours = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", DISK_FULL], cwd=tmp_path, env=ours, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "nmt-plugins new: no space left on device\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "kind", "name", "component"),
    [
        ("mgu2", "cell", "mgu2", "Mgu2Cell"),
        ("nmt-mgu2", "cell", "mgu2", "Mgu2Cell"),
        ("my-2nd-corpus", "corpus", "my-2nd-corpus", "My2ndCorpus"),
        ("cell", "cell", "cell", "CellCell"),
    ],
)
def test_a_component_is_called_after_its_name_and_kind(
    run: Run, tmp_path: Path, given: str, kind: str, name: str, component: str
) -> None:
    assert run("new", given, "--kind", kind, "--out", tmp_path)[0] == 0
    project = tomllib.loads((tmp_path / f"nmt-{name}" / "pyproject.toml").read_text())["project"]
    (entries,) = project["entry-points"].values()
    assert entries == {name: f"nmt_{name.replace('-', '_')}:{component}"}
