"""How parameters start."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt import recipe
from nmt.cells.cell import Cell

OF_TOKENS = ("embedding.weight", "decoder.output.weight")
"""How the names of matrices end that hold a vector for each token."""


def initialize(model: nn.Module, settings: recipe.Initialization) -> None:
    """Start every matrix of the model as the recipe's `model.initialization` says.

    Which is which follows from names: those of tokens' vectors are `OF_TOKENS`; below a submodule named ``recurrent``
    a matrix is recurrent. The output layer is one of tokens' vectors whether it is tied to embeddings or not: Glorot's
    bound would shrink with the vocabulary, and learning with it (docs/decisions/initialisation.md). A cell's matrices
    hold a block of `hidden_size` rows for each gate, and each block is started by itself. Other vectors (biases,
    gains) stay as their module made them, but an output bias, zero.
    """
    blocks = _block_rows(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(OF_TOKENS):
                _start_vectors(parameter, settings)
            elif parameter.dim() >= 2:
                recurrent = "recurrent" in name.split(".") and settings.recurrent == "orthogonal"
                for block in torch.split(parameter, blocks.get(parameter, parameter.shape[0])):
                    _start_matrix(block, settings, orthogonal=recurrent)
            elif name.endswith("bias") and parameter not in blocks and settings.weights != "torch":
                nn.init.zeros_(parameter)


def _block_rows(model: nn.Module) -> dict[Tensor, int]:
    """For each parameter of a cell, the rows of a gate: the hidden size of the innermost cell that has it."""
    rows: dict[Tensor, int] = {}
    for module in model.modules():  # outer ones first, so the innermost has the last word
        if isinstance(module, Cell):
            rows |= dict.fromkeys(module.parameters(), module.hidden_size)
    return rows


def _start_vectors(weight: Tensor, settings: recipe.Initialization) -> None:
    if settings.embeddings == "normal":
        nn.init.normal_(weight, std=2 * weight.shape[-1] ** -0.5)
    else:
        nn.init.uniform_(weight, -settings.scale, settings.scale)


def _start_matrix(block: Tensor, settings: recipe.Initialization, *, orthogonal: bool) -> None:
    if orthogonal:
        nn.init.orthogonal_(block)
    elif settings.weights == "xavier":
        nn.init.xavier_uniform_(block)
    elif settings.weights == "uniform":
        nn.init.uniform_(block, -settings.scale, settings.scale)
