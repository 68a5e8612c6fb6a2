"""Does on another device what nmt does on a processor, and prints as JSON what was different and what was waited for.

python trial.py train FOLDER RECIPE WORDS…
python trial.py translate RUN
python trial.py components
"""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from device import DEVICE, NAME, WAITS
from safetensors.torch import load_file

import nmt
from nmt.attention.attention import Attention
from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.commands import data_shortlist
from nmt.recipe_file import read_recipe
from nmt.registry import ATTENTION, CELL, available, load
from nmt.search import on_device
from nmt.testing import attentions, cells
from nmt.testing.contract import apart
from nmt.training import updater
from nmt.translator import Translator

RUNS = []
"""Of search's steps on the device: how many sentences, once for each."""
LINES = ["1 2 3", "4 5 6 7 8 9", "", "9 9", "0", "7 7 7 7 1 2 3"]


def ahead(made: Callable) -> Callable:
    """An updater that leaves it to the device whether an update is applied, as on CUDA."""

    def init(self: updater.Updater, *args: object) -> None:
        made(self, *args)
        self.ahead = updater.decides_on_device(self.optimizer)

    return init


def counted(run: Callable) -> Callable:
    """A run of search's steps that is counted."""

    def noted(self: object, live: on_device._Live) -> object:
        RUNS.append(len(live.shortest))
        return run(self, live)

    return noted


def train(folder: str, recipe: str, *words: str) -> dict:
    """The same recipe on both devices."""
    weights = {}
    for device in ("cpu", NAME):
        if device == NAME:
            updater.Updater.__init__ = ahead(updater.Updater.__init__)
        run = nmt.train(read_recipe(Path(recipe), [*words, f"train.device={device}"]), out=Path(folder) / device)
        weights[device] = load_file(sorted(run.glob("update-*"))[-1] / "model.safetensors")
    names = [name for name, tensor in weights["cpu"].items() if not torch.equal(tensor, weights[NAME][name])]
    return {"other": names, "runs": len(RUNS)}


def translate(run: str) -> dict:
    """The same sentences on both devices, with all that search can give."""
    assert data_shortlist.main([run, "--frequent", "4", "--each", "2"]) == 0
    found = []
    for device in ("cpu", NAME):
        rows = []
        for shortlist in (False, True):
            translator = Translator.load(run, device=device, shortlist=shortlist)
            for translations in translator.translations(LINES, n_best=3, weights=True, batch_sentences=4):
                rows += [
                    (each.text, each.score, each.weights.tolist() if each.weights is not None else [])
                    for each in translations
                ]
        rows += [(pair, 0.0, []) for pair in translator.score(LINES, LINES[::-1])]
        found.append(rows)
    return {"cpu": found[0], NAME: found[1], "runs": len(RUNS)}


def components() -> dict:
    """What each cell and each attention gives, by how much it differs."""
    differences = {}
    for name in available(CELL):
        component = load(CELL, name)
        run = stepwise if component.__module__.startswith("nmt.cells.") else along  # cuDNN runs the built-in ones
        differences[f"cell {name}"] = difference(cells.cell_subject(component, {}).make().float(), run)
    for name in available(ATTENTION):
        module = load(ATTENTION, name)(attentions.SIZE, attentions.SIZE).eval()
        differences[f"attention {name}"] = difference(module, attend)
    return differences


def difference(module: torch.nn.Module, run: Callable) -> float:
    found = run(module, torch.device("cpu"))
    WAITS.clear()
    there = run(copy.deepcopy(module).to(NAME), DEVICE)
    assert not WAITS, WAITS
    return max(apart(one, other.cpu()) for one, other in zip(found, there, strict=True))


def stepwise(cell: Cell, device: torch.device) -> list[torch.Tensor]:
    return along(cell, device, engines.loop)


def along(cell: Cell, device: torch.device, unroll: Callable = engines.own) -> list[torch.Tensor]:
    state = tuple(tensor.to(device, torch.float32) for tensor in cells.some_state(cell))
    with torch.no_grad():
        ys, final = unroll(cell, cells.some_input().to(device, torch.float32), cells.LENGTHS, state)
    return [ys, *final]


def attend(attention: Attention, device: torch.device) -> list[torch.Tensor]:
    with torch.no_grad():
        memory = attention.prepare(attentions.some_source(torch.float32, device))
        queries = attentions.some_queries().to(device, torch.float32)
        stepped = attention.step(queries[:, :1], attention.initial_state(memory), memory)
        return [*attention(queries, memory), *stepped[:2]]


if __name__ == "__main__":
    torch.set_num_threads(1)
    on_device.DeviceSearch._run = counted(on_device.DeviceSearch._run)
    made = {"train": train, "translate": translate, "components": components}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps({"found": made, "waits": WAITS}))
