"""The conformance kit itself: components broken on purpose, each caught and told what is wrong."""

import copy
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nmt.attention.attention import Attention, read, stepwise
from nmt.attention.general import GeneralAttention
from nmt.attention.memory import Encoded, Memory
from nmt.cells import engines
from nmt.cells.branching import Branching
from nmt.cells.cell import Cell
from nmt.cells.layers import CellStack
from nmt.cells.lstm import LSTMCell
from nmt.cells.packed import Reading
from nmt.cells.state import Noise, State
from nmt.model.decoder import Decoded, Decoder
from nmt.model.encoder import Encoder
from nmt.model.recurrent_decoder import RecurrentDecoder
from nmt.model.recurrent_encoder import RecurrentEncoder
from nmt.products import Prepare, Recurrences
from nmt.testing import ContractError, check_attention, check_cell, check_corpus, check_decoder, check_encoder
from nmt.testing.imports import import_check
from nmt.text.corpus import Corpus, Pair


class Sound(Cell):
    """h' = tanh(W x + R h): what the broken cells below break."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, hidden_size)
        self.recurrent = nn.Linear(hidden_size, hidden_size)

    def project(self, xs: Tensor) -> Tensor:
        return self.input(xs)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        h = torch.tanh(projected + self.recurrent(state[0]))
        return h, (h,)


class WrongStateShape(Sound):
    """Its state is half of what it says."""

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        h, _ = super().step(projected, state)
        return h, (h[:, :4],)


class MixesSentences(Sound):
    """Normalises over the batch."""

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        h, _ = super().step(projected, state)
        h = h - h.mean(0)
        return h, (h,)


class HasATable(Sound):
    """Reads its input in an order of its own, by a number that it learns."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.register_buffer("order", torch.randperm(input_size))
        self.scale = nn.Parameter(torch.tensor(1.0))

    def project(self, xs: Tensor) -> Tensor:
        return self.scale * super().project(xs[..., self.order])


class HoldsWhatNoFileTakes(Sound):
    """Complex numbers."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.register_buffer("phases", torch.ones(2, dtype=torch.complex64))


class IsFasterWithoutGradients(Sound):
    """Its whole step is for decoding alone."""

    @torch.no_grad()
    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().forward(x, state)


class CutsTheStateOff(Sound):
    """Its whole step gives no gradient to what it remembers."""

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().forward(x, tuple(tensor.detach() for tensor in state))


class IsPartlyFrozen(Sound):
    """A part of it isn't trained."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.recurrent.weight.requires_grad_(False)


class ForgetsInAWholeStep(Sound):
    """Its whole step leaves the state as it was."""

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().forward(x, state)[0], state


class KeepsStateOnTheModule(Sound):
    """Remembers the last call."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.last = 0.0

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        h, _ = super().step(projected + self.last, state)
        self.last = float(h.detach().mean())
        return h, (h,)


class WritesIntoItsState(Sound):
    """Saves memory in the wrong place."""

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        h = torch.tanh(projected + self.recurrent(state[0]))
        with torch.no_grad():
            state[0].copy_(h)
        return h, (h,)


class ForgetsToFreeze(Sound):
    """Its final state is that at the end of the padding."""

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        full = torch.full_like(lengths, xs.shape[1])
        ys, final = engines.loop(self, engines.cleared(xs, lengths), full, state)
        return engines.cleared(ys, lengths), final


class ReadsPadding(Sound):
    """Clears the outputs alone: what stands in the padding reaches the gradients."""

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, states = [], []
        for projected in self.project(xs).unbind(1):
            y, state = self.step(projected, state)
            outputs.append(y)
            states.append(state[0])
        ys = engines.cleared(torch.stack(outputs, 1), lengths)
        return ys, (engines.at_last(torch.stack(states, 1), lengths),)


class LeavesOutputsInThePadding(Sound):
    """Clears nothing."""

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        full = torch.full_like(lengths, xs.shape[1])
        ys, _ = engines.loop(self, engines.cleared(xs, lengths), full, state)
        return ys, (engines.at_last(ys, lengths),)


class WrongInTheGradientOnly(Sound):
    """Its outputs are right."""

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        return engines.loop(self, xs, lengths, tuple(tensor.detach() for tensor in state))


class DrawsInTheStep(Sound):
    """Dropout where it can't be replayed."""

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        h, _ = super().step(nn.functional.dropout(projected, 0.5, self.training), state)
        return h, (h,)


class ReusesItsMask(Sound):
    """One mask for ever."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.register_buffer("mask", torch.empty(64, 64, hidden_size).bernoulli_(0.5), persistent=False)

    def noise(self, rows: int, steps: int) -> Noise:
        return (self.mask[:rows, :steps],) if self.training else ()

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        return super().step(projected * noise[0] if noise else projected, state)


class LeavesNoiseOutInUnroll(Sound):
    """Its unroll is faster, and without the masks."""

    def noise(self, rows: int, steps: int) -> Noise:
        return (self.input.bias.new_empty(rows, steps, self.hidden_size).bernoulli_(0.5),) if self.training else ()

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        return super().step(projected * noise[0] if noise else projected, state)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        training = self.training
        try:
            return engines.loop(self.eval(), xs, lengths, state)
        finally:
            self.train(training)


class ProjectsWithItsNeighbours(Sound):
    """Looks at the position before."""

    def project(self, xs: Tensor) -> Tensor:
        return self.input(xs + xs.roll(1, -2))


class HidesAParameter(Sound):
    """A tensor that no checkpoint will hold."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.scale = torch.full((hidden_size,), 0.5)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        return super().step(projected * self.scale.to(projected), state)


class HasADeadParameter(Sound):
    """Never uses it."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.unused = nn.Parameter(torch.zeros(hidden_size))


class FixesItsType(Sound):
    """float32 whatever comes."""

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, self.hidden_size, dtype=torch.double),)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        h = torch.tanh(projected.double() + self.recurrent(state[0].to(projected)).double())
        return h, (h,)


class CantStartAnywhere(Sound):
    """Its logarithm needs a positive state."""

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        return super().step(projected, (torch.log(state[0]),))


class SaysNothing(Sound):
    """An option without a word."""

    def __init__(self, input_size: int, hidden_size: int, *, sharpness: float = 1.0) -> None:
        super().__init__(input_size, hidden_size)


class FollowsNoParent(Sound):
    """Takes the rows of a state as they stand."""

    def branching(self, how: Prepare, of_fed: Tensor | None = None) -> Branching:
        return lambda state, parents, fed: partial(self.step, state=tuple(t[: len(parents)] for t in state))


class BranchesWithoutAState(Sound):
    """Gives the output alone."""

    def branching(self, how: Prepare, of_fed: Tensor | None = None) -> Branching:
        whole = super().branching(how, of_fed)
        return lambda state, parents, fed: lambda projected: (whole(state, parents, fed)(projected)[0], ())


class ReadsSomethingElse(Sound):
    """A moving average for a recurrence."""

    def reading(self, how: Recurrences) -> Reading:
        return lambda xs: torch.tanh(self.input(xs.double())).cumsum(1).float()


class ReadsByItsNeighbours(Sound):
    """Rounds what it reads by the largest number of the batch."""

    def reading(self, how: Recurrences) -> Reading:
        def read(xs: Tensor) -> Tensor:
            double = copy.deepcopy(self).double()
            lengths = torch.full((len(xs),), xs.shape[1])
            ys, _ = engines.loop(double, xs.double(), lengths, double.initial_state(len(xs)))
            return (ys + 1e-7 * xs.max()).float()

        return read


class Raises(Sound):
    """An ordinary mistake."""

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        return projected, (state[1],)


CELLS = {
    WrongStateShape: "a step turns a state of .* into one of",
    MixesSentences: "a row depends on that row alone: .* another result than that row alone",
    KeepsStateOnTheModule: "something else after another step was taken; keep what is carried along in the state",
    WritesIntoItsState: "writes into the tensors it was given",
    ForgetsToFreeze: "final state of a sentence of 1 steps .* freeze each sentence's state at its own length",
    ReadsPadding: "the padding is read in the backward pass: NaN in it reaches a gradient",
    LeavesOutputsInThePadding: "aren't zero in the padding",
    WrongInTheGradientOnly: "gradient of tensor 0 of the first state|that of tensor 0 of the first state differs",
    DrawsInTheStep: r"random numbers in training; draw them in noise\(rows, steps\)",
    ReusesItsMask: "same random masks|default generator",
    LeavesNoiseOutInUnroll: "its unroll in training differs from stepping",
    ProjectsWithItsNeighbours: "project of .* something else at step",
    HidesAParameter: "scale is a tensor that is neither parameter nor buffer",
    IsFasterWithoutGradients: r"forward isn't step\(project\(x\), state\) in its gradients; don't override forward",
    CutsTheStateOff: r"forward isn't step\(project\(x\), state\) in its gradients",
    ForgetsInAWholeStep: r"forward isn't step\(project\(x\), state\) in its next state",
    HoldsWhatNoFileTakes: "'phases' is of type .*make this call work",
    HasADeadParameter: "no gradient reaches the parameter unused",
    FixesItsType: "torch.float64 where parameters and inputs are torch.float32|DOUBLE|into one of|dtype",
    CantStartAnywhere: r"a step from a state with values in \(-1, 1\) isn't finite",
    SaysNothing: "the docstring says nothing of sharpness",
    FollowsNoParent: r"branching gives something else than step\(projected",
    BranchesWithoutAState: r"branching gives something else than step\(projected",
    ReadsSomethingElse: "reading gives other outputs than stepping",
    ReadsByItsNeighbours: "other bits alone than in a batch; return None",
    Raises: r"IndexError: tuple index out of range \(.*test_testing.py:\d+, in step\)",
}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)
def test_a_broken_cell_is_told_what_is_wrong(cell: type[Cell]) -> None:
    with pytest.raises(ContractError, match=CELLS[cell]):
        check_cell(cell)


@pytest.mark.parametrize("cell", [Sound, HasATable, IsPartlyFrozen])
def test_a_sound_cell_passes(cell: type[Cell]) -> None:
    check_cell(cell)


class WeighsPadding(GeneralAttention):
    """A softmax without a mask."""

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        weights = torch.softmax(query @ memory.keys.mT, -1)
        return weights @ memory.encoded.states, weights


class AveragesOverPadding(GeneralAttention):
    """Divides by the width of the batch."""

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        contexts, weights = read(query @ memory.keys.mT, memory)
        return contexts + memory.encoded.states.mean(1, keepdim=True), weights


class LooksAtOtherSteps(GeneralAttention):
    """A query is answered by the mean of all."""

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        return read(query.mean(1, keepdim=True).expand_as(query) @ memory.keys.mT, memory)


class SharesCoverage(GeneralAttention):
    """A coverage that the hypotheses of a sentence have in common."""

    def initial_state(self, memory: Memory) -> State:
        return (torch.zeros_like(memory.encoded.mask, dtype=memory.keys.dtype),)

    def step(self, query: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        coverage = state[0][:, : memory.keys.shape[1]].view(*query.shape[:2], -1).mean(1, keepdim=True)
        contexts, weights = read(query @ memory.keys.mT - coverage, memory)
        return contexts, weights, ((coverage + weights).flatten(0, 1),)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        return stepwise(self, query, memory)


class AveragesOtherThings(GeneralAttention):
    """Says that it averages the values, and averages the states."""

    averages = True

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        _, weights = read(query @ memory.keys.mT, memory)
        return weights @ memory.encoded.states, weights


class GivesTheWrongSize(Attention):
    """Says that it reads nothing, and reads."""

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__(query_size, key_size, context_size=3)

    def prepare(self, encoded: Encoded) -> Memory:
        return Memory(encoded, encoded.states)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        return read(query @ memory.keys.mT, memory)


ATTENTIONS = {
    WeighsPadding: "padding gets weight; mask the scores",
    AveragesOverPadding: "read differently alone than in a batch",
    LooksAtOtherSteps: "of all steps at once differ from those of one after another",
    AveragesOtherThings: "and they aren't.*read memory.values in the place of memory.encoded.states",
    SharesCoverage: "a hypothesis is answered differently beside another one",
    GivesTheWrongSize: r"contexts and weights are \(4, 3, 8\)",
}


@pytest.mark.parametrize("attention", ATTENTIONS, ids=lambda attention: attention.__name__)
def test_a_broken_attention_is_told_what_is_wrong(attention: type[Attention]) -> None:
    with pytest.raises(ContractError, match=ATTENTIONS[attention]):
        check_attention(attention)


class ReadsPaddingTokens(RecurrentEncoder):
    """`cell`, `hidden_size`, `layers`, `bidirectional`, `dropout`, `embedding_dropout`, `residual`: a mean over all."""

    def forward(self, source: Tensor, lengths: Tensor) -> Encoded:
        encoded = super().forward(source, lengths)
        return Encoded(encoded.states, encoded.mask, lengths, self.embedding(source).mean(1).repeat(1, 90)[:, :512])


class FillsPadding(RecurrentEncoder):
    """`cell`, `hidden_size`, `layers`, `bidirectional`, `dropout`, `embedding_dropout`, `residual`: a bias."""

    def forward(self, source: Tensor, lengths: Tensor) -> Encoded:
        encoded = super().forward(source, lengths)
        return Encoded(encoded.states + 1.0, encoded.mask, lengths, encoded.summary)


class ChoosesItsOwnEngine(Encoder):
    """A sum of embeddings through a cell that is run by hand, wrongly where the framework's way is another."""

    def __init__(self, embedding: nn.Module, unroll: engines.Unroll) -> None:
        super().__init__(embedding, unroll, output_size=6)
        self.sharp = unroll is engines.loop

    def forward(self, source: Tensor, lengths: Tensor) -> Encoded:
        xs = engines.cleared(self.embedding(source), lengths) * (2.0 if self.sharp else 1.0)
        return Encoded(xs, engines.mask_of(lengths, source.shape[1], source.device), lengths, xs.sum(1))


ENCODERS = {
    ReadsPaddingTokens: "the padding is read",
    FillsPadding: "states in the padding aren't zero",
    ChoosesItsOwnEngine: "the engine loop gives other states",
}


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.__name__)
def test_a_broken_encoder_is_told_what_is_wrong(encoder: type[Encoder]) -> None:
    with pytest.raises(ContractError, match=ENCODERS[encoder]):
        check_encoder(encoder)


class Small(Decoder):
    """A cell over embeddings and the source's summary, a step at a time: what the broken decoders below break."""

    def __init__(self, embedding: nn.Module, unroll: engines.Unroll, encoded_size: int) -> None:
        super().__init__(embedding, unroll, encoded_size, features_size=7)
        self.cell = Sound(embedding.size + encoded_size, 7)

    def prepare(self, encoded: Encoded) -> Memory:
        return Memory(encoded, encoded.states)

    def initial_state(self, memory: Memory) -> State:
        return self.cell.initial_state(memory.encoded.mask.shape[0])

    def step(self, tokens: Tensor, state: State, memory: Memory, noise: Noise = ()) -> Decoded:
        width = len(tokens) // memory.encoded.mask.shape[0]
        summary = memory.encoded.summary.repeat_interleave(width, 0)
        h, state = self.cell(torch.cat([self.embedding(tokens), summary], -1), state)
        return Decoded(h, state, h.new_zeros(len(tokens), memory.encoded.mask.shape[1]))

    def forward(self, tokens: Tensor, memory: Memory) -> Tensor:
        return self.forward_stepwise(tokens, memory)


class LooksAhead(Small):
    """Reads the token it should foretell."""

    def forward(self, tokens: Tensor, memory: Memory) -> Tensor:
        return self.forward_stepwise(tokens, memory) + self.embedding(tokens.roll(-1, 1)).sum(-1, keepdim=True)


class LooksAheadInStepsToo(Small):
    """Reads all tokens of the sentence, wherever it is asked."""

    def forward_stepwise(self, tokens: Tensor, memory: Memory, gold: Tensor | None = None) -> Tensor:
        return super().forward_stepwise(tokens, memory) + self.embedding(tokens).sum((1, 2))[:, None, None]


class MixesHypotheses(Small):
    """Takes the first sentence's summary for every row."""

    def step(self, tokens: Tensor, state: State, memory: Memory, noise: Noise = ()) -> Decoded:
        features, state, weights = super().step(tokens, state, memory)
        return Decoded(features + features.sum(0), state, weights)


class RepeatsTheWrongWay(Small):
    """Lays the sentences out sentence after sentence where it should be hypothesis after hypothesis."""

    def step(self, tokens: Tensor, state: State, memory: Memory, noise: Noise = ()) -> Decoded:
        encoded = memory.encoded
        width = len(tokens) // encoded.mask.shape[0]
        shuffled = Encoded(encoded.states, encoded.mask, encoded.lengths, encoded.summary.repeat(width, 1)[::width])
        return super().step(tokens, state, Memory(shuffled, memory.keys))


class CountsPadding(Small):
    """Divides the source by the width of the batch."""

    def prepare(self, encoded: Encoded) -> Memory:
        mean = encoded.states.mean(1)
        return Memory(Encoded(encoded.states, encoded.mask, encoded.lengths, mean), encoded.states)


class BranchesFromTheFirst(Small):
    """All hypotheses go on from one."""

    def branch(self, tokens: Tensor, state: State, parents: Tensor, memory: Memory) -> Decoded:
        return super().branch(tokens, state, torch.zeros_like(parents), memory)


class BranchesBlindly(Small):
    """Other weights than a step's."""

    def branch(self, tokens: Tensor, state: State, parents: Tensor, memory: Memory) -> Decoded:
        decoded = super().branch(tokens, state, parents, memory)
        return decoded._replace(weights=decoded.weights + 1.0)


class BranchesOtherwiseOncePrepared(Small):
    """Goes on from the first hypothesis where weights won't change any more."""

    prepared = False

    def prepare_weights(self, how: Prepare, keep: bool) -> None:
        super().prepare_weights(how, keep)
        self.prepared = True

    def branch(self, tokens: Tensor, state: State, parents: Tensor, memory: Memory) -> Decoded:
        return super().branch(tokens, state, torch.zeros_like(parents) if self.prepared else parents, memory)


class ForgetsItsNoise(Small):
    """Drops units where it runs all steps at once, and not step by step."""

    def __init__(self, embedding: nn.Module, unroll: engines.Unroll, encoded_size: int) -> None:
        super().__init__(embedding, unroll, encoded_size)
        cells = [Sound(embedding.size + encoded_size, 7), Sound(7, 7)]
        self.cell = CellStack(cells, unroll, dropout=0.5, residual=False)

    def forward(self, tokens: Tensor, memory: Memory) -> Tensor:
        summary = memory.encoded.summary[:, None].expand(-1, tokens.shape[1], -1)
        xs = torch.cat([self.embedding(tokens), summary], -1)
        lengths = torch.full((len(tokens),), tokens.shape[1])
        return self.unroll(self.cell, xs, lengths, self.initial_state(memory))[0]


class ForgetsItsWeights(RecurrentDecoder):
    """`cell`, `attention`, `hidden_size`, `layers`, `attention_layer`, `input_feeding`, `start`, `deep_output`,
    `dropout`, `embedding_dropout`, `residual`: attends when training, and not in search.
    """

    def step(self, tokens: Tensor, state: State, memory: Memory, noise: Noise = ()) -> Decoded:
        blind = Memory(memory.encoded, 0.0 * memory.keys)
        return super().step(tokens, state, blind, noise)


DECODERS = {
    LooksAhead: "forward differs from stepping at step 1",
    LooksAheadInStepsToo: "change with the tokens from step 2 on",
    MixesHypotheses: "other features alone than in a batch of 4",
    RepeatsTheWrongWay: "gets other features than alone",
    CountsPadding: "other features alone than in a batch of 4: the padding",
    BranchesFromTheFirst: r"branch gives something else than step\(tokens",
    BranchesBlindly: r"branch gives something else than step\(tokens",
    BranchesOtherwiseOncePrepared: "memory\\) after prepare_weights",
    ForgetsItsNoise: "in training forward draws random numbers and steps draw none",
    ForgetsItsWeights: "forward differs from stepping at step",
}


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.__name__)
def test_a_broken_decoder_is_told_what_is_wrong(decoder: type[Decoder]) -> None:
    with pytest.raises(ContractError, match=DECODERS[decoder]):
        check_decoder(decoder)


def test_a_sound_decoder_passes() -> None:
    check_decoder(Small)


class Unsteady(Corpus):
    """Gives other pairs each time."""

    def __init__(self) -> None:
        self.opened = 0

    def pairs(self) -> Iterator[Pair]:
        self.opened += 1
        yield Pair(f"{self.opened}", "one", 1)

    def fingerprint(self) -> str:
        return "unsteady"

    def check(self) -> None: ...


class CountsBackwards(Unsteady):
    """Numbers its lines the wrong way."""

    def pairs(self) -> Iterator[Pair]:
        yield from (Pair("a", "b", 2), Pair("a", "b", 1))


class NamesItself(CountsBackwards):
    """Goes by where it lies in memory."""

    def pairs(self) -> Iterator[Pair]:
        yield from (Pair("a", "b", 1), Pair("a", "b", 2))

    def fingerprint(self) -> str:
        return str(next(_numbers))


_numbers = iter(range(100))


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        (Unsteady, "gives other pairs the second time"),
        (CountsBackwards, "its lines don't increase"),
        (NamesItself, "different fingerprints"),
    ],
)
def test_a_broken_corpus_is_told_what_is_wrong(corpus: type[Corpus], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        check_corpus(corpus)


def test_an_option_is_given_by_name_and_checked() -> None:
    with pytest.raises(ContractError, match="the option forget_bais is refused: unknown option; did you mean forget_b"):
        check_cell(LSTMCell, forget_bais=1.0)


def observed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    (tmp_path / "nmt_under_test.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import_check(["nmt_under_test"]).run()


def test_a_quiet_import_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observed(tmp_path, monkeypatch, "from torch import nn\n\n\nclass Mine(nn.Module): ...\n")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import torch; torch.set_default_dtype(torch.float64)", "importing it changes torch's default type"),
        ("import torch; torch.manual_seed(1)", "importing it changes torch's random state"),
        ("import os; os.environ['HOME'] = '/'", "importing it changes the environment"),
        ("import warnings; warnings.simplefilter('ignore')", "importing it changes the warning filters"),
        ("print('hello')", "importing it prints 'hello'"),
        (
            "import time\nbegan = time.process_time()\nwhile time.process_time() < began + 2.1: pass",
            "CPU seconds, more than 2",
        ),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_an_import_with_side_effects_is_told_of(tmp_path: Path, monkeypatch, source: str, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        observed(tmp_path, monkeypatch, source)


def pytest_run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_pytest_checks_what_a_distribution_registers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    information = tmp_path / "nmt_broken-0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: nmt-broken\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text("[nmt.cells]\nmixing = nmt_broken:Mixing\n")
    (tmp_path / "nmt_broken.py").write_text(
        "from nmt.cells.gru import GRUCell\n\n\n"
        "class Mixing(GRUCell):\n"
        "    '''Mixes sentences.'''\n\n"
        "    def project(self, xs):\n"
        "        return super().project(xs - xs.mean(0))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = pytest_run("--nmt-plugin", "nmt-broken", folder=tmp_path)
    assert done.returncode == 1
    assert "nmt-broken: cell mixing: project treats positions and rows alike" in done.stdout
    assert "project gives row 0 of 6 something else than that row alone; project each position by itself" in done.stdout
    unknown = pytest_run("--nmt-plugin", "nmt-brokn", folder=tmp_path)
    assert unknown.returncode == 4
    assert "did you mean nmt-broken?" in unknown.stderr
