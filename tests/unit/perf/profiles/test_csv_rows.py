"""Cells of other tools' tables, and what is said of those that are wrong."""

from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.perf.profiles.csv_rows import CsvRow, csv_rows


def row(**cells: str) -> CsvRow:
    return CsvRow(cells, "t.csv:5")


def test_numbers() -> None:
    one = row(a="1.5", b=" 2 ", c="1e3", d="", e="NaN", f="None")
    assert (one.number("a"), one.number("b"), one.whole("c")) == (1.5, 2.0, 1000)
    assert one.number_or_none("a") == 1.5
    assert [one.number_or_none(name) for name in ("d", "e", "f", "absent")] == [None] * 4
    assert one.number("a", 1.5) == 1.5


@pytest.mark.parametrize(("text", "least", "above", "said"), [
    ("x", 0.0, False, "a number"), ("", 0.0, False, "a number"), ("inf", 0.0, False, "at least 0"),
    ("-1", 0.0, False, "at least 0"), ("0", 0.0, True, "above 0"), ("2", 3.0, False, "at least 3"),
    ("nan", 0.0, False, "at least 0")])
def test_what_is_no_such_number(text: str, least: float, above: bool, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        row(a=text).number("a", least, above=above)
    assert str(caught.value).startswith(f"t.csv:5: a: found {text!r}; expected")


def test_lists_words_and_choices() -> None:
    one = row(layers="8 8,4", listed="[40, 40]", word=" name ", flag="TRUE", none=" ")
    assert one.wholes("layers") == (8, 8, 4)
    assert one.wholes("listed") == (40, 40)
    assert one.text("word") == "name"
    assert one.choice("flag", {"true": 1, "false": 0}) == 1
    assert one.has("word")
    assert not one.has("none")
    with pytest.raises(InputError, match="none: found ' '; expected a name"):
        one.text("none")
    with pytest.raises(InputError, match="word: found 'name'; expected one of: false, true"):
        one.choice("word", {"true": 1, "false": 0})
    for column in ("word", "none"):
        with pytest.raises(InputError, match="whole numbers of at least 1"):
            one.wholes(column)


def test_rows_know_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a, b\n\n1,"x\ny"\n\n2,z\n')
    rows = list(csv_rows(path, ("a", "b")))
    # A cell of two lines counts as such: a row stands where it ends.
    assert [one.where for one in rows] == [f"{path}:4", f"{path}:6"]
    assert rows[0].text("b") == "x\ny"


def test_a_table_is_not_read_further_than_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n2,3\n")
    found = csv_rows(path, ("a",))
    assert next(found).whole("a") == 1
    with pytest.raises(InputError, match=":3: 2 fields; expected 1"):
        next(found)
