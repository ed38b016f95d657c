import re

import pytest
from rich.console import Console

from penstock.report.model.table import Column, cells, group, verdict
from penstock.report.model.table import table as table_of
from penstock.report.terminal.blocks import drawn

COLUMNS = (Column("class"), Column("verdict"), Column("per million tokens", 1),
           Column("received", 2))


def printed(table, width):
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(*drawn([table]))
    return captured.get()


def table(columns=COLUMNS, rows=(("interactive", "meets", "$0.151", "1,500"),), keys=0):
    return table_of("Outcome", columns, rows, keys=keys)


def words(text):
    return set(re.findall(r"[^\s─]+", text))


def test_all_there_is_on_one_line_each_where_it_fits():
    lines = printed(table(), 80).splitlines()
    assert lines[0] == "Outcome"
    assert "class         verdict   per million tokens   received" in lines[2]


@pytest.mark.parametrize("width", range(20, 90))
def test_nothing_is_wider_than_the_window_and_no_word_is_cut(width):
    text = printed(table(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    known = words(" ".join(column.heading for column in COLUMNS))
    known |= words("Outcome interactive meets $0.151 1,500 not shown at this width: verdict:")
    assert words(text.replace(",\n", "\n").replace(", ", " ")) <= known | {"received"}


def test_headings_break_before_columns_go():
    broken = printed(table(), 54)
    assert "not shown" not in broken
    assert "$0.151" in broken
    narrow = printed(table(), 45)
    assert "not shown at this width: received" in narrow
    assert "$0.151" in narrow
    assert "1,500" not in narrow


def test_with_keys_columns_that_do_not_fit_stand_below() -> None:
    rows = [("interactive", "meets", "$0.151", "1,500"), ("batch", "misses", "$0.2", "7")]
    lines = [line.split() for line in printed(table(rows=rows, keys=1), 45).splitlines()]
    assert lines.index(["interactive", "meets", "$0.151"]) < lines.index(["class", "received"])
    below = lines.index(["class", "received"])
    assert lines[below + 2:below + 4] == [["interactive", "1,500"], ["batch", "7"]]


def test_with_keys_nothing_is_stacked_while_one_column_fits_beside_them() -> None:
    columns = (Column("class"), Column("verdict"), Column("received"))
    text = printed(table(columns, [("interactive", "meets", "1,500")], keys=1), 28)
    lines = [line.split() for line in text.splitlines()]
    assert lines.index(["interactive", "meets"]) < lines.index(["interactive", "1,500"])


@pytest.mark.parametrize("width", range(30, 90))
def test_with_keys_every_cell_is_there_at_any_width(width) -> None:
    text = printed(table(keys=1), width)
    assert {"interactive", "meets", "$0.151", "1,500"} <= words(text)
    assert "not shown" not in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_what_matters_is_stacked_where_it_does_not_fit():
    text = printed(table(), 20)
    assert text == "Outcome\n  interactive\n    verdict: meets\n\n"


def test_sentences_wrap_at_spaces():
    made = table((Column("size"), Column("why", prose=True)),
                 [("2", "the throughput bound says that fewer never do")])
    assert "never do" in printed(made, 80)
    narrow = printed(made, 36)
    assert len([line for line in narrow.splitlines() if line.strip()]) > 4
    assert words("the throughput bound says that fewer never do") <= words(narrow)


def test_texts_and_brackets_stay_as_they_are():
    made = table((Column("[b]name"), Column("sign")), [("[red]x", verdict(True, "[ok]"))])
    text = printed(made, 60)
    for part in ("[b]name", "[red]x", "✓ [ok]"):
        assert part in text


def test_rows_and_sections():
    first = group([("a", "meets", "1", "2")])
    assert "\n\n  b" not in printed(table_of("Outcome", COLUMNS, groups=[first]), 80)
    made = table_of("Outcome", COLUMNS, groups=[first], total=("overall", "meets", "1", "2"))
    assert len(made.rows) == 2
    lines = printed(made, 80).splitlines()
    place = next(i for i, line in enumerate(lines) if "overall" in line)
    assert not lines[place - 1].strip()
    with pytest.raises(ValueError, match="3 cells for 4 columns"):
        table(rows=[cells("abc")])


def test_no_rows_and_multi_line_cells():
    assert "class" in printed(table(rows=()), 80)
    made = table((Column("policy"), Column("x")), [("sarathi\n chunk_tokens=256", "1")])
    assert max(map(len, printed(made, 80).splitlines())) < 30
