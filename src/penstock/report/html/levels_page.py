"""A page of latency, attainment and goodput against the load, or by policy."""

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from penstock.report.html import sections
from penstock.report.html.colours import series_colours
from penstock.report.html.frame import BESIDE, Page, page_title, stamp, write_framed
from penstock.report.html.level_plots import METRICS, level_figure
from penstock.report.html.plots import Figure
from penstock.report.html.run_page import FOOTER
from penstock.report.html.table import drawn
from penstock.report.model.levels import CONCURRENCY, NOTE, POLICY, RATE, Levels, points_table
from penstock.report.model.table import Block, Note, Table

_TITLES = {RATE: "Against the rate", CONCURRENCY: "Against the concurrency",
           POLICY: "By policy"}
_STYLES = (("", "p99"), ("dotted", "p50"), ("dashed", "target"))


def write_levels_page(path: Path, levels: Levels, origin: dict[str, Any],
                      library: str | None = BESIDE, more: Iterable[Block] = ()) -> None:
    """Write the page, all or nothing. ``more`` are tables for its end, ``origin`` says which runs
    these are."""
    figures: dict[str, Figure] = {}
    parts = [f"<h1>{escape(levels.title)}</h1><p class=lede>{escape(levels.lede)}</p>"]
    parts += [_section(levels, *curves, figures) for curves in _sections(levels)]
    parts.append(sections.section("Figures", NOTE, drawn(points_table(levels))))
    parts += _tables(more)
    write_framed(path, Page(page_title(origin, levels.title), str(origin.get("version") or ""),
                            stamp(origin), "\n".join(parts), FOOTER, figures), library)


def _sections(levels: Levels) -> Iterable[tuple[str, list[tuple[str, str, str]]]]:
    """Titles of sections, with the curves of each: class, label and name.

    Classes share plots where each has one curve.
    """
    if len(levels.labels) == 1:
        yield _TITLES[levels.variable], [(name, levels.labels[0], name) for name in levels.slos]
        return
    for name in levels.slos:
        yield name, [(name, label, label) for label in levels.labels]


def _section(levels: Levels, title: str, curves: list[tuple[str, str, str]],
             figures: dict[str, Figure]) -> str:
    colours = series_colours([name for _, _, name in curves])
    cards = []
    for key, metric in METRICS.items():
        figure = level_figure(levels, metric, [(of_class, label, colours[name], name)
                                               for of_class, label, name in curves])
        if figure is not None:
            name = f"{title}-{key}"
            figures[name] = figure
            cards.append(sections.plot(name, metric.title,
                                       f"{metric.title} by {levels.variable}", "middle"))
    return sections.section(title, _note(levels), sections.legend(colours, _STYLES),
                            sections.grid(*cards, style="pairs"))


def _note(levels: Levels) -> str:
    """The meaning of the plots' lines."""
    marks = ", ".join(f"{name} {level:.4g} {levels.variable}"
                      for name, level in levels.marks.items())
    return f"Latencies are on logarithmic axes. Vertical lines: {marks}." if marks else \
        "Latencies are on logarithmic axes."


def _tables(blocks: Iterable[Block]) -> Iterable[str]:
    for block in blocks:
        if isinstance(block, Table):
            yield sections.section(block.title, " ".join(block.notes), drawn(block))
        elif isinstance(block, Note):
            yield f"<p class=note>{escape(' '.join(block.lines))}</p>"
