"""Where the time of an update goes: by the clock, and as a trace."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, record_function

from nmt.device import deterministic, limits_in_words
from nmt.errors import UserError, reason_of
from nmt.model.seq2seq import Seq2Seq
from nmt.recipe import Recipe
from nmt.text.batches import BatchPlan
from nmt.training.check import check_corpora
from nmt.training.environment import environment
from nmt.training.loop import AHEAD, Group, groups
from nmt.training.run import batch_plan, build, prepared_device, stores, trained_tokenizers
from nmt.training.schedules import LearningRate
from nmt.training.seeds import seed_of
from nmt.training.updater import Submitted, Updater

WARM_UP = 3
"""Updates before the measured ones: the first ones wait for what is made once."""

TRACED = 3
"""Updates behind the measured ones whose every operator is in the trace; that slows them, so they aren't measured."""

PHASES = ("data", "encoder", "decoder", "output layer and loss", "backward", "optimizer", "waiting")
OTHER = "other"


@dataclass(frozen=True)
class Spent:
    """What a phase took, summed over updates."""

    seconds: float
    """On the clock."""
    cpu_seconds: float
    """Of all threads."""
    device_seconds: float | None
    """Of a GPU, by events in its own queue; None on other devices."""


@dataclass(frozen=True)
class _Stamp:
    phase: str
    """What begins here."""
    seconds: float
    cpu_seconds: float
    event: torch.cuda.Event | None


class Clock:
    """Tells the time of each phase without what other phases take within it; what is in none is `OTHER`."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._open = [OTHER]
        self._stamps: list[_Stamp] = []

    def restart(self) -> None:
        """Forget all, once the device has done what it was given, and begin."""
        if self._cuda:
            torch.cuda.synchronize()
        self._stamps.clear()
        self._stamp()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Around what belongs to a phase; also a mark in a trace."""
        with record_function(name):
            self._enter(name)
            try:
                yield
            finally:
                self._leave()

    def watch(self, module: nn.Module, name: str) -> None:
        """Make a module's forward pass a phase of its own."""
        module.register_forward_pre_hook(lambda *_: self._enter(name))
        module.register_forward_hook(lambda *_: self._leave(), always_call=True)

    def spent(self) -> dict[str, Spent]:
        """Since the restart, by phase."""
        self._stamp()
        if self._cuda:
            torch.cuda.synchronize()
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        for stamp, following in zip(self._stamps, self._stamps[1:], strict=False):
            own = sums[stamp.phase]
            own[0] += following.seconds - stamp.seconds
            own[1] += following.cpu_seconds - stamp.cpu_seconds
            if stamp.event is not None and following.event is not None:
                own[2] += stamp.event.elapsed_time(following.event) / 1000.0
        return {
            name: Spent(seconds, cpu_seconds, device_seconds if self._cuda else None)
            for name, (seconds, cpu_seconds, device_seconds) in sums.items()
        }

    def _enter(self, name: str) -> None:
        self._open.append(name)
        self._stamp()

    def _leave(self) -> None:
        self._open.pop()
        self._stamp()

    def _stamp(self) -> None:
        event = None
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        self._stamps.append(_Stamp(self._open[-1], time.perf_counter(), time.process_time(), event))


@dataclass(frozen=True)
class Profile:
    """What the updates of a recipe took."""

    updates: int
    target_tokens: int
    spent: dict[str, Spent]
    peak_mebibytes: float
    """The most memory that the process had until then, before the trace."""
    device_peak_mebibytes: float | None
    """The most that tensors took on a GPU."""

    def described(self) -> dict[str, object]:
        """As JSON can hold it: seconds in all and of each phase, over all updates."""
        seconds = sum(spent.seconds for spent in self.spent.values())
        phases = {name: vars(self.spent[name]) for name in (*PHASES, OTHER) if name in self.spent}
        rate = round(self.target_tokens / seconds, 1)
        return {
            "updates": self.updates,
            "target_tokens": self.target_tokens,
            "seconds": seconds,
            "target_tokens_per_second": rate,
            "peak_mebibytes": self.peak_mebibytes,
            "device_peak_mebibytes": self.device_peak_mebibytes,
            "phases": phases,
        }

    def table(self) -> str:
        """A row for each phase and one for all, in milliseconds an update."""
        total = Spent(*(sum(values) for values in zip(*map(_numbers, self.spent.values()), strict=True)))
        rows = [*((name, self.spent[name]) for name in (*PHASES, OTHER) if name in self.spent), ("an update", total)]
        gpu = any(spent.device_seconds is not None for spent in self.spent.values())
        lines = [f"{'phase':<22} {'ms':>9} {'share':>7} {'CPU ms':>9}" + f" {'GPU ms':>9}" * gpu]
        for name, spent in rows:
            wall, cpu, device = (1000 * number / self.updates for number in _numbers(spent))
            share = spent.seconds / total.seconds
            lines.append(f"{name:<22} {wall:9.2f} {share:7.1%} {cpu:9.2f}" + f" {device:9.2f}" * gpu)
        return "\n".join(lines)


def _numbers(spent: Spent) -> tuple[float, float, float]:
    return spent.seconds, spent.cpu_seconds, spent.device_seconds or 0.0


def profile(recipe: Recipe, updates: int, out: Path) -> Profile:
    """Train what a recipe describes for some updates and write ``profile.json`` and ``trace.json`` into `out`.

    No run's folder is read or written, and no model is left. Raises UserError where `out` is a run's folder, or
    can't be made.
    """
    if (out / "recipe.yaml").exists():
        raise UserError("is the folder of a run", "name another folder for the profile with --out", place=str(out))
    with limits_in_words(str(out)), deterministic(recipe.train.deterministic):
        device, dtype = prepared_device(recipe.train)
        check_corpora(recipe.data.train, recipe.data.valid)
        _make(out)  # before what takes long
        tokenizers = trained_tokenizers(recipe)
        plan = batch_plan(recipe, stores(recipe, tokenizers)[0], tokenizers)
        clock = Clock(device)
        updater = Updater(build(recipe, tokenizers).to(device), recipe.train, device, dtype, clock.phase)
        measured = measure(recipe, plan, updater, clock, updates, out / "trace.json")
    described = {"recipe": recipe.name, "precision": str(dtype or torch.float32).removeprefix("torch.")}
    found = {**described, **measured.described(), "environment": environment(recipe, device)}
    (out / "profile.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return measured


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't be made ({reason_of(error)})", "choose another folder", place=str(out)) from error


def measure(
    recipe: Recipe, plan: BatchPlan, updater: Updater, clock: Clock, updates: int, trace: Path | None
) -> Profile:
    """Time `updates` updates after a few to warm up; then trace a few more into a file, if one is given."""
    settings = recipe.train
    learning_rate = LearningRate(settings.optimizer.learning_rate, settings.schedule, settings.updates)
    cuda = updater.device.type == "cuda"
    found = groups(plan, 1, 0, settings.accumulate, pinned=cuda)
    number = 0

    def run(count: int) -> int:
        """So many updates, read as the training loop reads them; their target tokens."""
        nonlocal number
        unread: list[Submitted] = []
        tokens = 0
        for last in reversed(range(count)):
            with clock.phase("data"):
                group: Group = next(found)
            number += 1
            rate, seed = learning_rate.at(number), seed_of(recipe.seed, number)
            unread.append(updater.submit(group.batches, number, rate, seed))
            if not (updater.ahead and last and len(unread) < min(AHEAD, settings.report_every)):
                tokens += sum(applied.tokens for applied in updater.read(unread))
                unread = []
        return tokens

    _watch(updater.model, clock)
    run(WARM_UP)
    clock.restart()
    tokens = run(updates)
    memory = torch.cuda.max_memory_allocated() / 2**20 if cuda else None
    measured = Profile(updates, tokens, clock.spent(), peak_mebibytes(), memory)
    if trace is not None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        with torch.profiler.profile(activities=activities) as profiler:
            run(TRACED)
        profiler.export_chrome_trace(str(trace))
    found.close()
    return measured


def peak_mebibytes() -> float:
    """The most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _watch(model: Seq2Seq, clock: Clock) -> None:
    clock.watch(model.encoder, "encoder")
