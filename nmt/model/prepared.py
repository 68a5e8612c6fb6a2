"""A model made ready for translating: its weights laid out for the processor."""

from __future__ import annotations

from torch import nn

from nmt.cells.cell import Cell
from nmt.model.seq2seq import Seq2Seq
from nmt.products import Prepare, PreparedLinear


def prepare(model: Seq2Seq, how: Prepare, *, keep: bool) -> None:
    """Let every nn.Linear of the model, a plugin's too, and the output layer multiply by prepared weights.

    `keep`: what a token brings to a decoder's step is computed once a token, where the decoder can.

    The model can't be trained any more, nor its weights changed. Its cells should run step by step, for then their
    products are those of their layers.
    """
    for module in list(model.modules()):
        if isinstance(module, Cell):
            module.prepare(how)
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:  # a subclass may compute something else
                setattr(module, name, PreparedLinear(child, how))
    model.decoder.prepare_weights(how, keep)
