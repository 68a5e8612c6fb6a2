"""Files of sentence pairs with all that can be wrong with files, made at random."""

from __future__ import annotations

import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

Lines = list[bytes]
Options = dict[str, object]

SEQUENCES = (
    *(bytes([value]) for value in (0x00, 0x07, 0x0B, 0x0C, 0x1A, 0x1B, 0x1C, 0x7F, 0x80, 0xC0, 0xFE, 0xFF)),
    b"\xef\xbb\xbf",  # byte order mark
    b"\xff\xfe",  # the one of UTF-16
    b"\xed\xa0\x80",  # a lone surrogate
    b"\xf4\x90\x80\x80",  # behind the last code point
    b"\xc3",  # half a letter
    b"\r",
    b"\t",
    b"\t\t\t",
    "\u0085\u2028\u2029\u200b\u202e\ufffe\U0010ffff".encode(),
    "e\u0301\u0301\u0301".encode() * 50,
    b"<unk><s></s><pad>",
    "▁▁".encode(),
    b"'\"\\",
)


def inserted(random: Random, lines: Lines) -> Lines:
    """Odd bytes within some lines."""
    lines = list(lines)
    for _ in range(random.choice([1, 1, 3, len(lines)])):
        row = random.randrange(len(lines))
        place = random.randrange(len(lines[row]) + 1)
        lines[row] = lines[row][:place] + random.choice(SEQUENCES) + lines[row][place:]
    return lines


def noise(random: Random, lines: Lines) -> Lines:
    return random.randbytes(random.randrange(2000)).split(b"\n")


def with_a_long_line(random: Random, lines: Lines) -> Lines:
    piece = random.choice([b"a", b"word ", "é".encode(), b" ", b"\x00", "漢".encode(), b"\xff"])
    return [*lines, piece * (1_000_000 // len(piece))]


def one_more(random: Random, lines: Lines) -> Lines:
    place = random.randrange(len(lines) + 1)
    return [*lines[:place], b"one too many", *lines[place:]]


CONTENTS: tuple[Callable[[Random, Lines], Lines], ...] = (
    inserted,
    inserted,
    inserted,
    noise,
    with_a_long_line,
    one_more,
    lambda random, lines: lines[1:],
    lambda random, lines: [lines[-1], *lines[:-1]],
    lambda random, lines: [],
    lambda random, lines: [b""] * len(lines),
    lambda random, lines: [random.choice([line, b"", b" ", "\u3000".encode()]) for line in lines],
    lambda random, lines: [line + b"\r" for line in lines],
    lambda random, lines: [b"\xef\xbb\xbf" + line for line in lines],
    lambda random, lines: [line.decode().encode("utf-16") for line in lines],
    lambda random, lines: [line.decode().encode("latin-1", errors="replace") for line in lines],
    lambda random, lines: [line.replace(b" ", b"\t") for line in lines],
    lambda random, lines: lines,
)


def joined(random: Random, lines: Lines) -> bytes:
    return b"\n".join(lines) + random.choice([b"\n", b"", b"\n\n", b"\r\n"])


def packed(random: Random, data: bytes) -> tuple[str, bytes]:
    """A suffix and what stands in the file: packed or not, and sometimes not what the suffix says."""
    suffix = random.choice(["", "", "", ".gz", ".xz"])
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    content = pack(data)
    if suffix and random.random() < 0.3:
        cut = random.randrange(len(content) + 1)
        content = random.choice([data, content[:cut], content[:cut] + b"\x00\xff" + content[cut:], content + data])
    return suffix, content


def put(random: Random, folder: Path, name: str, data: bytes) -> str:
    """A file of that content; now and then what is no file, or none that can be read."""
    suffix, content = packed(random, data)
    path = folder / (name + suffix)
    kind = random.randrange(30)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(random.choice([path.name, "nowhere", "/dev/zero", "/proc/self/mem"]))
    elif kind == 3:
        return str(path) + random.choice(["/below", ".absent", "\x00", "x" * 300])
    else:
        path.write_bytes(content)
        if kind == 4:
            path.chmod(0)
    return str(path)


def files(random: Random, folder: Path, pairs: list[tuple[str, str]]) -> Options:
    sides = [[pair[side].encode() for pair in pairs] for side in (0, 1)]
    for side in random.choice([(0,), (1,), (0, 1)]):
        sides[side] = random.choice(CONTENTS)(random, sides[side])
    if random.random() < 0.1:
        sides.reverse()
    paths = [put(random, folder, name, joined(random, lines)) for name, lines in zip("ab", sides, strict=True)]
    options: Options = {
        "source": paths[0],
        "target": paths[1],
        "invalid_utf8": random.choice(["error", "replace", "skip"]),
    }
    return options | random.choice([{}, {}, {"limit": random.choice([1, 7, 10**9])}])


def table(random: Random, folder: Path, pairs: list[tuple[str, str]]) -> Options:
    lines = random.choice(CONTENTS)(random, ["\t".join(pair).encode() for pair in pairs])
    columns = {"source_column": random.choice([1, 1, 2, 3]), "target_column": random.choice([2, 2, 1, 9])}
    policy = random.choice(["error", "replace", "skip"])
    return {"tsv": put(random, folder, "t", joined(random, lines)), "invalid_utf8": policy, **columns}


def dataset(random: Random, folder: Path, pairs: list[tuple[str, str]]) -> Options:
    suffix = random.choice([".jsonl", ".csv", ".tsv", ".json", ".parquet"])
    odd = [None, 3, [], {"en": "x"}, "\ud800", "a\nb", "\x00", ""]
    rows: list[dict[str, object]] = [{"en": source, "fr": target} for source, target in pairs]
    for row in random.choices(rows, k=random.randrange(4)):
        row[random.choice(["en", "fr", "de"])] = random.choice(odd)
    if suffix in (".jsonl", ".json", ".parquet"):
        lines = [json.dumps(row).encode() for row in rows]
    else:
        separator = "\t" if suffix == ".tsv" else ","
        cells = [[str(row["en"]), str(row["fr"])] for row in rows]
        lines = [separator.join(row).encode(errors="surrogatepass") for row in [["en", "fr"], *cells]]
    lines = random.choice(CONTENTS)(random, lines)
    path = folder / f"d{suffix}"
    path.write_bytes(joined(random, lines))
    return {"path": str(path), "source": "en", "target": random.choice(["fr", "fr", "fr", "translation.fr"])}
