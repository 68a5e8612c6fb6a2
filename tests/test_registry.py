"""Names to components: entry points, schemas from signatures, errors in words."""

import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from distributions import describe, install
from pydantic import Field

from nmt.cells.cell import Cell
from nmt.cells.lstm import LSTMCell
from nmt.errors import UserError
from nmt.options import CellChoice, Choice, OptionError, dump, resolve, schema
from nmt.recipe_file import read_recipe, read_run, write_recipe
from nmt.registry import CELL, KINDS, available, distribution, load, only, register


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


COPY = Path(__file__).parent.parent / "recipes" / "copy.yaml"
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


def test_leaving_one_of_two_out_of_those_allowed_decides_between_them(site: Path) -> None:
    install(site, "nmt-one", "nmt.cells", "same = nmt_one:Mine", CODE)
    install(site, "nmt-two", "nmt.cells", "same = nmt_two:Mine", "from nmt.cells.gru import GRUCell as Mine")
    with only(["nmt_two"]):
        assert load(CELL, "same").__name__ == "GRUCell"


def test_what_is_not_allowed_is_refused_by_its_owner_and_not_imported(site: Path) -> None:
    install(site, "nmt-shut", "nmt.cells", "shut = nmt_shut:Mine", CODE)
    with only([]), pytest.raises(UserError, match=r"'shut' is nmt-shut's, whose .* may not be used here; add nmt-shut"):
        load(CELL, "shut")
    assert "nmt_shut" not in sys.modules
    assert load(CELL, "shut") is LSTMCell


def test_blocks_within_blocks_restrict_further_and_end(site: Path) -> None:
    install(site, "nmt-in", "nmt.cells", "in = nmt_in:Mine", CODE)
    with only(["nmt-in"]):
        with only(None):
            assert "in" in available(CELL)
        with only(["nmt-other"]):
            assert "in" not in available(CELL)
        with only([]), only(["nmt-in"]):
            assert "in" not in available(CELL)
        assert "in" in available(CELL)
    assert "lstm" in available(CELL)


def test_a_recipes_plugins_hold_for_it_and_for_its_run_alone(site: Path) -> None:
    install(site, "nmt-held", "nmt.cells", "held = nmt_held:Mine", CODE)
    chosen = ["model.encoder.cell=held", "model.decoder.cell=gru"]
    with pytest.raises(UserError, match=r"model\.encoder\.cell: the cell 'held' is nmt-held's") as caught:
        read_recipe(COPY, [*chosen, "plugins=[nmt-mgu]"])
    assert "\n" not in str(caught.value)
    recipe = read_recipe(COPY, [*chosen, "plugins=[nmt-held]"])
    (site / "recipe.yaml").write_text(write_recipe(recipe))
    assert read_run(site) == recipe
    with only([]), pytest.raises(UserError, match="may not be used here"):
        read_run(site)
    assert read_recipe(COPY, chosen).plugins is None


def test_a_components_options_are_of_those_allowed_too(site: Path) -> None:
    install(site, "nmt-inner", "nmt.cells", "inner = nmt_inner:Mine", CODE)
    with pytest.raises(UserError, match="nmt-inner's"):
        read_recipe(COPY, ["model.encoder={type: recurrent, cell: inner}", "plugins=[]"])


def test_the_metadata_of_a_distribution_may_lack_anything(site: Path) -> None:
    install(site, "nmt-unnamed", "nmt.cells", "unnamed = nmt_unnamed:Mine", CODE)
    (site / "nmt_unnamed-1.2.dist-info" / "METADATA").unlink()
    assert distribution(available(CELL)["unnamed"][0]) == ("unknown", "")
    assert load(CELL, "unnamed") is LSTMCell


def test_a_distribution_that_stands_on_the_path_twice_offers_once(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "nmt-again", "nmt.cells", "again = nmt_again:Mine", CODE)
    describe(tmp_path / "editable", "nmt_again", "[nmt.cells]\nagain = nmt_again:Mine\n", version="1.3")
    monkeypatch.syspath_prepend(str(tmp_path / "editable"))
    assert [distribution(point)[1] for point in available(CELL)["again"]] == ["1.3"]


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
