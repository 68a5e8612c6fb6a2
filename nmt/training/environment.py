"""What a run was made with: versions, components, hardware."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nmt.options import Choice, component_kind, schema
from nmt.recipe import Recipe
from nmt.registry import only, origin
from nmt.section import Section

PACKAGES = ("recurrent-nmt", "numpy", "sentencepiece", "safetensors")


def environment(recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """Versions, the distribution of each component in use, and the hardware, as JSON can hold it."""
    with only(recipe.plugins):
        components = _components(type(recipe).model_fields, _values(recipe))
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        # torch's own word, which tells for what device it was built; a wheel's metadata may not.
        "packages": {"torch": torch.__version__, **{name: importlib.metadata.version(name) for name in PACKAGES}},
        "components": dict(sorted(components.items())),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def _values(section: Any) -> dict[str, Any]:
    return {name: getattr(section, name) for name in type(section).model_fields}


def _components(fields: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """``kind name`` -> ``distribution version`` of each component chosen at or below these fields."""
    found: dict[str, str] = {}
    for name, value in values.items():
        kind = component_kind(fields[name])
        if kind is not None and isinstance(value, Choice):
            found[f"{kind.name} {value.name}"] = origin(kind, value.name)
            found |= _components(schema(value.loaded(kind)).model_fields, value.options)
        elif isinstance(value, Section):
            found |= _components(type(value).model_fields, _values(value))
    return found


def _processor() -> str:
    """The processor's own name where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
