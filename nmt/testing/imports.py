"""Importing a component defines it, and does nothing else."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch

from nmt.testing.contract import Check, expect

CPU_SECONDS = 2.0
"""What importing the modules of a distribution may take at most, beside torch and nmt."""


def import_check(modules: Sequence[str]) -> Check:
    """That importing these modules, in a process of its own, changes nothing outside them and is quick."""

    def run() -> None:
        code = f"import nmt.testing.imports as i; i.observe({sorted(set(modules))!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        reason = (done.stderr.strip().splitlines() or ["no word"])[-1]
        expect(done.returncode == 0, f"the import ends with {reason}", "make it importable")
        for finding in json.loads(done.stdout.splitlines()[-1]):
            expect(False, finding, "let the import define things and do nothing else")

    return Check("importing it has no side effects and is fast", run)


def observe(modules: Sequence[str]) -> None:
    """Import modules in this process; print as JSON what that changed."""
    findings = []
    before, began = _surroundings(), time.process_time()
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        for module in modules:
            importlib.import_module(module)
    seconds = time.process_time() - began
    findings += [f"importing it changes {name}" for name, now in _surroundings().items() if now != before[name]]
    if output.getvalue():
        findings.append(f"importing it prints {output.getvalue().strip()[:60]!r}")
    if seconds > CPU_SECONDS:
        findings.append(f"importing it takes {seconds:.1f} CPU seconds, more than {CPU_SECONDS:.0f}")
    print(json.dumps(findings))


def _surroundings() -> dict[str, object]:
    """What a process has once that an import must leave alone."""
    return {
        "torch's default type": torch.get_default_dtype(),
        "torch's random state": torch.get_rng_state().tolist(),
        "torch's threads": torch.get_num_threads(),
        "whether torch records gradients": torch.is_grad_enabled(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "Python's random state": random.getstate(),
        "numpy's random state": str(numpy.random.get_state(legacy=False)),
        "the working folder": Path.cwd(),
        "the environment": dict(os.environ),
        "the warning filters": list(warnings.filters),
        "the root logger": (logging.root.level, list(logging.root.handlers)),
        "what Ctrl-C does": signal.getsignal(signal.SIGINT),
    }
