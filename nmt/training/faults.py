"""What goes wrong in updates: named by its lines, counted and, when it doesn't end, answered by going back."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from torch import Tensor

from nmt import checkpoints, recipe
from nmt.errors import RunError
from nmt.manifest import damage
from nmt.text.batches import Batch
from nmt.training.checkpoint import load_learnt
from nmt.training.course import Course
from nmt.training.progress import Progress
from nmt.training.updater import Applied, Updater

MAX_FAULTS = 3
"""Updates without a finite loss and gradient, one after the other, after which training goes back."""

MAX_ROLLBACKS = 5
"""How often it goes back without a new best; once more, and the run ends."""

USUAL_SHARE = 0.02
"""Of an update in the usual loss: about the last fifty updates make it."""

SHOWN = 10
"""Line numbers told on the terminal; metrics.jsonl has them all."""


class Faults:
    """Hears of every update. Its memory is in the course, so that a resumed run answers as one never stopped."""

    def __init__(
        self,
        folder: Path,
        settings: recipe.Train,
        updater: Updater,
        course: Course,
        progress: Progress,
        beginning: Callable[[], Mapping[str, Tensor]],
    ) -> None:
        """`beginning` gives the weights that training began with, for when there is no checkpoint to go back to."""
        self._folder = folder
        self._settings = settings
        self._updater = updater
        self._course = course
        self._progress = progress
        self._beginning = beginning
        self._told: set[tuple[int, ...]] = set()

    def note(self, applied: Applied) -> None:
        """Answer an update that is done. Raises RunError where going back has not helped MAX_ROLLBACKS times, and where
        memory is not enough for a single pair.
        """
        self._note_memory(applied)
        if applied.fault:
            self._note_fault(applied)
        elif applied.applied:
            self._course.faults = 0
            self._note_spike(applied)

    def _note_memory(self, applied: Applied) -> None:
        course = self._course
        for batch in applied.split:
            size = len(batch.lines), batch.source.shape[1], batch.target.shape[1]
            if size in self._told:
                continue
            self._told.add(size)
            words = "memory is not enough for a batch of {} pairs, {} source and {} target tokens wide; it was split"
            record = {"sentences": size[0], "source_tokens": size[1], "target_tokens": size[2]}
            self._tell("split", words.format(*size) + " (told once for a size)", record)
        if len(applied.dropped) > 1 and not applied.parts:
            raise RunError(
                f"memory is not enough for any of the {len(applied.dropped)} training pairs of update {course.update}",
                "use a smaller model or a machine with more memory; the last checkpoint is kept",
                place=str(self._folder),
            )
        for line in applied.dropped:
            course.dropped += 1
            words = f"memory is not enough for the training pair of line {line} alone; it was left out"
            self._tell("dropped", words, {"lines": [line]})

    def _note_fault(self, applied: Applied) -> None:
        course = self._course
        course.faults += 1
        lines = _lines([part.batch for part in applied.parts if not math.isfinite(part.loss)])
        # Where only the gradient is at fault, any of the batches may be.
        lines = lines or _lines([part.batch for part in applied.parts])
        words = "the loss or its gradient is no finite number; the update was not applied"
        self._tell("fault", f"{words} ({_shown(lines)})", {"lines": lines})
        if course.faults < MAX_FAULTS:
            return
        if course.rollbacks >= MAX_ROLLBACKS:
            raise RunError(
                f"{MAX_FAULTS} updates in a row had no finite loss or gradient, "
                f"and going back {MAX_ROLLBACKS} times did not help",
                "lower the learning rate or look at the named lines; the last checkpoint is kept",
                place=str(self._folder),
            )
        back = self._go_back()
        course.faults = 0
        course.rollbacks += 1
        where = f"the weights of update {back}" if back else "the weights that training began with"
        words = f"{MAX_FAULTS} such updates in a row: back to {where}, and on with the data behind these"
        count = f"{course.rollbacks} of at most {MAX_ROLLBACKS} times without a new best"
        self._tell("rollback", f"{words} ({count})", {"to": back, "rollbacks": course.rollbacks})

    def _go_back(self) -> int:
        """Take up older weights, moments, average and loss scale; the update that they are of.

        The count of updates, the place in the data and the learning rate's course stay: update n has always the same
        data and the same random numbers, whatever has happened before it.
        """
        for update in self._course.good():
            checkpoint = self._folder / checkpoints.name_of(update)
            reason = damage(checkpoint)
            if reason is None:
                load_learnt(checkpoint, self._updater, self._settings)
                return update
            self._progress.say(f"{checkpoint}: {reason}; going further back")
        self._updater.begin_again(self._beginning())
        return 0

    def _note_spike(self, applied: Applied) -> None:
        course, spike = self._course, self._settings.spike
        loss = applied.negative_log_likelihood / applied.tokens
        usual = loss if course.usual_loss is None else course.usual_loss
        if spike is not None and loss > spike * usual:
            lines = _lines([part.batch for part in applied.parts if part.loss > spike * usual])
            words = f"the loss is {loss:.4g}, {loss / usual:.1f} times the usual {usual:.4g} ({_shown(lines)})"
            self._tell("spike", words, {"loss": loss, "usual_loss": usual, "lines": lines})
        course.usual_loss = usual + USUAL_SHARE * (loss - usual)

    def _tell(self, event: str, words: str, record: Mapping[str, object]) -> None:
        update = self._course.update
        self._progress.incident({"event": event, "update": update, **record}, f"update {update}: {words}")


def _lines(batches: Collection[Batch]) -> list[int]:
    return sorted(int(line) for batch in batches for line in batch.lines)


def _shown(lines: list[int]) -> str:
    more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return f"training pairs of lines {', '.join(map(str, lines[:SHOWN]))}{more}"
