"""Text to token ids and back, by sentencepiece. The only importer of it."""

from __future__ import annotations

import functools
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random

import sentencepiece

from nmt import checkpoints, recipe
from nmt.bounded import read_bounded
from nmt.errors import UserError
from nmt.text.corpus import Corpus
from nmt.text.lines import one_line
from nmt.text.segmentations import CACHED_WORDS, BpeDropout, UnigramSampling
from nmt.text.vocabulary import Vocabulary, with_pieces

PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
"""Ids in the models that we train. Padding is never read, so a model without a pad id may use any."""

TRAINING_PAIRS, TRAINING_CHARACTERS = 100_000, 4096
"""Pairs that a tokenizer learns from, drawn from all that there are, and characters of a sentence that it looks at: so
that memory (about 5 KB a pair) and time don't grow with the corpus."""

MAX_BYTES = 1 << 27
"""Of a model's file; a million pieces have about 20 MB."""

MAX_NBEST = 512
"""More segmentations than that sentencepiece doesn't list."""

FEW = 64
"""Texts that no thread is started for."""

MANY = 256
"""Texts that more than one thread is used for."""

PORTION = 10_000
"""Texts whose tokens are counted at a time."""


class Tokenizer:
    """A sentencepiece model."""

    def __init__(self, serialized: bytes, *, place: str = "") -> None:
        self._serialized = serialized
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(serialized)
            self.vocab_size: int = self._processor.get_piece_size()
            self.pieces()
        except (RuntimeError, UnicodeDecodeError) as error:
            raise UserError("is no sentencepiece model", "name a .model file", place=place) from error
        self.pad_id = max(PAD, self._processor.pad_id())
        self.unk_id: int = self._processor.unk_id()
        self.bos_id: int = self._processor.bos_id()
        self.eos_id: int = self._processor.eos_id()
        self._samplers: dict[recipe.Sampling, UnigramSampling | BpeDropout] = {}
        self._word_ids = functools.lru_cache(CACHED_WORDS)(self.encode)
        if self.bos_id < 0 or self.eos_id < 0:
            remedy = "train it with both, or leave out tokenizer.path"
            raise UserError("the sentencepiece model has no begin or end mark", remedy, place=place)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """The model in a file. Raises UserError where it can't be read or is none."""
        try:
            return cls(read_bounded(Path(path), MAX_BYTES), place=str(path))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"can't be read ({reason})", "check the path", place=str(path)) from error

    @classmethod
    def train(cls, sentences: Iterable[str], settings: recipe.Tokenizer) -> Tokenizer:
        """A new model, the same from the same sentences. Raises UserError where they don't suffice for the settings."""
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.Train(
                sentence_iterator=iter(sentences),
                model_writer=model,
                model_type=settings.model_type,
                vocab_size=settings.vocab_size,
                character_coverage=settings.character_coverage,
                byte_fallback=settings.byte_fallback,
                user_defined_symbols=list(settings.user_symbols),
                # Only spaces are normalised: what goes in should come out, and BLEU is measured on that.
                normalization_rule_name="identity",
                # char and small corpora can't fill any size exactly; then the vocabulary is as large as they give.
                hard_vocab_limit=False,
                max_sentence_length=1 << 16,
                num_threads=1,  # the result may depend on it
                pad_id=PAD,
                unk_id=UNKNOWN,
                bos_id=BEGIN,
                eos_id=END,
                minloglevel=3,
            )
        except RuntimeError as error:
            raise _untrainable(str(error)) from error
        return cls(model.getvalue())

    def encode(self, text: str) -> list[int]:
        """Token ids without begin and end marks."""
        ids: list[int] = self._processor.EncodeAsIds(text)
        return ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, as `encode`; on all cores where there are many, for starting threads, or one, takes
        longer than encoding a few."""
        if len(texts) < FEW:
            return [self.encode(text) for text in texts]
        ids: list[list[int]] = self._processor.EncodeAsIds(list(texts), num_threads=1 if len(texts) < MANY else -1)
        return ids

    def used_by(self, texts: Sequence[str], min_frequency: int) -> list[int]:
        """The pieces used `min_frequency` times or more in these texts, and what they need: with them alone and a
        frequency of 1, the texts are cut as before. Empty where none is used so often.
        """
        counts: Counter[int] = Counter()
        for start in range(0, len(texts), PORTION):  # not all tokens at once: lists of them take much memory
            counts.update(chain.from_iterable(self.encode_many(texts[start : start + PORTION])))
        return Vocabulary.read(self._serialized).needed(counts, min_frequency)

    def with_pieces(self, ids: Sequence[int]) -> Tokenizer:
        """The same model with these pieces alone, numbered in this order."""
        return Tokenizer(with_pieces(self._serialized, ids))

    def sample(self, texts: Sequence[str], sampling: recipe.Sampling, seed: int) -> list[list[int]]:
        """Another segmentation of each text, drawn from `seed` alone: the same in every process.

        Raises UserError for a model of characters or words, which has one segmentation only.
        """
        sampler = self._samplers.get(sampling) or self._samplers.setdefault(sampling, self._sampler(sampling))
        random = Random(seed)
        return [sampler.draw(self._words(text), random) for text in texts]

    def _sampler(self, sampling: recipe.Sampling) -> UnigramSampling | BpeDropout:
        vocabulary = Vocabulary.read(self._serialized)
        if vocabulary.model_type == "unigram":
            listed = self._processor.NBestEncodeAsIds
            return UnigramSampling(vocabulary, listed, alpha=sampling.alpha, nbest=min(sampling.nbest, MAX_NBEST))
        if vocabulary.model_type == "bpe":
            return BpeDropout(vocabulary, self._pieces_and_ids, alpha=sampling.alpha)
        problem = f"a {vocabulary.model_type} model can't be sampled from, every text has one segmentation"
        raise UserError(problem, "leave out tokenizer.sampling, or take a unigram or bpe model")

    def _pieces_and_ids(self, text: str) -> tuple[Sequence[str], Sequence[int]]:
        return self._processor.EncodeAsPieces(text), self._processor.EncodeAsIds(text)

    def _words(self, text: str) -> list[str]:
        """A text's words; or the text as it is, where the model has pieces that span words."""
        words = [word for word in text.split(" ") if self._word_ids(word)]
        ids = [token for word in words for token in self._word_ids(word)]
        return words if ids == self.encode(text) else [text]

    def decode(self, ids: Sequence[int]) -> str:
        """Text, always one line. Marks are left out."""
        marks = (self.pad_id, self.bos_id, self.eos_id)
        text: str = self._processor.DecodeIds([index for index in ids if index not in marks])
        return one_line(text)

    def pieces(self) -> list[str]:
        """Every token by its id."""
        return list(self.pieces_of(range(self.vocab_size)))

    def pieces_of(self, ids: Sequence[int]) -> tuple[str, ...]:
        """These tokens by their ids."""
        return tuple(self._processor.IdToPiece(list(ids)))

    def save(self, path: Path) -> None:
        """Write the model to a file, whole or not at all."""
        checkpoints.write_bytes(path, self._serialized)

    def fingerprint(self) -> str:
        """A hash of the model."""
        return hashlib.sha256(self._serialized).hexdigest()


@dataclass(frozen=True)
class Tokenizers:
    """The tokenizers of both sides; one and the same where they share it."""

    source: Tokenizer
    target: Tokenizer

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizers:
        """Those that `save` wrote to a run's folder."""
        folder = Path(folder)
        if (folder / "source.model").exists():
            return cls(Tokenizer.load(folder / "source.model"), Tokenizer.load(folder / "target.model"))
        shared = Tokenizer.load(folder / "tokenizer.model")
        return cls(shared, shared)

    def fingerprint(self) -> str:
        """A hash of both."""
        return hashlib.sha256(f"{self.source.fingerprint()} {self.target.fingerprint()}".encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """``tokenizer.model``, or ``source.model`` and ``target.model``; what was there before is gone."""
        for name in ("tokenizer.model", "source.model", "target.model"):
            (folder / name).unlink(missing_ok=True)
        if self.source is self.target:
            self.source.save(folder / "tokenizer.model")
        else:
            self.source.save(folder / "source.model")
            self.target.save(folder / "target.model")


def check_paths(settings: recipe.Tokenizer) -> None:
    """Raise UserError where a recipe gives paths of other models than it asks for."""
    if settings.shared and settings.target_path:
        raise UserError("tokenizer.target_path is for shared: false", "leave it out, or set shared to false")
    if not settings.shared and (settings.path is None) != (settings.target_path is None):
        raise UserError("tokenizer: shared: false needs both path and target_path, or neither", "give both")


def make_tokenizers(corpus: Corpus, settings: recipe.Tokenizer) -> Tokenizers:
    """The tokenizers that a recipe describes: existing ones, or trained on the corpus, with the pieces it asks for.

    Of a shared one, the source's first pieces are the target's.
    Raises UserError where a file is no model or the corpus doesn't suffice.
    """
    check_paths(settings)
    pairs = [] if settings.path and not settings.min_frequency else _sentences(corpus)
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    if settings.shared:
        shared = _made(settings.path, chain.from_iterable(pairs), settings)
        made = Tokenizers(shared, shared)
    else:
        made = Tokenizers(_made(settings.path, sources, settings), _made(settings.target_path, targets, settings))
    if not settings.min_frequency:
        return made
    of_source = _kept(made.source, "source", sources, settings.min_frequency)
    of_target = _kept(made.target, "target", targets, settings.min_frequency)
    if settings.shared:
        of_source = list(dict.fromkeys(of_target + of_source))
    return Tokenizers(made.source.with_pieces(of_source), made.target.with_pieces(of_target))


def _made(path: str | None, sentences: Iterable[str], settings: recipe.Tokenizer) -> Tokenizer:
    """The model in a file where there is one, or one trained on the sentences."""
    return Tokenizer.load(path) if path else Tokenizer.train(sentences, settings)


def _kept(tokenizer: Tokenizer, side: str, texts: Sequence[str], min_frequency: int) -> list[int]:
    """The pieces that a side keeps; all where it has no text, of which those complain who read it."""
    kept = tokenizer.used_by(texts, min_frequency)
    if not kept and any(map(str.strip, texts)):
        problem = f"tokenizer.min_frequency: no piece is used as often as {min_frequency:,} in the text of the {side}"
        raise UserError(problem, "lower it")
    return kept or list(range(tokenizer.vocab_size))


def _untrainable(message: str) -> UserError:
    """What sentencepiece's complaint means for a user."""
    reason = message.strip().splitlines()[-1].rpartition("] ")[2]
    if "!sentences_.empty()" in message:
        return UserError("the tokenizer can't be trained (there is no text)", "look at its files", place="data.train")
    return UserError(f"the tokenizer can't be trained ({reason})", "change tokenizer.vocab_size")


def _sentences(corpus: Corpus) -> list[tuple[str, str]]:
    """The pairs that a tokenizer learns from: all, or each with the same chance (Vitter 1985, algorithm R)."""
    kept: list[tuple[str, str]] = []
    draw = Random(1)
    for count, pair in enumerate(corpus.pairs()):
        place = count if count < TRAINING_PAIRS else draw.randrange(count + 1)
        if place < TRAINING_PAIRS:
            # sentencepiece takes a text with a line end or NUL in it for several, or for its end.
            sides = one_line(pair.source[:TRAINING_CHARACTERS]), one_line(pair.target[:TRAINING_CHARACTERS])
            kept[place : place + 1] = [sides]
    return kept
