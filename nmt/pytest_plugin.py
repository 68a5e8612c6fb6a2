"""``pytest --nmt-plugin nmt-mgu``: a test for each promise of each component that a distribution registers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nmt.testing.contract import Check


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    parser.getgroup("nmt").addoption(
        "--nmt-plugin",
        action="append",
        default=[],
        metavar="DISTRIBUTION",
        help="check every component that this installed distribution registers for nmt; may be repeated",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the checks of the distributions that were named."""
    for distribution in config.getoption("--nmt-plugin"):
        items.extend(_items(session, distribution))


def _items(session: pytest.Session, distribution: str) -> Iterator[pytest.Item]:
    # Imported here: pytest loads this file in every project where nmt is installed, and torch is heavy.
    from nmt.errors import UserError
    from nmt.registry import load, offered_by
    from nmt.testing.imports import import_check
    from nmt.testing.suite import checks, needs_options

    try:
        offers = offered_by(distribution)
    except UserError as error:
        raise pytest.UsageError(f"--nmt-plugin: {error}") from error
    yield _item(session, distribution, import_check([point.module for _, point in offers]))
    for kind, point in offers:
        label = f"{distribution}: {kind.name} {point.name}"
        try:
            component = load(kind, point.name)
        except UserError as error:
            raise pytest.UsageError(f"--nmt-plugin: {error}") from error
        reason = needs_options(kind, component)
        if reason:
            item = _item(session, label, None)
            item.add_marker(pytest.mark.skip(reason=f"not checked without options: {reason}"))
            yield item
            continue
        for check in checks(kind, component):
            yield _item(session, label, check)


def _item(session: pytest.Session, label: str, check: Check | None) -> CheckItem:
    name = f"{label}: {check.name}" if check else label
    item: CheckItem = CheckItem.from_parent(session, name=name, check=check)
    return item


class CheckItem(pytest.Item):
    """One promise of one component."""

    def __init__(self, *, name: str, parent: pytest.Session, check: Check | None) -> None:
        super().__init__(name, parent)
        self._check = check

    def runtest(self) -> None:
        """Run the check."""
        if self._check:
            self._check.run()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """The check's own words: a traceback through the kit says nothing."""
        return str(excinfo.value)

    def reportinfo(self) -> tuple[str, int, str]:
        """Where a report says that it happened."""
        return "nmt.testing", 0, self.name
