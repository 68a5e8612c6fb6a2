"""What a sentencepiece model's file says of its pieces, and the same model with some of them."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

NORMAL, UNKNOWN, USER_DEFINED, BYTE = 1, 2, 4, 6
"""sentencepiece's types of pieces."""

_MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}

_PIECE, _TRAINER, _SELF_TEST = 1, 2, 4
"""Fields of a model (sentencepiece_model.proto: ModelProto)."""


@dataclass(frozen=True)
class Vocabulary:
    """What a model's file says about its pieces, each list in the order of the ids."""

    model_type: str
    pieces: list[str]
    scores: list[float]
    types: list[int]

    @classmethod
    def read(cls, serialized: bytes) -> Vocabulary:
        """From a sentencepiece model."""
        model_type, pieces, scores, types = "unigram", [], [], []
        for field, value, _ in _fields(serialized):
            if field == _PIECE and isinstance(value, bytes):
                piece = {1: b"", 2: bytes(4), 3: NORMAL, **_values(value)}
                pieces.append(bytes(piece[1]).decode("utf-8"))
                scores.append(struct.unpack("<f", bytes(piece[2]))[0])
                types.append(int(piece[3]))
            elif field == _TRAINER and isinstance(value, bytes):
                model_type = _MODEL_TYPES.get(int(_values(value).get(3, 1)), "unknown")
        return cls(model_type, pieces, scores, types)

    def needed(self, counts: Mapping[int, int], least: int) -> list[int]:
        """The ids of the pieces that are counted `least` times or more, and of all that these can't do without, rising.

        Those are their parts, for BPE merges pieces from them, sampling draws them, and words not met before are spelt
        in them; marks, bytes and a user's symbols; without bytes, each letter that is counted at all; and the worst
        piece, which says what an unknown letter costs. Empty where no ordinary piece is counted so often.
        """
        ordinary = [index for index, kind in enumerate(self.types) if kind == NORMAL]
        frequent = [self.pieces[index] for index in ordinary if counts.get(index, 0) >= least]
        if not frequent:
            return []
        names = {self.pieces[index] for index in ordinary}
        sizes = {len(name) for name in names}
        parts = names.intersection(part for piece in frequent for part in _parts(piece, sizes))
        letters = [] if BYTE in self.types else [index for index in counts if len(self.pieces[index]) == 1]
        kept = {*letters, min(ordinary, key=self.scores.__getitem__)}
        kept.update(index for index, kind in enumerate(self.types) if kind != NORMAL or self.pieces[index] in parts)
        return sorted(kept)


def _parts(piece: str, sizes: Collection[int]) -> Iterator[str]:
    """All of its parts, itself among them, that are of these sizes."""
    return (piece[start : start + size] for size in sizes for start in range(len(piece) - size + 1))


def with_pieces(serialized: bytes, ids: Sequence[int]) -> bytes:
    """A sentencepiece model with these of its pieces alone, numbered in this order.

    What a model says of how it cuts some texts, to be tested when it is loaded, is left out.
    """
    pieces = [raw for field, _, raw in _fields(serialized) if field == _PIECE]
    rest = [raw for field, _, raw in _fields(serialized) if field not in (_PIECE, _SELF_TEST)]
    return b"".join([*(pieces[index] for index in ids), *rest])


class _Field(NamedTuple):
    """One field of a protocol buffer message."""

    number: int
    value: int | bytes
    raw: bytes
    """As it stands in the message, its number included."""


def _fields(message: bytes) -> Iterator[_Field]:
    """The fields of a message, as protobuf's encoding guide describes them."""
    end = 0
    while end < len(message):
        start = end
        value: int | bytes
        key, position = _varint(message, start)
        if key & 7 == 0:
            value, end = _varint(message, position)
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            if size is None:
                size, position = _varint(message, position)
            end = position + size
            value = message[position:end]
        yield _Field(key >> 3, value, message[start:end])


def _values(message: bytes) -> dict[int, int | bytes]:
    """The last value of each field, by its number."""
    return {field.number: field.value for field in _fields(message)}


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A number in seven-bit groups, and the position behind it."""
    value = shift = 0
    while message[position] & 0x80:
        value |= (message[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
    return value | message[position] << shift, position + 1
