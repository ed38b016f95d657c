"""Names, built in and plugged in."""

import sys
from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.core.settings import Number
from penstock.registry import axis as module
from penstock.registry.axis import Axis, Entry, PlugIn
from support.installed_plug_in import plug_in

GROUP = "penstock.test-fruit"
FRUIT = Axis("fruit", GROUP, {"apple": Entry("math:sqrt", {"size": Number(1, 9)}),
                              "pear": Entry("plugged_pears:BY_NAME")})
SOURCE = """
from penstock.core.settings import Flag
from penstock.registry import PlugIn

QUINCE = PlugIn(lambda settings: ("quince", settings), {"ripe": Flag()}, traits=("autumn",))
BARE = "no plug-in"
"""


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    plug_in(tmp_path, "orchard", SOURCE, {GROUP: {
        "quince": "orchard:QUINCE", "bare": "orchard:BARE", "lost": "orchard_of_old:X",
        "apple": "orchard:QUINCE"}})
    yield tmp_path
    sys.modules.pop("orchard", None)


def test_a_built_in_name_is_found_without_reading_metadata(monkeypatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("metadata was read")

    monkeypatch.setattr(module, "_entry_points", read)
    assert FRUIT.names() == ("apple", "pear")
    assert FRUIT.knows("apple")
    assert FRUIT.entry("apple").settings == {"size": Number(1, 9)}
    assert FRUIT.load("apple")(9.0) == 3.0


def test_a_target_that_is_a_mapping_holds_implementations_by_name(plugged: Path) -> None:
    (plugged / "plugged_pears.py").write_text("BY_NAME = {'pear': 'found'}")
    assert FRUIT.load("pear") == "found"


def test_a_plug_in_is_found_with_its_settings(plugged: Path) -> None:
    assert FRUIT.all_names() == ("apple", "pear", "bare", "lost", "quince")
    assert FRUIT.knows("quince")
    entry = FRUIT.entry("quince")
    assert (entry.target, entry.plug_in, entry.traits) == ("orchard:QUINCE", "orchard", ("autumn",))
    assert set(entry.settings) == {"ripe"}
    assert FRUIT.load("quince")({"ripe": True}) == ("quince", {"ripe": True})


def test_a_built_in_name_goes_before_a_plug_in(plugged: Path) -> None:
    assert FRUIT.entry("apple").plug_in == ""


@pytest.mark.parametrize(("name", "said"), [
    ("quinze", "unknown fruit 'quinze'; did you mean 'quince'?"),
    ("bare", "fruit 'bare' of plug-in orchard: orchard:BARE is of type str; expected a "
             "penstock.registry.PlugIn"),
    ("lost", "fruit 'lost' of plug-in orchard: orchard_of_old:X cannot be imported "
             "(ModuleNotFoundError: No module named 'orchard_of_old')")])
def test_a_name_that_cannot_be_had_says_why(plugged: Path, name: str, said: str) -> None:
    for ask in (FRUIT.entry, FRUIT.load):
        with pytest.raises(InputError) as caught:
            ask(name)
        assert str(caught.value) == said


def test_two_plug_ins_of_one_name_are_refused(plugged: Path) -> None:
    plug_in(plugged, "grove", "", {GROUP: {"quince": "grove:QUINCE"}})
    module._entry_points.cache_clear()
    with pytest.raises(InputError, match="both bring 'quince'"):
        FRUIT.entry("quince")


def test_a_plug_in_need_not_be_more_than_a_factory() -> None:
    assert PlugIn(len).settings == {}
