"""What the README says is run: its commands in order, its Python as it stands."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    return tmp_path


def test_the_tour_and_then_the_python_run_as_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    (tour,) = blocks("sh")
    done = subprocess.run(["sh", "-ec", tour], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "recipes/copy.yaml: all is well" in done.stdout
    assert "\n3 1 4 1 5\n" in done.stdout
    assert [line.split("\t")[1] for line in (folder / "copied.txt").read_text().splitlines()] == ["1 2 3", "4 5 6"]
    assert re.search(r"BLEU +\d+\.\d\d +nrefs:1", done.stdout)
    assert "cell       lstm" in done.stdout
    for code in blocks("python"):
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_error_it_shows_is_the_error_one_gets(folder: Path) -> None:
    recipe = folder / "recipes" / "en-fr.yaml"
    text = recipe.read_text()
    recipe.write_text(
        text.replace(
            "encoder: {type: recurrent, cell: lstm,", "encoder: {type: recurrent, cell: {type: lstm, forget_bais: 1},"
        )
    )
    code = "import sys; from nmt.commands.train import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "recipes/en-fr.yaml", "--check"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"    {done.stderr.removeprefix('nmt-train: ')}" in README


def test_every_file_it_links_to_is_there() -> None:
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (ROOT / target).exists(), target
