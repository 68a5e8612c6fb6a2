"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
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
from nmt.training.updater import Applied, Updater
from nmt.training.validation import Validation, using
from nmt.translator import Translator


@dataclass(frozen=True)
class Group:
    """The batches of one update, and where the data stands behind them."""

    batches: list[Batch]
    epoch: int
    step: int


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
        with Stop() as stop:
            for group in self._groups():
                number = course.update + 1
                rate = self.learning_rate.at(number)
                applied = self.updater.update(group.batches, number, rate, seed_of(self.seed, number))
                course.update, course.epoch, course.step = number, group.epoch, group.step
                self.faults.note(applied)
                window.add(applied)
                self.progress.advance()
                if number % settings.report_every == 0:
                    self.progress.record(window.report(course, rate))
                    window = _Window(course)
                if number >= settings.updates or number % settings.validate_every == 0:
                    course.seconds = window.seconds()
                    self._validate()
                    window = _Window(course)
                elif stop.signal:
                    course.seconds = window.seconds()
                    save(self.folder, self.updater, course, self.learning_rate)
                if course.ended:
                    return
                if stop.signal:
                    raise StoppedError(stop.signal)

    def _groups(self) -> Iterator[Group]:
        """The updates' batches from where the course stands, epoch after epoch, made in the background."""

        def groups() -> Iterator[Group]:
            step, batches = self.course.step, []
            for epoch in count(self.course.epoch):
                for batch in self.plan.batches(epoch, step):
                    step += 1
                    batches.append(batch)
                    if len(batches) == self.settings.accumulate:
                        yield Group(batches, epoch, step)
                        batches = []
                step = 0

        return prefetch(groups())

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
