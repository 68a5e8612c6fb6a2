"""The contract of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nmt.attention.memory import Encoded
from nmt.cells import engines
from nmt.model.embeddings import TokenEmbedding
from nmt.model.encoder import Encoder
from nmt.testing.components import (
    MODULE_CHECKS,
    Subject,
    gradients_are_right,
    its_options_are_named_annotated_and_described,
    parameters_of,
)
from nmt.testing.contract import Check, expect, named_checks, same, weighted_sum

VOCAB_SIZE, EMBEDDING_SIZE = 12, 6
SOURCE = torch.tensor([[5, 6, 7, 8, 3], [9, 0, 0, 0, 0], [4, 11, 3, 0, 0], [2, 10, 1, 3, 0]])
LENGTHS = torch.tensor([5, 1, 3, 4])
ROWS, STEPS = SOURCE.shape


def encoder_checks(component: type, options: Mapping[str, object]) -> list[Check]:
    """Every promise of an encoder, the plainest first."""
    subject = _subject(component, options, engines.own)
    return named_checks(subject, (its_options_are_named_annotated_and_described, *ENCODER_CHECKS, *MODULE_CHECKS))


def _subject(component: type, options: Mapping[str, object], unroll: engines.Unroll) -> Subject:
    def use(encoder: Encoder, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        encoded: Encoded = encoder(SOURCE.to(device), LENGTHS)
        return {"the states": encoded.states, "the summary": encoded.summary}

    return Subject(component, options, lambda: (TokenEmbedding(VOCAB_SIZE, EMBEDDING_SIZE), unroll), use)


def encoded_by(subject: Subject) -> tuple[Encoder, Encoded]:
    """An encoder and what it makes of the batch."""
    encoder: Encoder = subject.make()
    return encoder, encoder(SOURCE, LENGTHS)


def it_gives_states_a_mask_lengths_and_a_summary(subject: Subject) -> None:
    """``[B, S, D]``, ``[B, S]``, ``[B]`` and ``[B, D]``, D being `output_size`."""
    encoder, encoded = encoded_by(subject)
    found = tuple(encoded.states.shape), tuple(encoded.summary.shape)
    expected = (ROWS, STEPS, encoder.output_size), (ROWS, encoder.output_size)
    expect(
        found == expected,
        f"states and summary are {found[0]} and {found[1]} where output_size says {expected[0]} and {expected[1]}",
        "give [B, S, output_size] and [B, output_size]",
    )
    expect(
        torch.equal(encoded.mask, engines.mask_of(LENGTHS, STEPS, encoded.mask.device)),
        "the mask isn't True just where there are tokens",
        "use nmt.cells.engines.mask_of(lengths, S, device)",
    )
    expect(
        torch.equal(encoded.lengths, LENGTHS) and encoded.lengths.device.type == "cpu",
        "the lengths aren't those it was given",
        "hand them on, on the CPU",
    )


def its_states_are_zero_in_the_padding(subject: Subject) -> None:
    """So that sums over positions need no mask."""
    _, encoded = encoded_by(subject)
    expect(
        not bool(encoded.states[~encoded.mask].any()),
        "states in the padding aren't zero",
        "clear them: nmt.cells.engines.cleared(states, lengths)",
    )


def padding_is_never_read(subject: Subject) -> None:
    """Whatever token stands there."""
    encoder, encoded = encoded_by(subject)
    other = encoder(torch.where(encoded.mask, SOURCE, 7), LENGTHS)
    expect(
        same(encoded.states, other.states) and same(encoded.summary, other.summary),
        "the padding is read: other tokens in it change the result",
        "use the lengths, or the mask",
    )


def a_sentence_is_the_same_alone_and_in_any_batch(subject: Subject) -> None:
    """Whatever its place, its neighbours and the size of the batch."""
    encoder, encoded = encoded_by(subject)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = encoder(SOURCE[row : row + 1, :length], LENGTHS[row : row + 1])
        expect(
            same(encoded.states[row : row + 1, :length], alone.states)
            and same(encoded.summary[row : row + 1], alone.summary),
            f"a sentence of {length} tokens is encoded differently alone than in a batch of {ROWS}",
            "compute each sentence from its own tokens alone: no statistics over the batch, no sums over padding",
        )


def every_engine_gives_the_same(subject: Subject) -> None:
    """The way along time is the framework's choice."""
    _, expected = encoded_by(subject)
    for name, unroll in engines.ENGINES.items():
        _, encoded = encoded_by(_subject(subject.component, subject.options, unroll))
        expect(
            same(encoded.states, expected.states) and same(encoded.summary, expected.summary),
            f"the engine {name} gives other states",
            "run cells by the `unroll` that the constructor is given",
        )


def its_gradients_are_right(subject: Subject) -> None:
    """Against finite differences."""
    encoder: Encoder = subject.make()

    def outputs() -> Tensor:
        encoded: Encoded = encoder(SOURCE, LENGTHS)
        return weighted_sum([encoded.states, encoded.summary])

    gradients_are_right(parameters_of(encoder), outputs)


ENCODER_CHECKS: tuple[Callable[[Subject], None], ...] = (
    it_gives_states_a_mask_lengths_and_a_summary,
    its_states_are_zero_in_the_padding,
    padding_is_never_read,
    a_sentence_is_the_same_alone_and_in_any_batch,
    every_engine_gives_the_same,
    its_gradients_are_right,
)
