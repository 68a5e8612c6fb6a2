"""A step in search: several hypotheses go on from one, so what a state brings to a step is computed once for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nmt.cells.state import State
from nmt.products import Prepare

Branch = Callable[[Tensor], tuple[Tensor, State]]
"""A step that waits for its input: projected ``[R, G]`` -> output ``[R, H]`` and the next state."""

Branching = Callable[[State, Tensor, State], Branch]
"""A step of R hypotheses, each going on from one of U rows: the rows' state ``[U, ...]``, the row of each hypothesis
``[R]``, and what the rows are fed, ``([U, F],)``, or ``()``."""


def joined(recurrent: Tensor, of_fed: Tensor | None, how: Prepare) -> Callable[[Tensor, State], Tensor]:
    """For cells that add R h to what is projected: h ``[U, H]`` and what is fed -> [of_fed R] [fed; h], one product.

    `recurrent` is R ``[G, H]``, `of_fed` ``[G, F]``; without it R h alone.
    """
    if of_fed is None:
        product = how(recurrent, None)
        return lambda h, fed: product(h)
    both = how(torch.cat([of_fed, recurrent], 1), None)
    return lambda h, fed: both(torch.cat([*fed, h], -1))


def fed_apart(branching: Branching, of_fed: Tensor | None, how: Prepare) -> Branching:
    """For other cells: what is fed has a product of its own, which is added to what is projected."""
    if of_fed is None:
        return branching
    product = how(of_fed, None)

    def branch(state: State, parents: Tensor, fed: State) -> Branch:
        (features,) = fed
        waiting, brought = branching(state, parents, ()), product(features).index_select(0, parents)
        return lambda projected: waiting(projected + brought)

    return branch
