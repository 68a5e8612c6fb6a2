"""The contract of a cell whose weights won't change any more: faster ways to translate, which must change nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nmt.cells import engines
from nmt.cells.state import rows_of
from nmt.products import plain, prepare_for
from nmt.testing.cells import ROWS, STEPS, one_step, some_input
from nmt.testing.components import Subject
from nmt.testing.contract import expect, random, same


def hypotheses_go_on_as_steps_of_their_parents(subject: Subject) -> None:
    """Whatever is computed once for all that go on from one row, and with what they are fed."""
    cell = subject.make()
    parents = torch.tensor([4, 0, 0, 4, 2])
    projected, state = one_step(cell)
    projected, fed = projected[: len(parents)], random(ROWS, 3, seed=3)
    for of_fed in (None, random(projected.shape[-1], 3, seed=4)) if cell.input_layer() else (None,):
        brought = 0.0 if of_fed is None else (fed @ of_fed.mT)[parents]
        output, following = cell.step(projected + brought, rows_of(state, parents))
        branch = cell.branching(plain, of_fed)(state, parents, () if of_fed is None else (fed,))
        found, its_following = branch(projected)
        whole = len(its_following) == len(following) and all(map(same, its_following, following))
        expect(
            same(found, output) and whole,
            "branching gives something else than step(projected + of_fed fed, state[parents])",
            "make it equal to that, or don't override it",
        )


def its_reading_is_stepping_and_the_same_in_any_batch(subject: Subject) -> None:
    """Where it has one: in fp32, to which rounding leaves six digits."""
    cell = subject.make()
    how = prepare_for("fp32", torch.device("cpu"), threads=1).recurrences
    reading = None if how is None else cell.reading(how)
    if reading is None:
        return
    xs = some_input()
    ys = reading(xs.float())
    expected, _ = engines.loop(cell, xs, torch.full((ROWS,), STEPS), cell.initial_state(ROWS))
    expect(
        bool(torch.allclose(ys.to(expected), expected, atol=1e-5)),
        "reading gives other outputs than stepping",
        "make it equal to project and step, one position after the other, from a state of zeros",
    )
    expect(
        all(torch.equal(reading(xs[row : row + 1].float()), ys[row : row + 1]) for row in range(ROWS)),
        "reading gives a sentence other bits alone than in a batch",
        "return None, so that it goes step by step",
    )


READY_CHECKS: tuple[Callable[[Subject], None], ...] = (
    hypotheses_go_on_as_steps_of_their_parents,
    its_reading_is_stepping_and_the_same_in_any_batch,
)
