"""Names to components: entry points find them, built-ins and strangers alike.

A recipe names a component; the name is looked up in an entry-point group of the installed distributions, and only that
component is imported. What its options are is in :mod:`nmt.options`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points

from nmt import __version__
from nmt.errors import UserError, did_you_mean

OURS = "recurrent-nmt"
"""The distribution that the built-in components come with."""
THIS_PROCESS = "this process"
"""Where components come from that `register` named."""


@dataclass(frozen=True)
class Kind:
    """A kind of component: its entry-point group, the interface it must implement, and the key that names one."""

    name: str
    group: str
    interface: str
    given: tuple[str, ...]
    """What the framework gives a constructor, by position."""
    key: str = "type"

    def base(self) -> type:
        """The interface, imported."""
        module, _, attribute = self.interface.partition(":")
        base: type = getattr(importlib.import_module(module), attribute)
        return base


CELL = Kind("cell", "nmt.cells", "nmt.cells.cell:Cell", ("input_size", "hidden_size"))
ATTENTION = Kind("attention", "nmt.attentions", "nmt.attention.attention:Attention", ("query_size", "key_size"))
ENCODER = Kind("encoder", "nmt.encoders", "nmt.model.encoder:Encoder", ("embedding", "unroll"))
DECODER = Kind("decoder", "nmt.decoders", "nmt.model.decoder:Decoder", ("embedding", "unroll", "encoded_size"))
CORPUS = Kind("corpus", "nmt.corpora", "nmt.text.corpus:Corpus", (), key="corpus")
KINDS = (CELL, ATTENTION, ENCODER, DECODER, CORPUS)


_registered: dict[tuple[str, str], type] = {}
_allowed: ContextVar[frozenset[str] | None] = ContextVar("allowed", default=None)


def register(kind: Kind, name: str) -> Callable[[type], type]:
    """Decorator that gives a component a name in this process, for notebooks and tests.

    >>> @register(CELL, "mine")
    ... class MyCell(Cell): ...
    """

    def remember(component: type) -> type:
        _registered[kind.group, name] = component
        return component

    return remember


@contextmanager
def only(distributions: Iterable[str] | None) -> Iterator[None]:
    """Within this block, components come from these distributions and the built-ins alone; None restricts nothing.

    Blocks within blocks restrict further. What is not allowed is not imported.
    """
    outer = _allowed.get()
    inner = outer if distributions is None else frozenset(_normal(name) for name in distributions)
    token = _allowed.set(inner if outer is None or inner is None else inner & outer)
    try:
        yield
    finally:
        _allowed.reset(token)


def available(kind: Kind) -> dict[str, list[EntryPoint]]:
    """Every installed name of this kind that may be used, with the entry points that offer it. Imports none."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=kind.group):
        if _may_be_used(point):
            found.setdefault(point.name, []).append(point)
    return dict(sorted(found.items()))


def names(kind: Kind) -> set[str]:
    """Every name that stands for something of this kind, whether it may be used here or not."""
    return {point.name for point in entry_points(group=kind.group)} | {
        name for group, name in _registered if group == kind.group
    }


def distribution(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that an entry point comes from."""
    return (_told(point.dist, "Name") or "unknown", _told(point.dist, "Version")) if point.dist else ("unknown", "")


def origin(kind: Kind, name: str) -> str:
    """Where a component that can be loaded comes from: ``distribution version``, or `THIS_PROCESS`."""
    if (kind.group, name) in _registered:
        return THIS_PROCESS
    return " ".join(distribution(single(kind, name)))


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


def load(kind: Kind, name: str) -> type:
    """The component of this name, imported.

    Raises UserError where the name is unknown, not allowed here (`only`) or offered twice, and where the component
    can't be imported, was made for another nmt, or doesn't fit its interface.
    """
    if (kind.group, name) in _registered:
        return _registered[kind.group, name]
    return imported(kind, single(kind, name))


def single(kind: Kind, name: str) -> EntryPoint:
    """The one entry point that offers a name. Raises UserError where none may be used, or more than one."""
    offers = available(kind).get(name, [])
    if not offers:
        raise _missing(kind, name)
    if len(offers) > 1:
        owners = " and ".join(" ".join(distribution(point)) for point in offers)
        remedy = "uninstall one of them, or leave it out of the recipe's plugins"
        raise UserError(f"the {kind.name} {name!r} is offered by {owners}", remedy)
    return offers[0]


def imported(kind: Kind, point: EntryPoint) -> type:
    """The component that an entry point names, imported and checked against its interface. Raises UserError."""
    owner = " ".join(distribution(point))
    if point.dist:
        _expect_made_for_this_nmt(point.dist)
    try:
        component = point.load()
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"the {kind.name} {point.name!r} of {owner} can't be imported ({reason})",
            "reinstall or upgrade that distribution, or uninstall it",
        ) from error
    if not (inspect.isclass(component) and issubclass(component, kind.base())):
        raise UserError(f"{point.value} of {owner} is no {kind.name}", f"derive it from {kind.interface}")
    _expect_it_fits(kind, component, f"{point.value} of {owner}")
    return component


def _missing(kind: Kind, name: str) -> UserError:
    """Why there is no component of this name: not installed, or not allowed here."""
    shut_out = [point for point in entry_points(group=kind.group) if point.name == name]
    if shut_out:
        owner = distribution(shut_out[0])[0]
        remedy = f"add {owner} to the recipe's plugins, and leave out --no-plugins"
        return UserError(f"the {kind.name} {name!r} is {owner}'s, whose components may not be used here", remedy)
    remedy = f"{did_you_mean(name, names(kind))} (after adding one to a project, install the project again)"
    return UserError(f"no {kind.name} named {name!r} is installed", remedy)


def _told(owner: Distribution, key: str) -> str:
    """A line of a distribution's metadata, empty where it has none."""
    return next(iter(owner.metadata.get_all(key) or []), "")


def _may_be_used(point: EntryPoint) -> bool:
    allowed, owner = _allowed.get(), _normal(distribution(point)[0])
    return allowed is None or owner == OURS or owner in allowed


def _normal(name: str) -> str:
    """A distribution's name as packaging compares names."""
    return name.lower().replace("_", "-").replace(".", "-")


def _expect_made_for_this_nmt(owner: Distribution) -> None:
    """Raise UserError where a distribution asks for other versions of nmt than this one."""
    from packaging.requirements import InvalidRequirement, Requirement  # only where a plugin's component is asked for

    for line in owner.requires or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # an installer's business
        if _normal(requirement.name) != OURS or (requirement.marker and not requirement.marker.evaluate()):
            continue
        if not requirement.specifier.contains(__version__, prereleases=True):
            raise UserError(
                f"{owner.name} {owner.version} is made for {OURS} {requirement.specifier}, and this is {__version__}",
                f"upgrade {owner.name}, or install the {OURS} it is made for",
            )


def _expect_it_fits(kind: Kind, component: type, whose: str) -> None:
    """Raise UserError where the framework could not build a component, or something of its interface is missing."""
    unwritten = sorted(getattr(component, "__abstractmethods__", ()))
    if unwritten:
        raise UserError(f"{whose} doesn't define {', '.join(unwritten)}", f"{kind.interface} says what it must do")
    try:
        parameters = list(inspect.signature(component).parameters.values())
    except (TypeError, ValueError) as error:
        raise UserError(f"{whose} has no constructor that can be read ({error})", "write __init__ in Python") from error
    positional = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if tuple(positional) != kind.given:
        wanted = f"({', '.join(kind.given)}, *, options)"
        found = f"({', '.join(positional)})"
        raise UserError(f"the constructor of {whose} takes {found} by position, not {wanted}", "name them so")
