"""Results of ``penstock compare`` for policies: tables or JSON, and a page, at one rate or more."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.cli.console import print_json, print_tables
from penstock.cli.files import write_whole
from penstock.report.model.comparison import comparison_blocks
from penstock.report.model.levels import POLICY, RATE, Levels, Point, points, points_table, slos_of

if TYPE_CHECKING:
    from penstock.experiment.compare import Contender
    from penstock.report.model.table import Block

Found = Mapping[float | None, "Sequence[Contender]"]
"""Contenders by rate; None is the traffic's own rate."""


class Telling(NamedTuple):
    """How the results are told: as JSON or as tables, and on a page with its plot library."""

    as_json: bool
    html: Path | None
    library: str | None


def tell(name: str, seeds: range, found: Found, telling: Telling) -> None:
    """Print the results and write the page."""
    entries = [(rate_per_s, _policies(contenders)) for rate_per_s, contenders in found.items()]
    document: dict[str, Any] = {"name": name, "seeds": list(seeds)}
    levels = _levels(name, len(seeds), found)
    blocks: list[Block]
    if None in found:
        document["policies"] = entries[0][1]
        blocks = list(comparison_blocks(document))
    else:
        document["rates"] = [{"rate_per_s": rate_per_s, "policies": policies}
                             for rate_per_s, policies in entries]
        blocks = [points_table(levels)]
    if telling.html is not None:
        _write(telling.html, levels, found, blocks if None in found else [], telling.library)
    if telling.as_json:
        print_json(document)
    else:
        print_tables(blocks)


def _write(path: Path, levels: Levels, found: Found, more: "Sequence[Block]",
           library: str | None) -> None:
    from penstock.report.html.levels_page import write_levels_page

    origin = next(iter(found.values()))[0].summaries[0].origin
    stated = {"name": origin.name, "version": origin.version} if origin else {}
    write_whole(path, lambda partial: write_levels_page(partial, levels, stated, library, more),
                (".html",))


def _levels(name: str, num_seeds: int, found: Found) -> Levels:
    """Curves of policies over rates, or the policies beside each other at the traffic's own."""
    by_point: list[Point] = []
    for rate_per_s, contenders in found.items():
        for one in contenders:
            level, label = (one.label, "") if rate_per_s is None else (rate_per_s, one.label)
            by_point += points(level, label, one.summaries)
    seeds = "one seed" if num_seeds == 1 else f"means of {num_seeds} seeds"
    return Levels(
        f"Policies on {name}", POLICY if None in found else RATE, by_point,
        slos_of(next(iter(found.values()))[0].summaries[0]),
        f"All policies have the same requests; {seeds}.")


def _policies(found: "Sequence[Contender]") -> list[dict[str, Any]]:
    from penstock.experiment.compare import figures, pool_means

    return [{"label": one.label, "options": _options(one.options),
             "runs": [summary.document() for summary in one.summaries], "figures": means,
             **({"turns": pool_means(one)} if one.summaries[0].pools else {})}
            for one, means in zip(found, figures(found), strict=True)]


def _options(options: Any) -> Any:
    from dataclasses import asdict, is_dataclass

    return asdict(options) if is_dataclass(options) and not isinstance(options, type) else options
