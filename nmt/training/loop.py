"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from nmt import recipe
from nmt.text.batches import Batch, BatchPlan, prefetch
from nmt.training.checkpoint import save, settle
from nmt.training.course import Course, Sums, cost_of
from nmt.training.faults import Faults
from nmt.training.progress import Progress
from nmt.training.schedules import LearningRate
from nmt.training.seeds import seed_of
from nmt.training.stopping import Stop, StoppedError
from nmt.training.updater import Applied, Submitted, Updater
from nmt.training.validation import Validation, using
from nmt.translator import Translator


@dataclass(frozen=True)
class Group:
    """The batches of one update, and where the data stands behind them."""

    batches: list[Batch]
    epoch: int
    step: int


AHEAD = 50
"""Updates that a GPU may be told to make before their numbers are read, at most; each report reads them too."""


@dataclass(frozen=True)
class Unread:
    """An update that was submitted, and what it takes to make it again."""

    group: Group
    number: int
    submitted: Submitted


@dataclass
class Loop:
    """Everything that training a model takes; `run` is the whole story."""

    folder: Path
    settings: recipe.Train
    seed: int
    plan: BatchPlan
    validation: Validation
    translator: Translator
    updater: Updater
    learning_rate: LearningRate
    course: Course
    progress: Progress
    faults: Faults

    def run(self) -> None:
        """Train until the course is over. Raises StoppedError after a signal, with everything saved."""
        course, settings = self.course, self.settings
        course.seconds = self.progress.seconds
        window = _Window(course)
        unread: list[Unread] = []
        with Stop() as stop:
            pinned = self.updater.device.type == "cuda"
            for group in groups(self.plan, course.epoch, course.step, settings.accumulate, pinned=pinned):
                number = course.update + len(unread) + 1
                unread.append(self._submit(group, number))
                validates = number >= settings.updates or number % settings.validate_every == 0
                reports = number % settings.report_every == 0
                signal = stop.signal
                if self.updater.ahead and not (validates or reports or signal or len(unread) >= AHEAD):
                    continue
                self._settle(unread, window)
                unread = []
                if reports:
                    self.progress.record(window.report(course, self.learning_rate.at(number)))
                    window = _Window(course)
                if validates:
                    course.seconds = window.seconds()
                    self._validate()
                    window = _Window(course)
                elif signal:
                    course.seconds = window.seconds()
                    save(self.folder, self.updater, course, self.learning_rate)
                if course.ended:
                    return
                if signal:
                    raise StoppedError(signal)

    def _submit(self, group: Group, number: int) -> Unread:
        rate = self.learning_rate.at(number)
        return Unread(group, number, self.updater.submit(group.batches, number, rate, seed_of(self.seed, number)))

    def _settle(self, unread: list[Unread], window: _Window) -> None:
        """Read what updates did and answer it, in their order.

        Where an answer is to go back, what was submitted after it was made from the weights left behind: it is made
        again, so that all is as if each update had been read before the next.
        """
        course = self.course
        while unread:
            applied = self.updater.read([each.submitted for each in unread])
            rollbacks = course.rollbacks
            for each, result in zip(tuple(unread), applied, strict=True):
                unread = unread[1:]
                course.update, course.epoch, course.step = each.number, each.group.epoch, each.group.step
                self.faults.note(result)
                window.add(result)
                self.progress.advance()
                if course.rollbacks > rollbacks:
                    break
            unread = [self._submit(each.group, each.number) for each in unread]

    def _validate(self) -> None:
        """Measure, save, keep the best and the newest, and see whether training is over."""
        course, settings = self.course, self.settings
        with using(self.updater.model, self.updater.final_weights()):
            values = self.validation.run(self.updater.model, self.translator)
        # A model whose loss is no finite number is the worst there is, whatever BLEU it may have.
        finite = math.isfinite(values["loss"])
        cost = cost_of(settings.best_metric, values[settings.best_metric]) if finite else math.inf
        course.validated(cost, settings.keep_best)
        self.learning_rate.validated(cost)
        course.over(settings)
        position = {"update": course.update, "epoch": course.epoch, "seconds": round(course.seconds, 1)}
        measured = {str(name): value for name, value in values.items()}
        # Recorded before it is saved: the next start drops the records of what wasn't saved, and could not make up one.
        self.progress.record({"event": "validation", **position, **measured, "best": course.best[0][1]})
        save(self.folder, self.updater, course, self.learning_rate)
        settle(self.folder, course, settings)


def groups(plan: BatchPlan, epoch: int, step: int, accumulate: int, *, pinned: bool) -> Generator[Group, None, None]:
    """The updates' batches from a place in the data on, epoch after epoch, made in the background."""

    def made() -> Iterator[Group]:
        done, batches = step, []
        for number in count(epoch):
            for batch in plan.batches(number, done):
                done += 1
                batches.append(batch.pinned() if pinned else batch)
                if len(batches) == accumulate:
                    yield Group(batches, number, done)
                    batches = []
            done = 0

    return prefetch(made())


class _Window:
    """The time since the last report or validation, and reports."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._seconds_before = course.seconds
        self._began = time.monotonic()
        self._tokens = 0

    def add(self, applied: Applied) -> None:
        """An update is done."""
        if applied.applied:  # else there is nothing to count, and no number to show
            self._course.tokens += applied.tokens
            self._tokens += applied.tokens
            sums = self._course.unreported
            sums.tokens += applied.tokens
            sums.negative_log_likelihood += applied.negative_log_likelihood
            sums.gradient_norm = applied.gradient_norm

    def seconds(self) -> float:
        """Training time until now, over all starts."""
        return self._seconds_before + time.monotonic() - self._began

    def report(self, course: Course, learning_rate: float) -> dict[str, str | int | float]:
        """One record; brings the course's clock up to date."""
        course.seconds = self.seconds()
        sums, course.unreported = course.unreported, Sums()
        loss = sums.negative_log_likelihood / max(1, sums.tokens)
        elapsed = time.monotonic() - self._began
        return {
            "event": "report",
            "update": course.update,
            "epoch": course.epoch,
            "seconds": round(course.seconds, 1),
            "tokens": course.tokens,
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "tokens_per_second": round(self._tokens / elapsed, 1),
            "learning_rate": learning_rate,
            "gradient_norm": sums.gradient_norm,
        }
