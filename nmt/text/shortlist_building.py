"""Building a vocabulary shortlist from sentence pairs: IBM model 1 over pieces (Brown et al. 1993).

Each source piece's probabilities are estimated by themselves, over the sentences that hold it, against denominators
that are kept for each target token; so a row of probabilities is all that stands in fast memory, and nothing has the
size of source times target vocabulary. Pairs beyond a bound are passed over evenly: memory and time have a bound too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nmt.text.shortlist import Shortlist
from nmt.text.store import Side, TokenStore
from nmt.text.tokenizer import Tokenizer, Tokenizers

MAX_TOKENS = 1 << 24
"""Tokens of each side that are learnt from."""
MAX_PRODUCTS = 1 << 30
"""Pairs of a source and a target token, in sentence pairs, that are learnt from."""
PORTION = 1 << 20
"""Tokens that are looked at together."""
ITERATIONS = 4
KEPT = 512
"""Translations of a piece that are remembered from one iteration to the next, at least."""
FLOOR = 1e-12
"""Probability of those that are not."""

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
SPACE = "\u2581"
"""What sentencepiece writes for a space."""

Ids = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Row = tuple[Ids, npt.NDArray[np.float32]]
"""Target pieces, the likeliest first, and their probabilities."""


def build_shortlist(store: TokenStore, tokenizers: Tokenizers, *, frequent: int, each: int) -> Shortlist:
    """A shortlist from an encoded corpus: the same one from the same corpus.

    `each` is how many of its likeliest translations a source piece brings along, beside itself as it is spelt in the
    target vocabulary; `frequent` how many of the most frequent target pieces are always candidates, beside the end
    mark, single digits and punctuation marks.
    """
    source, target = tokenizers.source, tokenizers.target
    marks = {target.pad_id, target.bos_id, target.unk_id} - {target.eos_id}
    ranked = np.array([piece for piece in _by_frequency(store.target, target.vocab_size) if piece not in marks])
    pieces = target.pieces()
    always = {target.eos_id, *ranked[:frequent].tolist()} | {
        piece for piece in ranked.tolist() if _plain(pieces[piece])
    }
    sample = _sample(store, source.vocab_size)
    rows = _learnt(sample, source.vocab_size, target.vocab_size, max(KEPT, each))
    spelt = _spelt(source, target)
    lists = [sorted({*ids[:each].tolist(), *same} - marks) for (ids, _), same in zip(rows, spelt, strict=True)]
    return Shortlist(
        ranked=ranked.astype(np.int32),
        always=np.array(sorted(always), np.int32),
        offsets=np.cumsum([0, *map(len, lists)]).astype(np.int32),
        ids=np.fromiter((piece for found in lists for piece in found), np.int32),
        vocabularies=tokenizers.fingerprint(),
    )


def _by_frequency(side: Side, vocab_size: int) -> Places:
    """All pieces, the most frequent first; the lower id first among equals."""
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(side.tokens), PORTION):
        counts += np.bincount(side.tokens[start : start + PORTION], minlength=vocab_size)
    return np.argsort(-counts, kind="stable")


def _plain(piece: str) -> bool:
    """Whether it is a single digit or punctuation mark, or a space, which may stand before it."""
    letter = piece.removeprefix(SPACE)
    return not letter or (len(letter) == 1 and unicodedata.category(letter)[:1] in ("P", "N"))


# --- the same text on both sides


def _spelt(source: Tokenizer, target: Tokenizer) -> list[set[int]]:
    """For each source piece those target pieces that give its text, so that names can be copied.

    A piece that the target vocabulary has too is such a one; another is put together from the longest that there are,
    left to right. A byte brings all bytes along.
    """
    known = {piece: index for index, piece in enumerate(target.pieces())}
    every_byte = {index for piece, index in known.items() if BYTE.fullmatch(piece)}
    longest = max(map(len, known))
    return [every_byte if BYTE.fullmatch(piece) else _put_together(piece, known, longest) for piece in source.pieces()]


def _put_together(text: str, known: dict[str, int], longest: int) -> set[int]:
    """The longest pieces from the left that make up the text; of a letter that no piece has, its bytes."""
    found: set[int] = set()
    while text:
        size = next((size for size in range(min(longest, len(text)), 0, -1) if text[:size] in known), 1)
        names = [text[:size]] if text[:size] in known else [f"<0x{byte:02X}>" for byte in text[:size].encode()]
        found |= {known[name] for name in names if name in known}
        text = text[size:]
    return found


# --- what translates what


@dataclass(frozen=True)
class _Sample:
    """Sentence pairs by source piece."""

    sentences: Ids
    """For each source piece in turn the sentences that hold it, rising."""
    begins: Places
    """``[V + 1]``: where each piece's begin in `sentences`."""
    targets: Ids
    """The target sentences' tokens, one sentence after the other."""
    offsets: Places
    """``[N + 1]``: where each begins."""

    def places(self, piece: int) -> Iterator[Places]:
        """Where in `targets` the translations of sentences with this piece stand, in portions."""
        sentences = self.sentences[self.begins[piece] : self.begins[piece + 1]]
        lengths = np.cumsum(self.offsets[sentences + 1] - self.offsets[sentences])
        portions = lengths // PORTION
        for portion in np.split(sentences, np.flatnonzero(np.diff(portions)) + 1):
            yield _ranges(self.offsets[portion], self.offsets[portion + 1])


def _ranges(begins: Places, ends: Places) -> Places:
    """The whole numbers from each begin up to its end, one range after the other."""
    lengths = ends - begins
    shifts = np.repeat(begins - np.cumsum(lengths) + lengths, lengths)
    return shifts + np.arange(len(shifts))


def _sample(store: TokenStore, vocab_size: int) -> _Sample:
    """All pairs, or as many, evenly spread, as the bounds allow."""
    rows = np.arange(0, len(store), _stride(store.source.lengths, store.target.lengths))
    step = max(1, PORTION // 32)
    portions = [(start, rows[start : start + step]) for start in range(0, len(rows), step)]
    begins = np.zeros(vocab_size + 1, np.int64)
    offsets = np.concatenate([[0], np.cumsum(store.target.lengths[rows], dtype=np.int64)])
    targets = np.empty(offsets[-1], np.int32)
    for start, chosen in portions:
        begins[1:] += np.bincount(_pieces(store.source, chosen)[0], minlength=vocab_size)
        targets[offsets[start] : offsets[start + len(chosen)]] = _tokens(store.target, chosen)
    begins = np.cumsum(begins)
    free, sentences = begins[:-1].copy(), np.empty(begins[-1], np.int32)
    for start, chosen in portions:
        pieces, held = _pieces(store.source, chosen)
        among_equals = np.arange(len(pieces)) - np.searchsorted(pieces, pieces)
        sentences[free[pieces] + among_equals] = start + held
        free += np.bincount(pieces, minlength=vocab_size)
    return _Sample(sentences, begins, targets, offsets)


def _stride(source_lengths: Ids, target_lengths: Ids) -> int:
    """Every how manieth pair is taken."""
    products = sum(
        int(np.dot(source_lengths[start : start + PORTION].astype(np.int64), target_lengths[start : start + PORTION]))
        for start in range(0, len(source_lengths), PORTION)
    )
    tokens = max(int(source_lengths.sum(dtype=np.int64)), int(target_lengths.sum(dtype=np.int64)))
    return max(1, -(-products // MAX_PRODUCTS), -(-tokens // MAX_TOKENS))


def _tokens(side: Side, rows: Places) -> Ids:
    return np.asarray(side.tokens[_ranges(side.offsets[rows], side.offsets[rows + 1])], np.int32)


def _pieces(side: Side, rows: Places) -> tuple[Places, Places]:
    """The pieces of these sentences, each once a sentence, rising; and which of the sentences it is, rising as well."""
    owners = np.repeat(np.arange(len(rows)), side.lengths[rows])
    found: Places = np.unique(_tokens(side, rows).astype(np.int64) * len(rows) + owners)
    return found // len(rows), found % len(rows)


def _learnt(sample: _Sample, source_vocab_size: int, target_vocab_size: int, kept: int) -> Sequence[Row]:
    """Each source piece's likeliest translations, up to `kept`."""
    distinct = np.bincount(sample.sentences, minlength=len(sample.offsets) - 1).astype(np.float32)
    denominators = np.repeat(distinct, np.diff(sample.offsets))
    everything = np.arange(target_vocab_size, dtype=np.int32), np.ones(target_vocab_size, np.float32)
    rows: list[Row] = [everything] * source_vocab_size
    with tqdm(total=ITERATIONS * source_vocab_size, unit=" pieces", desc="learning", disable=None, leave=False) as bar:
        for _ in range(ITERATIONS):
            following = np.zeros_like(denominators)
            for piece, row in enumerate(rows):
                rows[piece] = _improved(sample, piece, _dense(row, target_vocab_size), denominators, kept)
                dense = _dense(rows[piece], target_vocab_size)
                for places in sample.places(piece):
                    following[places] += dense[sample.targets[places]]
                bar.update()
            denominators = following
    return rows


def _improved(sample: _Sample, piece: int, row: Values, denominators: npt.NDArray[np.float32], kept: int) -> Row:
    """A piece's translations after one more round of expectation maximisation."""
    counts = np.zeros(len(row))
    for places in sample.places(piece):
        targets = sample.targets[places]
        # One after the other, unlike sums of portions: the same to the last bit whatever the portions are.
        np.add.at(counts, targets, row[targets] / denominators[places])
    found = np.flatnonzero(counts)
    best = found[np.argsort(-counts[found], kind="stable")[:kept]]
    return best.astype(np.int32), (counts[best] / max(counts.sum(), FLOOR)).astype(np.float32)


def _dense(row: Row, vocab_size: int) -> Values:
    dense = np.full(vocab_size, FLOOR)
    dense[row[0]] = row[1]
    return dense
