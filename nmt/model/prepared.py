"""A model made ready for translating: its weights laid out for the processor."""

from __future__ import annotations

from torch import nn

from nmt.cells.layers import OneWay
from nmt.model.seq2seq import Seq2Seq
from nmt.products import Preparation, PreparedLinear


def prepare(model: Seq2Seq, how: Preparation) -> None:
    """Let every nn.Linear of the model, a plugin's too, and the output layer multiply by prepared weights, encoders'
    cells read by kernels of their own, where they have any, and what is wanted again and again be kept.

    The model can't be trained any more, nor its weights changed. Its other cells should run step by step, for then
    their products are those of their layers.
    """
    for module in list(model.modules()):
        if isinstance(module, OneWay) and how.recurrences is not None:
            module.prepare(how.recurrences)
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:  # a subclass may compute something else
                setattr(module, name, PreparedLinear(child, how.product))
    model.decoder.prepare_weights(how.product, how.exact)
