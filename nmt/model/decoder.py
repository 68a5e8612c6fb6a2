"""The contract of a decoder: all that training and search know of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nmt.attention.memory import Encoded, Memory
from nmt.cells.cell import Cell
from nmt.cells.engines import Unroll
from nmt.cells.state import Noise, State, at_step, rows_of
from nmt.model.embeddings import TokenEmbedding
from nmt.products import Prepare
from nmt.shortcuts import give_up_shortcuts


class Decoded(NamedTuple):
    """One step of a decoder, for R rows."""

    features: Tensor
    """``[R, H]``, what the output layer reads."""
    state: State
    weights: Tensor
    """``[R, S]``: what attention looked at; zeros where there is none."""


class Decoder(nn.Module, ABC):
    """Writes target sentences. The framework gives the target embedding, the way to run a cell along time and the
    encoder's D. Keyword-only parameters of a subclass's constructor are the recipe's options.

    In search the rows are hypotheses: R = B · K, the K rows of a sentence together, all reading one shared memory.
    A state is a tuple of tensors with the rows first, so keeping, repeating and reordering hypotheses is indexing.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        give_up_shortcuts(cls, Decoder, {"branch": ["step"], "prepare_search": ["step"]})

    def __init__(self, embedding: TokenEmbedding, unroll: Unroll, encoded_size: int, *, features_size: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.unroll = unroll
        self.encoded_size = encoded_size
        self.features_size = features_size
        self.output = embedding.output_layer(features_size)

    @abstractmethod
    def prepare(self, encoded: Encoded) -> Memory:
        """What all steps read of the source, made once a sentence."""

    def prepare_search(self, encoded: Encoded) -> Memory:
        """As `prepare`, for the steps of search alone, which are `branch`."""
        return self.prepare(encoded)

    @abstractmethod
    def initial_state(self, memory: Memory) -> State:
        """The state before the first token, a row for each of the B sentences."""

    @abstractmethod
    def step(self, tokens: Tensor, state: State, memory: Memory, noise: Noise = ()) -> Decoded:
        """The tokens just written ``[R]`` and their rows' state -> features ``[R, H]`` of what comes next.

        `noise` are the masks of this step; ``()`` in search.
        """

    def branch(self, tokens: Tensor, state: State, parents: Tensor, memory: Memory) -> Decoded:
        """A step of R hypotheses in search, which go on from the rows `parents` ``[R]`` of a state ``[U, ...]``:
        ``step(tokens, state[parents], memory)``.

        Override it to compute once for each row what its hypotheses share; never to be different.
        """
        return self.step(tokens, rows_of(state, parents), memory)

    @abstractmethod
    def forward(self, tokens: Tensor, memory: Memory) -> Tensor:
        """Gold tokens ``[B, T]`` -> features ``[B, T, H]``, the same as T steps, as fast as it can be done."""

    def noise(self, rows: int, steps: int) -> Noise:
        """Random masks for `steps` steps, as `Cell.noise`: what cells draw (a `CellStack` its dropout, too) and what
        else a step drops; none where not in training. Without them a step draws nothing."""
        return ()

    def recurrences(self) -> Mapping[str, type[Cell]]:
        """What is run along time by `unroll`, by name: for the log, which says what runs it."""
        return {}

    def prepare_weights(self, how: Prepare, keep: bool) -> None:
        """Be made ready for translating; the weights won't change any more. `keep`: whether results may be kept that
        are wanted again and again. This prepares the output layer.

        Each other nn.Linear is prepared without the decoder's help. Override it for a faster `branch`, never a
        different one, and call this one too.
        """
        self.output.prepare(how)

    def logits(self, features: Tensor) -> Tensor:
        """``[..., H] -> [..., V]``: the output layer. A new tensor each time, for search writes into it."""
        logits: Tensor = self.output(features)
        return logits

    def forward_stepwise(self, tokens: Tensor, memory: Memory, gold: Tensor | None = None) -> Tensor:
        """As `forward`, one step after another. Where `gold` ``[B, T]`` is given and False, a step reads the decoder's
        own best token: scheduled sampling (Bengio et al. 2015), decided for each token. The first is always gold.
        """
        state = self.initial_state(memory)
        noise = self.noise(*tokens.shape)
        token = tokens[:, 0]
        features: list[Tensor] = []
        for t in range(tokens.shape[1]):
            if t > 0:
                token = tokens[:, t]
                if gold is not None:
                    with torch.no_grad():
                        own = self.logits(features[-1]).argmax(-1)
                    token = torch.where(gold[:, t], token, own)
            step, state, _ = self.step(token, state, memory, at_step(noise, t))
            features.append(step)
        return torch.stack(features, 1)  # [B, T, H]
