"""What the token just written brings to a decoder's step, which no state changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.cells.layers import CellStack
from nmt.products import Prepare, Product, plain


class TokenInput:
    """What a token's vector brings to the bottom cell's projection and to the readout: computed for all steps of a
    target at once or, when translating, once for each token.

    `of_embedding` is the readout's part (see `Readout.apart`), of `added_size`. `fed_size`: of the features that a step
    is fed from the one before, or 0. Where the bottom cell's projection isn't a linear layer, it can't be computed
    without them, so their product isn't split.
    """

    def __init__(
        self,
        bottom: CellStack,
        of_embedding: Product | None,
        added_size: int,
        fed_size: int,
        how: Prepare = plain,
    ) -> None:
        self._bottom, self._of_embedding, self._added_size = bottom, of_embedding, added_size
        self._below: Callable[[Tensor], Tensor] = bottom.project
        self.of_fed: Tensor | None = None
        """``[G, F]``: what the bottom cell's layer multiplies the features fed back with, where that is apart."""
        if fed_size:
            layer = bottom.input_layer()
            if layer is None:
                self._below = _as_it_is
            else:
                # Weights are cut here, once, so that all steps multiply by the same tensors.
                of_token, self.of_fed = layer.weight.split([layer.weight.shape[1] - fed_size, fed_size], 1)
                self._below = how(of_token, layer.bias)

    def project(self, xs: Tensor) -> Tensor:
        """Tokens' vectors ``[..., E] -> [..., G]``: for the bottom cell, then for the readout."""
        below = self._below(xs)
        return below if self._of_embedding is None else torch.cat([below, self._of_embedding(xs)], -1)

    def split(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """``[R, G]`` -> the bottom cell's part and what the readout adds; all for both, where x isn't read out."""
        if self._of_embedding is None:
            return projected, projected
        below, added = projected.split([projected.shape[-1] - self._added_size, self._added_size], -1)
        return below, added

    def feed(self, below: Tensor, fed: Tensor) -> Tensor:
        """The bottom cell's part and the features fed back ``[R, F]`` -> its projected input."""
        if self.of_fed is None:
            return self._bottom.project(torch.cat([below, fed], -1))
        return below + F.linear(fed, self.of_fed)


def _as_it_is(xs: Tensor) -> Tensor:
    return xs
