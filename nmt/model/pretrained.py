"""Pretrained embeddings from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nmt.bounded import require_file
from nmt.errors import UserError, reason_of
from nmt.model.weights import FLOATS, stored_shapes

MAX_LINE = 1 << 20
"""Letters of a line of a text file."""


def load_embeddings(path: str | Path, pieces: Sequence[str], weight: Tensor) -> int:
    """Fill rows of `weight` ``[V, E]`` in place from the file at `path`; the number of rows filled.

    A .safetensors file holds one tensor `weight` with a row for each piece, in the vocabulary's order. Any other file
    is text: a piece and its E numbers on a line, separated by spaces; a first line of two numbers (word2vec's) is
    passed over, and pieces that the vocabulary lacks are left out.

    Raises UserError where the file can't be read, has other sizes, or shares no piece with the vocabulary.
    """
    path = Path(path)
    try:
        require_file(path)
        filled = _from_safetensors(path, weight) if path.suffix == ".safetensors" else _from_text(path, pieces, weight)
    except (OSError, SafetensorError) as error:
        raise UserError(f"can't be read ({reason_of(error)})", "check the path", place=str(path)) from error
    if filled == 0:
        raise UserError("has no piece of the vocabulary", "use embeddings of this tokenizer's pieces", place=str(path))
    return filled


def _from_safetensors(path: Path, weight: Tensor) -> int:
    shapes = stored_shapes(path, FLOATS, "use another file")
    if list(shapes) != ["weight"]:
        raise UserError("has other tensors than one named weight", place=str(path))
    if shapes["weight"] != list(weight.shape):
        problem = f"is {shapes['weight']}, the model's embeddings are {list(weight.shape)}"
        raise UserError(problem, "set the embedding size and the vocabulary to fit", place=str(path))
    with safe_open(path, framework="pt") as stored, torch.no_grad():
        weight.copy_(stored.get_tensor("weight"))
    return len(weight)


def _from_text(path: Path, pieces: Sequence[str], weight: Tensor) -> int:
    ids = {piece: index for index, piece in enumerate(pieces)}
    filled = 0
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines, torch.no_grad():
        for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE), ""), 1):
            if len(line) == MAX_LINE:
                raise UserError(f"a line of {MAX_LINE:,} letters or more", "name a file of embeddings", place=str(path))
            piece, *numbers = line.rstrip("\n").rstrip(" ").split(" ")
            if piece not in ids or (number == 1 and piece.isdigit() and len(numbers) == 1):
                continue
            place = f"{path}:{number}"
            if len(numbers) != weight.shape[1]:
                remedy = f"set the embedding size to {len(numbers)}"
                raise UserError(f"{len(numbers)} numbers, the model has {weight.shape[1]}", remedy, place=place)
            weight[ids[piece]] = _vector(numbers, place)
            filled += 1
    return filled


def _vector(numbers: Sequence[str], place: str) -> Tensor:
    try:
        vector = torch.tensor([float(item) for item in numbers])
    except ValueError as error:
        raise UserError(str(error), "mend the line", place=place) from error
    if not bool(vector.isfinite().all()):
        raise UserError("not all of it are finite numbers", "mend the line", place=place)
    return vector
