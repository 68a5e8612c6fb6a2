"""Lines: where they end, what is taken off them, and what is said about files that can't be read."""

import gzip
import lzma
import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.errors import UserError
from nmt.text.lines import InvalidLines, InvalidUtf8, decode_line, one_line, read_lines, same_length

PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
NO_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""What `str.splitlines` takes for line ends, and no other tool does."""


def lines_of(path: Path, invalid: InvalidUtf8 = "error", counts: InvalidLines | None = None) -> list[str | None]:
    return list(read_lines(path, invalid=invalid, counts=counts or InvalidLines()))


def refusal_of(path: Path, invalid: InvalidUtf8 = "error") -> str:
    with pytest.raises(UserError) as caught:
        lines_of(path, invalid)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", PACKERS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(text=st.text(st.one_of(st.sampled_from("\n\r \t\ufeffé" + NO_LINE_ENDS), st.characters(codec="utf-8"))))
def test_a_file_is_split_at_newlines_and_nowhere_else(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(PACKERS[suffix](text.encode()))
    expected = text.removeprefix("\ufeff").split("\n")
    if expected[-1] == "":
        expected.pop()
    assert lines_of(path) == [line.removesuffix("\r") for line in expected]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(data=st.lists(st.sampled_from([b"\n", b"\r", b"a", b"\xff", b"\xc3", b"\xa9"])).map(b"".join))
def test_a_line_read_as_bytes_is_decoded_as_a_file_s_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "text"
    path.write_bytes(data)
    with path.open("rb") as file:
        assert [decode_line(raw) for raw in file] == lines_of(path, "replace")


def test_characters_that_look_like_line_ends_stay_in_their_line(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(f"a{NO_LINE_ENDS}b\rc\nd".encode())
    assert lines_of(path) == [f"a{NO_LINE_ENDS}b\rc", "d"]


def test_a_byte_order_mark_and_carriage_returns_at_line_ends_are_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\xef\xbb\xbftwo\r\r\n\r\n")
    assert lines_of(path) == ["one", "\ufefftwo\r", ""]


def test_a_line_of_a_megabyte_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    long = "é" * 500_000
    path.write_bytes(gzip.compress(f"{long}\nshort\n".encode()))
    assert lines_of(path) == [long, "short"]


@pytest.mark.parametrize("suffix", PACKERS)
def test_bytes_that_are_no_utf8_are_refused_with_file_line_and_byte(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(PACKERS[suffix](b"good\nab\xe9cd\n"))
    assert refusal_of(path).startswith(f"{path}:2:3: no valid UTF-8 (byte 0xe9); ")


def test_bytes_that_are_no_utf8_are_replaced_or_left_out_where_asked_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"a\xffb\ngood\n\xc3\n")
    counts = InvalidLines()
    assert lines_of(path, "replace", counts) == ["a\ufffdb", "good", "\ufffd"]
    assert (counts.replaced, counts.skipped) == (2, 0)
    counts = InvalidLines()
    assert lines_of(path, "skip", counts) == [None, "good", None]
    assert (counts.replaced, counts.skipped) == (0, 2)


def test_surrogates_and_overlong_forms_are_no_utf8(tmp_path: Path) -> None:
    for bad in (b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"):
        path = tmp_path / "text"
        path.write_bytes(bad)
        assert f"{path}:1:1: " in refusal_of(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert refusal_of(tmp_path / "absent").startswith(f"{tmp_path / 'absent'}: can't be read (no such file")
    assert refusal_of(tmp_path).startswith(f"{tmp_path}: can't be read (is a directory)")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.touch(mode=0o000)
    assert refusal_of(path).startswith(f"{path}: can't be read (permission denied)")


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("harm", ["cut short", "flipped", "not packed"])
def test_a_damaged_archive_is_named(tmp_path: Path, suffix: str, harm: str) -> None:
    path = tmp_path / f"text{suffix}"
    packed = bytearray(PACKERS[suffix](os.urandom(5000).hex().encode()))
    if harm == "flipped":
        packed[len(packed) // 2] ^= 0xFF
    path.write_bytes({"cut short": packed[: len(packed) // 2], "not packed": b"plain text\n"}.get(harm, packed))
    assert refusal_of(path, "replace").startswith(f"{path}: damaged (")


@given(text=st.text())
def test_a_decoded_text_is_always_one_line_of_the_same_length(text: str) -> None:
    line = one_line(text)
    assert len(line) == len(text)
    assert len(f"{line}.".splitlines()) == 1
    assert not any(unicodedata.category(letter) == "Cc" for letter in line)
    assert one_line(line) == line


def test_only_controls_and_line_ends_are_cleaned_away() -> None:
    kept = "naïve « œuvre »\u00a0! 你好 \u200b\u200d\ufeff\u00ad😀"
    assert one_line(kept) == kept
    assert one_line("a\nb\r\tc\x00\x1b" + NO_LINE_ENDS) == "a b  c  " + " " * len(NO_LINE_ENDS)


@pytest.mark.parametrize(("sources", "targets", "place"), [(5, 3, "a:4"), (1, 3, "b:2"), (0, 1, "b:1")])
def test_sides_of_different_length_are_refused_at_the_first_surplus_line(
    sources: int, targets: int, place: str
) -> None:
    with pytest.raises(UserError) as caught:
        list(same_length(["s"] * sources, ["t"] * targets, "a", "b"))
    message = str(caught.value)
    assert message.startswith(f"{place}: ")
    assert f"{max(sources, targets)} lines" in message
    assert f"{min(sources, targets)} lines" in message or f"has {min(sources, targets)};" in message


def test_sides_are_read_together_and_not_ahead() -> None:
    read = []

    def lines(name: str) -> Iterator[str]:
        for number in range(3):
            read.append(f"{name}{number}")
            yield name

    rows = same_length(lines("a"), lines("b"), "a", "b")
    assert next(rows) == ("a", "b")
    assert read == ["a0", "b0"]
    assert len(list(rows)) == 2
