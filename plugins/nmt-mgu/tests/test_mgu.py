"""The minimal gated unit: its contract, and its formula worked out by hand."""

import numpy as np
import torch
from nmt_mgu import MGUCell

from nmt.testing import check_cell


def test_it_keeps_the_contract_of_cells() -> None:
    check_cell(MGUCell)


def test_a_step_follows_the_formula() -> None:
    cell = MGUCell(3, 2).double()
    x, h = np.array([0.5, -1.0, 2.0]), np.array([0.3, -0.7])
    weights = {name: parameter.detach().numpy() for name, parameter in cell.named_parameters()}
    w, b = weights["input.weight"], weights["input.bias"]

    def gate(unit: int, state: np.ndarray) -> float:
        return 1 / (1 + np.exp(-(w[unit] @ x + b[unit] + weights["recurrent.f.weight"][unit] @ state)))

    f = np.array([gate(unit, h) for unit in range(2)])
    expected = [
        (1 - f[unit]) * h[unit]
        + f[unit] * np.tanh(w[2 + unit] @ x + b[2 + unit] + weights["recurrent.h.weight"][unit] @ (f * h))
        for unit in range(2)
    ]
    output, (state,) = cell(torch.tensor(x)[None], (torch.tensor(h)[None],))
    np.testing.assert_allclose(output[0].detach().numpy(), expected, rtol=1e-12)
    assert torch.equal(output, state)
