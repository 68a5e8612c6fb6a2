"""Contexts and weights against the formulas, worked out in float64 numpy one sentence and one position at a time."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, sqrt

import numpy as np
import pytest
import torch

from nmt.attention.attention import Attention
from nmt.attention.memory import Encoded
from nmt.cells.engines import mask_of
from nmt.options import Choice
from nmt.registry import ATTENTION

Array = np.ndarray
Weights = dict[str, Array]
Formula = Callable[[Weights, Array, Array], tuple[list[Array], list[Array]]]
LENGTHS = torch.tensor([6, 1, 3, 5])
STEPS, KEY_SIZE = 4, 6


def made(name: str, query_size: int, options: dict[str, object]) -> Attention:
    """With no parameter as it starts: zeros would hide mistakes."""
    torch.manual_seed(7)
    attention: Attention = Choice(name, options).build(ATTENTION, query_size, KEY_SIZE).double().eval()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return attention


def agrees(name: str, formula: Formula, query_size: int = 4, **options: object) -> bool:
    """Whether every sentence's contexts and weights are those of the formula."""
    attention = made(name, query_size, options)
    mask = mask_of(LENGTHS, int(LENGTHS.max()), torch.device("cpu"))
    states = torch.randn(*mask.shape, KEY_SIZE, dtype=torch.double) * mask[..., None]
    queries = 1.5 * torch.randn(len(LENGTHS), STEPS, query_size, dtype=torch.double)
    with torch.no_grad():
        found = attention(queries, attention.prepare(Encoded(states, mask, LENGTHS, states[:, 0])))
    weights = {key: value.detach().numpy() for key, value in attention.named_parameters()}
    for row, length in enumerate(LENGTHS.tolist()):
        expected = formula(weights, queries[row].numpy(), states[row, :length].numpy())
        for ours, theirs in zip((found[0][row], found[1][row, :, :length]), expected, strict=True):
            np.testing.assert_allclose(ours.numpy(), np.array(theirs), rtol=1e-9, atol=1e-12)
    return True


def softmax(scores: list[float]) -> Array:
    powers = [exp(score) for score in scores]
    return np.array([power / sum(powers) for power in powers])


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def mean(weights: Array, states: Array) -> Array:
    return sum((a * state for a, state in zip(weights, states, strict=True)), np.zeros(KEY_SIZE))


def of_scores(score: Callable[[Weights, Array, Array], float]) -> Formula:
    """Softmax over scores that depend on one query and one state alone."""

    def formula(w: Weights, queries: Array, states: Array) -> tuple[list[Array], list[Array]]:
        weights = [softmax([score(w, q, s) for s in states]) for q in queries]
        return [mean(a, states) for a in weights], weights

    return formula


def normed(w: Weights, network: str, q: Array, s: Array) -> float:
    v, g = w[f"{network}.direction"], w[f"{network}.gain"][0]
    hidden = np.tanh(w[f"{network}.query.weight"] @ q + w[f"{network}.key.weight"] @ s + w[f"{network}.key.bias"])
    return float(g * (v @ hidden) / sqrt(sum(x * x for x in v)))


def test_scaled_dot() -> None:
    assert agrees("scaled-dot", of_scores(lambda _, q, s: float(q @ s) / sqrt(6)), query_size=KEY_SIZE)


def test_scaled_general() -> None:
    assert agrees("scaled-general", of_scores(lambda w, q, s: float(w["gain"][0] * (q @ w["key.weight"] @ s))))


def test_normed_additive() -> None:
    assert agrees("normed-additive", of_scores(lambda w, q, s: normed(w, "network", q, s)))
    assert agrees("normed-additive", of_scores(lambda w, q, s: normed(w, "network", q, s)), size=3)


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_multi_head(heads: int) -> None:
    def formula(w: Weights, queries: Array, states: Array) -> tuple[list[Array], list[Array]]:
        d = KEY_SIZE // heads
        contexts, weights = [], []
        for q in queries:
            found, looked = [], np.zeros(len(states))
            for head in range(heads):
                rows = slice(head * d, (head + 1) * d)
                mine = [w[f"{part}.weight"][rows] for part in ("query", "key", "value")]
                a = softmax([float((mine[0] @ q) @ (mine[1] @ s)) / sqrt(d) for s in states])
                found.append(mine[2] @ mean(a, states))
                looked += a / heads
            contexts.append(w["output.weight"] @ np.concatenate(found))
            weights.append(looked)
        return contexts, weights

    assert agrees("multi-head", formula, heads=heads)


@pytest.mark.parametrize("fertility", [None, 2.0])
def test_coverage_by_sums(fertility: float | None) -> None:
    def formula(w: Weights, queries: Array, states: Array) -> tuple[list[Array], list[Array]]:
        coverage = [0.0] * len(states)
        weights = []
        for q in queries:
            base = w["query.weight"] @ q + w["key.bias"]
            hidden = [
                np.tanh(base + w["key.weight"] @ s + w["coverage.weight"][:, 0] * c)
                for s, c in zip(states, coverage, strict=True)
            ]
            weights.append(softmax([float(w["score.weight"][0] @ each) for each in hidden]))
            for j, s in enumerate(states):
                good_for = fertility * sigmoid(w["growth.fertility.weight"][0] @ s) if fertility else 1.0
                coverage[j] += weights[-1][j] / good_for
        return [mean(a, states) for a in weights], weights

    assert agrees("coverage", formula, **({"fertility": fertility} if fertility else {}))


def test_coverage_by_a_gru() -> None:
    def gru(w: Weights, inputs: list[Array], c: Array) -> Array:
        """Over [a; s; q], a matrix for each part of the input, gate by gate."""
        parts = [w["growth.cell.input.weight"], w["growth.state.weight"], w["growth.query.weight"]]
        r, z, n = (slice(gate * 2, gate * 2 + 2) for gate in range(3))

        def from_input(gate: slice) -> Array:
            return sum(
                (part[gate] @ x for part, x in zip(parts, inputs, strict=True)), w["growth.cell.input.bias"][gate]
            )

        def from_state(gate: slice) -> Array:
            return w["growth.cell.recurrent.weight"][gate] @ c + w["growth.cell.recurrent.bias"][gate]

        reset = np.array([sigmoid(x) for x in from_input(r) + from_state(r)])
        keep = np.array([sigmoid(x) for x in from_input(z) + from_state(z)])
        return (1 - keep) * np.tanh(from_input(n) + reset * from_state(n)) + keep * c

    def formula(w: Weights, queries: Array, states: Array) -> tuple[list[Array], list[Array]]:
        coverage = [np.zeros(2) for _ in states]
        weights = []
        for q in queries:
            scores = []
            for s, c in zip(states, coverage, strict=True):
                inside = w["query.weight"] @ q + w["key.weight"] @ s + w["key.bias"] + w["coverage.weight"] @ c
                scores.append(float(w["score.weight"][0] @ np.tanh(inside)))
            weights.append(softmax(scores))
            coverage = [gru(w, [np.array([a]), s, q], c) for a, s, c in zip(weights[-1], states, coverage, strict=True)]
        return [mean(a, states) for a in weights], weights

    assert agrees("coverage", formula, units=2)


@pytest.mark.parametrize(("cumulative", "width"), [(False, 3), (False, 1), (True, 5)])
def test_location(cumulative: bool, width: int) -> None:
    def formula(w: Weights, queries: Array, states: Array) -> tuple[list[Array], list[Array]]:
        seen = np.zeros(len(states))
        weights = []
        for q in queries:
            scores = []
            for j, s in enumerate(states):
                found = np.zeros(4)
                for place in range(width):
                    k = j + place - width // 2
                    if 0 <= k < len(states):
                        found += w["filters.weight"][:, place] * seen[k]
                inside = w["query.weight"] @ q + w["key.weight"] @ s + w["key.bias"] + w["location.weight"] @ found
                scores.append(float(w["score.weight"][0] @ np.tanh(inside)))
            weights.append(softmax(scores))
            seen = seen + weights[-1] if cumulative else weights[-1]
        return [mean(a, states) for a in weights], weights

    assert agrees("location", formula, filters=4, width=width, cumulative=cumulative)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("centre", ["predicted", "step"])
def test_local(centre: str, window: int) -> None:
    def formula(w: Weights, queries: Array, states: Array) -> tuple[list[Array], list[Array]]:
        weights = []
        for t, q in enumerate(queries):
            p, sigma = float(min(t, len(states) - 1)), window / 2
            if centre == "predicted":
                hidden = np.tanh(w["centre.hidden.weight"] @ q)
                p = len(states) * sigmoid(w["centre.output.weight"][0] @ hidden)
            near = [j for j in range(len(states)) if p - window <= j <= p + window]
            a = np.zeros(len(states))
            a[near] = softmax([float(q @ w["key.weight"] @ states[j]) for j in near])
            if centre == "predicted":
                a = np.array([a[j] * exp(-((j - p) ** 2) / (2 * sigma**2)) for j in range(len(states))])
            weights.append(a)
        return [mean(a, states) for a in weights], weights

    assert agrees("local", formula, centre=centre, window=window)


def chunked(w: Weights, q: Array, states: Array, end: int, width: int) -> dict[int, float]:
    """The share of each position in the chunk that ends at `end`."""
    members = list(range(max(0, end - width + 1), end + 1))
    if width == 1:
        return {end: 1.0}
    return dict(zip(members, softmax([normed(w, "look", q, states[j]) for j in members]), strict=True))


@pytest.mark.parametrize("width", [1, 2, 4, 9])
def test_monotonic_chunkwise_attention_is_the_mean_over_all_ways_to_move(width: int) -> None:
    def formula(w: Weights, queries: Array, states: Array) -> tuple[list[Array], list[Array]]:
        contexts, weights = [], []
        chances = {0: 1.0}  # of every place the step before may have stopped at
        for q in queries:
            p = [sigmoid(normed(w, "stop", q, s) + w["offset"][0]) for s in states]
            following: dict[int, float] = {}
            for place, chance in chances.items():
                for j in range(place, len(states)):
                    following[j] = following.get(j, 0.0) + chance * p[j]
                    chance *= 1 - p[j]
            chances = following
            a = np.zeros(len(states))
            for place, chance in chances.items():
                for j, share in chunked(w, q, states, place, width).items():
                    a[j] += chance * share
            weights.append(a)
            contexts.append(mean(a, states))
        return contexts, weights

    assert agrees("monotonic-chunkwise", formula, chunk=width)


@pytest.mark.parametrize(("width", "start"), [(1, -0.5), (3, -0.5), (3, -1.5)])
def test_hard_monotonic_attention_stops_where_the_energy_is_above_zero(width: int, start: float) -> None:
    stopped = []

    def formula(w: Weights, queries: Array, states: Array) -> tuple[list[Array], list[Array]]:
        weights = []
        place = 0
        for q in queries:
            while place < len(states) and normed(w, "stop", q, states[place]) + w["offset"][0] <= 0:
                place += 1
            a = np.zeros(len(states))
            if place < len(states):
                for j, share in chunked(w, q, states, place, width).items():
                    a[j] = share
            stopped.append(place)
            weights.append(a)
        return [mean(a, states) for a in weights], weights

    assert agrees("monotonic-chunkwise", formula, chunk=width, start=start, hard=True)
    assert len(set(stopped)) > 2
