"""Names to components: entry points find them, built-ins and strangers alike.

A recipe names a component; the name is looked up in an entry-point group of the installed distributions, and only that
component is imported. What its options are is in :mod:`nmt.options`.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from nmt.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Kind:
    """A kind of component: its entry-point group, the interface it must implement, and the key that names one."""

    name: str
    group: str
    interface: str
    key: str = "type"

    def base(self) -> type:
        """The interface, imported."""
        module, _, attribute = self.interface.partition(":")
        base: type = getattr(importlib.import_module(module), attribute)
        return base


CELL = Kind("cell", "nmt.cells", "nmt.cells.cell:Cell")
ATTENTION = Kind("attention", "nmt.attentions", "nmt.attention.attention:Attention")
ENCODER = Kind("encoder", "nmt.encoders", "nmt.model.encoder:Encoder")
DECODER = Kind("decoder", "nmt.decoders", "nmt.model.decoder:Decoder")
CORPUS = Kind("corpus", "nmt.corpora", "nmt.text.corpus:Corpus", key="corpus")
KINDS = (CELL, ATTENTION, ENCODER, DECODER, CORPUS)


_registered: dict[tuple[str, str], type] = {}


def register(kind: Kind, name: str) -> Callable[[type], type]:
    """Decorator that gives a component a name in this process, for notebooks and tests.

    >>> @register(CELL, "mine")
    ... class MyCell(Cell): ...
    """

    def remember(component: type) -> type:
        _registered[kind.group, name] = component
        return component

    return remember


def available(kind: Kind) -> dict[str, list[EntryPoint]]:
    """Every installed name of this kind, with the entry points that offer it. Imports none of them."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=kind.group):
        offered = found.setdefault(point.name, [])
        if point not in offered:
            offered.append(point)
    return dict(sorted(found.items()))


def distribution(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that an entry point comes from."""
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "")


def offered_by(owner: str) -> list[tuple[Kind, EntryPoint]]:
    """Every component that an installed distribution registers. Imports none of them.

    Raises UserError where no distribution of that name registers any.
    """
    offers = [(kind, point) for kind in KINDS for points in available(kind).values() for point in points]
    owners = {_normal(distribution(point)[0]) for _, point in offers}
    if _normal(owner) not in owners:
        raise UserError(
            f"no installed distribution {owner!r} registers components", did_you_mean(_normal(owner), owners)
        )
    return [(kind, point) for kind, point in offers if _normal(distribution(point)[0]) == _normal(owner)]


def _normal(name: str) -> str:
    """A distribution's name as packaging compares names."""
    return name.lower().replace("_", "-").replace(".", "-")


def load(kind: Kind, name: str) -> type:
    """The component of this name, imported.

    Raises UserError where the name is unknown, offered twice, or no component of this kind; a plugin's own import
    error is raised as it is, under a line that says whose it is.
    """
    if (kind.group, name) in _registered:
        return _registered[kind.group, name]
    offers = available(kind)
    if name not in offers:
        known = [*offers, *(n for group, n in _registered if group == kind.group)]
        remedy = f"{did_you_mean(name, known)} (after adding one to a project, install the project again)"
        raise UserError(f"no {kind.name} named {name!r} is installed", remedy)
    if len(offers[name]) > 1:
        owners = " and ".join(" ".join(distribution(point)) for point in offers[name])
        raise UserError(f"the {kind.name} {name!r} is offered by {owners}", "uninstall one of them")
    return _imported(kind, offers[name][0])


def _imported(kind: Kind, point: EntryPoint) -> type:
    owner = " ".join(distribution(point))
    try:
        component = point.load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"the {kind.name} {point.name!r} of {owner} can't be imported ({reason})",
            "reinstall or upgrade that distribution, or uninstall it",
        ) from error
    if not (inspect.isclass(component) and issubclass(component, kind.base())):
        raise UserError(f"{point.value} of {owner} is no {kind.name}", f"derive it from {kind.interface}")
    return typing.cast(type, component)
