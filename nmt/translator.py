"""Sentences in, sentences out: a trained model with all that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydantic
import torch
from torch import Tensor

from nmt import checkpoints
from nmt.device import choose_device
from nmt.errors import UserError
from nmt.model.seq2seq import Seq2Seq, assemble
from nmt.model.weights import load_weights, named_weights, no_larger_than, stored_shapes
from nmt.options import option_errors
from nmt.recipe import MAX_BEAM, Search
from nmt.recipe_file import read_run
from nmt.search.beam import beam_search
from nmt.search.hypothesis import Hypothesis, Marks
from nmt.search.loops import loops
from nmt.search.scoring import score
from nmt.text.lines import one_line
from nmt.text.tokenizer import Tokenizers

MAX_SOURCE_TOKENS = 1024
"""A longer sentence is cut here, and its translation says so."""

MAX_SOURCE_CHARACTERS = 64 * MAX_SOURCE_TOKENS
"""Likewise, before it is looked at at all: the time and memory of splitting it into tokens are bounded too."""

BATCH_TOKENS = 2048
"""Source tokens of a batch, padding counted."""

ENCODED_CHARACTERS = 16 * MAX_SOURCE_CHARACTERS
"""Characters split into tokens at a time, before what is too long is cut: it bounds the memory of that."""


@dataclass(frozen=True)
class Translation:
    """One translation of a sentence."""

    text: str
    """Always one line."""
    score: float
    """Normalised log-probability: what translations of a sentence are ranked by."""
    log_probability: float
    """In nats, the end mark counted."""
    truncated: bool
    """Whether the sentence was cut for its length, or the translation at its maximum length."""
    looped: bool
    """Whether the translation repeats itself as the sentence does not (see `nmt.search.loops`)."""
    source_pieces: tuple[str, ...]
    target_pieces: tuple[str, ...]
    weights: Tensor | None
    """``[T, S]``: what attention looked at in writing each piece, the end marks last; where asked for."""

    def alignment(self) -> tuple[tuple[int, int], ...]:
        """(source piece, target piece) from 0: for each target piece the source piece that it looked at most.

        Empty without attention, where nothing is looked at.
        """
        if self.weights is None or not self.target_pieces:
            return ()
        inner = self.weights[: len(self.target_pieces), : len(self.source_pieces)]  # without the end marks
        most, where = inner.max(-1)
        pairs = enumerate(zip(most.tolist(), where.tolist(), strict=True))
        return tuple((s, t) for t, (weight, s) in pairs if weight > 0.0)


BLANK = Translation("", 0.0, 0.0, False, False, (), (), None)
"""The translation of a line with nothing in it."""


class Translator:
    """A model with its tokenizers and search settings."""

    def __init__(
        self,
        model: Seq2Seq,
        tokenizers: Tokenizers,
        search: Search,
        device: torch.device,
        *,
        languages: str = "",
        checkpoint: str = "",
    ) -> None:
        self._model = model
        self._tokenizers = tokenizers
        self.search = search
        self.languages = languages
        """Source and target as the recipe names them: ``en-fr``."""
        self.checkpoint = checkpoint
        """The name of the checkpoint's folder, of a model that was loaded."""
        self._device = device
        target = tokenizers.target
        banned = {target.pad_id, target.bos_id, target.unk_id} - {target.eos_id}
        self._marks = Marks(target.bos_id, target.eos_id, tuple(sorted(banned)))

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto", threads: int | None = None) -> Translator:
        """The best model of a run's folder, or the one of a checkpoint folder in it.

        Raises UserError where the folder is no run, is damaged, or needs a component that isn't installed.
        """
        folder = Path(folder)
        run = folder if (folder / "recipe.yaml").is_file() else folder.parent
        if not (run / "recipe.yaml").is_file():
            raise UserError(
                "is no model: it has no recipe.yaml", "name a folder that nmt-train made", place=str(folder)
            )
        if threads is not None:
            torch.set_num_threads(threads)
        recipe = read_run(run)
        tokenizers = Tokenizers.load(run)
        sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
        with checkpoints.reading_best(run) if run == folder else checkpoints.reading(folder) as checkpoint:
            path = checkpoint / "model.safetensors"
            with no_larger_than(stored_shapes(path), path):
                model = assemble(recipe.model, *sizes, shared=recipe.tokenizer.shared).eval()
            load_weights(named_weights(model), path)
        chosen = choose_device(device)
        languages = f"{recipe.data.source_language}-{recipe.data.target_language}"
        return cls(model.to(chosen), tokenizers, recipe.search, chosen, languages=languages, checkpoint=checkpoint.name)

    def translate(self, sentences: Sequence[str], *, beam: int | None = None) -> list[str]:
        """The best translation of each sentence, each one line; a blank sentence gives an empty one."""
        return [found[0].text for found in self.translations(sentences, search=self.searching(beam=beam))]

    def searching(self, *, beam: int | None = None, length_penalty: float | None = None) -> Search:
        """The model's search settings with those that are given. Raises UserError where they are out of range."""
        given = {"beam": beam, "length_penalty": length_penalty}
        changed = {name: value for name, value in given.items() if value is not None}
        try:
            return Search(**{**self.search.model_dump(), **changed})
        except pydantic.ValidationError as error:
            first = option_errors(error, Search)[0]
            raise UserError(first.problem, first.remedy, place=".".join(map(str, first.path))) from error

    def translations(
        self,
        sentences: Sequence[str],
        *,
        search: Search | None = None,
        n_best: int = 1,
        weights: bool = False,
        batch_tokens: int = BATCH_TOKENS,
    ) -> list[list[Translation]]:
        """The `n_best` translations of each sentence, the best first, in the sentences' order.

        Sentences are searched for in batches of like lengths; what is found doesn't depend on that. Raises UserError
        for an `n_best` above `MAX_BEAM`.
        """
        if n_best > MAX_BEAM:
            raise UserError(f"{n_best} best translations are more than {MAX_BEAM}", "ask for fewer")
        self._model.eval()
        encoded = self._encoded(sentences)
        results = [[BLANK] for _ in sentences]
        filled = [row for row, ids in enumerate(encoded) if ids and not sentences[row].isspace()]
        sizes = {row: min(len(encoded[row]), MAX_SOURCE_TOKENS) for row in filled}
        for rows in _batched(sizes, batch_tokens):
            source, lengths = self._source([encoded[row] for row in rows])
            with torch.inference_mode():
                states = self._model.encoder(source, lengths)
            found = beam_search(
                self._model.decoder, states, search or self.search, self._marks, n_best=n_best, weights=weights
            )
            for row, hypotheses in zip(rows, found, strict=True):
                cut = len(_bare(sentences[row])) > MAX_SOURCE_CHARACTERS or len(encoded[row]) > MAX_SOURCE_TOKENS
                ids = encoded[row][:MAX_SOURCE_TOKENS]
                results[row] = [self._translation(ids, cut, hypothesis) for hypothesis in hypotheses]
        return results

    def score(
        self, sources: Sequence[str], targets: Sequence[str], *, batch_tokens: int = BATCH_TOKENS
    ) -> list[tuple[float, int]]:
        """Log-probability (in nats) and tokens of each target given its source, the end mark counted in both.

        A source is cut as in translating it; a target never.
        """
        self._model.eval()
        tokenizer = self._tokenizers.target
        encoded = self._encoded(sources)
        wanted = tokenizer.encode_many([one_line(target) for target in targets])
        results = [(0.0, 0)] * len(sources)
        sizes = {row: max(len(pair[0]), len(pair[1])) for row, pair in enumerate(zip(encoded, wanted, strict=True))}
        for rows in _batched(sizes, batch_tokens):
            source, lengths = self._source([encoded[row] for row in rows])
            marked = [[tokenizer.bos_id, *wanted[row], tokenizer.eos_id] for row in rows]
            target, target_lengths = _padded(marked, tokenizer.pad_id)
            scores = score(self._model, source, lengths, target.to(self._device), target_lengths)
            for row, log_p, length in zip(rows, scores, target_lengths.tolist(), strict=True):
                results[row] = (log_p, length - 1)
        return results

    def _encoded(self, sources: Sequence[str]) -> list[list[int]]:
        """Ids of source sentences, without marks; of a sentence that is too long, one more than MAX_SOURCE_TOKENS."""
        texts = [one_line(_bare(text)[:MAX_SOURCE_CHARACTERS]) for text in sources]
        encode = self._tokenizers.source.encode_many
        return [ids[: MAX_SOURCE_TOKENS + 1] for group in _portions(texts) for ids in encode(group)]

    def _source(self, encoded: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        tokenizer = self._tokenizers.source
        marked = [[*ids[:MAX_SOURCE_TOKENS], tokenizer.eos_id] for ids in encoded]
        source, lengths = _padded(marked, tokenizer.pad_id)
        return source.to(self._device), lengths

    def _translation(self, source: Sequence[int], cut: bool, hypothesis: Hypothesis) -> Translation:
        return Translation(
            text=self._tokenizers.target.decode(hypothesis.tokens),
            score=hypothesis.score,
            log_probability=hypothesis.log_probability,
            truncated=cut or not hypothesis.finished,
            looped=loops(source, hypothesis.tokens),
            source_pieces=self._tokenizers.source.pieces_of(source),
            target_pieces=self._tokenizers.target.pieces_of(hypothesis.tokens),
            weights=hypothesis.weights,
        )


def _bare(sentence: str) -> str:
    """Without the spaces around it, which the tokenizer drops too."""
    return sentence.strip(" \t")


def _portions(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in their order, about `ENCODED_CHARACTERS` at a time."""
    portion: list[str] = []
    size = 0
    for text in texts:
        portion.append(text)
        size += len(text)
        if size >= ENCODED_CHARACTERS:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _padded(sentences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """``[B, T]`` and the lengths ``[B]``."""
    lengths = torch.tensor([len(ids) for ids in sentences])
    padded = torch.full((len(sentences), int(lengths.max())), pad_id)
    for row, ids in enumerate(sentences):
        padded[row, : len(ids)] = torch.tensor(ids)
    return padded, lengths


def _batched(lengths: Mapping[int, int], batch_tokens: int) -> Iterator[list[int]]:
    """Sentences by their length in tokens, the longest first, in batches of at most so many tokens."""
    order = sorted(lengths, key=lambda row: -lengths[row])
    start = 0
    while start < len(order):
        width = lengths[order[start]] + 1
        count = max(1, batch_tokens // width)
        yield order[start : start + count]
        start += count
