"""Nonlinearities, against torch's own."""

import pytest
import torch

from nmt.activations import tanh


def test_tanh_without_gradients_is_torchs_to_the_last_digits_of_fp32() -> None:
    x = torch.cat(
        [torch.linspace(-100, 100, 100_000), torch.linspace(-1, 1, 99_968), torch.tensor([0.0, 1e-30]).repeat(16)]
    )
    with torch.no_grad():
        assert (tanh(x) - torch.tanh(x.double())).abs().max() <= 1.8e-7
        limits = torch.tensor([float("inf"), -float("inf"), float("nan"), 0.0]).repeat(8)
        assert torch.equal(tanh(limits)[[0, 1, 3]], torch.tensor([1.0, -1.0, 0.0]))
        assert tanh(limits)[2].isnan()


def test_tanh_changes_nothing_that_it_is_given() -> None:
    x = torch.linspace(-1, 1, 96)
    before = x.clone()
    with torch.inference_mode():
        tanh(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("size", [7, 32, 50, 64, 100])
def test_tanh_of_a_row_is_the_same_to_the_last_bit_among_any_others(size: int) -> None:
    torch.manual_seed(1)
    gates = torch.randn(40, 4 * size)
    with torch.inference_mode():
        together = tanh(gates.chunk(4, -1)[2])
        for count in (1, 3, 17):
            assert torch.equal(tanh(gates[:count].clone().chunk(4, -1)[2]), together[:count])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_tanh_is_torchs_own_with_gradients_and_in_other_types(dtype: torch.dtype) -> None:
    x = torch.linspace(-4, 4, 1000)
    assert torch.equal(tanh(x), torch.tanh(x))
    with torch.no_grad():
        assert torch.equal(tanh(x.to(dtype)), torch.tanh(x.to(dtype)))
