"""Parts of a page around its tables: pieces of HTML. All text of others is escaped."""

from collections.abc import Iterable, Mapping
from html import escape

from penstock.report.html.table import mark, tone_class
from penstock.report.model.table import Opening, Verdict, verdict_tone


def opening(found: Opening) -> str:
    """A page's headline, its subject, verdicts with their meaning, and figures."""
    marks = "".join(map(_verdict, found.verdicts))
    figures = "".join(f"<div><dt>{escape(fact.label)}</dt><dd>{escape(fact.value)}"
                      f"<small>{escape(fact.detail)}</small></dd></div>" for fact in found.facts)
    lede = " ".join(filter(None, (found.lede, found.more)))
    return (f"<h1>{escape(found.headline)}</h1><p class=lede>{escape(lede)}</p>"
            f'<ul class=verdicts aria-label="{escape(found.whose)}">{marks}</ul>'
            f"<dl class=facts>{figures}</dl>")


def _verdict(found: Verdict) -> str:
    tone = verdict_tone(found.meets)
    return (f"<li class={tone_class(tone)}>{mark(tone)}<span><b>{escape(found.text)}</b>"
            f"<span>{escape(found.detail)}</span></span></li>")


def legend(colours: Mapping[str, str], extra: Iterable[tuple[str, str]] = ()) -> str:
    """Return the legend: colours of names, and meanings of line styles."""
    items = [(f"border-color:{colour}", "", name) for name, colour in colours.items()]
    items += [("border-color:var(--soft)", style, text) for style, text in extra]
    listed = "".join(f'<li><span class="swatch {style}" style="{colour}"></span>{escape(text)}</li>'
                     for colour, style, text in items)
    return f'<ul class=legend aria-label="Legend">{listed}</ul>'


def plot(name: str, title: str, description: str, size: str = "",
         height_px: int | None = None) -> str:
    """A card with a figure; readers who cannot see it get the description."""
    style = "" if height_px is None else f'style="height:{height_px}px" '
    return (f"<figure class=card><h3>{escape(title)}</h3>"
            f'<div class="plot {size}" {style}data-figure="{escape(name)}" role=img '
            f'aria-label="{escape(description)}"></div></figure>')


def section(title: str, note: str, *content: str) -> str:
    """A section with its heading and a note on how to read it."""
    return (f"<section><h2>{escape(title)}</h2><p class=note>{escape(note)}</p>"
            f"{''.join(content)}</section>")


def grid(*cards: str, style: str = "") -> str:
    """Cards side by side where the window is wide enough."""
    return f'<div class="grid {style}">{"".join(cards)}</div>' if style else \
        f"<div class=grid>{''.join(cards)}</div>"


def folded(title: str, content: str) -> str:
    """Return a section that is closed at first."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
