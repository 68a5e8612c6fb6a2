"""Promises tested with small numbers in `make test` and large ones in `make soak`, which prints a table of figures.

NMT_SOAK=1 asks for the large numbers.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nursery import Nursery

FIGURES = pytest.StashKey[list[tuple[str, str]]]()
SOAK = os.environ.get("NMT_SOAK") == "1"

Amount = Callable[[int, int], int]
Promise = Callable[[str, str], None]


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(FIGURES, [])


@pytest.fixture(scope="session")
def amount() -> Amount:
    """`amount(small, large)`: how often to try, in the tests and when soaking."""
    return lambda small, large: large if SOAK else small


@pytest.fixture
def promise(request: pytest.FixtureRequest) -> Promise:
    """`promise(words, figure)`: a line of the table that is printed at the end of a soak."""
    return lambda words, figure: request.config.stash[FIGURES].append((words, figure))


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """For many starts of `nmt-train` in little time."""
    nursery = Nursery(tmp_path_factory.mktemp("cache"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real corpora, named by NMT_CORPORA; tests that need it skip where it isn't there."""
    folder = Path(os.environ.get("NMT_CORPORA", Path(__file__).parents[3] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder of corpora at {folder} (NMT_CORPORA names one)")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash[FIGURES]
    if figures:
        terminalreporter.section("what was tried" if SOAK else "what was tried (make soak tries more)")
        width = max(len(words) for words, _ in figures)
        for words, figure in figures:
            terminalreporter.write_line(f"{words.ljust(width)}  {figure}")
