"""nmt-evaluate: BLEU, chrF and TER of a model or of existing translations."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.commands.command import Parser, add_machine_options, add_plugins_option, positive, run
from nmt.commands.model_folder import model_folder
from nmt.errors import UserError

if TYPE_CHECKING:
    from nmt.evaluation.metrics import Measured

EPILOG = """\
Without files, the test set of the model's recipe is translated (a key that the recipe was overridden with counts).
The translations go to test.translations.txt in the run's folder, the metrics to test.metrics.json beside them; with
--source and --reference the name of the source file takes the place of "test". With --hypothesis, an existing output
is measured and nothing is written.
"""


def parser() -> Parser:
    """The command's options."""
    parser = Parser("nmt-evaluate", "Translate a test set and measure it: BLEU, chrF, TER.", EPILOG)
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="folder of a run (default: $NMT_MODEL, or the newest in runs/)"
    )
    parser.add_argument("--source", metavar="FILE", help="sentences to translate")
    parser.add_argument("--reference", metavar="FILE", help="their right translations, line for line")
    parser.add_argument("--hypothesis", metavar="FILE", help="an existing output to measure against --reference")
    parser.add_argument("--split", choices=("test", "valid"), help="the recipe's set (default: test)")
    parser.add_argument("--beam", type=positive, metavar="N", help="hypotheses kept at each step")
    parser.add_argument("--json", action="store_true", help="give one JSON object")
    add_machine_options(parser)
    add_plugins_option(parser)
    return parser


def main() -> int:
    """The console script."""
    arguments = parser().parse_args()
    return run("nmt-evaluate", lambda: _evaluate(arguments), plugins=not arguments.no_plugins)


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.hypothesis:
        others = (arguments.model, arguments.source, arguments.split, arguments.beam)
        if any(others) or not arguments.reference:
            raise UserError("--hypothesis goes with --reference alone", "leave out the model and its options")
        measured = _measured(*_files(arguments.hypothesis, arguments.reference))
    else:
        measured = _translated(arguments)
    if arguments.json:
        print(json.dumps(_records(measured), ensure_ascii=False))
    else:
        for item in measured:
            print(f"{item.name:<16} {item.value:6.2f}  {item.signature}")
    return 0


def _translated(arguments: argparse.Namespace) -> Sequence[Measured]:
    """Translate and measure; what was found is kept in the run's folder."""
    folder = model_folder(arguments.model)
    if bool(arguments.source) != bool(arguments.reference):
        raise UserError("--source and --reference go together", "give both, or neither for the recipe's test set")
    if arguments.source and arguments.split:
        raise UserError("--split chooses a set of the recipe, --source another one", "give one of them")
    from nmt import checkpoints
    from nmt.device import keep_freed_memory, limits_in_words
    from nmt.translator import Translator

    keep_freed_memory()
    translator = Translator.load(
        folder, device=arguments.device, threads=arguments.threads, precision=arguments.precision
    )
    if arguments.source:
        name = Path(arguments.source).name
        sources, references = _files(arguments.source, arguments.reference)
    else:
        name = arguments.split or "test"
        sources, references = _recipe_set(folder, name)
    beam = translator.search.beam if arguments.beam is None else arguments.beam
    with limits_in_words(str(folder)):
        hypotheses = translator.translate(sources, beam=beam)
    measured = _measured(hypotheses, references)
    checkpoints.write_text(folder / f"{name}.translations.txt", "".join(f"{line}\n" for line in hypotheses))
    record = {
        "set": name,
        "languages": translator.languages,
        "sentences": len(sources),
        "checkpoint": translator.checkpoint,
        "precision": arguments.precision,
        "search": translator.search.model_dump() | {"beam": beam},
        "metrics": _records(measured),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    checkpoints.write_text(folder / f"{name}.metrics.json", text + "\n")
    return measured


def _recipe_set(folder: Path, split: str) -> tuple[list[str], list[str]]:
    from nmt.recipe_file import read_run
    from nmt.registry import CORPUS

    run = folder if (folder / "recipe.yaml").exists() else folder.parent
    recipe = read_run(run)
    choice = recipe.data.test if split == "test" else recipe.data.valid
    if choice is None:
        raise UserError("the recipe has no test set", "give --source and --reference", place=str(run / "recipe.yaml"))
    pairs = list(choice.build(CORPUS).pairs())
    return [pair.source for pair in pairs], [pair.target for pair in pairs]


def _files(first: str, second: str) -> tuple[list[str], list[str]]:
    from nmt.text.files import FilesCorpus

    pairs = list(FilesCorpus(source=first, target=second).pairs())
    return [pair.source for pair in pairs], [pair.target for pair in pairs]


def _measured(hypotheses: list[str], references: list[str]) -> Sequence[Measured]:
    from nmt.evaluation.metrics import measure

    return measure(hypotheses, references, ter=True)


def _records(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    return [{"name": each.name, "value": each.value, "signature": each.signature} for each in measured]
