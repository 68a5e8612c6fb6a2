"""nmt-data shortlist: which target pieces a model's translations may need, learnt from what it was trained on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nmt.commands.command import Parser, add_plugins_option, positive, run
from nmt.errors import UserError

FREQUENT, EACH = 2000, 50

EPILOG = f"""\
Reads the recipe and the tokenizers in the folder of the run and the corpus that the recipe names, and writes
shortlist.safetensors beside them, whole or not at all. Nothing else in the folder is touched; the run may be under way.
Candidates for a sentence are the most frequent target pieces, the likeliest translations of each of its pieces (by
IBM model 1), those pieces themselves, single digits and punctuation marks. More of them make translations slower and
fewer of them other than without a shortlist. In batches further frequent ones cost least, as sentences share them;
one sentence at a time is fastest with --frequent 100 --each 100, but in int8. docs/performance.md has figures.
Defaults: --frequent {FREQUENT} --each {EACH}.
"""


def parser() -> Parser:
    """The action's options."""
    parser = Parser("nmt-data shortlist", "Build the vocabulary shortlist of a run.", EPILOG)
    parser.add_argument("run", metavar="RUN", help="folder that nmt-train made")
    parser.add_argument(
        "--frequent", type=positive, default=FREQUENT, metavar="N", help="frequent target pieces for every sentence"
    )
    parser.add_argument(
        "--each", type=_each, default=EACH, metavar="N", help="translations that each source piece brings along"
    )
    add_plugins_option(parser)
    return parser


def main(words: Sequence[str]) -> int:
    """``nmt-data shortlist`` with these words behind it."""
    arguments = parser().parse_args(words)
    return run("nmt-data", lambda: _build(arguments), plugins=not arguments.no_plugins)


def _each(text: str) -> int:
    number = positive(text)
    if number > 2000:
        raise argparse.ArgumentTypeError(f"{text} is more than 2000")
    return number


def _build(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.run)
    if not (folder / "recipe.yaml").is_file():
        raise UserError("is no run: it has no recipe.yaml", "name a folder that nmt-train made", place=str(folder))
    from nmt.recipe_file import read_run
    from nmt.registry import CORPUS
    from nmt.text.shortlist import FILE
    from nmt.text.shortlist_building import build_shortlist
    from nmt.text.store import build_store
    from nmt.text.tokenizer import Tokenizers

    recipe = read_run(folder)
    tokenizers = Tokenizers.load(folder)
    corpus = recipe.data.train.build(CORPUS)
    corpus.check()
    sampled = recipe.tokenizer.sampling is not None  # as in training, whose store is then taken as it is
    store = build_store(corpus, tokenizers, max_length=recipe.data.max_length, keep_text=sampled, say=_say)
    shortlist = build_shortlist(store, tokenizers, frequent=arguments.frequent, each=arguments.each)
    shortlist.save(folder / FILE)
    mean = len(shortlist.ids) / tokenizers.source.vocab_size
    print(
        f"{folder / FILE}: {len(shortlist.always):,} target pieces for every sentence, "
        f"{mean:.1f} for a source piece on average, of {tokenizers.target.vocab_size:,}"
    )
    return 0


def _say(line: str) -> None:
    print(f"nmt-data: {line}", file=sys.stderr)
