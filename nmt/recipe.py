"""The recipe: everything that makes a training run what it is, as small frozen sections named as their keys.

A field's name is the key in the YAML file, so a search for either finds both. Unknown keys are refused.
Reading, overriding and writing recipes is in :mod:`nmt.recipe_file`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from nmt.options import Choice, CorpusChoice, DecoderChoice, EncoderChoice
from nmt.recipe_schedules import ConstantSchedule, Schedule, TeacherForcing
from nmt.section import Natural, Positive, Ratio, Section

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Metric = Literal["loss", "perplexity", "bleu", "chrf"]

MAX_BEAM = 1000
"""Hypotheses kept at each step at most: memory grows with them."""


class Data(Section):
    """Where the sentence pairs come from, and which are left out."""

    source_language: str
    """A code such as en; for people and signatures."""
    target_language: str
    """A code such as fr."""
    train: CorpusChoice
    """The pairs to learn from."""
    valid: CorpusChoice
    """The pairs that say when the model is best."""
    test: CorpusChoice | None = None
    """The pairs that `nmt-evaluate` translates."""
    max_length: Positive = 128
    """In tokens. A training pair with a longer side is left out, and counted."""


class Sampling(Section):
    """Subword sampling in training: another segmentation of a sentence each time it is seen.

    Unigram models: Kudo 2018, drawn from the `nbest` best segmentations with smoothing `alpha`.
    BPE models: Provilkov et al. 2020, each merge dropped with probability `alpha` (`nbest` is not used).
    """

    alpha: Ratio = 0.1
    """How far from the best segmentation: smoothing, or the share of merges dropped."""
    nbest: Annotated[int, Field(ge=1, le=512)] = 64
    """Segmentations to draw from, of a unigram model."""


class Tokenizer(Section):
    """The sentencepiece model: trained on the training sides, or an existing one."""

    model_type: Literal["unigram", "bpe", "char"] = "unigram"
    """What kind of pieces."""
    vocab_size: Positive = 8000
    """Pieces at most, marks and bytes counted."""
    shared: bool = True
    """One model for both sides, trained on both; otherwise one for each side."""
    character_coverage: Ratio = 1.0
    """Share of the characters that get pieces of their own."""
    min_frequency: Natural = 0
    """Each side keeps the pieces used at least so often in its training text (100,000 pairs of it at most), and their
    parts; with `shared` the source keeps the target's too. 1: a smaller output layer, texts cut as before. 0: all."""
    byte_fallback: bool = True
    """Whether what has no piece is spelt in bytes (256 pieces), so that nothing is unknown."""
    user_symbols: tuple[str, ...] = ()
    """Words that stay one token each."""
    sampling: Sampling | None = None
    """Other segmentations in training; none unless given."""
    path: str | None = None
    """An existing .model file for both sides (with `shared: false`, of the source side)."""
    target_path: str | None = None
    """An existing .model file of the target side, with `shared: false`."""

    @pydantic.model_validator(mode="after")
    def _characters_have_one_segmentation(self) -> Tokenizer:
        if self.model_type == "char" and self.sampling is not None:
            raise ValueError("a char model has nothing to sample; use unigram or bpe, or leave out sampling")
        return self


class Initialization(Section):
    """How parameters start. Biases start from zero, except where a cell says otherwise (`forget_bias`)."""

    weights: Literal["xavier", "uniform", "torch"] = "xavier"
    """xavier: Glorot and Bengio 2010, uniform; uniform: in ±`scale`; torch: as torch.nn leaves them."""
    recurrent: Literal["orthogonal", "same"] = "orthogonal"
    """orthogonal: Saxe et al. 2014, a block for each gate; same: as `weights`."""
    embeddings: Literal["normal", "uniform"] = "normal"
    """Of the output layer, too. normal: mean 0, standard deviation 2 · size ** -0.5; uniform: in ±`scale`."""
    scale: Annotated[float, Field(gt=0.0)] = 0.1
    """Of uniform initialisation."""


class Model(Section):
    """The components of the model and their sizes."""

    embedding_size: Positive = 256
    """E of both sides."""
    target_embedding_size: Positive | None = None
    """Of the target side, where it differs."""
    tie_embeddings: Literal["none", "two-way", "three-way"] = "none"
    """two-way: the output layer uses the target embeddings; three-way: source and target share them too."""
    source_embeddings: str | None = None
    """A file of pretrained embeddings: text (a token and its numbers on a line) or .safetensors (a tensor `weight`)."""
    target_embeddings: str | None = None
    """The same for the target side."""
    encoder: EncoderChoice = Choice("recurrent")
    """How the source is read."""
    decoder: DecoderChoice = Choice("recurrent")
    """How the target is written."""
    initialization: Initialization = Initialization()
    """How parameters start."""
    engine: Literal["auto", "fused", "loop", "gathered", "graph", "compiled"] = "auto"
    """auto: each cell's fastest way along time; fused: its own kernel; loop: plain steps; gathered: steps with products
    prepared; graph: steps as CUDA graphs; compiled: steps by torch.compile. What can't run gives way to steps."""


class Optimizer(Section):
    """An optimiser of torch.optim with torch's own options."""

    type: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta"] = "adam"
    """Which one."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 2e-3
    """At its peak."""
    options: dict[str, bool | int | float | tuple[float, float]] = Field(default={})  # pydantic copies it
    """Further options as torch names them, such as `betas`, `eps`, `weight_decay`, `momentum`."""


class Train(Section):
    """How the model is trained and when training ends."""

    batch_tokens: Positive | None = 4096
    """Tokens of a batch on its larger side, padding counted."""
    batch_sentences: Positive | None = None
    """Sentences of a batch; takes the place of `batch_tokens`."""
    updates: Positive = 20000
    """Moves of the optimiser after which training ends."""
    optimizer: Optimizer = Optimizer()
    """What moves the weights."""
    schedule: Schedule = ConstantSchedule()
    """The learning rate's course."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of probability spread over the vocabulary (Szegedy et al. 2016)."""
    teacher_forcing: TeacherForcing = TeacherForcing()
    """The share of gold tokens among the decoder's inputs; a number, or a schedule."""
    accumulate: Positive = 1
    """Batches whose gradients make one update."""
    clip_norm: Annotated[float, Field(gt=0.0)] | None = 1.0
    """The gradient's greatest norm."""
    clip_value: Annotated[float, Field(gt=0.0)] | None = None
    """The greatest value of any element of it."""
    precision: Precision = "auto"
    """auto: bf16 on a GPU that has it, fp32 elsewhere."""
    device: str = "auto"
    """auto: cuda, else mps, else cpu."""
    threads: Annotated[int, Field(gt=0, le=1024)] | None = None
    """Processor threads; torch's own choice unless given."""
    deterministic: bool = False
    """Only algorithms that give the same bits each time, or an error: slower on a GPU, where an exact resume needs it.
    On a CPU the usual ones do, for the same number of threads."""
    spike: Annotated[float, Field(gt=1.0)] | None = None
    """An update whose loss is more than this many times the usual one is logged with its lines; it is still applied."""
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of a moving average of the weights, which validation and checkpoints then use."""
    validate_every: Positive = 500
    """Updates between validations; each writes a checkpoint."""
    validate_decoded: Natural = 500
    """Sentences of the validation set that are translated (greedily) for BLEU and chrF; 0 for none."""
    report_every: Positive = 50
    """Updates between reports."""
    best_metric: Metric = "loss"
    """What says which checkpoint is best: loss, perplexity, bleu or chrf."""
    patience: Positive | None = None
    """Validations without a new best after which training stops."""
    keep_best: Positive = 1
    """Checkpoints kept for being the best."""
    keep_last: Positive = 1
    """Checkpoints kept for being the newest."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Train:
        if self.batch_tokens is None and self.batch_sentences is None:
            raise ValueError("one of batch_tokens and batch_sentences must be given")
        if self.best_metric in ("bleu", "chrf") and self.validate_decoded == 0:
            raise ValueError(f"best_metric {self.best_metric} needs validate_decoded above 0")
        return self


class Search(Section):
    """How translations are searched for; the commands' options take precedence."""

    beam: Annotated[int, Field(gt=0, le=MAX_BEAM)] = 5
    """Hypotheses kept at each step; 1 is greedy search."""
    length_penalty: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """The exponent alpha of the length normalisation."""
    normalization: Literal["average", "gnmt", "none"] = "average"
    """Score: log-probability / length^alpha; / ((5 + length) / 6)^alpha (Wu et al. 2016, eq. 14); or as it is."""
    min_length_ratio: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.0
    """Least length of a translation, in source tokens."""
    max_length_ratio: Annotated[float, Field(ge=0.0, le=1000.0)] = 2.0
    """Greatest length, in source tokens, together with max_length_extra; 4096 tokens are the most that there are."""
    max_length_extra: Annotated[int, Field(ge=0, le=4096)] = 10
    """Tokens beyond max_length_ratio times the source's."""
    lookahead: Annotated[int, Field(gt=0, le=4096)] | None = 2
    """Tokens that an open hypothesis is given at no cost, the end mark among them, before search stops because it could
    not beat those that ended; null: as many as the maximum length allows, so that nothing that could win is missed."""


class Recipe(Section):
    """A whole training run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Of the run; its folder is runs/NAME."""
    seed: Natural = 1
    """Of initialisation, data order, dropout and sampling."""
    plugins: tuple[str, ...] | None = None
    """Distributions whose components may be used besides the built-in ones; all that are installed unless given."""
    data: Data
    tokenizer: Tokenizer = Tokenizer()
    model: Model = Model()
    train: Train = Train()
    search: Search = Search()
