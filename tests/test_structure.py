"""The rules of the project's structure: who may import whom, and how long things may get."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nmt

PACKAGE = Path(nmt.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
ROWS = (
    (
        "nmt.activations",
        "nmt.errors",
        "nmt.registry",
        "nmt.options",
        "nmt.section",
        "nmt.recipe",
        "nmt.recipe_schedules",
        "nmt.recipe_file",
        "nmt.bounded",
        "nmt.checkpoints",
        "nmt.locks",
        "nmt.manifest",
        "nmt.device",
        "nmt.native",
        "nmt.native_build",
        "nmt.products",
        "nmt.shortcuts",
    ),
    (
        "nmt.cells.state",
        "nmt.cells.branching",
        "nmt.cells.captures",
        "nmt.cells.cell",
        "nmt.cells.compiled",
        "nmt.cells.dropout",
        "nmt.cells.engines",
        "nmt.cells.gathered",
        "nmt.cells.graphs",
        "nmt.cells.lasting",
        "nmt.cells.packed",
        "nmt.cells.padding",
        "nmt.cells.stepping",
        "nmt.cells.trial",
        "nmt.cells.elman",
        "nmt.cells.gru",
        "nmt.cells.lstm",
    ),
    ("nmt.cells.layers", "nmt.attention"),
    ("nmt.model",),
    ("nmt.search", "nmt.text"),
    ("nmt.translator", "nmt.evaluation", "nmt.testing"),
    ("nmt.training",),
    ("nmt.commands", "nmt.pytest_plugin"),
)
ONLY_IMPORTERS = {
    "sentencepiece": "nmt.text.tokenizer",
    "sacrebleu": "nmt.evaluation.metrics",
    "datasets": "nmt.text.datasets",
    "ruamel": "nmt.recipe_file",
}
FORBIDDEN = ("pickle", "marshal", "shelve", "dill")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def row_of(module: str) -> int:
    rows = [
        (len(name), index)
        for index, names in enumerate(ROWS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    assert rows, f"{module} stands in no row: add it to ROWS"
    return max(rows)[1]


def runtime_imports(tree: ast.Module) -> set[str]:
    """What a module imports when it runs, without what stands below `if TYPE_CHECKING`."""
    found: set[str] = set()
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in names if (PACKAGE.parent / (name.replace(".", "/") + ".py")).exists()}
            found |= inner or {node.module}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_lower_rows_and_its_own_folder(path: Path) -> None:
    module = name_of(path)
    folder = module.rpartition(".")[0]
    for imported in runtime_imports(ast.parse(path.read_text())):
        if imported.startswith("nmt."):
            # Folders within `nmt.text` may import what stands above them: the contract of corpora, what a line is.
            within = folder != "nmt" and imported.startswith(
                "nmt.text." if folder.startswith("nmt.text.") else f"{folder}."
            )
            assert within or row_of(imported) < row_of(module) or row_of(imported) == row_of(module) == 0, (
                f"{module} imports {imported}, which is not below it"
            )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_library_is_imported_in_its_one_room_and_nothing_unpickles(path: Path) -> None:
    module = name_of(path)
    for imported in runtime_imports(ast.parse(path.read_text())):
        library = imported.partition(".")[0]
        assert library not in FORBIDDEN
        assert ONLY_IMPORTERS.get(library, module) == module


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_function_fits_a_screen_and_a_module_a_sitting(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 310
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            size = node.end_lineno - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
            assert size <= 40, f"{name_of(path)}.{node.name} has {size} lines"


def test_no_loading_function_can_run_code() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "yaml.load", "compile", "__import__"), path


def test_importing_the_package_imports_neither_torch_nor_pydantic() -> None:
    code = "import sys, nmt; print([m for m in ('torch', 'pydantic', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
