"""nmt-data: what it says of sound and of faulty sets, in text and JSON, and its exit codes."""

import gzip
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from nmt.commands import data
from nmt.text.inspection import marks
from nmt.text.inspection.gathering import split_words
from nmt.text.inspection.reading import excerpt
from nmt.text.inspection.scripts import main_script
from nmt.text.phrasebook.phrasebook import pairs as phrasebook

Check = Callable[..., tuple[int, str, str]]
Pairs = list[tuple[str, str]]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Check:
    """`nmt-data check` in this process: its exit code, its output and its complaints."""
    monkeypatch.chdir(tmp_path)

    def check_(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nmt-data", "check", *map(str, arguments)])
        try:
            code = data.main()
        except SystemExit as left:
            code = left.code
        return code, *capsys.readouterr()

    return check_


@pytest.fixture(scope="module")
def sound() -> Pairs:
    return list(phrasebook("train", size=1500))


def write(pairs: Pairs, source: str = "a", target: str = "b") -> tuple[str, str]:
    for name, side in ((source, 0), (target, 1)):
        Path(name).write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    return source, target


def findings(output: str) -> list[str]:
    """The lines of findings, without excerpts and summaries."""
    return [line for line in output.splitlines() if re.match(r"\S+:\d+(-\d+)?: ", line)]


def test_nothing_is_found_in_a_sound_corpus(check: Check, sound: Pairs) -> None:
    assert check(*write(sound)) == (0, "a: 1,500 lines: nothing found\n", "")


def test_a_finding_is_a_line_with_its_place_and_what_to_do(check: Check, sound: Pairs) -> None:
    pairs = [*sound, ("Hello there,\x07 you!", "Bonjour, vous !"), ("How are you doing?", "How are you doing?")]
    code, out, err = check(*write(pairs))
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "a:1501: control: the source: holds U+0007; strip control characters",
        "    source: Hello there,\\u0007 you!",
        "    target: Bonjour, vous !",
        "a:1502: copied: the target is the source; leave the pair out, or translate it",
        "    source: How are you doing?",
        "    target: How are you doing?",
        "a: 1,502 lines: 1 control (1 lines), 1 copied (1 lines)",
    ]


def test_json_says_the_same_and_counts_all_where_few_are_shown(check: Check, sound: Pairs) -> None:
    pairs = [*sound, *sound[:40]]
    code, out, _ = check(*write(pairs), "--json", "--show", 3)
    assert code == 1
    (record,) = json.loads(out)["sets"]
    assert (record["name"], record["source_lines"], record["target_lines"], record["notes"]) == ("a", 1540, 1540, [])
    assert record["counts"] == {"duplicate": {"findings": 40, "lines": 40}}
    assert [finding["first"] for finding in record["findings"]] == [1501, 1502, 1503]
    first = record["findings"][0]
    assert first == {
        "kind": "duplicate",
        "first": 1501,
        "last": 1501,
        "problem": "the same pair as line 1",
        "remedy": "keep one of them",
        "source": sound[0][0],
        "target": sound[0][1],
    }


@pytest.mark.parametrize("moved", [1, -1, 3, 20])
def test_a_shift_is_told_from_its_first_to_its_last_line(check: Check, sound: Pairs, moved: int) -> None:
    sources, targets = map(list, zip(*sound, strict=True))
    begin, end = 400, 900
    stretch = targets[begin : end + 1]
    strangers = targets[-abs(moved) :]
    mixed = strangers + stretch[: -len(strangers)] if moved > 0 else stretch[len(strangers) :] + strangers
    pairs = list(zip(sources, targets[:begin] + mixed + targets[end + 1 :], strict=True))
    code, out, _ = check(*write(pairs))
    (line,) = (line for line in findings(out) if "shifted" in line)
    first, last, amount, where = re.match(
        r"a:(\d+)-(\d+): shifted: their translations stand (\d+) lines? further (up|down) in the target; ", line
    ).groups()
    assert code == 1
    assert (int(amount), where) == (abs(moved), "down" if moved > 0 else "up")
    expected = (begin + 1, end + 1 - moved) if moved > 0 else (begin + 1 - moved, end + 1)
    assert abs(int(first) - expected[0]) <= 2
    assert abs(int(last) - expected[1]) <= 2


def test_a_corpus_that_is_shifted_as_a_whole_is_seen_to_be(check: Check, sound: Pairs) -> None:
    sources, targets = zip(*sound, strict=True)
    _, out, _ = check(*write(list(zip(sources[1:], targets[:-1], strict=True))))
    (line,) = findings(out)
    assert re.match(r"a:1-149[89]: shifted: their translations stand 1 line further down in the target; ", line)


def test_files_of_different_length_are_checked_to_the_end(check: Check, sound: Pairs) -> None:
    write(sound)
    Path("b").write_text("".join(f"{target}\n" for row, (_, target) in enumerate(sound) if row != 700))
    code, out, _ = check("a", "b")
    assert code == 1
    unequal, shifted = findings(out)
    assert unequal.startswith("a:1500: unequal: the source has 1,500 lines, the target 1,499; ")
    assert re.match(r"a:70[0-3]-1500: shifted: their translations stand 1 line further up in the target; ", shifted)


def test_lines_in_another_order_are_no_shift(check: Check, sound: Pairs) -> None:
    sources, targets = map(list, zip(*sound, strict=True))
    mixed = Random(1).sample(targets[300:360], 60)
    _, out, _ = check(*write(list(zip(sources, targets[:300] + mixed + targets[360:], strict=True))))
    (line,) = findings(out)
    assert re.match(r"a:30[0-3]-3(5[7-9]|6[0-3]): misaligned: ", line)


def test_a_test_set_may_share_no_sentence_with_the_training_set(check: Check, sound: Pairs) -> None:
    train, test = sound[:1200], [*sound[1200:1210], (sound[5][0].upper(), sound[5][1]), (sound[9][0], "Rien du tout.")]
    code, out, _ = check(*write(train), "--test", *write(test, "c", "d"))
    assert code == 1
    assert [line.partition(";")[0] for line in findings(out)][-2:] == [
        "c:11: overlap: its pair is line 6 of a",
        "c:12: overlap: its source is line 10 of a",
    ]


def test_a_test_set_with_its_sides_exchanged_is_seen_by_the_training_set(check: Check, sound: Pairs) -> None:
    swapped = [(target, source) for source, target in sound[1200:]]
    _, out, _ = check(*write(sound[:1200]), "--test", *write(swapped, "c", "d"))
    assert any(
        re.match(r"c:1-\d+: swapped: source and target are in each other's place; ", line) for line in findings(out)
    )


def test_a_recipe_is_checked_with_all_its_sets(check: Check, sound: Pairs) -> None:
    write(sound[:1000])
    write(sound[1000:1100], "c", "d")
    recipe = Path("recipe.yaml")
    recipe.write_text(
        "name: r\ndata:\n  source_language: en\n  target_language: fr\n"
        "  train: {corpus: files, source: a, target: b}\n  valid: {corpus: files, source: c, target: d}\n"
        "  test: {corpus: files, source: [c, a], target: [d, b], limit: 101}\n"
    )
    code, out, _ = check(recipe)
    assert code == 1
    assert [line.partition(":")[0] for line in out.splitlines() if "lines:" in line] == ["train", "valid", "test"]
    assert findings(out) == [
        "test:101: overlap: its pair is line 1 of train; take it out of the training set, or out of the test"
    ]


def test_packed_files_and_odd_bytes_are_read(check: Check, sound: Pairs) -> None:
    source, target = write(sound)
    Path("a.gz").write_bytes(gzip.compress(Path(source).read_bytes() + b"caf\xe9 au lait\n"))
    Path(target).write_text("".join(f"{pair[1]}\n" for pair in sound) + "Un café au lait.\n")
    code, out, _ = check("a.gz", target)
    assert code == 1
    assert any(line.startswith("a.gz:1501: encoding: the source: bytes that are no UTF-8") for line in findings(out))


def test_few_pairs_are_checked_one_by_one_and_the_rest_is_told(check: Check) -> None:
    code, out, _ = check(*write([("One.", "Un."), ("", "Deux.")]))
    assert code == 1
    assert "a: note: fewer than 200 pairs in a: shifts were not looked for" in out
    assert findings(out)[0].startswith("a:2: empty: the source is empty; ")


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n\n", b"one\n"])
def test_next_to_nothing_is_checked_without_a_fuss(check: Check, content: bytes) -> None:
    Path("a").write_bytes(content)
    Path("b").write_bytes(b"")
    code, _, err = check("a", "b")
    assert (code, err) == (1 if content else 0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none", "nothing"), "none: can't be read (no such file or directory); check the path"),
        ((".", "."), ".: can't be read (is a directory); check the path"),
        (("/dev/zero", "/dev/zero"), "/dev/zero: is no file but a pipe or a device"),
        (("a",), "a: a source file without its target; give both, or a recipe (.yaml)"),
        (("a", "b", "c"), "3 paths; give a source and a target file, or one recipe"),
        (("none.yaml",), "none.yaml: can't be read"),
        (("a", "b", "--show", "0"), "argument --show: '0' is no whole number above 0"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(check: Check, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = check(*arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"nmt-data: {re.escape(message)}[^\n]*\n", err)


# --- what a pair shows by itself


@pytest.mark.parametrize(
    "text",
    ["café", "Il a parlé « à côté »\u00a0!", "déjà\u202f?", "naïve Ångström", "Что? Где?", "中文。", "x?y=1/2", "NÃO"],
)
def test_sound_letters_are_no_broken_encoding(text: str) -> None:
    assert marks.encoding(text) == ""


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize("text", ["café", "déjà", "l’été", "„Größe“", "Привет", "Ελληνικά", "中文字", "שלום", "œuvre"])
def test_utf8_read_as_another_encoding_is_seen(text: str, encoding: str) -> None:
    assert marks.encoding(text.encode().decode(encoding, errors="replace"))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("<b>a</b>", "<b>b</b>"),
        ("a < b and c > d", "a < b et c > d"),
        ("I <3 you & me", "Je t'aime <3 & moi"),
        ("Fish &amp; chips", "Poisson &amp; frites"),
        ("use <name> here", "mettre <name> ici"),
        ("a<br>b", "a<br>b"),
        ("AT&T", "AT&T"),
        ("0<n<7", "0<n<7"),
    ],
)
def test_sound_mark_up_is_left_alone(source: str, target: str) -> None:
    assert marks.markup(source, target) == ""


@pytest.mark.parametrize(
    ("source", "target", "problem"),
    [
        ("<b>a</b>", "<b>b", "the target has <b> without its counterpart"),
        ("<b>a</b>", "b", "<b> is on one side only"),
        ("a", "b</i>", "the target has </i> without its counterpart"),
        ("a &amp;quot; b", "c", "the source has '&amp;quot;', which is no whole tag or entity"),
        ("a &nbsp b", "c", "the source has '&nbsp', which is no whole tag or entity"),
        ("a", '<a href="x">b</a', "the target has '</a', which is no whole tag or entity"),
    ],
)
def test_damaged_mark_up_is_named(source: str, target: str, problem: str) -> None:
    assert marks.markup(source, target) == problem


@pytest.mark.parametrize("piece", ["<", "</ ", "& ", "é "])
def test_a_line_of_a_megabyte_is_looked_through_in_no_time(piece: str) -> None:
    for line in (piece * (1_000_000 // len(piece)), f"{piece}{' ' * 1_000_000}5", f"<a{' ' * 1_000_000}5"):
        began = time.process_time()
        marks.markup(line, line)
        marks.encoding(line)
        marks.controls(line)
        assert time.process_time() - began < 5


def test_a_side_of_next_to_no_letters_is_empty_beside_a_sentence() -> None:
    def emptiness(source: str, target: str) -> str:
        return marks.emptiness(source, target, split_words(source), split_words(target))

    assert emptiness("", "") == "the source is empty"
    assert emptiness("A whole sentence.", "…") == "the target has 0 letters, the other side 14"
    assert emptiness("No", "A whole sentence, no less.") == "the source has 2 letters, the other side 20"
    assert emptiness("Oh!", "Ah bon ?") == ""
    assert emptiness("the name of the group", "组名") == ""
    assert emptiness("?!", "?!") == ""


def test_names_and_numbers_may_be_copied() -> None:
    def copied(source: str, target: str) -> str:
        return marks.copied(source, target, split_words(source), split_words(target))

    assert copied("Tom", "Tom") == copied("12 345", "12 345") == copied("!", "!") == ""
    assert copied("Really?", "Really?") == copied("not at all", "not at all") == "the target is the source"
    assert copied("one two three four five six seven eight", "one two three four five six seven huit")


def test_scripts_are_named_by_most_letters() -> None:
    scripts = {"Hello": "LATIN", "déjà 中": "LATIN", "Привет, Tom": "CYRILLIC", "123": "", "漢字かな": "CJK", "": ""}
    assert {text: main_script(text) for text in scripts} == scripts


def test_words_are_letters_where_no_spaces_part_them() -> None:
    assert split_words("L'Été, 中文 ok!") == ["l", "été", "中", "文", "ok"]


def test_an_excerpt_is_short_and_safe_to_print() -> None:
    assert excerpt("a\x1b[31m\u202eb\u00a0c") == "a\\u001b[31m\\u202eb\u00a0c"
    assert excerpt("é" * 100) == "é" * 80 + "…"
