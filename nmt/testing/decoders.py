"""The contract of a decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nmt.attention.memory import Encoded, Memory
from nmt.cells import engines
from nmt.cells.state import State, rows_of
from nmt.model.decoder import Decoded, Decoder
from nmt.model.embeddings import TokenEmbedding
from nmt.products import plain
from nmt.testing.attentions import LENGTHS, ROWS, SIZE, SOURCE_STEPS, some_source
from nmt.testing.components import (
    MODULE_CHECKS,
    Subject,
    gradients_are_right,
    its_options_are_named_annotated_and_described,
    parameters_of,
)
from nmt.testing.contract import Check, expect, named_checks, same, unchanged, weighted_sum
from nmt.testing.encoders import EMBEDDING_SIZE, VOCAB_SIZE

TARGET = torch.tensor([[2, 5, 6, 7], [2, 8, 9, 4], [2, 10, 4, 5], [2, 6, 6, 11]])
STEPS = TARGET.shape[1]


def decoder_checks(component: type, options: Mapping[str, object]) -> list[Check]:
    """Every promise of a decoder, the plainest first."""
    subject = _subject(component, options, engines.own)
    return named_checks(subject, (its_options_are_named_annotated_and_described, *DECODER_CHECKS, *MODULE_CHECKS))


def _subject(component: type, options: Mapping[str, object], unroll: engines.Unroll) -> Subject:
    def use(decoder: Decoder, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        features = decoder(TARGET.to(device), decoder.prepare(some_source(dtype, device)))
        return {"the features": features, "the logits": decoder.logits(features)}

    return Subject(component, options, lambda: (TokenEmbedding(VOCAB_SIZE, EMBEDDING_SIZE), unroll, SIZE), use)


def with_memory(subject: Subject) -> tuple[Decoder, Memory]:
    """A decoder and what its steps read of the source."""
    decoder: Decoder = subject.make()
    return decoder, decoder.prepare(some_source())


def beams(decoder: Decoder, memory: Memory, count: int) -> tuple[Tensor, State]:
    """Tokens and states of `count` hypotheses of each sentence, all different."""
    state = tuple(tensor.repeat_interleave(count, 0) for tensor in decoder.initial_state(memory))
    tokens = torch.arange(4, 4 + ROWS * count) % VOCAB_SIZE
    _, state, _ = decoder.step(tokens, state, memory)
    return tokens.flip(0), state


def it_gives_features_and_logits(subject: Subject) -> None:
    """``[B, T, features_size]`` and ``[B, T, V]``."""
    decoder, memory = with_memory(subject)
    features = decoder(TARGET, memory)
    expected = (ROWS, STEPS, decoder.features_size)
    expect(
        tuple(features.shape) == expected,
        f"the features are {tuple(features.shape)}, not [B, T, features_size] = {expected}",
        "hand the size of the features on to Decoder.__init__ as features_size",
    )
    shape = tuple(decoder.logits(features).shape)
    expect(shape == (ROWS, STEPS, VOCAB_SIZE), f"the logits are {shape}", "don't override logits")


def a_step_gives_features_a_state_and_weights(subject: Subject) -> None:
    """Rows first, and the state as it was."""
    decoder, memory = with_memory(subject)
    state = decoder.initial_state(memory)
    expect(
        all(tensor.shape[0] == ROWS for tensor in state),
        f"the first state has the shapes {[tuple(t.shape) for t in state]} for {ROWS} sentences",
        "give every tensor of the state the rows first",
    )
    features, following, weights = decoder.step(TARGET[:, 0], state, memory)
    expect(
        tuple(features.shape) == (ROWS, decoder.features_size) and tuple(weights.shape) == (ROWS, SOURCE_STEPS),
        f"a step gives features of {tuple(features.shape)} and weights of {tuple(weights.shape)}",
        "give [R, features_size] and [R, S]",
    )
    before, after = ([(tuple(t.shape), t.dtype) for t in one] for one in (state, following))
    expect(before == after, f"a step turns a state of {before} into one of {after}", "keep shapes and types")
    expect(not bool(weights.masked_select(~memory.encoded.mask).any()), "padding gets weight", "give it none: mask it")


def all_steps_at_once_equal_one_after_another(subject: Subject) -> None:
    """Training sees all gold tokens, search one at a time."""
    decoder, memory = with_memory(subject)
    whole, stepwise = decoder(TARGET, memory), decoder.forward_stepwise(TARGET, memory)
    for t in range(STEPS):
        expect(
            same(whole[:, t], stepwise[:, t]),
            f"forward differs from stepping at step {t + 1}",
            "let forward be forward_stepwise, or make it equal to that",
        )


def steps_draw_what_forward_draws(subject: Subject) -> None:
    """In training: dropout that one of them forgets is not what was asked for."""
    decoder, memory = with_memory(subject)
    decoder.train()

    def varies(features: Callable[[Tensor, Memory], Tensor]) -> bool:
        torch.manual_seed(1)
        first = features(TARGET, memory)
        return not same(first, features(TARGET, memory))

    expect(
        varies(decoder.forward) == varies(decoder.forward_stepwise),
        "in training forward draws random numbers and steps draw none, or the reverse",
        "override `noise`, and hand its masks on to the cells' steps",
    )


def a_step_sees_no_later_token(subject: Subject) -> None:
    """Else it learns to look up what it should foretell."""
    decoder, memory = with_memory(subject)
    features = decoder(TARGET, memory)
    for t in range(1, STEPS):
        other = TARGET.clone()
        other[:, t:] = (other[:, t:] + 1) % VOCAB_SIZE
        expect(
            same(features[:, :t], decoder(other, memory)[:, :t]),
            f"features of earlier steps change with the tokens from step {t + 1} on",
            "let the features of a step depend on the tokens up to that step alone",
        )


def a_sentence_is_the_same_alone_and_in_any_batch(subject: Subject) -> None:
    """Whatever its neighbours, and however much padding they bring."""
    decoder, memory = with_memory(subject)
    features = decoder(TARGET, memory)
    for row, length in enumerate(LENGTHS.tolist()):
        one = torch.tensor([row])
        alone = decoder(TARGET[one], decoder.prepare(some_source().select(one)))
        expect(
            same(features[one], alone),
            f"for a source of {length} tokens it gives other features alone than in a batch of {ROWS}: the padding, or "
            "another sentence, is read",
            "use memory.encoded.mask or .lengths wherever source positions are counted or weighed",
        )


def a_hypothesis_depends_on_itself_alone(subject: Subject) -> None:
    """The K rows of a sentence share its memory and nothing else, and sentences leave the search as they end."""
    decoder, memory = with_memory(subject)
    tokens, state = beams(decoder, memory, 2)
    together = decoder.step(tokens, state, memory)
    for row in range(2 * ROWS):
        one = slice(row, row + 1)
        alone = decoder.step(tokens[one], tuple(t[one] for t in state), memory.select(torch.tensor([row // 2])))
        size = int(LENGTHS[row // 2])
        expect(
            same(together.features[one], alone.features) and same(together.weights[one, :size], alone.weights),
            f"row {row} of {2 * ROWS} gets other features than alone",
            "let rows read the memory of their own sentence (row // K), and nothing of other rows",
        )


def hypotheses_are_reordered_by_their_state(subject: Subject) -> None:
    """All that a hypothesis is, is its row of the state."""
    decoder, memory = with_memory(subject)
    tokens, state = beams(decoder, memory, 2)
    swap = torch.arange(2 * ROWS).view(ROWS, 2).flip(1).flatten()  # within each sentence
    expected = decoder.step(tokens, state, memory).features[swap]
    found = decoder.step(tokens[swap], tuple(tensor[swap] for tensor in state), memory).features
    expect(
        same(expected, found),
        "after reordering the rows of a state, steps give something else",
        "keep all that a step needs in the state, nothing on self",
    )


def hypotheses_go_on_as_steps_of_their_parents(subject: Subject) -> None:
    """Whatever is computed once for all that go on from one row, and whatever is kept once weights are prepared."""
    decoder, memory = with_memory(subject)
    tokens, state = beams(decoder, memory, 2)
    parents = torch.arange(2 * ROWS) // 2 * 2  # the first of each sentence's
    expected = decoder.step(tokens, rows_of(state, parents), memory)
    prepared: Decoder = subject.make()
    prepared.prepare_weights(plain, keep=True)
    for ready, when in ((decoder, ""), (prepared, " after prepare_weights")):
        found = ready.branch(tokens, state, parents, ready.prepare_search(some_source()))
        pairs = zip(_tensors(found), _tensors(expected), strict=True)
        expect(
            all(same(one, other) for one, other in pairs),
            f"branch gives something else than step(tokens, state[parents], memory){when}",
            "make it equal to that, or don't override it",
        )


def _tensors(decoded: Decoded) -> tuple[Tensor, ...]:
    return (*decoded.state, decoded.features, decoded.weights)


def a_step_changes_none_of_its_inputs(subject: Subject) -> None:
    """Beams share tensors."""
    decoder, memory = with_memory(subject)
    given = [*decoder.initial_state(memory), memory.keys, memory.encoded.states]
    before = [tensor.detach().clone() for tensor in given]
    decoder.step(TARGET[:, 0], tuple(given[:-2]), memory)
    expect(
        unchanged(before, [tensor.detach() for tensor in given]),
        "a step writes into the tensors it was given",
        "make new tensors instead of changing in place",
    )


def every_engine_gives_the_same(subject: Subject) -> None:
    """The way along time is the framework's choice."""
    decoder, memory = with_memory(subject)
    expected = decoder(TARGET, memory)
    for name, unroll in engines.ENGINES.items():
        other, its_memory = with_memory(_subject(subject.component, subject.options, unroll))
        expect(
            same(other(TARGET, its_memory), expected),
            f"the engine {name} gives other features",
            "run cells by the `unroll` that the constructor is given",
        )


def its_gradients_are_right(subject: Subject) -> None:
    """Against finite differences."""
    decoder: Decoder = subject.make()
    source = some_source()
    states = source.states.requires_grad_()

    def outputs() -> Tensor:
        memory = decoder.prepare(Encoded(states, source.mask, source.lengths, source.summary))
        return weighted_sum([decoder.logits(decoder(TARGET, memory))])

    gradients_are_right({"the encoded source": states} | parameters_of(decoder), outputs)


DECODER_CHECKS: tuple[Callable[[Subject], None], ...] = (
    it_gives_features_and_logits,
    a_step_gives_features_a_state_and_weights,
    all_steps_at_once_equal_one_after_another,
    steps_draw_what_forward_draws,
    a_step_sees_no_later_token,
    a_sentence_is_the_same_alone_and_in_any_batch,
    a_hypothesis_depends_on_itself_alone,
    hypotheses_are_reordered_by_their_state,
    hypotheses_go_on_as_steps_of_their_parents,
    a_step_changes_none_of_its_inputs,
    every_engine_gives_the_same,
    its_gradients_are_right,
)
