"""The sequence-to-sequence model, and the one place where a recipe's components are put together."""

from __future__ import annotations

from torch import Tensor, nn

from nmt import recipe
from nmt.cells import engines
from nmt.errors import UserError
from nmt.model.decoder import Decoder
from nmt.model.embeddings import TokenEmbedding
from nmt.model.encoder import Encoder
from nmt.model.initialization import initialize
from nmt.registry import DECODER, ENCODER


class Seq2Seq(nn.Module):
    """An encoder and a decoder."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, source: Tensor, source_lengths: Tensor, tokens: Tensor, gold: Tensor | None = None) -> Tensor:
        """Source ``[B, S]``, lengths ``[B]`` (on the CPU) and the target's tokens up to the last but one ``[B, T]``
        -> features ``[B, T, H]`` of the tokens that follow. `gold` as in `Decoder.forward_stepwise`.
        """
        memory = self.decoder.prepare(self.encoder(source, source_lengths))
        if gold is not None:
            return self.decoder.forward_stepwise(tokens, memory, gold)
        features: Tensor = self.decoder(tokens, memory)
        return features


def build_model(settings: recipe.Model, source_vocab_size: int, target_vocab_size: int, *, shared: bool) -> Seq2Seq:
    """The model that a recipe's `model` section describes, initialised as it says.

    `shared`: whether the target's tokens are the first of the source's, or all of them. Random numbers come from
    torch's default generator. Raises UserError where the parts don't fit each other.
    """
    model = assemble(settings, source_vocab_size, target_vocab_size, shared=shared)
    initialize(model, settings.initialization)
    return model


def assemble(settings: recipe.Model, source_vocab_size: int, target_vocab_size: int, *, shared: bool) -> Seq2Seq:
    """As `build_model`, without the recipe's initialisation: for weights that are about to be loaded."""
    tied = settings.tie_embeddings != "none"
    target_size = settings.target_embedding_size or settings.embedding_size
    if settings.tie_embeddings == "three-way" and (not shared or target_size != settings.embedding_size):
        raise UserError(
            "model.tie_embeddings: three-way needs one tokenizer and one embedding size for both sides",
            "set tokenizer.shared to true and leave out model.target_embedding_size, or use two-way",
        )
    source_embedding = TokenEmbedding(source_vocab_size, settings.embedding_size)
    within = source_embedding if settings.tie_embeddings == "three-way" else None
    target_embedding = TokenEmbedding(target_vocab_size, target_size, tied_output=tied, within=within)
    unroll = engines.choose(settings.engine)
    encoder: Encoder = settings.encoder.build(ENCODER, source_embedding, unroll)
    decoder: Decoder = settings.decoder.build(DECODER, target_embedding, unroll, encoder.output_size)
    return Seq2Seq(encoder, decoder)
