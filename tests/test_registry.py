"""Names to components: entry points, schemas from signatures, errors in words."""

import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from nmt.cells.cell import Cell
from nmt.cells.lstm import LSTMCell
from nmt.errors import UserError
from nmt.options import CellChoice, Choice, OptionError, dump, resolve, schema
from nmt.registry import CELL, KINDS, available, distribution, load, register


def install(folder: Path, name: str, group: str, entry: str, code: str = "") -> None:
    """A distribution as an installer leaves it, without one: a dist-info folder and a module."""
    information = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
    (folder / f"{name.replace('-', '_')}.py").write_text(code)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


CODE = """
from nmt.cells.lstm import LSTMCell
Mine = LSTMCell
"""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_installed_component_loads_and_shows_its_options(kind: Any) -> None:
    assert available(kind)
    for name in available(kind):
        assert issubclass(load(kind, name), kind.base())
        schema(load(kind, name))


def test_built_ins_come_in_by_the_door_that_plugins_use() -> None:
    (point,) = available(CELL)["lstm"]
    assert distribution(point)[0] == "recurrent-nmt"
    assert load(CELL, "lstm") is LSTMCell


def test_an_installed_stranger_is_found_by_name(site: Path) -> None:
    install(site, "nmt-mine", "nmt.cells", "mine = nmt_mine:Mine", CODE)
    assert load(CELL, "mine") is LSTMCell
    assert distribution(available(CELL)["mine"][0]) == ("nmt-mine", "1.2")


def test_nothing_is_imported_until_its_name_is_asked_for(site: Path) -> None:
    install(site, "nmt-broken", "nmt.cells", "broken = nmt_broken:Mine", "raise RuntimeError('out of order')")
    assert "broken" in available(CELL)
    load(CELL, "gru")
    assert "nmt_broken" not in sys.modules
    with pytest.raises(
        UserError, match=r"'broken' of nmt-broken 1\.2 can't be imported \(RuntimeError: out of order\)"
    ):
        load(CELL, "broken")


def test_two_distributions_offering_one_name_are_both_named(site: Path) -> None:
    install(site, "nmt-one", "nmt.cells", "same = nmt_one:Mine", CODE)
    install(site, "nmt-two", "nmt.cells", "same = nmt_two:Mine", CODE)
    with pytest.raises(UserError, match=r"nmt-(one|two) 1\.2 and nmt-(one|two) 1\.2"):
        load(CELL, "same")


def test_what_is_no_cell_is_refused_as_one(site: Path) -> None:
    install(site, "nmt-dict", "nmt.cells", "dict = builtins:dict")
    with pytest.raises(
        UserError, match=r"builtins:dict of nmt-dict 1\.2 is no cell; derive it from nmt\.cells\.cell:Cell"
    ):
        load(CELL, "dict")


def test_an_unknown_name_gets_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match="no cell named 'lsmt' is installed; did you mean lstm"):
        load(CELL, "lsmt")


def test_a_constructor_is_the_schema_of_its_options() -> None:
    assert resolve(CELL, "lstm") == Choice("lstm", {"forget_bias": 1.0})
    assert resolve(CELL, {"type": "lstm", "forget_bias": 2}) == Choice("lstm", {"forget_bias": 2.0})
    with pytest.raises(OptionError) as caught:
        resolve(CELL, {"type": "lstm", "forget_bais": 2})
    assert (caught.value.path, caught.value.remedy) == (("forget_bais",), "did you mean forget_bias?")
    with pytest.raises(OptionError) as caught:
        resolve(CELL, {"type": "lstm", "forget_bias": "much"})
    assert caught.value.path == ("forget_bias",)


def test_building_by_hand_answers_mistakes_in_a_line_too() -> None:
    with pytest.raises(UserError, match=r"^lstm\.forget_bais: unknown option; did you mean forget_bias\?$"):
        Choice("lstm", {"forget_bais": 1}).build(CELL, 3, 4)
    with pytest.raises(UserError, match=r"^lsmt: no cell named 'lsmt' is installed; did you mean lstm"):
        Choice("lsmt").build(CELL, 3, 4)


@pytest.mark.parametrize("value", [3, None, ["lstm"], {"forget_bias": 1.0}, {"type": 5}])
def test_what_names_no_component_is_refused(value: Any) -> None:
    with pytest.raises(OptionError, match="cell"):
        resolve(CELL, value)


def test_a_component_may_choose_components_of_its_own() -> None:
    @register(CELL, "twice-for-this-test")
    class Twice(LSTMCell):
        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            *,
            cell: CellChoice = Choice("gru"),
            depth: Annotated[int, Field(gt=0)] = 2,
        ) -> None:
            super().__init__(input_size, hidden_size)

    given = {"type": "twice-for-this-test", "cell": {"type": "lstm", "forget_bias": 0}}
    resolved = resolve(CELL, given)
    assert resolved.options == {"cell": Choice("lstm", {"forget_bias": 0.0}), "depth": 2}
    assert resolve(CELL, dump(CELL, resolved)) == resolved
    assert isinstance(resolved.build(CELL, 3, 4), Cell)
    with pytest.raises(OptionError) as caught:
        resolve(CELL, {**given, "cell": {"type": "lstm", "forget": 0}})
    assert caught.value.path == ("cell", "forget")
    with pytest.raises(OptionError) as caught:
        resolve(CELL, {**given, "cell": "lsmt"})
    assert caught.value.path[0] == "cell"


def test_a_signature_that_hides_its_options_is_refused() -> None:
    class Hides:
        def __init__(self, input_size: int, **options: int) -> None: ...

    class Bare:
        def __init__(self, input_size: int, *, option=3) -> None: ...

    with pytest.raises(UserError, match=r"takes \*options"):
        schema(Hides)
    with pytest.raises(UserError, match="option has no annotation"):
        schema(Bare)
