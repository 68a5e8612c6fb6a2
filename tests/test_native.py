"""nmt's own products: right, equal to the last bit for any rows and threads, and built or left out in words."""

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nmt import native, native_build
from nmt.products import plain

ROOT = Path(__file__).parent.parent
SIZES = [(1, 1), (64, 3), (65, 64), (37, 50), (200, 513), (130, 1025), (16, 3000)]
MISSING = native.missing("fp32")
Build = Callable[[], tuple[list[Path], list[str]]]
HAS_COMPILER = native_build.for_this_machine() and any(shutil.which(name) for name in ("cc", "gcc", "clang"))


@pytest.fixture(params=native_build.LIBRARIES)
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of each library; one for fewer instructions than this processor has, too."""
    precision, instructions = request.param.split("_")
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions.upper())
    elif instructions == "avx512":
        pytest.skip("this processor has no AVX-512, or torch was told not to use it")
    if native.missing(precision):
        pytest.skip(f"{request.param}: {native.missing(precision)}")
    return precision


def weights(outputs: int, inputs: int, rows: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(outputs, inputs), torch.randn(outputs), torch.randn(rows, inputs)


def multiplied(precision: str, numbers: Tensor) -> Tensor:
    """What is multiplied in place of the numbers, each row by itself, in double precision."""
    if precision == "int8":
        greatest = numbers.abs().amax(-1, keepdim=True)
        return (numbers * (127 / greatest)).round().double() * greatest / 127
    return (numbers.bfloat16() if precision == "bf16" else numbers).double()


@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_is_that_of_double_precision_to_the_last_digits(
    precision: str, outputs: int, inputs: int, with_bias: bool
) -> None:
    weight, bias, rows = weights(outputs, inputs)
    expected = plain(multiplied(precision, weight), bias.double() if with_bias else None)(multiplied(precision, rows))
    found = native.Panels(precision, weight, bias if with_bias else None).product(rows)
    assert found.dtype is torch.float32
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()


@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_a_result_depends_on_no_other_row_output_or_thread(precision: str, outputs: int, inputs: int) -> None:
    weight, bias, rows = weights(outputs, inputs, rows=40)
    panels = native.Panels(precision, weight, bias)
    together = panels.product(rows)
    for count in range(1, 15):
        assert torch.equal(panels.product(rows[3 : 3 + count]), together[3 : 3 + count])
    for threads in (2, 3, 50):
        assert torch.equal(panels.product(rows, threads), together)
    some = slice(outputs // 3, outputs // 3 + 1)
    assert torch.equal(native.Panels(precision, weight[some], bias[some]).product(rows), together[:, some])


def test_rows_and_weights_may_lie_in_memory_as_they_like(precision: str) -> None:
    weight, bias, rows = weights(70, 30)
    expected = native.Panels(precision, weight, bias).product(rows)
    scattered = native.Panels(precision, weight.t().contiguous().t(), bias.repeat_interleave(2)[::2])
    assert torch.equal(scattered.product(rows.t().contiguous().t()), expected)
    assert native.Panels(precision, weight, bias).product(rows[:0]).shape == (0, 70)


def test_what_torch_makes_by_default_changes_nothing(precision: str) -> None:
    weight, bias, rows = weights(70, 30)
    expected = native.Panels(precision, weight, bias).product(rows)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = native.Panels(precision, weight, bias).product(rows)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(2, 29),
        torch.zeros(30),
        torch.zeros(2, 30, 4),
        torch.zeros(2, 30).double(),
        torch.zeros(2, 30, device="meta"),
    ],
    ids=lambda wrong: f"{list(wrong.shape)} {wrong.dtype} {wrong.device}",
)
def test_rows_that_it_would_misread_are_refused(precision: str, wrong: Tensor) -> None:
    weight, bias, _ = weights(70, 30)
    with pytest.raises(ValueError, match=r"not \[R, 30\] torch.float32 cpu"):
        native.Panels(precision, weight, bias).product(wrong)


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        (torch.zeros(70), None),
        (torch.zeros(70, 30, device="meta"), None),
        (torch.zeros(70, 30), torch.zeros(1)),
        (torch.zeros(70, 30), torch.zeros(70, device="meta")),
    ],
    ids=["one axis", "elsewhere", "a short bias", "a bias elsewhere"],
)
def test_weights_that_it_would_misread_are_refused(precision: str, weight: Tensor, bias: Tensor | None) -> None:
    with pytest.raises(ValueError, match=r"weight|unpack"):
        native.Panels(precision, weight, bias)


def test_int8_rounds_a_number_alike_wherever_it_stands() -> None:
    if native.missing("int8"):
        pytest.skip(native.missing("int8"))
    torch.manual_seed(1)
    greatest = 1 + torch.rand(1 << 15)
    numbers = (torch.randint(-127, 127, greatest.shape) + 0.5) / 127 * greatest  # halfway between two integers
    found = []
    for place, width in ((1, 2), (5, 64), (63, 64), (36, 37)):
        rows, weight = torch.zeros(len(numbers), width), torch.zeros(1, width)
        rows[:, 0], rows[:, place] = greatest, numbers
        weight[0, place] = 1.0
        found.append(native.Panels("int8", weight, None).product(rows))
    assert all(torch.equal(each, found[0]) for each in found)


def test_a_sign_that_is_still_to_be_turned_is_turned() -> None:
    weight, bias, rows = weights(70, 30)
    expected = native.Panels("fp32", weight, bias).product(rows)
    turned = native.Panels("fp32", torch._neg_view(-weight), torch._neg_view(-bias))
    assert torch.equal(turned.product(torch._neg_view(-rows)), expected)


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_a_process_that_was_forked_has_threads_of_its_own() -> None:
    code = (
        "import os, torch; from nmt import native; torch.set_num_threads(1); rows = torch.randn(3, 9)\n"
        "panels = native.Panels('fp32', torch.randn(200, 9), None); expected = panels.product(rows)\n"
        "for _ in range(9): panels.product(rows, 2)  # now all threads are there, and idle\n"
        "child = os.fork(); same = torch.equal(panels.product(rows, 2), expected)\n"
        "os._exit(not same) if child == 0 else exit(os.waitpid(child, 0)[1])"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_a_program_does_not_wait_at_its_end_for_threads_that_share_work() -> None:
    code = (
        "import os, threading, time; from nmt import native; begun = threading.Event()\n"
        "def wait(): begun.set(); time.sleep(60)\n"
        "workers = native._workers(1, os.getpid())\n"
        "threading.Thread(target=workers.run, args=([int, wait],), daemon=True).start(); begun.wait()"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=50).returncode == 0


def test_an_interrupt_waits_for_what_threads_are_doing() -> None:
    ended = []

    def slow() -> None:
        time.sleep(0.2)
        ended.append(True)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        native._workers(2, os.getpid()).run([interrupted, slow, slow])
    assert len(ended) == 2


def test_what_goes_wrong_in_a_thread_is_raised_where_the_work_is_shared() -> None:
    workers = native._workers(2, os.getpid())
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            workers.run([int, partial(divmod, 1, 0), int])
    workers.run([int, int, int])


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_what_is_missing_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as changed:
        changed.setenv("NMT_NATIVE", "0")
        assert native.missing("fp32") == "NMT_NATIVE is 0"
    with monkeypatch.context() as changed:
        changed.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
        assert native.missing("fp32") == "there are none for this processor (DEFAULT)"
    with monkeypatch.context() as changed:
        changed.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        changed.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
        assert native.missing("int8") == "there are none for this processor (AVX512)"
        changed.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
        changed.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
        assert native.missing("bf16") == "oneDNN's are faster for many rows by AMX, which this processor has"
        assert native.missing("fp32") == ""
    newer = tmp_path / "native.c"
    newer.write_text(native_build.SOURCE.read_text() + "\n")
    monkeypatch.setattr(native_build, "SOURCE", newer)
    reason = re.fullmatch(
        r"(native_\w+\.so) was not built; install nmt where there is a C compiler", native.missing("fp32")
    )
    assert reason
    newer.with_name(reason[1]).write_text("no library")
    assert reason[1] in native.missing("fp32")
    with pytest.raises(OSError, match=reason[1]):
        native.Panels("fp32", torch.zeros(2, 2), None)


def test_the_module_says_by_itself_which_are_used() -> None:
    run = subprocess.run([sys.executable, "-m", "nmt.native"], capture_output=True, text=True, cwd=ROOT, check=True)
    for precision, line in zip(("fp32", "bf16", "int8"), run.stdout.splitlines(), strict=True):
        reason = native.missing(precision)
        assert line == f"{precision}: products of {f'torch ({reason})' if reason else 'nmt'}"


@pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler for native.c here")
class TestBuilding:
    @pytest.fixture(autouse=True)
    def source(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        monkeypatch.delenv("CC", raising=False)
        copy = tmp_path / "native.c"
        shutil.copy(native_build.SOURCE, copy)
        monkeypatch.setattr(native_build, "SOURCE", copy)
        return copy

    @pytest.fixture
    def built(self) -> Build:
        """Builds; the libraries, and what was said."""

        def build() -> tuple[list[Path], list[str]]:
            said: list[str] = []
            return native_build.build(said.append), said

        return build

    def test_libraries_take_the_place_of_those_of_another_source(self, source: Path, built: Build) -> None:
        first, said = built()
        assert sorted(source.parent.glob("*.so")) == sorted(first)
        assert len(first) == len(native_build.LIBRARIES) and said == []
        source.write_text(source.read_text() + "\n")
        second, _ = built()
        assert sorted(source.parent.iterdir()) == sorted([source, *second])
        assert not {*first} & {*second}

    @pytest.mark.parametrize(
        ("compiler", "reason"),
        [
            ("false -x", r"for fp32, avx512 are left out: false -x .* failed: exit code 1"),
            ("/no/such/cc", r"are left out: there is no C compiler; install one, or name one in CC"),
            ('gcc "', r"are left out: CC is no command \(No closing quotation\)"),
        ],
    )
    def test_what_can_not_be_compiled_is_said_and_leaves_nothing(
        self, source: Path, built: Build, monkeypatch: pytest.MonkeyPatch, compiler: str, reason: str
    ) -> None:
        source.with_name("native_fp32_avx2_01234567.so").touch()
        monkeypatch.setenv("CC", compiler)
        libraries, said = built()
        assert libraries == [] and list(source.parent.iterdir()) == [source]
        assert re.search(reason, said[0])

    def test_a_compiler_that_does_not_know_some_instructions_builds_the_others(
        self, built: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        old = tmp_path / "bin" / "oldcc"
        old.parent.mkdir()
        old.write_text(
            '#!/bin/sh\ncase "$*" in *avx512bf16*) echo "error: no -mavx512bf16" >&2; exit 1;; esac\nexec cc "$@"\n'
        )
        old.chmod(0o755)
        monkeypatch.setenv("CC", str(old))
        monkeypatch.delitem(native_build.LIBRARIES, "fp32_avx2")
        libraries, (line,) = built()
        assert [path.name.split("_")[1] for path in libraries] == ["fp32", "int8"]
        assert line.startswith("nmt's own matrix products for bf16, avx512 are left out: ")
        assert line.endswith(" failed: error: no -mavx512bf16")

    @pytest.mark.skipif(bool(MISSING), reason=MISSING)
    def test_a_library_without_its_functions_is_none(self, built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", "cc -fvisibility=hidden")
        monkeypatch.setattr(native_build, "LIBRARIES", {"fp32_avx512": ["-mavx512f"], "fp32_avx2": ["-mavx2", "-mfma"]})
        built()
        assert re.fullmatch(
            r"native_fp32_\w+\.so has no function panel_columns; was it compiled with options of your own\?",
            native.missing("fp32"),
        )

    def test_the_source_gives_no_warning(self, built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(native_build, "FLAGS", [*native_build.FLAGS, "-Wall", "-Wextra", "-Werror"])
        assert built()[1] == []

    def test_nothing_is_compiled_for_other_machines(self, built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(native_build.platform, "machine", lambda: "arm64")
        assert built() == ([], ["nmt's own matrix products are left out: native.c is for x86-64, not arm64"])

    @pytest.mark.parametrize("compiler", ["", "/no/such/cc"])
    def test_a_wheel_is_the_machines_own_with_libraries_and_anybodys_without(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: str
    ) -> None:
        project = tmp_path / "project"
        shutil.copytree(ROOT / "nmt", project / "nmt", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
            shutil.copy(ROOT / name, project)
        monkeypatch.setenv("CC", compiler)
        build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
        run = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=project, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        (wheel,) = tmp_path.glob("*.whl")
        inside = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
        if compiler:
            assert (wheel.name.endswith("-py3-none-any.whl"), inside) == (True, [])
            assert "own matrix products are left out: there is no C compiler" in run.stdout + run.stderr
        else:
            assert not wheel.name.endswith("-any.whl")
            assert {*native_build.LIBRARIES} == {name.split("native_")[1].rpartition("_")[0] for name in inside}
