"""What several test files share."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nmt.locks import locked
from nmt.recipe import Recipe
from nmt.recipe_file import read_recipe
from nmt.training.run import train

RECIPES = Path(__file__).parent.parent / "recipes"
LONGEST = ("test_tutorial.py", "test_readme.py", "test_hostile.py", "test_batches_alike.py", "test_commands.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: side by side, a long one that comes last keeps the others waiting."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def _one_thread_and_a_cache_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NMT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")  # commands that are started: tests run side by side, threads would wait
        yield


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_reaches_what_is_started() -> None:
    """A shell starts what it runs in the background with Ctrl-C ignored, and so would be all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def small_recipe() -> Callable[..., Recipe]:
    """The copy recipe, made tiny, with overrides."""

    def make(*overrides: str) -> Recipe:
        tiny = [
            "data.train.pairs=300",
            "data.valid.pairs=20",
            "model.embedding_size=8",
            "model.encoder.hidden_size=8",
            "model.decoder.hidden_size=8",
            "train.batch_tokens=300",
            "train.updates=12",
            "train.validate_every=4",
            "train.report_every=4",
            "train.schedule={type: constant, warmup: 0}",
            "train.validate_decoded=5",
        ]
        return read_recipe(RECIPES / "copy.yaml", [*tiny, *overrides])

    return make


@pytest.fixture(scope="session")
def copier(tmp_path_factory: pytest.TempPathFactory, _one_thread_and_a_cache_of_our_own: None) -> Path:
    """The folder of a model that has learnt to copy digits: recipes/copy.yaml itself, a few seconds.

    Tests side by side share it: the first one trains it, the others wait, and find nothing left to train.
    """
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    (folder / "copier.lock").touch()
    with locked(folder / "copier.lock", shared=False, wait=True):
        return train(RECIPES / "copy.yaml", out=folder / "copier" / "copy")
