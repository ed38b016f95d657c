"""One table, drawn in a terminal and on a page."""

import re

import pytest
from rich.console import Console

from penstock.report.html.table import drawn as page
from penstock.report.model import table as model
from penstock.report.model.table import Bar, Cell, Column, group, table
from penstock.report.model.wording import ABSENT
from penstock.report.terminal.blocks import drawn as terminal
from support.html_pages import outline

COLUMNS = ("class", Column("latency", unit="ms"), Column("why", left=True), "sum")
ROWS = [[model.name("chat", 1), model.judged("12", True), "<slow>", model.count(0)]]
TOTAL = ["all", model.judged("7", False), model.verdict(False), model.strong("3")]


def printed(found):
    console = Console(width=100, force_terminal=False)
    with console.capture() as captured:
        console.print(*terminal([found]))
    return captured.get()


def test_a_cell_is_the_same_text_in_both() -> None:
    found = table("Title", COLUMNS, ROWS, total=TOTAL, notes=["A note."])
    said = " ".join(printed(found).split())
    assert "class latency, ms why sum" in said
    assert "chat ▲ 12 <slow> 0" in said
    assert "all 7 ✗ misses 3" in said
    assert said.endswith("A note.")
    html = page(found)
    assert outline(html).open == []
    words = " ".join(" ".join(outline(html).text).split())
    assert words == "class latency, ms why sum chat ▲ 12 <slow> 0 all 7 ✕ misses 3"


def test_emphasis_on_a_page() -> None:
    html = page(table("Title", COLUMNS, ROWS, total=TOTAL))
    for part in ('<span class=dot style="background:#', "<span class=over>", "&lt;slow&gt;",
                 "<span class=muted>0</span>", '<tr class="total">', "<span class=kept>7</span>",
                 '<span class="badge bad">', "<b>3</b>", "<td class=text>", "<th scope=row>"):
        assert part in html


def test_columns_can_be_chosen_and_left_out() -> None:
    found = table("Title", COLUMNS, ROWS, total=TOTAL)
    assert [column.title for column in found.select("sum", "class", "no such").columns] == [
        "sum", "class"]
    assert [[cell.text for cell in row] for row in found.select("sum", "class").rows] == [
        ["0", "chat"], ["3", "all"]]
    assert len(found.without("sum", "why").rows[0]) == 2


def test_heads_of_groups_stand_beside_above_or_across() -> None:
    groups = [group([("a", 1), ("b", 2)], "first", model.member("part"), details=["more"]),
              group([("c", 3)], "second"), group([], "empty")]
    beside = table("T", ("x", "y"), groups=groups, by="of")
    lines = [line.split() for line in printed(beside).splitlines() if line.strip()]
    assert lines[3:] == [["first", "a", "1"], ["part", "b", "2"], ["second", "c", "3"]]
    html = page(beside)
    assert "<th colspan=2 scope=rowgroup>" in html
    assert "part</span><span class=sub>more</span></th>" in html
    assert "empty" in html
    above = table("T", ("x", "y"), groups=groups[1:2])
    assert [line.split() for line in printed(above).splitlines() if line.strip()][3:] == [
        ["second"], ["c", "3"]]
    assert "second</th><td></td></tr>" in page(above)
    assert [one.title for one in beside.split("Rows of")][1:] == ["Rows of second",
                                                                  "Rows of empty"]


def test_bars_and_parts_are_drawn_where_there_is_room() -> None:
    cells = [Cell("a: 1", parts=(("a", "1"), ("", "b"))),
             model.with_bar("50 %", Bar(0.5)),
             model.with_bar("90 %", Bar(0.9, (0.8, 1.0), 0.99), 0),
             model.with_bar(ABSENT, None), model.limit("2 s"), model.limit(ABSENT)]
    html = page(table("T", "abcdef", [cells]))
    for part in ("<div>a</div><span class=sub>1</span><span class=sub>b</span>",
                 "class=meter", "width:50.0%", "class=goal", "interval 80.00 % to 100.00 %",
                 f"<span class=muted>{ABSENT}</span>", "≤ 2 s"):
        assert part in html
    assert "a: 1" in printed(table("T", "abcdef", [cells]))
    assert not re.search("≤|80.00", printed(table("T", "abcdef", [cells])))


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        table("T", "ab", [["x"]])
