"""The recurrent decoder: any cell, any depth, any attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from nmt.attention.attention import Attention
from nmt.attention.memory import Encoded, Memory
from nmt.cells.branching import Branch, Branching
from nmt.cells.cell import Cell
from nmt.cells.dropout import drawn, dropped
from nmt.cells.engines import Unroll
from nmt.cells.layers import CellStack
from nmt.cells.state import Noise, State, rows_of
from nmt.errors import UserError
from nmt.model.decoder import Decoded, Decoder
from nmt.model.embeddings import TokenEmbedding
from nmt.model.feeding import Advance, Feeding
from nmt.model.readout import Parts, Readout
from nmt.model.start import Start
from nmt.model.token_input import TokenInput
from nmt.model.token_table import TokenTable
from nmt.options import AttentionChoice, CellChoice, Choice
from nmt.products import Prepare, plain
from nmt.registry import ATTENTION, CELL

Read = Callable[[Tensor, Tensor], Tensor]
"""The top output ``[R, H]`` and the context ``[R, D]`` -> features ``[R, H]`` before dropout."""


@dataclass(frozen=True)
class _Ready:
    """What a decoder's weights are made into for search."""

    inputs: TokenInput
    table: TokenTable
    readout: Parts
    bottom: Branching
    top: Branching | None


class RecurrentDecoder(Decoder):
    """A stack of recurrent cells over the target embeddings, with attention.

    `cell`: what each of the `layers` is made of, of `hidden_size` units each. `attention`: how the source is read.
    `attention_layer`: `last` attends with the top layer's output and mixes the context into the features
    (Luong et al. 2015); `first` attends with the bottom layer's output and feeds the context to every layer above
    through the next one (Wu et al. 2016, GNMT). Both run all steps of a layer at once when the target is known.
    `input_feeding` gives the features of a step to the next one's input (Luong et al. 2015, 3.3), so steps must wait
    for each other. `start`: from zeros, the encoder's last output, the mean of its states, or a learned projection of
    its last output, which fits any sizes (see `Start`). `deep_output`: the features also read the context and the
    token just written (Bahdanau et al. 2015). `dropout` is applied between layers and to the features,
    `embedding_dropout` to the embeddings; `residual` adds each cell's input to its output from the second on.
    """

    def __init__(
        self,
        embedding: TokenEmbedding,
        unroll: Unroll,
        encoded_size: int,
        *,
        cell: CellChoice = Choice("lstm"),
        attention: AttentionChoice = Choice("general"),
        hidden_size: Annotated[int, Field(gt=0)] = 512,
        layers: Annotated[int, Field(gt=0, le=1000)] = 1,
        attention_layer: Literal["last", "first"] = "last",
        input_feeding: bool = False,
        start: Literal["zeros", "last", "mean", "learned"] = "learned",
        deep_output: bool = False,
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        embedding_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__(embedding, unroll, encoded_size, features_size=hidden_size)
        _expect_a_layer_above(attention_layer, layers)
        self._cell_name, self._fed_size = cell.name, hidden_size if input_feeding else 0
        self._dropout, self._embedding_dropout = dropout, embedding_dropout

        def stack(input_size: int, depth: int) -> CellStack:
            sizes = [input_size] + [hidden_size] * (depth - 1)
            cells: list[Cell] = [cell.build(CELL, size, hidden_size) for size in sizes]
            return CellStack(cells, unroll, dropout=dropout, residual=residual)

        below = 1 if attention_layer == "first" else layers
        self.attention: Attention = attention.build(ATTENTION, hidden_size, encoded_size)
        self.bottom = stack(embedding.size + self._fed_size, below)
        self.top = stack(hidden_size + self.attention.context_size, layers - below) if layers > below else None
        shapes = self.bottom.state_shapes + (self.top.state_shapes if self.top else ())
        self._ends = len(self.bottom.state_shapes), len(shapes)  # of the stacks' parts of a state
        self.start = Start(encoded_size, shapes, start)
        _expect_it_sees_the_source(self.attention, self.start)
        context_size = self.attention.context_size if self.top is None or deep_output else 0
        self.readout = Readout(hidden_size, context_size, embedding.size if deep_output else 0)
        self._ready: _Ready | None = None

    def recurrences(self) -> Mapping[str, type[Cell]]:
        """The cell of each layer; with input feeding, whole steps."""
        if self._fed_size:
            return {f"{self._cell_name} with input feeding": Feeding}
        return {self._cell_name: cast(type[Cell], type(self.bottom.cells[0]))}

    def prepare(self, encoded: Encoded) -> Memory:
        """The attention's keys."""
        return self.attention.prepare(encoded)

    def prepare_search(self, encoded: Encoded) -> Memory:
        """As `Decoder.prepare_search`: with what the readout makes of the values, where the context is their mean."""
        memory = self.prepare(encoded)
        of_value = self._ready.readout.of_value if self._ready else None
        return memory if of_value is None else replace(memory, products=of_value(memory.values))

    def noise(self, rows: int, steps: int) -> Noise:
        """The bottom stack's and the top stack's, and which units of the top one's input and of the features are
        dropped."""
        device = next(self.bottom.parameters()).device
        dropout = self._dropout if self.training else 0.0

        def units() -> Noise:
            return drawn(rows, steps, self.features_size, dropout, device)

        top = (self.top.noise(rows, steps), units()) if self.top else ((), ())
        return (self.bottom.noise(rows, steps), *top, units())

    def initial_state(self, memory: Memory) -> State:
        """The cells' states, the attention's and, with input feeding, the features of no step yet: zeros."""
        rows = memory.encoded.summary.shape[0]
        zeros = self.bottom.initial_state(rows) + (self.top.initial_state(rows) if self.top else ())
        state: State = self.start(memory.encoded, zeros) + self.attention.initial_state(memory)
        return (*state, state[0].new_zeros(rows, self.features_size)) if self._fed_size else state

    def prepare_weights(self, how: Prepare, keep: bool) -> None:
        """As `Decoder.prepare_weights`; kept is what tokens bring to steps. Not with input feeding where the first cell
        doesn't name its layer, for then a token's part of what it projects can't be had by itself."""
        super().prepare_weights(how, keep)
        if not keep or (self._fed_size and self.bottom.input_layer() is None):
            return
        readout = self.readout.apart(how, averaged=self.attention.averages and self.top is None)
        inputs = self._token_input(readout, how)
        table = TokenTable(lambda tokens: inputs.project(self.embedding(tokens)), self.embedding.vocab_size)
        bottom = self.bottom.branching(how, inputs.of_fed)
        self._ready = _Ready(inputs, table, readout, bottom, self.top.branching(how) if self.top else None)

    def step(self, tokens: Tensor, state: State, memory: Memory, noise: Noise = ()) -> Decoded:
        """As `Decoder.step`."""
        x = self._embed(tokens)  # [R, E]
        *_, fed = self._parts(state)
        below = self.bottom.project(torch.cat([x, *fed], -1))
        return self._advance(below, state, memory, noise, lambda h, context: self.readout(h, context, x))

    def branch(self, tokens: Tensor, state: State, parents: Tensor, memory: Memory) -> Decoded:
        """As `Decoder.branch`: what a state brings is computed once a row, what a token brings once."""
        ready = self._ready
        if ready is None:
            return super().branch(tokens, state, parents, memory)
        bottom, top, attended, fed = self._parts(state)
        below, added = ready.inputs.split(ready.table(tokens))
        h, bottom = ready.bottom(bottom, parents, fed)(below)
        above = ready.top(top, parents, ()) if ready.top else None

        def read(h: Tensor, context: Tensor) -> Tensor:
            return ready.readout.features(h, context, added)

        return self._finish(h, bottom, rows_of(attended, parents), memory, above, read)

    def _advance(self, below: Tensor, state: State, memory: Memory, noise: Noise, read: Read) -> Decoded:
        """A step from the bottom stack's projected input ``[R, G]`` on."""
        of_bottom, of_top, units, last = cast(tuple[Noise, Noise, Noise, Noise], noise) or ((), (), (), ())
        bottom, top, attended, _ = self._parts(state)
        h, bottom = self.bottom.step(below, bottom, of_bottom)
        above = partial(self.top.step, state=top, noise=of_top) if self.top else None
        return self._finish(h, bottom, attended, memory, above, read, (units, last))

    def _finish(
        self,
        h: Tensor,
        bottom: State,
        attended: State,
        memory: Memory,
        above: Branch | None,
        read: Read,
        noise: tuple[Noise, Noise] = ((), ()),
    ) -> Decoded:
        """A step from the bottom stack's output ``[R, H]`` and its next state on; `above` is the top stack's; `noise`
        says what is dropped of its input and of the features."""
        units, last = noise
        query = h.view(memory.encoded.mask.shape[0], -1, h.shape[-1])  # [B, K, H]: a beam's queries share the memory
        context, weights, attended = self.attention.step(query, attended, memory)
        context, weights = context.flatten(0, 1), weights.flatten(0, 1)  # [R, D], [R, S]
        top: State = ()
        if self.top is not None and above is not None:
            h, top = above(self.top.project(torch.cat([dropped(h, units, self._dropout), context], -1)))
        features = dropped(read(h, context), last, self._dropout)
        fed = (features,) if self._fed_size else ()
        return Decoded(features, (*bottom, *top, *attended, *fed), weights)

    def forward(self, tokens: Tensor, memory: Memory) -> Tensor:
        """As `Decoder.forward`: a layer at a time over all steps; with input feeding, step after step of all layers."""
        if self._fed_size:
            return self._forward_fed(tokens, memory)
        bottom, top, _, _ = self._parts(self.initial_state(memory))
        # Padding stands behind every token that counts, so the whole width may be run and nothing needs packing.
        lengths = torch.full((tokens.shape[0],), tokens.shape[1])
        xs = self._embed(tokens)  # [B, T, E]
        hs, _ = self.bottom.unroll(xs, lengths, bottom)  # [B, T, H]
        contexts, _ = self.attention(hs, memory)  # [B, T, D]
        if self.top is not None:
            hs = F.dropout(hs, self._dropout, self.training)
            hs, _ = self.top.unroll(torch.cat([hs, contexts], -1), lengths, top)
        return F.dropout(self.readout(hs, contexts, xs), self._dropout, self.training)

    def _forward_fed(self, tokens: Tensor, memory: Memory) -> Tensor:
        """`forward` with input feeding."""
        if self._ready is not None:
            return self._forward_as_in_search(tokens, memory)
        if memory.keys.is_cuda:
            memory = memory.widened()  # graphs are kept by shape
        lengths = torch.full((tokens.shape[0],), tokens.shape[1])
        feeding = Feeding(self, memory, self._cut)
        features, _ = self.unroll(feeding, self._embed(tokens), lengths, self.initial_state(memory))
        return features

    def _forward_as_in_search(self, tokens: Tensor, memory: Memory) -> Tensor:
        """`forward` by the same products as search: where weights are prepared in low precision, the same numbers."""
        memory = self.prepare_search(memory.encoded)
        state, features = self.initial_state(memory), []
        rows = torch.arange(len(tokens), device=tokens.device)
        for token in tokens.unbind(1):
            step, state, _ = self.branch(token, state, rows, memory)
            features.append(step)
        return torch.stack(features, 1)

    def _cut(self) -> tuple[TokenInput, Advance]:
        """A step in two parts: what its token brings, and all the rest."""
        readout = self.readout.apart()
        inputs = self._token_input(readout)

        def advance(projected: Tensor, state: State, memory: Memory, noise: Noise) -> Decoded:
            below, added = inputs.split(projected)
            below = inputs.feed(below, self._parts(state)[-1][0])
            return self._advance(below, state, memory, noise, lambda h, context: readout.features(h, context, added))

        return inputs, advance

    def _token_input(self, readout: Parts, how: Prepare = plain) -> TokenInput:
        return TokenInput(self.bottom, readout.of_embedding, self.readout.embedded_size, self._fed_size, how)

    def _parts(self, state: State) -> tuple[State, State, State, State]:
        """The state of the bottom stack, of the top stack, of the attention, and the features fed back."""
        below, cells = self._ends
        end = len(state) - 1 if self._fed_size else len(state)
        return state[:below], state[below:cells], state[cells:end], state[end:]

    def _embed(self, tokens: Tensor) -> Tensor:
        return F.dropout(self.embedding(tokens), self._embedding_dropout, self.training)


def _expect_a_layer_above(attention_layer: str, layers: int) -> None:
    if attention_layer == "first" and layers < 2:
        raise UserError("attention_layer: first needs a layer above the first", "set layers to 2 or more")


def _expect_it_sees_the_source(attention: Attention, start: Start) -> None:
    if attention.context_size == 0 and not start.sets_anything:
        raise UserError(
            "without attention and with a state that is started from nothing, a decoder never sees the source",
            "choose an attention, another start, or a cell whose state has one axis",
        )
