"""What building nmt does besides packing it: nmt's own matrix products are compiled, where a C compiler is there.

Without one the wheel is for every machine, and products are left to torch.
"""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

sys.path.insert(0, str(Path(__file__).parent))
from nmt import native_build


class BuildHook(BuildHookInterface[Any]):
    """Of wheels, editable ones too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name the wheel after the machine."""
        libraries = native_build.build(self.app.display_warning)
        if libraries:
            build_data["artifacts"] += [f"nmt/{path.name}" for path in libraries]
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{next(platform_tags())}"
