"""Tables of the model as HTML. All their text is escaped here."""

from html import escape

from penstock.report.html.colours import series_colour
from penstock.report.model.table import Bar, Cell, Group, Kind, Row, Table, Tone
from penstock.report.model.wording import ABSENT, percent

_SIGNS = {Tone.GOOD: "✓", Tone.BAD: "✕", Tone.PLAIN: ABSENT}
PROSE = "prose"


def drawn(table: Table, caption: str = "", style: str = "") -> str:
    """A card in which a table too wide for the screen scrolls by itself, its caption staying.

    First cells head their rows. A table ``by`` its groups is dense, each head as wide as the table.
    """
    head = "".join(f"<th scope=col{_aligned(table, place)}>{escape(column.heading)}</th>"
                   for place, column in enumerate(table.columns))
    apart = bool(table.by) or len(table.groups) > 1
    tag = "<tbody class=group>" if apart else "<tbody>"
    bodies = [_group(table, group, style) for group in table.groups]
    if table.total is not None:
        bodies.append(_row(table, table.total, style, "total"))
    content = "".join(f"{tag}{body}</tbody>" for body in bodies if body) if apart else \
        f"{tag}{''.join(bodies)}</tbody>"
    above = f"<p class=caption>{escape(caption)}</p>" if caption else ""
    return (f'<div class="card wide">{above}<div class="scroll sticky" tabindex=0 role=region '
            f'aria-label="{escape(caption or "Table")}">'
            f'<table class="{style or ("dense" if table.by else "")}">'
            f"<thead><tr>{head}</tr></thead>{content}</table></div></div>")


def _group(table: Table, group: Group, style: str) -> str:
    rows = "".join(_row(table, row, style) for row in group.rows)
    if not group.head:
        return rows
    if not table.by:
        blank = "<td></td>" * (len(table.columns) - 1)
        return f'<tr class=""><th scope=row>{cell_html(group.head[-1])}</th>{blank}</tr>{rows}'
    badge = "" if group.verdict is None else f" {cell_html(group.verdict)}"
    details = "".join(f"<span class=sub>{escape(line)}</span>" for line in group.details)
    return (f"<tr><th colspan={len(table.columns)} scope=rowgroup>"
            f"{_head(group.head[-1], badge)}{details}</th></tr>{rows}")


def _head(cell: Cell, more: str) -> str:
    if cell.kind is Kind.FIGURE:
        return cell_html(cell) + more
    return f"<span class=class>{_dot(cell)}{escape(cell.text)}{more}</span>"


def _row(table: Table, row: Row, style: str, kind: str = "") -> str:
    first, *rest = (_kept(table, place, style, cell_html(cell)) for place, cell in enumerate(row))
    data = "".join(f"<td{_aligned(table, place)}>{text}</td>"
                   for place, text in enumerate(rest, start=1))
    return f'<tr class="{kind}"><th scope=row>{first}</th>{data}</tr>'


def _aligned(table: Table, place: int) -> str:
    return " class=text" if place and table.columns[place].left else ""


def _kept(table: Table, place: int, style: str, text: str) -> str:
    """Among sentences, a cell that must not break."""
    if style != PROSE or not place or table.columns[place].prose:
        return text
    return f"<span class=keep>{text}</span>"


def cell_html(cell: Cell) -> str:
    """A cell with its emphasis."""
    if cell.kind is not Kind.FIGURE:
        return _of_kind(cell)
    if cell.tone is Tone.MUTED:
        return _muted(cell)
    if cell.parts:
        return "".join((f"<div>{escape(text)}</div>" if text else "")
                       + (f"<span class=sub>{escape(detail)}</span>" if detail else "")
                       for text, detail in cell.parts)
    text = "<br>".join(map(escape, cell.text.split("\n")))
    if cell.strong and text:
        return f"<b>{text}</b>"
    return _judged(cell, text) if cell.bar is None else _barred(cell, cell.bar, text)


def _of_kind(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.kind is Kind.VERDICT:
        return f'<span class="badge {tone_class(cell.tone)}">{mark(cell.tone)}{text}</span>'
    if cell.kind is Kind.LIMIT:
        return _muted(cell) if cell.tone is Tone.MUTED else f"≤ {text}"
    return f"<span class=class>{_dot(cell)}{text}</span>" if cell.kind is Kind.NAME else \
        f"<span class=member>{text}</span>"


def _muted(cell: Cell) -> str:
    return f"<span class=muted>{escape(cell.text or ABSENT)}</span>"


def _judged(cell: Cell, text: str) -> str:
    if cell.tone is Tone.GOOD:
        return f"<span class=kept>{text}</span>"
    if cell.tone is Tone.BAD:
        return f'<span class=over><span role=img aria-label="above target">▲</span> {text}</span>'
    return text


def mark(tone: Tone) -> str:
    """The sign of a verdict; the words beside it carry the meaning."""
    return f'<span class="mark {tone_class(tone)}" aria-hidden=true>{_SIGNS[tone]}</span>'


def tone_class(tone: Tone) -> str:
    """The style of a verdict."""
    return tone.value or "idle"


def _dot(cell: Cell) -> str:
    return "" if cell.series is None else \
        f'<span class=dot style="background:{series_colour(cell.series)}"></span>'


def _barred(cell: Cell, bar: Bar, text: str) -> str:
    """A meter before its text, or a bar with its interval and the goal as a tick."""
    if bar.interval is None:
        return (f"<span class=meter aria-hidden=true><i style='width:{min(bar.share, 1.0):.1%}'>"
                f"</i></span>{text}")
    colour = "var(--accent)" if cell.series is None else series_colour(cell.series)
    low, high = bar.interval
    tick = "" if bar.goal is None else (
        f"<line class=goal x1={bar.goal * 100:.2f} x2={bar.goal * 100:.2f} y1=-2 y2=10 />")
    label = f"attainment {cell.text}, 95 % interval {percent(low)} to {percent(high)}"
    return (f'<span class=range><svg width=100 height=12 '
            f'viewBox="0 -2 100 12" preserveAspectRatio=none role=img aria-label="{escape(label)}">'
            f"<rect class=track width=100 height=8 rx=4 />"
            f'<rect width="{bar.share * 100:.2f}" height=8 rx=4 fill="{colour}" />'
            f'<rect class=spread x="{low * 100:.2f}" width="{(high - low) * 100:.2f}" y=-2 '
            f'height=12 rx=2 fill="{colour}" />{tick}</svg>'
            f"<span>{text}</span></span>")
