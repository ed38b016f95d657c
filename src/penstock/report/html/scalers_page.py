"""A page of scale policies on the same requests."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from penstock.report.html import sections
from penstock.report.html.colours import series_colours
from penstock.report.html.frame import BESIDE, Page, page_title, stamp, write_framed
from penstock.report.html.scalers_plots import dash_of, overlay_figure, pareto_figure
from penstock.report.html.scaling import SCRIPT
from penstock.report.html.table import drawn
from penstock.report.model.scalers import (
    ScalerResult,
    bound_gpu_hours,
    front,
    headline,
    points,
    scalers_table,
)

FOOTER = ("Attainment is requests within every target divided by requests received. GPU-hours "
          "count every accelerator from the start of a replica to the end of its draining.")
_STYLES = {"dash": "dashed", "dot": "dotted", "dashdot": "dashed"}


def write_scalers_page(path: Path, results: Sequence[ScalerResult], origin: Mapping[str, object],
                       library: str | None = BESIDE) -> None:
    """Write the page, all or nothing. ``origin`` has the fleet's name and the version."""
    labels = list(dict.fromkeys(one.scale for one in results))
    colours, found = series_colours(labels), points(results)
    best, bound = front(found), bound_gpu_hours(results)
    first = [one for one in results if one.seed == results[0].seed]
    seeds = sorted({one.seed for one in results})
    told = scalers_table(results, best, labels)
    figures = {"pareto": pareto_figure(found, colours, bound),
               "replicas": overlay_figure(first, colours)}
    over = f"seed {seeds[0]}" if len(seeds) == 1 else f"means over seeds {seeds[0]}-{seeds[-1]}"
    body = "\n".join((
        f"<h1>{escape(headline(found))}</h1>"
        f"<p class=lede>{len(labels)} scale policies on the same requests, {over}.</p>",
        sections.section("Figures", " ".join(told.notes), drawn(told)),
        sections.section(
            "GPU-hours against attainment", "A policy is grey where another has at least its "
            "attainment for at most its GPU-hours. Crosses miss an objective. The axis of "
            "attainment gives every further nine the same room.",
            sections.plot("pareto", f"Attainment by GPU-hours, {over}",
                          _described(best, bound), "medium")),
        sections.section(
            "Replicas over time", f"Seed {seeds[0]}. Choose a policy to hide its curves. Drag "
            "across the plot to look closer; double click to see everything again.",
            _choices(labels, colours),
            sections.plot("replicas", "Demand, replicas and attainment",
                          "Arrivals and input tokens per second, replicas that hold accelerators "
                          "and attainment of each policy over one time axis", "tall"))))
    write_framed(path, Page(page_title(origin, "Scale policies"), str(origin.get("version") or ""),
                            stamp(origin), body, FOOTER, figures, (SCRIPT,)), library)


def _described(best: Sequence[str], bound: float | None) -> str:
    less = "" if bound is None else f" A clairvoyant needs {bound:,.1f} GPU-hours."
    return f"Policies that no other beats, by GPU-hours: {', '.join(best)}.{less}"


def _choices(labels: Sequence[str], colours: Mapping[str, str]) -> str:
    """Return the legend, each policy a button that hides or shows its curves."""
    items = "".join(
        f'<li><button type=button aria-pressed=true data-curves="{escape(label)}">'
        f'<span class="swatch {_STYLES.get(dash_of(place), "")}" '
        f'style="border-color:{colours[label]}"></span>{escape(label)}</button></li>'
        for place, label in enumerate(labels))
    return f'<ul class=legend aria-label="Policies to show" data-of=replicas>{items}</ul>'
