"""Plugins that are broken, each in its own way: what names them says what is wrong, and nothing else notices them."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from distributions import describe, install

from nmt.commands import plugins, train
from nmt.errors import UserError
from nmt.recipe_file import read_recipe
from nmt.registry import CELL, load

COPY = Path(__file__).parent.parent / "recipes" / "copy.yaml"
CELL_CODE = """
from nmt.cells.cell import Cell
class Mine(Cell):
    def __init__({signature}):
        super().__init__(3, 3, state_shapes=((3,),))
{step}
"""
STEP = "    def step(self, projected, state, noise=()): return projected, state"
CODES = {
    "raises": "raise RuntimeError('out of order')",
    "leaves": "raise SystemExit(0)",
    "hangs": "import time; time.sleep(5)",
    "foreign": "class Mine: pass",
    "signature": CELL_CODE.format(signature="self, size, *, depth: int = 1", step=STEP),
    "unfinished": CELL_CODE.format(signature="self, input_size, hidden_size", step=""),
    "bare": CELL_CODE.format(signature="self, input_size, hidden_size, *, depth=1", step=STEP),
    "dreams": CELL_CODE.format(signature="self, input_size, hidden_size, *, depth: 'Depth' = 1", step=STEP),
    "hidden": CELL_CODE.format(signature="self, input_size, hidden_size, **options: int", step=STEP),
    "nothing": "",
    "old": "from nmt.cells.lstm import LSTMCell as Mine",
    "twice": "from nmt.cells.lstm import LSTMCell as Mine",
}
SAID = {
    "raises": r"'raises' of nmt-raises 1\.2 can't be imported \(RuntimeError: out of order\)",
    "leaves": r"'leaves' of nmt-leaves 1\.2 can't be imported \(SystemExit: 0\)",
    "foreign": r"nmt_foreign:Mine of nmt-foreign 1\.2 is no cell",
    "signature": r"the constructor of nmt_signature:Mine of nmt-signature 1\.2 takes \(size\) by position, "
    r"not \(input_size, hidden_size, \*, options\)",
    "unfinished": r"nmt_unfinished:Mine of nmt-unfinished 1\.2 doesn't define step",
    "bare": r"Mine: the option depth has no annotation",
    "dreams": r"Mine: its annotations can't be read \(NameError: name 'Depth' is not defined\)",
    "hidden": r"Mine takes \*options",
    "nothing": r"can't be imported \(AttributeError: module 'nmt_nothing' has no attribute 'Mine'\)",
    "old": r"nmt-old 1\.2 is made for recurrent-nmt <0\.1, and this is 0\.",
    "twice": r"'twice' is offered by nmt-(also|twice) 1\.2 and nmt-(also|twice) 1\.2",
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """All of them, installed at once."""
    for name, code in CODES.items():
        lines = ["Requires-Dist: torch", "Requires-Dist: recurrent-nmt<0.1"] if name == "old" else []
        install(tmp_path, f"nmt-{name}", "nmt.cells", f"{name} = nmt_{name}:Mine", code, lines=lines)
    describe(tmp_path, "nmt-also", "[nmt.cells]\ntwice = nmt_twice:Mine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in CODES:
        sys.modules.pop(f"nmt_{name}", None)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Run:
    """A command in this process: its exit code, its output and its complaints."""

    def run_(module: object, name: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        code = module.main()
        return (code, *capsys.readouterr())

    return run_


def test_the_listing_shows_each_as_broken_and_the_others_as_they_are(site: Path, run: Run) -> None:
    code, out, err = run(plugins, "nmt-plugins", "--json")
    rows = {row["name"]: row for row in map(json.loads, out.splitlines()) if row["kind"] == "cell"}
    assert code == 0
    for name in CODES:
        assert rows[name]["problem"].startswith("broken: "), name
        words = "two distributions offer this name" if name == "twice" else SAID.get(name, "within 3 seconds")
        assert re.search(words, rows[name]["problem"]), rows[name]["problem"]
    assert (rows["lstm"]["problem"], rows["lstm"]["options"]) == ("", {"forget_bias": 1.0})
    assert err == ""


@pytest.mark.parametrize("name", SAID)
def test_a_recipe_that_names_it_is_refused_in_one_line(site: Path, name: str) -> None:
    with pytest.raises(UserError, match=SAID[name]) as caught:
        read_recipe(COPY, [f"model.encoder.cell={name}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SAID)
def test_checking_it_fails_in_words(site: Path, run: Run, name: str) -> None:
    code, out, err = run(plugins, "nmt-plugins", "check", name)
    assert code in (1, 2)
    assert re.search(SAID[name], out + err)


def test_no_other_command_notices_them(site: Path) -> None:
    words = [str(COPY), "--check"]
    code = f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv = ['nmt-train', *{words!r}]\n"
    code += "from nmt.commands.train import main; assert main() == 0\n"
    code += "print([name for name in sys.modules if name.startswith('nmt_')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{COPY}: all is well\n[]\n", "")


def test_one_that_takes_a_built_ins_name_is_named_and_can_be_left_out(site: Path, run: Run) -> None:
    install(site, "nmt-lstm", "nmt.cells", "lstm = nmt_lstm:Mine", "raise RuntimeError")
    code, _, err = run(train, "nmt-train", COPY, "--check")
    assert code == 2
    assert re.search(r"'lstm' is offered by .*nmt-lstm 1\.2.*; uninstall one of them, or leave it out of the rec", err)
    assert run(train, "nmt-train", COPY, "--check", "plugins=[]")[0] == 0
    assert run(train, "nmt-train", COPY, "--check", "--no-plugins")[0] == 0


@pytest.mark.parametrize("requirement", ["recurrent-nmt>=0.1,<0.2", "Recurrent.NMT", "torch<0.1", "what is this"])
def test_a_distribution_that_asks_for_this_nmt_or_for_none_is_taken(site: Path, requirement: str) -> None:
    lines = [f"Requires-Dist: {requirement}", "Requires-Dist: recurrent-nmt<0.1; extra == 'ancient'"]
    install(site, "nmt-right", "nmt.cells", "right = nmt_right:Mine", CODES["old"], lines=lines)
    assert load(CELL, "right").__name__ == "LSTMCell"
