"""nmt-translate: lines in, lines out."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from nmt.commands.command import Parser, add_machine_options, add_plugins_option, not_negative, positive, run, threads
from nmt.commands.model_folder import model_folder
from nmt.commands.reading import opened, windows
from nmt.errors import UserError

if TYPE_CHECKING:
    from nmt.commands.workers import Answer, Answering
    from nmt.search.translation import Translation

WINDOW = 512
"""Lines translated together, if as many are there; within them, those of like lengths share a batch."""

EPILOG = """\
One output line for each input line, in order: an empty line gives an empty line, bytes that are no UTF-8 are read as
U+FFFD. Output begins before the input ends. With --n-best N there are up to N lines for each input line, of the form
  LINE ||| TRANSLATION ||| SCORE
where LINE counts from 0. --scores and --alignments put columns before and behind the translation, with tabs between:
the normalised log-probability, and pairs SOURCE-TARGET of pieces (from 0) that attention connects. --json gives an
object for each line instead: {"line", "translations": [{"text", "score", "log_probability", "truncated", "looped",
...}]}, where truncated says that a line or its translation was cut for its length, and looped that the translation
repeats words over and over where the line does not; both are told on stderr too.
"""


def parser() -> Parser:
    """The command's options."""
    parser = Parser("nmt-translate", "Translate text, one sentence a line.", EPILOG)
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="folder of a run or checkpoint (default: $NMT_MODEL, or the newest run in runs/)",
    )
    parser.add_argument("--beam", type=positive, metavar="N", help="hypotheses kept at each step; 1 is greedy search")
    parser.add_argument(
        "--length-penalty", type=not_negative, metavar="ALPHA", help="exponent of the length normalisation"
    )
    parser.add_argument(
        "--n-best", type=positive, metavar="N", help="give N translations of each line; the beam is at least as wide"
    )
    parser.add_argument("--scores", action="store_true", help="put each translation's score before it")
    parser.add_argument("--alignments", action="store_true", help="put the alignment of pieces behind it")
    parser.add_argument("--json", action="store_true", help="give a JSON object for each line")
    parser.add_argument("--input", metavar="FILE", help="read this file instead of stdin")
    parser.add_argument("--output", metavar="FILE", help="write this file, whole or not at all, instead of stdout")
    parser.add_argument("--batch-tokens", type=positive, metavar="N", help="source tokens of a batch (default: 2048)")
    parser.add_argument("--batch-sentences", type=positive, metavar="N", help="sentences of a batch at most")
    parser.add_argument(
        "--shortlist",
        action="store_true",
        help="write only what the run's shortlist has for the words of a line: faster (see nmt-data shortlist)",
    )
    parser.add_argument(
        "--graphs", action="store_true", help="take search's steps as CUDA graphs, on a GPU (no --shortlist then)"
    )
    add_machine_options(parser)
    parser.add_argument(
        "--workers",
        type=threads,
        default=1,
        metavar="N",
        help="translate in N processes, each with the model and with --threads of its own (then 1 by default)",
    )
    add_plugins_option(parser)
    return parser


def main() -> int:
    """The console script."""
    arguments = parser().parse_args()
    return run("nmt-translate", lambda: _translate(arguments), plugins=not arguments.no_plugins)


def _translate(arguments: argparse.Namespace) -> int:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(opened(arguments.input))
        folder = model_folder(arguments.model)
        from nmt.commands.workers import portions, workers

        count = arguments.workers
        lines = portions(windows(file, arguments.input, count * WINDOW), count)
        if count > 1:
            answers = stack.enter_context(workers(arguments, folder))(lines)
        else:
            answer = answering(arguments, folder)
            answers = (answer(first, window) for first, window in lines)
        output = stack.enter_context(_writing(arguments.output))
        for translated, warnings in answers:
            output.write(translated.encode())
            output.flush()  # where nobody reads it any more, there is nothing to warn of
            for warning in warnings:
                print(f"nmt-translate: {warning}", file=sys.stderr)
    return 0


def answering(arguments: argparse.Namespace, folder: Path) -> Answering:
    """Load the model; what gives the output for lines, the first of them with its number from 0, and warnings."""
    from nmt.device import keep_freed_memory, limits_in_words
    from nmt.translator import BATCH_TOKENS, Translator

    keep_freed_memory()
    with limits_in_words(str(folder)):
        translator = Translator.load(
            folder,
            device=arguments.device,
            threads=arguments.threads,
            precision=arguments.precision,
            shortlist=arguments.shortlist,
            graphs=arguments.graphs,
        )
    search = translator.searching(beam=arguments.beam, length_penalty=arguments.length_penalty)

    def answer(first: int, lines: list[str]) -> Answer:
        with limits_in_words(str(folder)):
            found = translator.translations(
                lines,
                search=search,
                n_best=arguments.n_best or 1,
                weights=arguments.alignments,
                batch_tokens=arguments.batch_tokens or BATCH_TOKENS,
                batch_sentences=arguments.batch_sentences,
            )
        numbered = list(enumerate(found, first))
        shown = "".join(_shown(index, translations, arguments) for index, translations in numbered)
        return shown, [warning for index, translations in numbered for warning in _warnings(index, translations)]

    return answer


def _shown(index: int, translations: list[Translation], arguments: argparse.Namespace) -> str:
    """What is written for one input line."""
    if arguments.json:
        record = {"line": index, "translations": [_record(each, arguments.alignments) for each in translations]}
        return _json(record) + "\n"
    shown = []
    for translation in translations[: arguments.n_best or 1]:
        columns = [translation.text]
        if arguments.n_best:
            columns = [f"{index} ||| {translation.text} ||| {translation.score:.6f}"]
        elif arguments.scores:
            columns.insert(0, f"{translation.score:.6f}")
        if arguments.alignments:
            columns.append(" ".join(f"{source}-{target}" for source, target in translation.alignment()))
        shown.append("\t".join(columns) + "\n")
    return "".join(shown)


def _json(record: Mapping[str, object]) -> str:
    """The record on a line by itself for every reader: also what others than JSON take for line ends is escaped."""
    from nmt.text.lines import disturbs_a_line

    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(f"\\u{ord(letter):04x}" if disturbs_a_line(letter) else letter for letter in text)


def _record(translation: Translation, alignments: bool) -> dict[str, object]:
    record: dict[str, object] = {
        "text": translation.text,
        "score": translation.score,
        "log_probability": translation.log_probability,
        "truncated": translation.truncated,
        "looped": translation.looped,
    }
    if alignments:
        record |= {
            "source_pieces": translation.source_pieces,
            "target_pieces": translation.target_pieces,
            "alignment": translation.alignment(),
            "weights": [] if translation.weights is None else translation.weights.tolist(),
        }
    return record


def _warnings(index: int, translations: list[Translation]) -> Iterator[str]:
    if translations[0].truncated:
        yield f"line {index + 1}: reached the maximum length, the rest is missing"
    if translations[0].looped:
        yield f"line {index + 1}: the translation repeats itself"


@contextlib.contextmanager
def _writing(path: str | None) -> Iterator[BinaryIO]:
    """Stdout, or a file that appears under its name only when everything is written."""
    if path is None:
        if sys.stdout is None:
            raise UserError("stdout is closed", "open it, or give --output")
        yield sys.stdout.buffer
        return
    final = Path(path)
    special = final.exists() and not final.is_file()  # a named pipe, /dev/null: nothing may be put in its place
    try:
        # Through links: what they lead to is replaced, not the link.
        with final.open("wb") if special else _replacing(final.resolve()) as file:
            yield file
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"can't be written ({reason})", "choose another file", place=path) from error


@contextlib.contextmanager
def _replacing(final: Path) -> Iterator[BinaryIO]:
    temporary = final.with_name(f".{final.name}.partial")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
