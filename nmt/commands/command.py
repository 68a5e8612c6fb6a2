"""What all commands share: their parser, and how they end.

Nothing heavy is imported here or at the top of a command, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from nmt import __version__
from nmt.errors import UserError, did_you_mean

MAX_THREADS = 1024
"""Far beyond any use; with a hundred thousand torch dies."""


class Parser(argparse.ArgumentParser):
    """An argument parser that suggests the option that was meant."""

    def __init__(self, name: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=name,
            description=description,
            epilog=epilog or None,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--version", action="version", version=f"nmt {__version__}")

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and one line."""
        unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings if option[:2] == "--"]
            message = f"unknown option {unknown[1]}; {did_you_mean(unknown[1], known)}"
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def positive(text: str) -> int:
    """An option's value that must be a whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return number


def threads(text: str) -> int:
    """A number of threads: at least one, and no more than torch survives."""
    number = positive(text)
    if number > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text} is more than {MAX_THREADS}")
    return number


def not_negative(text: str) -> float:
    """An option's value that must be a number from 0 on."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return number


def add_machine_options(parser: Parser) -> None:
    """Where and with how much of the machine a model runs."""
    parser.add_argument("--threads", type=threads, metavar="N", help="processor threads")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "int8"),
        default="fp32",
        help="what weights are multiplied in: bf16 and int8 are faster on processors that have them (default: fp32)",
    )


def add_plugins_option(parser: Parser) -> None:
    """Whether anything but nmt's own components may be used."""
    parser.add_argument("--no-plugins", action="store_true", help="use built-in components only; import no others")


def _ask_for_huge_pages() -> None:
    """Weights in pages of 2 MiB are read faster, above all for a few rows; Linux gives them to who asks.

    torch reads the variable with its first tensor; who has set it to 0 is left alone.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def run(name: str, body: Callable[[], int], *, plugins: bool = True) -> int:
    """Run a command's body, with installed plugins or without; its exit code.

    A user's mistake is one line on stderr and code 2, never a traceback.
    """
    from nmt.registry import only

    _ask_for_huge_pages()
    try:
        with only(None if plugins else ()):
            code = body()
        if sys.stdout is not None:  # as it is where whoever started us has closed it
            sys.stdout.flush()
        return code
    except UserError as error:
        for line in str(error).splitlines():
            print(f"{name}: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _forget_output()  # whoever read it has left
        return 128 + 13
    except OSError as error:  # a full disk, a folder that lost its permissions
        place = f"{error.filename}: " if error.filename else ""
        print(f"{name}: {place}{(error.strerror or str(error)).lower()}", file=sys.stderr)
        _forget_output()
        return 1


def _forget_output() -> None:
    """What stdout still holds goes nowhere: else Python would complain once more when it flushes at its end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
