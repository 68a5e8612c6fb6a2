"""Sentences in, sentences out: a trained model with all that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import pydantic
import torch
from torch import Tensor

from nmt import checkpoints, recipe
from nmt.checkpoints import MODEL
from nmt.device import choose_device, moved
from nmt.errors import UserError
from nmt.model.prepared import prepare
from nmt.model.seq2seq import Seq2Seq, assemble
from nmt.model.weights import Unfilled, map_weights, named_weights, no_larger_than, stored_shapes
from nmt.options import option_errors
from nmt.products import WeightPrecision, in_threads, prepare_for
from nmt.recipe import MAX_BEAM, Search
from nmt.recipe_file import read_run
from nmt.search.beam import beam_search
from nmt.search.captured import CapturedRuns
from nmt.search.hypothesis import Hypothesis, Marks
from nmt.search.limits import Limits
from nmt.search.loops import loops
from nmt.search.scoring import score
from nmt.search.translation import BLANK, Translation
from nmt.text.lines import MAX_SOURCE_CHARACTERS, MAX_SOURCE_TOKENS, one_line
from nmt.text.shortlist import FILE, Shortlist
from nmt.text.tokenizer import Tokenizers

BATCH_TOKENS = 2048
"""Source tokens of a batch, padding counted."""

ENCODED_CHARACTERS = 16 * MAX_SOURCE_CHARACTERS
"""Characters split into tokens at a time, before what is too long is cut: it bounds the memory of that."""


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
        shortlist: Shortlist | None = None,
        prepared: bool = False,
        captured: CapturedRuns | None = None,
    ) -> None:
        self._model = model
        self._tokenizers = tokenizers
        self.search = search
        self.languages = languages
        """Source and target as the recipe names them: ``en-fr``."""
        self.checkpoint = checkpoint
        """The name of the checkpoint's folder, of a model that was loaded."""
        self._device = device
        self._shortlist = shortlist
        self._prepared = prepared
        self._captured = captured
        target = tokenizers.target
        banned = {target.pad_id, target.bos_id, target.unk_id} - {target.eos_id}
        self._marks = Marks(target.bos_id, target.eos_id, tuple(sorted(banned)))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str = "auto",
        threads: int | None = None,
        precision: WeightPrecision = "fp32",
        shortlist: bool = False,
        graphs: bool = False,
    ) -> Translator:
        """The best model of a run's folder, or the one of a checkpoint folder in it, made ready for translating.

        `precision` is what weights are multiplied in; with `shortlist`, each sentence is translated with the target
        pieces that the run's shortlist (`nmt-data shortlist`) has for it; with `graphs`, search's steps are captured as
        CUDA graphs. Raises UserError where the folder is no run, is damaged, needs a component that isn't installed, or
        lacks the shortlist, and for graphs without CUDA.
        """
        folder = Path(folder)
        run = folder if (folder / "recipe.yaml").is_file() else folder.parent
        if not (run / "recipe.yaml").is_file():
            raise UserError(
                "is no model: it has no recipe.yaml", "name a folder that nmt-train made", place=str(folder)
            )
        if threads is not None:
            torch.set_num_threads(threads)
        settings, chosen = read_run(run), choose_device(device)
        if graphs:
            _expect_graphs(chosen, shortlist)
        how = prepare_for(precision, chosen, torch.get_num_threads())
        tokenizers = Tokenizers.load(run)
        with (
            checkpoints.reading_best(run, MODEL) if run == folder else checkpoints.reading(folder, MODEL) as checkpoint
        ):
            model = _loaded(settings, tokenizers, checkpoint / MODEL).to(chosen).eval()
        prepare(model, how)
        return cls(
            model,
            tokenizers,
            settings.search,
            chosen,
            languages=f"{settings.data.source_language}-{settings.data.target_language}",
            checkpoint=checkpoint.name,
            shortlist=_shortlist(run, tokenizers) if shortlist else None,
            prepared=True,
            captured=CapturedRuns() if graphs else None,
        )

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
        batch_sentences: int | None = None,
    ) -> list[list[Translation]]:
        """The `n_best` translations of each sentence, the best first, in the sentences' order.

        Sentences are searched for in batches of like lengths, of at most `batch_tokens` source tokens and
        `batch_sentences` sentences; what is found doesn't depend on that. Raises UserError for an `n_best` above
        `MAX_BEAM`.
        """
        if n_best > MAX_BEAM:
            raise UserError(f"{n_best} best translations are more than {MAX_BEAM}", "ask for fewer")
        self._model.eval()
        encoded = self._encoded(sentences)
        results = [[BLANK] for _ in sentences]
        filled = [row for row, ids in enumerate(encoded) if ids and not sentences[row].isspace()]
        sizes = {row: min(len(encoded[row]), MAX_SOURCE_TOKENS) for row in filled}
        for rows in _batched(sizes, batch_tokens, batch_sentences):
            read = [encoded[row][:MAX_SOURCE_TOKENS] for row in rows]
            found = self._search(read, search or self.search, n_best, weights)
            for row, ids, hypotheses in zip(rows, read, found, strict=True):
                cut = len(_bare(sentences[row])) > MAX_SOURCE_CHARACTERS or len(encoded[row]) > MAX_SOURCE_TOKENS
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
            scores = score(self._model, source, lengths, moved(target, self._device), target_lengths)
            for row, log_p, length in zip(rows, scores, target_lengths.tolist(), strict=True):
                results[row] = (log_p, length - 1)
        return results

    def _search(
        self, encoded: Sequence[Sequence[int]], search: Search, n_best: int, weights: bool
    ) -> list[list[Hypothesis]]:
        """What is found for a batch of source sentences, given as ids without marks."""
        source, lengths = self._source(encoded)
        limits = None if self._shortlist is None else Limits(*self._shortlist.candidates(encoded))
        # Where products are prepared, they choose their threads themselves, and what comes between is one's work.
        with torch.inference_mode(), in_threads(1) if self._prepared else nullcontext():
            return beam_search(
                self._model.decoder,
                self._model.encoder(source, lengths),
                search,
                self._marks,
                n_best=n_best,
                weights=weights,
                limits=limits,
                captured=self._captured,
            )

    def _encoded(self, sources: Sequence[str]) -> list[list[int]]:
        """Ids of source sentences, without marks; of a sentence that is too long, one more than MAX_SOURCE_TOKENS."""
        texts = [one_line(_bare(text)[:MAX_SOURCE_CHARACTERS]) for text in sources]
        encode = self._tokenizers.source.encode_many
        return [ids[: MAX_SOURCE_TOKENS + 1] for group in _portions(texts) for ids in encode(group)]

    def _source(self, encoded: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        tokenizer = self._tokenizers.source
        marked = [[*ids[:MAX_SOURCE_TOKENS], tokenizer.eos_id] for ids in encoded]
        source, lengths = _padded(marked, tokenizer.pad_id)
        return moved(source, self._device), lengths

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


def _loaded(settings: recipe.Recipe, tokenizers: Tokenizers, path: Path) -> Seq2Seq:
    """The model with the weights at `path`; its cells run step by step, as what is prepared wants it."""
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    with Unfilled(), no_larger_than(stored_shapes(path), path):
        parts = settings.model.model_copy(update={"engine": "loop"})
        model = assemble(parts, *sizes, shared=settings.tokenizer.shared)
    map_weights(named_weights(model), path)
    return model


def _expect_graphs(device: torch.device, shortlist: bool) -> None:
    if device.type != "cuda":
        raise UserError(f"there are no CUDA graphs on {device.type}", "leave graphs out, or name a CUDA device")
    if shortlist:
        raise UserError("with a shortlist each batch is another graph", "leave graphs out, or the shortlist")


def _shortlist(run: Path, tokenizers: Tokenizers) -> Shortlist:
    path = run / FILE
    if not path.is_file():
        raise UserError("there is none", f"build it: nmt-data shortlist {run}", place=str(path))
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    return Shortlist.load(path, *sizes, end=tokenizers.target.eos_id, vocabularies=tokenizers.fingerprint())


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


def _batched(lengths: Mapping[int, int], batch_tokens: int, batch_sentences: int | None = None) -> Iterator[list[int]]:
    """Sentences by their length in tokens, the longest first, in batches of at most so many tokens and sentences."""
    order = sorted(lengths, key=lambda row: -lengths[row])
    start = 0
    while start < len(order):
        width = lengths[order[start]] + 1
        count = max(1, min(batch_tokens // width, batch_sentences or len(order)))
        yield order[start : start + count]
        start += count
