"""Input feeding along time: a decoder's whole step as a recurrence, for the engines that run cells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nmt.attention.memory import Encoded, Memory
from nmt.cells.cell import Cell
from nmt.cells.lasting import Lasting
from nmt.cells.state import Noise, State
from nmt.cells.stepping import Step
from nmt.model.decoder import Decoded, Decoder
from nmt.model.token_input import TokenInput

POSITIONS = 7
"""Source positions of a trial."""

Advance = Callable[[Tensor, State, Memory, Noise], Decoded]
"""A step from what the token brings to it, ``[R, G]``, on."""

Cut = Callable[[], tuple[TokenInput, Advance]]
"""What tokens bring to steps, and the steps from there on, by weights that are cut anew."""


class Feeding(Cell):
    """A decoder's steps over the embeddings of one batch; the outputs are features, which are fed back.

    The state is the decoder's. Made anew for each batch, since steps read that batch's memory, and weights are cut once
    for all of its steps; what is there for many batches is the decoder.
    """

    def __init__(self, decoder: Decoder, memory: Memory, cut: Cut) -> None:
        super().__init__(decoder.embedding.size, decoder.features_size, state_shapes=())
        self.decoder = decoder
        self._memory, self._cut = memory, cut
        self._inputs, self._advance = cut()

    def project(self, xs: Tensor) -> Tensor:
        """``[..., E] -> [..., G]``: what the tokens bring to their steps."""
        return self._inputs.project(xs)

    def noise(self, rows: int, steps: int) -> Noise:
        """As the decoder draws it."""
        return self.decoder.noise(rows, steps)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, G]`` and the decoder's state -> features ``[B, H]`` and the next state."""
        features, following, _ = self._advance(projected, state, self._memory, noise)
        return features, following

    def initial_state(self, batch_size: int) -> State:
        """The decoder's, over this batch."""
        return self.decoder.initial_state(self._memory)

    def lasting(self) -> Lasting:
        """The decoder, given a memory."""
        encoded, keys = self._memory.encoded, self._memory.keys
        others = () if keys is encoded.states else (keys,)  # a compiler may not expect a tensor twice
        given = (encoded.states, encoded.mask, encoded.summary, *others)
        return Lasting(self.decoder, given, partial(_steps, self._cut), self._example)

    def _example(self, rows: int) -> Feeding:
        """Over sentences of random states of the same type, small ones: where attention has made up its mind, gradients
        are small differences, and bf16 says little of them."""
        generator = torch.Generator().manual_seed(2)
        of = self._memory.encoded.states
        lengths = torch.arange(rows) % POSITIONS + 1
        mask = (torch.arange(POSITIONS) < lengths[:, None]).to(of.device)
        states = 0.1 * torch.randn(rows, POSITIONS, of.shape[2], generator=generator).to(of)  # [B, S, D]
        states = (states * mask[..., None]).requires_grad_(torch.is_grad_enabled())
        memory = self.decoder.prepare(Encoded(states, mask, lengths, states[:, 0]))
        return Feeding(self.decoder, memory, self._cut)


def _steps(cut: Cut, given: State) -> Step:
    """The step over a memory as `Feeding.lasting` gives it."""
    states, mask, summary, *keys = given
    # A capture repeats what was done on the device and nothing else, so lengths can't be read.
    lengths = torch.empty(len(mask), dtype=torch.int64, device="meta")
    memory = Memory(Encoded(states, mask, lengths, summary), keys[0] if keys else states)
    _, advance = cut()

    def step(projected: Tensor, state: State, noise: Noise) -> tuple[Tensor, State]:
        features, following, _ = advance(projected, state, memory, noise)
        return features, following

    return step
