"""Which target pieces a translation may need, by the pieces of its source: a smaller output layer in search.

Like Marian's lexical shortlist (Junczys-Dowmunt et al. 2018, "Marian: Cost-effective High-Quality Neural Machine
Translation in C++") and the vocabulary maps of CTranslate2, but each sentence keeps to a list of its own: what its
neighbours in a batch bring along, it may not use, and no bit of its scores depends on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nmt import checkpoints
from nmt.errors import UserError, reason_of
from nmt.model.weights import stored_shapes

FILE = "shortlist.safetensors"
"""Its name in a run's folder."""

MAX_EACH = 4096
"""Target pieces that one source piece may bring along."""

MULTIPLE = 64
"""What numbers of candidates are multiples of: search looks at such blocks, and a single output of a product would have
other bits than among others."""

Ids = npt.NDArray[np.int32]

_DESCRIBED = "shortlist"
"""Key of the file's one description, its format and the vocabularies: several would stand in any order."""
_FORMAT = "1"
_REMEDY = "build it again: nmt-data shortlist RUN"


@dataclass(frozen=True)
class Shortlist:
    """Target pieces for each source piece, and those for every sentence.

    Raises ValueError where the arrays don't belong together.
    """

    ranked: Ids
    """``[R]``: target pieces that may be written at all, the most frequent first, each once."""
    always: Ids
    """``[A]``: those that are candidates for every sentence, the end mark among them, rising."""
    offsets: Ids
    """``[V + 1]``: where each source piece's list begins in `ids`, and the end of the last."""
    ids: Ids
    vocabularies: str
    """Fingerprint of the tokenizers that it was built for (`Tokenizers.fingerprint`)."""

    def __post_init__(self) -> None:
        sizes = np.diff(self.offsets)
        if not len(self.offsets) or self.offsets[0] != 0 or self.offsets[-1] != len(self.ids):
            raise ValueError("its lists don't fill it")
        if sizes.min(initial=0) < 0 or sizes.max(initial=0) > MAX_EACH:
            raise ValueError(f"a list has less than 0 or more than {MAX_EACH} entries")
        if self.ranked.min(initial=0) < 0 or len(np.unique(self.ranked)) != len(self.ranked):
            raise ValueError("a piece has two ranks")
        if not len(self.always) or np.diff(self.always).min(initial=1) <= 0:
            raise ValueError("its pieces for every sentence don't rise")
        if not (_among(self.always, self.ranked) and _among(self.ids, self.ranked)):
            raise ValueError("a list has a piece without a rank")

    @classmethod
    def load(
        cls, path: Path, source_vocab_size: int, target_vocab_size: int, *, end: int, vocabularies: str | None = None
    ) -> Shortlist:
        """The shortlist in a file, for vocabularies of these sizes; `end` is the end mark of the target's.

        `vocabularies` is the fingerprint of the tokenizers it is used with (`Tokenizers.fingerprint`): where given, a
        shortlist for others of the same sizes is refused as well. Raises UserError where the file is damaged or
        doesn't fit.
        """
        arrays, described = _read(path, source_vocab_size, target_vocab_size)
        version, _, built_for = described.partition(" ")
        if version != _FORMAT:
            raise UserError("is no shortlist of this version of nmt", _REMEDY, place=str(path))
        try:
            made = cls(**arrays, vocabularies=built_for)
        except ValueError as error:
            raise UserError(f"damaged ({error})", _REMEDY, place=str(path)) from error
        if made.ranked.max(initial=0) >= target_vocab_size:
            raise UserError("has pieces that the target vocabulary lacks", _REMEDY, place=str(path))
        if end not in made.always:
            raise UserError("lacks the end mark, without which no translation ends", _REMEDY, place=str(path))
        if vocabularies is not None and made.vocabularies != vocabularies:
            raise UserError("was built for other tokenizers than the model's", _REMEDY, place=str(path))
        return made

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all."""
        arrays = {"ranked": self.ranked, "always": self.always, "offsets": self.offsets, "ids": self.ids}
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        checkpoints.write_bytes(path, save(tensors, {_DESCRIBED: f"{_FORMAT} {self.vocabularies}"}))

    def candidates(self, sentences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """What the translations of these source sentences may be made of, given as ids with or without end marks.

        Returns the candidates of every sentence ``[A]``, the further ones that some of these have ``[F]`` (int64, both
        rising, none in both), and ``[B, M]``, which of the further ones are in the list of that sentence itself, in
        rising order, and -1 behind the last of them. The end mark is in every list; padding, begin mark and the unknown
        piece are in none. A + M is a multiple of 64, and so is F, filled up with frequent pieces as far as there are
        any.
        """
        own = np.zeros((len(sentences), int(self.ranked.max()) + 1), dtype=np.bool_)
        for row, sentence in enumerate(sentences):
            for piece in set(sentence):
                own[row, self.ids[self.offsets[piece] : self.offsets[piece + 1]]] = True
        free = np.ones(own.shape[1], dtype=np.bool_)
        free[self.always] = False
        used: npt.NDArray[np.bool_] = np.any(own, axis=0) & free
        unused = self.ranked[(free & ~used)[self.ranked]]
        used[unused[: -int(used.sum()) % MULTIPLE]] = True
        (others,) = np.nonzero(used)
        places = [np.flatnonzero(row) for row in own[:, others]]
        most = max(map(len, places), default=0)
        listed = np.full((len(sentences), most + -(len(self.always) + most) % MULTIPLE), -1, dtype=np.int64)
        for row, its_places in enumerate(places):
            listed[row, : len(its_places)] = its_places
        shared, further = (torch.from_numpy(ids.astype(np.int64)) for ids in (self.always, others))
        return shared, further, torch.from_numpy(listed)


def _among(ids: Ids, known: Ids) -> bool:
    return bool(np.isin(ids, known).all())


def _read(path: Path, source_vocab_size: int, target_vocab_size: int) -> tuple[dict[str, Ids], str]:
    """The arrays of the file at `path`, none of them larger than the vocabularies allow, and what it says of itself."""
    most = {
        "ranked": target_vocab_size,
        "always": target_vocab_size,
        "offsets": source_vocab_size + 1,
        "ids": source_vocab_size * MAX_EACH,
    }
    shapes = stored_shapes(path, ("I32",), _REMEDY)
    if shapes.keys() != most.keys() or any(len(shape) != 1 for shape in shapes.values()):
        raise UserError("is no shortlist", _REMEDY, place=str(path))
    if shapes["offsets"] != [most["offsets"]]:
        problem = f"is for {shapes['offsets'][0] - 1} source pieces, not for the {source_vocab_size} of the model"
        raise UserError(problem, _REMEDY, place=str(path))
    if any(shapes[name][0] > size for name, size in most.items()):
        raise UserError("has more entries than the vocabularies allow", _REMEDY, place=str(path))
    try:
        with safe_open(path, framework="pt") as stored:
            described: str = (stored.metadata() or {}).get(_DESCRIBED, "")
            return {name: stored.get_tensor(name).numpy() for name in most}, described
    except (SafetensorError, OSError) as error:
        raise UserError(f"damaged or unreadable ({reason_of(error)})", _REMEDY, place=str(path)) from error
