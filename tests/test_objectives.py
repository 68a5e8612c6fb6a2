"""The chunked loss against torch's own, and the schedules against their formulas."""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from nmt import recipe
from nmt.errors import UserError
from nmt.model.embeddings import OutputLayer, TokenEmbedding
from nmt.recipe_schedules import (
    ConstantSchedule,
    CosineSchedule,
    HalvingSchedule,
    InverseSqrtSchedule,
    PlateauSchedule,
    Schedule,
    TeacherForcing,
)
from nmt.training import objectives
from nmt.training.objectives import cross_entropy
from nmt.training.optimizers import build_optimizer, take_step
from nmt.training.schedules import LearningRate, gold_share
from nmt.training.seeds import seed_of

TARGETS = torch.tensor([[4, 7, 1, 3], [5, 3, 0, 0], [9, 8, 3, 0]])
LENGTHS = torch.tensor([4, 2, 3])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("size", [1, 200, 80_000])
def test_the_chunked_loss_and_its_gradients_equal_torchs(
    monkeypatch: pytest.MonkeyPatch, smoothing: float, tied: bool, size: int
) -> None:
    monkeypatch.setitem(objectives.CHUNK_BYTES, "cpu", size)
    torch.manual_seed(1)
    output = OutputLayer(6, 12, tied=TokenEmbedding(12, 5) if tied else None).double()
    features = torch.randn(3, 4, 6, dtype=torch.double, requires_grad=True)
    wanted = [features, *output.parameters()]
    loss = cross_entropy(output, features, TARGETS, LENGTHS, smoothing)
    ignored = TARGETS.masked_fill(torch.arange(4) >= LENGTHS[:, None], -100)
    logits = output(features).flatten(0, 1)
    expected = F.cross_entropy(logits, ignored.flatten(), label_smoothing=smoothing, reduction="sum")
    assert torch.allclose(loss.objective, expected, rtol=1e-12)
    plain = F.cross_entropy(logits, ignored.flatten(), reduction="sum")
    assert torch.allclose(loss.negative_log_likelihood, plain, rtol=1e-12)
    assert not loss.negative_log_likelihood.requires_grad
    ours = torch.autograd.grad(loss.objective / 7, wanted)
    theirs = torch.autograd.grad(expected / 7, wanted)
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-14) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("size", [1, 200, 80_000])
@pytest.mark.parametrize("least", [0, 100])
def test_the_loss_and_its_gradients_in_bfloat16_stay_near_fp32(
    monkeypatch: pytest.MonkeyPatch, size: int, least: int
) -> None:
    monkeypatch.setitem(objectives.CHUNK_BYTES, "cpu", size)
    monkeypatch.setattr(objectives, "WORTH_LAYING_OUT", least)
    torch.manual_seed(1)
    output, features = OutputLayer(16, 40, tied=None), torch.randn(3, 4, 16, requires_grad=True)
    wanted = [features, *output.parameters()]
    exact = cross_entropy(output, features, TARGETS, LENGTHS, 0.1).objective
    with torch.autocast("cpu", torch.bfloat16):
        rough = cross_entropy(output, features, TARGETS, LENGTHS, 0.1).objective
    assert rough.dtype == torch.float32
    assert abs(rough - exact) / exact < 0.01
    for near, true in zip(torch.autograd.grad(rough, wanted), torch.autograd.grad(exact, wanted), strict=True):
        assert near.dtype == torch.float32
        assert (near - true).norm() < 0.02 * true.norm()


def test_a_gold_token_that_is_next_to_impossible_has_its_whole_loss() -> None:
    output, features = OutputLayer(1, 3, tied=None), torch.ones(1, 1, 1)
    with torch.no_grad():
        output.weight.copy_(torch.tensor([[0.0], [500.0], [-300.0]]))
    loss = cross_entropy(output, features, torch.tensor([[2]]), torch.tensor([1]), 0.1)
    assert loss.negative_log_likelihood.item() == pytest.approx(800.0)
    assert loss.objective.item() == pytest.approx(0.9 * 800.0 + 0.1 * 1300.0 / 3)


def test_schedules_warm_up_and_follow_their_formulas() -> None:
    def rates(schedule: Schedule, *updates: int) -> list[float]:
        return [LearningRate(0.4, schedule, 100).at(update) for update in updates]

    assert rates(ConstantSchedule(warmup=4), 1, 2, 4, 99) == pytest.approx([0.1, 0.2, 0.4, 0.4])
    assert rates(InverseSqrtSchedule(type="inverse_sqrt", warmup=4), 2, 4, 16) == pytest.approx([0.2, 0.4, 0.2])
    halving = HalvingSchedule(type="halving", every=10, start=20)
    assert rates(halving, 1, 20, 29, 30, 40) == pytest.approx([0.4, 0.4, 0.4, 0.2, 0.1])
    cosine = CosineSchedule(type="cosine", minimum=0.1)
    assert rates(cosine, 50, 100) == pytest.approx([0.25, 0.1])


def test_the_plateau_schedule_waits_then_lowers_and_survives_a_checkpoint() -> None:
    schedule = PlateauSchedule(type="plateau", factor=0.5, patience=1, minimum=0.1)
    rate = LearningRate(0.4, schedule, 100)
    for cost, expected in ((3.0, 0.4), (2.0, 0.4), (2.5, 0.4), (2.4, 0.2), (2.3, 0.2)):
        rate.validated(cost)
        assert rate.at(7) == pytest.approx(expected)
    again = LearningRate(0.4, schedule, 100)
    again.load_state(rate.state())
    for each in (rate, again):
        each.validated(2.2)
        assert each.at(8) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"type": "constant", "start": 0.7}, 0.7),
        ({"type": "linear", "slope": 0.01, "end": 0.6}, 0.9),
        ({"type": "exponential", "k": 0.9}, 0.9**10),
        ({"type": "inverse_sigmoid", "k": 20.0}, 20 / (20 + math.exp(0.5))),
    ],
)
def test_the_share_of_gold_tokens_follows_its_schedule(settings: dict, expected: float) -> None:
    forcing = TeacherForcing(**settings)
    assert gold_share(forcing, 10) == pytest.approx(expected)
    assert gold_share(forcing, 10**9) == pytest.approx(0.7 if forcing.type == "constant" else forcing.end)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta"])
def test_each_optimiser_makes_a_parabola_small(name: str) -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer = build_optimizer(recipe.Optimizer(type=name, learning_rate=0.1), [weight])
    for _ in range(20):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()
    assert (weight**2).sum() < 3.0


def test_an_option_that_torch_does_not_know_is_refused() -> None:
    with pytest.raises(UserError, match="has no such option; did you mean betas"):
        build_optimizer(recipe.Optimizer(options={"bets": (0.9, 0.98)}), [torch.ones(1, requires_grad=True)])


def test_neighbouring_updates_have_unrelated_seeds() -> None:
    seeds = [seed_of(seed, update) for seed in range(20) for update in range(20)]
    assert len(set(seeds)) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("kind", get_args(recipe.Optimizer.model_fields["type"].annotation))
def test_a_step_is_torchs_own(kind: str) -> None:
    def trained(step: Callable[[torch.optim.Optimizer], object]) -> list[torch.Tensor]:
        weight = torch.linspace(-1, 1, 6).requires_grad_()
        optimizer = build_optimizer(recipe.Optimizer.model_validate({"type": kind, "learning_rate": 0.1}), [weight])
        for _ in range(3):
            optimizer.zero_grad()
            weight.square().sum().backward()
            step(optimizer)
        moments = [moment for moment in optimizer.state[weight].values() if isinstance(moment, torch.Tensor)]
        return [weight.detach(), *moments]

    ours, torchs = trained(take_step), trained(lambda optimizer: optimizer.step())
    assert all(torch.equal(a, b) for a, b in zip(ours, torchs, strict=True))


def test_no_optimizer_imports_the_compiler() -> None:
    code = """if True:
        import sys, torch
        from nmt.recipe import Optimizer
        from nmt.training.optimizers import build_optimizer, take_step
        for kind in sys.argv[1:]:
            weight = torch.ones(2, requires_grad=True)
            optimizer = build_optimizer(Optimizer(type=kind, learning_rate=0.1), [weight])
            weight.sum().backward()
            take_step(optimizer)
            optimizer.zero_grad()
            optimizer.load_state_dict(optimizer.state_dict())
        sys.exit("torch._dynamo" in sys.modules)"""
    kinds = get_args(recipe.Optimizer.model_fields["type"].annotation)
    subprocess.run([sys.executable, "-c", code, *kinds], check=True)
