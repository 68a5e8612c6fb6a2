"""Shortcuts of a component: what it computes faster than the methods that say what it computes."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def give_up_shortcuts(cls: type, contract: type, rest_on: Mapping[str, Collection[str]]) -> None:
    """Let a class that replaces a method inherit no shortcut for the one it replaced, but the `contract`'s own.

    `rest_on` names the shortcuts, each with the methods whose results it gives. A shortcut is inherited from a class
    that defines it after those methods, or together with them. So who derives from a finished component and writes
    another step is not passed over by what that component does in its place.
    """
    for shortcut, methods in rest_on.items():
        plain = vars(contract)[shortcut]
        replaced = any(_definer(cls, method) < _definer(cls, shortcut) for method in methods)
        if replaced and getattr(cls, shortcut) is not plain:
            setattr(cls, shortcut, plain)


def _definer(cls: type, name: str) -> int:
    """How far up a class's ancestors the one stands that it has a name from."""
    return next(index for index, ancestor in enumerate(cls.__mro__) if name in vars(ancestor))
