"""docs/plugins.md is run from top to bottom: its files are written, its commands run, its outputs compared."""

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", TUTORIAL, re.DOTALL | re.MULTILINE)


def environment_of_its_own(folder: Path) -> dict[str, str]:
    """A virtual environment over this one: what the tutorial installs is installed there, without a network."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "ours.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in ours))
    python = shlex.quote(str(folder / "bin" / "python"))

    def command(name: str, words: str) -> None:
        (folder / "bin" / name).write_text(f"#!/bin/sh\nexec {python} {words}\n")
        (folder / "bin" / name).chmod(0o755)

    for point in entry_points(group="console_scripts"):
        if point.name.startswith("nmt-"):
            command(point.name, f'-c "import sys; from {point.module} import main; sys.exit(main())" "$@"')
    command("pytest", '-m pytest -p no:cacheprovider "$@"')
    command("pip", '-m pip "$@" --quiet --no-build-isolation --no-deps --disable-pip-version-check')
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


def spaced_once(text: str) -> str:
    return " ".join(text.split())


def script() -> str:
    """The tutorial as one shell script that says where each block of commands begins."""
    parts = []
    for index, (language, path, text) in enumerate(BLOCKS):
        if path:
            parts.append(f"cat > {path} <<'END_OF_FILE'\n{text}END_OF_FILE")
        elif language == "sh":
            parts.append(f"echo 'block {index}'\n{text}")
        else:
            assert language == "text", f"a block of {language} that nothing runs"
    return "\n".join(parts)


def test_the_tutorial_runs_as_written(tmp_path: Path) -> None:
    environment = environment_of_its_own(tmp_path / "venv")
    done = subprocess.run(["sh", "-euc", script()], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    outputs = dict(re.findall(r"^block (\d+)\n(.*?)(?=^block |\Z)", done.stdout, re.DOTALL | re.MULTILINE))
    shown = [(index, text) for index, (language, _, text) in enumerate(BLOCKS) if language == "text"]
    assert len(shown) == 3
    for index, text in shown:
        assert spaced_once(text) in spaced_once(outputs[str(index - 1)])  # columns are as wide as what is installed
    assert "3 1 4 1 5" in done.stdout


def test_its_result_is_the_plugin_and_its_first_cell_is_short() -> None:
    first, last = (text for _, path, text in BLOCKS if path == "nmt_mgu/__init__.py")
    plugin = ROOT / "plugins" / "nmt-mgu"
    assert last == (plugin / "nmt_mgu" / "__init__.py").read_text()
    (project,) = (text for _, path, text in BLOCKS if path == "pyproject.toml")
    assert project == (plugin / "pyproject.toml").read_text()
    code = [line for line in first.splitlines() if line.strip() and not line.strip().startswith(('"""', "#"))]
    assert len(code) <= 25
