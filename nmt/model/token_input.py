"""What the token just written brings to a decoder's step, which no state changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nmt.cells.layers import CellStack
from nmt.cells.state import State
from nmt.model.readout import Readout
from nmt.products import Prepare, Product, plain

Read = Callable[[Tensor, Tensor], Tensor]
"""The top output ``[R, H]`` and the context ``[R, D]`` -> features ``[R, H]`` before dropout."""


class TokenInput:
    """What a token's vector brings to the bottom cell's projection and to the readout: computed for all steps of a
    target at once or, when translating, once for each token.

    `fed_size`: of the features that a step is fed from the one before, or 0. Where the bottom cell's projection isn't a
    linear layer, it can't be computed without them, so their product isn't split.
    """

    def __init__(self, bottom: CellStack, readout: Readout, fed_size: int, how: Prepare = plain) -> None:
        self._bottom = bottom
        self._embedded, self._read = readout.apart(how)
        self._added_size = readout.embedded_size
        self._below: Callable[[Tensor], Tensor] = bottom.project
        self._fed: Product | None = None
        if fed_size:
            layer = bottom.input_layer()
            if layer is None:
                self._below = _as_it_is
            else:
                # Weights are cut here, once, so that all steps multiply by the same tensors.
                of_token, of_fed = layer.weight.split([layer.weight.shape[1] - fed_size, fed_size], 1)
                self._below, self._fed = how(of_token, layer.bias), how(of_fed, None)

    def project(self, xs: Tensor) -> Tensor:
        """Tokens' vectors ``[..., E] -> [..., G]``: for the bottom cell, then for the readout."""
        below = self._below(xs)
        return below if self._embedded is None else torch.cat([below, self._embedded(xs)], -1)

    def begin(self, projected: Tensor, fed: State) -> tuple[Tensor, Read]:
        """``[R, G]`` and the features fed back, if any -> the bottom cell's projected input and the readout."""
        below = added = projected
        if self._embedded is not None:
            below, added = projected.split([projected.shape[-1] - self._added_size, self._added_size], -1)
        if self._fed is not None:
            below = below + self._fed(fed[0])
        elif fed:
            below = self._bottom.project(torch.cat([below, fed[0]], -1))
        return below, lambda h, context: self._read(h, context, added)


def _as_it_is(xs: Tensor) -> Tensor:
    return xs
