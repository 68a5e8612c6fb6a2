"""The contract of an attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nmt.attention.attention import Attention, stepwise
from nmt.attention.memory import Encoded, Memory
from nmt.cells.engines import cleared, mask_of
from nmt.cells.state import State
from nmt.testing.components import (
    MODULE_CHECKS,
    Subject,
    gradients_are_right,
    its_options_are_named_annotated_and_described,
    parameters_of,
)
from nmt.testing.contract import Check, expect, named_checks, random, same, unchanged, weighted_sum

SIZE = 8
"""Of queries and of keys: equal, because some attentions need that."""
LENGTHS = torch.tensor([5, 1, 3, 4])
ROWS, SOURCE_STEPS, STEPS = len(LENGTHS), int(LENGTHS.max()), 3


def attention_checks(component: type, options: Mapping[str, object]) -> list[Check]:
    """Every promise of an attention, the plainest first."""
    subject = Subject(component, options, lambda: (SIZE, SIZE), _use)
    return named_checks(subject, (its_options_are_named_annotated_and_described, *ATTENTION_CHECKS, *MODULE_CHECKS))


def _use(attention: Attention, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    source, query = some_source(dtype, device), some_queries().to(device, dtype)
    if attention.context_size == 0:  # then what it gives depends on nothing that has a gradient
        query = query.detach()
    contexts, weights = attention(query, attention.prepare(source))
    return {"the contexts": contexts, "the weights": weights}


def some_source(dtype: torch.dtype = torch.double, device: torch.device | None = None) -> Encoded:
    """Encoded sentences of every length, in no order."""
    states = cleared(random(ROWS, SOURCE_STEPS, SIZE, seed=1), LENGTHS).to(device, dtype)
    summary = random(ROWS, SIZE, seed=4).to(device, dtype)
    return Encoded(states, mask_of(LENGTHS, SOURCE_STEPS, states.device), LENGTHS, summary)


def some_queries() -> Tensor:
    """Queries ``[B, T, H]``."""
    return random(ROWS, STEPS, SIZE, seed=2)


def spread(state: State, count: int) -> State:
    """A state for `count` hypotheses of each sentence, each row a little different."""
    rows = [tensor.repeat_interleave(count, 0) for tensor in state]
    return tuple(
        tensor + 0.1 * random(*tensor.shape, seed=60 + index).abs() if tensor.is_floating_point() else tensor
        for index, tensor in enumerate(rows)
    )


def it_gives_contexts_and_weights(subject: Subject) -> None:
    """``[B, T, context_size]`` and ``[B, T, S]``."""
    attention = subject.make()
    sizes = (attention.query_size, attention.key_size)
    expect(sizes == (SIZE, SIZE), f"its sizes are {sizes}, not those given", "hand them on to Attention.__init__")
    memory = attention.prepare(some_source())
    expect(
        isinstance(memory, Memory) and memory.keys.shape[:2] == (ROWS, SOURCE_STEPS),
        "prepare gives no Memory with keys [B, S, A]",
        "return Memory(encoded, keys)",
    )
    contexts, weights = attention(some_queries(), memory)
    expected = (ROWS, STEPS, attention.context_size), (ROWS, STEPS, SOURCE_STEPS)
    found = tuple(contexts.shape), tuple(weights.shape)
    expect(
        found == expected,
        f"contexts and weights are {found[0]} and {found[1]}, not {expected[0]} and {expected[1]}",
        "give [B, T, context_size] and [B, T, S]",
    )


def it_weighs_tokens_and_never_padding(subject: Subject) -> None:
    """Weights are shares: none below 0, together at most 1, and exactly 0 on padding."""
    attention = subject.make()
    source = some_source()
    _, weights = attention(some_queries(), attention.prepare(source))
    expect(
        not bool(weights.masked_select(~source.mask[:, None]).any()),
        "padding gets weight",
        "mask the scores before the softmax: nmt.attention.attention.read does it",
    )
    expect(
        bool((weights >= 0).all()) and bool((weights.sum(-1) <= 1 + 1e-9).all()),
        "weights are below 0, or more than 1 together",
        "normalise them over the source positions",
    )


def a_sentence_is_the_same_alone_and_in_any_batch(subject: Subject) -> None:
    """Whatever its neighbours, and however long they are."""
    attention = subject.make()
    contexts, weights = attention(some_queries(), attention.prepare(some_source()))
    for row, length in enumerate(LENGTHS.tolist()):
        one = torch.tensor([row])
        alone, alone_weights = attention(some_queries()[one], attention.prepare(some_source().select(one)))
        expect(
            same(contexts[one], alone) and same(weights[one, :, :length], alone_weights),
            f"a sentence of {length} tokens is read differently alone than in a batch of {ROWS}: the padding, or "
            "another sentence, is read",
            "compute each sentence from its own states, mask and length alone",
        )


def all_steps_at_once_equal_one_after_another(subject: Subject) -> None:
    """`forward` in training is `step` in search, state included."""
    attention = subject.make()
    memory = attention.prepare(some_source())
    whole = attention(some_queries(), memory)
    for name, one, two in zip(("contexts", "weights"), whole, stepwise(attention, some_queries(), memory), strict=True):
        for t in range(STEPS):
            expect(
                same(one[:, t], two[:, t]),
                f"the {name} of all steps at once differ from those of one after another at step {t + 1}",
                "let forward be nmt.attention.attention.stepwise where a step depends on those before it",
            )


def a_hypothesis_depends_on_itself_alone(subject: Subject) -> None:
    """The K rows of a sentence share its memory and nothing else; its rows are regrouped as beams go."""
    attention = subject.make()
    memory = attention.prepare(some_source())
    state = spread(attention.initial_state(memory), 2)
    queries = random(ROWS, 2, SIZE, seed=3)
    contexts, weights, following = attention.step(queries, state, memory)
    expect(
        [tuple(tensor.shape) for tensor in following] == [tuple(tensor.shape) for tensor in state],
        f"a step turns a state of {[tuple(t.shape) for t in state]} into one of {[tuple(t.shape) for t in following]}",
        "keep the state's shapes: rows first, B·K of them",
    )
    for row in range(2 * ROWS):
        sentence, place = divmod(row, 2)
        # Alone, and with the memory cut to its own sentence, as when longer ones have left the search.
        alone = memory.select(torch.tensor([sentence]))
        size = alone.keys.shape[1]
        query = queries[sentence : sentence + 1, place : place + 1]
        context, weight, after = attention.step(query, tuple(tensor[row : row + 1] for tensor in state), alone)
        expect(
            same(contexts[sentence, place], context[0, 0]) and same(weights[sentence, place, :size], weight[0, 0]),
            "a hypothesis is answered differently beside another one, or after longer sentences have left the search",
            "answer each of the rows [B·K] from its own query and state; of a state over source positions read the "
            "first S columns",
        )
        for one, two in zip(following, after, strict=True):
            kept = one[row : row + 1]
            cut = kept[:, : two.shape[1]] if kept.dim() > 1 else kept
            expect(same(cut, two), "a hypothesis' state depends on other rows", "update each row by itself")


def a_step_changes_none_of_its_inputs(subject: Subject) -> None:
    """Beams share tensors."""
    attention = subject.make()
    memory = attention.prepare(some_source())
    given = [some_queries()[:, :1], memory.keys, memory.encoded.states, *attention.initial_state(memory)]
    before = [tensor.detach().clone() for tensor in given]
    attention.step(given[0], tuple(given[3:]), memory)
    expect(
        unchanged(before, [tensor.detach() for tensor in given]),
        "a step writes into the tensors it was given",
        "make new tensors instead of changing in place",
    )


def its_contexts_are_means_of_the_values_where_it_says_so(subject: Subject) -> None:
    """Search puts products of the states in the values' place."""
    attention = subject.make()
    if not attention.averages:
        return
    memory = attention.prepare(some_source())
    _, expected = stepwise(attention, some_queries(), memory)
    values = random(ROWS, SOURCE_STEPS, SIZE + 1, seed=9)
    contexts, weights = stepwise(attention, some_queries(), replace(memory, products=values))
    expect(
        same(weights, expected) and same(contexts, weights @ values),
        "averages says that contexts are weights @ memory.values, and they aren't, or the weights depend on the values",
        "read memory.values in the place of memory.encoded.states, for contexts alone, or leave averages out",
    )


def its_gradients_are_right(subject: Subject) -> None:
    """Against finite differences."""
    attention = subject.make()
    if attention.context_size == 0:
        return
    source, queries = some_source(), some_queries().requires_grad_()
    states = source.states.requires_grad_()

    def outputs() -> Tensor:
        memory = attention.prepare(Encoded(states, source.mask, source.lengths, source.summary))
        return weighted_sum(attention(queries, memory))

    gradients_are_right({"the queries": queries, "the encoded source": states} | parameters_of(attention), outputs)


ATTENTION_CHECKS: tuple[Callable[[Subject], None], ...] = (
    it_gives_contexts_and_weights,
    it_weighs_tokens_and_never_padding,
    a_sentence_is_the_same_alone_and_in_any_batch,
    all_steps_at_once_equal_one_after_another,
    a_hypothesis_depends_on_itself_alone,
    a_step_changes_none_of_its_inputs,
    its_contexts_are_means_of_the_values_where_it_says_so,
    its_gradients_are_right,
)
