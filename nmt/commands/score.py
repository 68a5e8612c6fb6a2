"""nmt-score: how probable a model finds given translations."""

from __future__ import annotations

import argparse
import json
import math
import sys

from nmt.commands.command import Parser, add_machine_options, add_plugins_option, run

EPILOG = """\
One line for each pair: the log-probability of the target given the source, in nats, the end mark counted. On stderr
the perplexity of a target token. --json gives one object: {"log_probabilities", "tokens", "perplexity"}
(null where there is no line). A source is cut where nmt-translate would cut it.
"""


def parser() -> Parser:
    """The command's options."""
    parser = Parser("nmt-score", "Score given translations with a model.", EPILOG)
    parser.add_argument("model", metavar="MODEL", help="folder of a run or checkpoint")
    parser.add_argument("--source", required=True, metavar="FILE", help="source sentences (plain, .gz or .xz)")
    parser.add_argument("--target", required=True, metavar="FILE", help="their translations, line for line")
    parser.add_argument("--json", action="store_true", help="give one JSON object")
    add_machine_options(parser)
    add_plugins_option(parser)
    return parser


def main() -> int:
    """The console script."""
    arguments = parser().parse_args()
    return run("nmt-score", lambda: _score(arguments), plugins=not arguments.no_plugins)


def _score(arguments: argparse.Namespace) -> int:
    from nmt.device import limits_in_words
    from nmt.text.files import FilesCorpus
    from nmt.translator import Translator

    pairs = list(FilesCorpus(source=arguments.source, target=arguments.target).pairs())
    with limits_in_words(str(arguments.model)):
        translator = Translator.load(
            arguments.model, device=arguments.device, threads=arguments.threads, precision=arguments.precision
        )
        scores = translator.score([pair.source for pair in pairs], [pair.target for pair in pairs])
    tokens = sum(size for _, size in scores)
    perplexity = math.exp(min(-sum(log_p for log_p, _ in scores) / tokens, 700.0)) if tokens else None
    if arguments.json:
        values = [log_p for log_p, _ in scores]
        print(json.dumps({"log_probabilities": values, "tokens": tokens, "perplexity": perplexity}))
    else:
        for log_p, _ in scores:
            print(f"{log_p:.6f}")
        if perplexity is not None:
            print(f"perplexity {perplexity:.4f} over {tokens:,} tokens", file=sys.stderr)
    return 0
