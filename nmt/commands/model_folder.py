"""Which model a command uses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nmt.errors import UserError


def model_folder(named: str | None) -> Path:
    """The folder named, else ``$NMT_MODEL``, else the newest run below ``runs/``; says on stderr which.

    Raises UserError where there is none.
    """
    if named is not None:
        return Path(named)
    if os.environ.get("NMT_MODEL"):
        return _told(Path(os.environ["NMT_MODEL"]))
    finished = sorted(filter(Path.is_file, Path("runs").glob("*/best")), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise UserError("no model here", "name a model's folder, set NMT_MODEL, or train one: nmt-train RECIPE")
    return _told(finished[-1].parent)


def _told(folder: Path) -> Path:
    print(f"using {folder}", file=sys.stderr)
    return folder
