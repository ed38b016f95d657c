"""The sections of the page: pieces of HTML made from the summary. All text of others is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from penstock.report import wording
from penstock.report.plots import class_colours

Row = Sequence[str]

MUTED_ABSENT = f"<span class=muted>{wording.ABSENT}</span>"


def hero(summary: Mapping[str, Any]) -> str:
    """The headline, the figures beside it and one verdict per class."""
    verdicts = [_class_verdict(name, entry) for name, entry in summary["classes"].items()]
    overall = summary["overall"]
    lede = (f"{wording.arrivals(summary)}. {wording.count(overall['met'])} of the requests were "
            "within every target of their class.")
    return opening(wording.headline(summary), lede, "Verdict by service class", verdicts,
                   wording.facts(summary))


def opening(headline: str, lede: str, whose: str, verdicts: Iterable[tuple[bool | None, str, str]],
            facts: Iterable[wording.Fact]) -> str:
    """A page's headline, what it is about, verdicts with what each means, and figures."""
    marks = "".join(f"<li class={_tone(meets)}>{mark(meets)}<span><b>{escape(text)}</b>"
                    f"<span>{escape(detail)}</span></span></li>"
                    for meets, text, detail in verdicts)
    figures = "".join(f"<div><dt>{escape(fact.label)}</dt><dd>{escape(fact.value)}"
                      f"<small>{escape(fact.detail)}</small></dd></div>" for fact in facts)
    return (f"<h1>{escape(headline)}</h1><p class=lede>{escape(lede)}</p>"
            f'<ul class=verdicts aria-label="{escape(whose)}">{marks}</ul>'
            f"<dl class=facts>{figures}</dl>")


def _class_verdict(name: str, entry: Mapping[str, Any]) -> tuple[bool | None, str, str]:
    meets = entry["meets_slo"]
    share = f" at {wording.percent(entry['attainment'])}" if meets is not None else ""
    return meets, f"{name} {wording.verdict(meets)}{share}", wording.objective(entry["slo"])


def classes_table(summary: Mapping[str, Any]) -> str:
    """Counts, attainment and goodput, one row per class and one overall."""
    colours = class_colours(list(summary["classes"]))
    head = ("class", "attainment", "objective", "received", "finished", "rejected", "shed",
            "unfinished", "goodput", "late tokens")
    rows = []
    for name, entry in summary["classes"].items():
        percentile = entry["slo"]["percentile"]
        verdict = badge(entry["meets_slo"], wording.level(percentile))
        rows.append(_outcome_row(class_label(name, colours[name]), verdict, entry,
                                 colours[name], percentile / 100))
    total = _outcome_row("overall", "", summary["overall"], "var(--accent)", None)
    return table(head, rows, total, "Requests received and how they ended. The pale band is the "
                 "95 % interval of attainment, the tick the objective.")


def _outcome_row(label: str, verdict: str, entry: Mapping[str, Any], colour: str,
                 goal: float | None) -> Row:
    counts = [_count(entry[key]) for key in ("received", "finished", "rejected", "shed",
                                             "unfinished")]
    late = entry["num_late_tokens"] / entry["output_tokens"] if entry["output_tokens"] else None
    return (label, attainment_bar(entry, colour, goal), verdict, *counts,
            wording.rate(entry["goodput_requests_per_s"]), wording.percent(late))


def _count(value: int) -> str:
    return wording.count(value) if value else "<span class=muted>0</span>"


def attainment_bar(entry: Mapping[str, Any], colour: str, goal: float | None) -> str:
    """A bar with its confidence band and the objective as a tick, and the number beside it."""
    share = entry["attainment"]
    if share is None:
        return MUTED_ABSENT
    low, high = entry["attainment_low"], entry["attainment_high"]
    tick = "" if goal is None else (f"<line class=goal x1={goal * 100:.2f} x2={goal * 100:.2f} "
                                    "y1=-2 y2=10 />")
    label = (f"attainment {wording.percent(share)}, 95 % interval "
             f"{wording.percent(low)} to {wording.percent(high)}")
    return (f'<span class=range><svg width=100 height=12 '
            f'viewBox="0 -2 100 12" preserveAspectRatio=none role=img aria-label="{escape(label)}">'
            f"<rect class=track width=100 height=8 rx=4 />"
            f'<rect width="{share * 100:.2f}" height=8 rx=4 fill="{colour}" />'
            f'<rect class=spread x="{low * 100:.2f}" width="{(high - low) * 100:.2f}" y=-2 '
            f'height=12 rx=2 fill="{colour}" />{tick}</svg>'
            f"<span>{wording.percent(share)}</span></span>")


def latency_table(summary: Mapping[str, Any]) -> str:
    """Percentiles of each latency by class, held against the targets where one binds them."""
    colours = class_colours(list(summary["classes"]))
    groups = []
    for name, entry in summary["classes"].items():
        rows = []
        for key, title in wording.LATENCIES.items():
            target = wording.target(key, entry["slo"])
            cells = [judged(entry, key, q) for q in wording.PERCENTILES]
            bound = MUTED_ABSENT if target is None else f"≤ {wording.seconds(target)}"
            rows.append((title, bound, *cells))
        groups.append((f"{class_label(name, colours[name])}"
                       f"<span class=sub>{escape(wording.objective(entry['slo']))}</span>", rows))
    return headed_table(("latency", "target", *wording.PERCENTILES), groups,
                        "Percentiles by nearest rank. TTFT and queue time of every request that "
                        "got so far, the rest of finished requests. ▲ marks a value above its "
                        "target.")


def judged(entry: Mapping[str, Any], latency: str, percentile: str) -> str:
    """A latency, coloured and marked when a target binds it."""
    value = entry["latency"][latency][percentile]
    return against_target(wording.seconds(value),
                          wording.is_over(percentile, value, entry["slo"], latency))


def against_target(text: str, over: bool | None) -> str:
    """A figure, coloured where a target binds it and marked where it is above."""
    if over is None:
        return text
    if not over:
        return f"<span class=kept>{text}</span>"
    return f'<span class=over><span role=img aria-label="above target">▲</span> {text}</span>'


def cost_table(summary: Mapping[str, Any]) -> str:
    """Return the table of the run's cost, by class in proportion to computed tokens."""
    head = ("class", "per hour", "this run", "per million tokens", "per million output tokens",
            "per finished request", "per request within targets")
    keys = ("per_hour", "total", "per_million_tokens", "per_million_output_tokens",
            "per_finished_request", "per_met_request")
    colours = class_colours(list(summary["classes"]))
    rows = [(class_label(name, colours[name]), *_costs(entry["cost"], keys))
            for name, entry in summary["classes"].items()]
    total = ("overall", *_costs(summary["overall"]["cost"], keys))
    return table(head, rows, total, "Replicas serve all classes together; each class bears its "
                 "share of the prompt and output tokens computed.")


def _costs(cost: Mapping[str, float | None], keys: Iterable[str]) -> list[str]:
    return [wording.money(cost[key]) for key in keys]


def sizing_table(sizing: Mapping[str, Any], names: Sequence[str]) -> str:
    """Every size or rate tried, with the attainment of each class and what fell short."""
    missing = any(map(wording.trial_missed, sizing["tried"]))
    head = (wording.sizing_variable(sizing), *map(escape, names), "objectives",
            *(["missed by"] if missing else []))
    rows = []
    for trial in sorted(sizing["tried"], key=lambda trial: float(trial["value"])):
        chosen = trial["value"] == sizing.get("chosen")
        value = f"{trial['value']:g}"
        rows.append((f"<b>{value}</b> chosen" if chosen else value,
                     *(wording.percent(trial["attainment"].get(name)) for name in names),
                     badge(trial["meets_slo"], wording.verdict(trial["meets_slo"])),
                     *([escape(wording.trial_missed(trial))] if missing else [])))
    return table(head, rows, caption=" ".join(wording.sizing_limits(sizing)))


def refusals_table(refusals: Sequence[Mapping[str, Any]]) -> str:
    """Why requests were rejected or shed, most frequent first."""
    ordered = sorted(refusals, key=lambda refusal: -int(refusal["num_requests"]))
    rows = [(escape(str(item["reason"])) + _whose(item), wording.count(item["num_requests"]))
            for item in ordered]
    return table(("reason", "requests"), rows, style="wrapped")


def _whose(refusal: Mapping[str, Any]) -> str:
    parts = [str(refusal[key]) for key in ("service_class", "status") if refusal.get(key)]
    return f"<span class=sub>{escape(', '.join(parts))}</span>" if parts else ""


def replicas_table(replicas: Sequence[Mapping[str, Any]]) -> str:
    """Requests and busy time of each replica."""
    rows = [(f"replica {item['replica']}", wording.count(item["requests"]),
             wording.seconds(item["busy_s"]),
             meter(wording.busy(item), wording.percent(wording.busy(item), 1)))
            for item in replicas]
    return table(("replica", "requests", "computing", "busy"), rows)


def meter(share: float | None, text: str) -> str:
    """A bar filled to ``share`` beside what it shows."""
    return (f"<span class=meter aria-hidden=true><i style='width:{min(share or 0.0, 1.0):.1%}'></i>"
            f"</span>{escape(text)}")


def legend(colours: Mapping[str, str], extra: Iterable[tuple[str, str]] = ()) -> str:
    """Return the legend: colours of names, and meanings of line styles."""
    items = [(f"border-color:{colour}", "", name) for name, colour in colours.items()]
    items += [("border-color:var(--soft)", style, text) for style, text in extra]
    listed = "".join(f'<li><span class="swatch {style}" style="{colour}"></span>{escape(text)}</li>'
                     for colour, style, text in items)
    return f'<ul class=legend aria-label="Legend">{listed}</ul>'


def plot(name: str, title: str, description: str, size: str = "") -> str:
    """A card with a figure; readers who cannot see it get the description."""
    return (f"<figure class=card><h3>{escape(title)}</h3>"
            f'<div class="plot {size}" data-figure="{escape(name)}" role=img '
            f'aria-label="{escape(description)}"></div></figure>')


def section(title: str, note: str, *content: str) -> str:
    """A section with its heading and a note on how to read it."""
    return (f"<section><h2>{escape(title)}</h2><p class=note>{escape(note)}</p>"
            f"{''.join(content)}</section>")


def class_label(name: str, colour: str) -> str:
    """A class's name beside its colour."""
    return f'<span class=class><span class=dot style="background:{colour}"></span>' \
           f"{escape(name)}</span>"


def mark(meets: bool | None) -> str:
    """The sign of a verdict; the words beside it carry the meaning."""
    sign = {True: "✓", False: "✕", None: wording.ABSENT}[meets]
    return f'<span class="mark {_tone(meets)}" aria-hidden=true>{sign}</span>'


def badge(meets: bool | None, text: str) -> str:
    """A sign with its words."""
    return f'<span class="badge {_tone(meets)}">{mark(meets)}{escape(text)}</span>'


def _tone(meets: bool | None) -> str:
    return {True: "good", False: "bad", None: "idle"}[meets]


def table(head: Row, rows: Iterable[Row], total: Row | None = None, caption: str = "",
          style: str = "") -> str:
    """A table whose first cells head their rows. Cells are HTML, already escaped."""
    body = "".join(_row(row) for row in rows)
    if total is not None:
        body += _row(total, "total")
    return _wrapped(f"{_head(head)}<tbody>{body}</tbody>", caption, style)


def grouped_table(head: Row, groups: Iterable[Iterable[Row]], total: Row | None = None,
                  caption: str = "") -> str:
    """A table in which each group of rows stands apart. Cells are HTML, already escaped."""
    bodies = ["".join(map(_row, group)) for group in groups]
    if total is not None:
        bodies.append(_row(total, "total"))
    return _wrapped(_head(head) + "".join(f"<tbody class=group>{body}</tbody>" for body in bodies),
                    caption)


def headed_table(head: Row, groups: Iterable[tuple[str, Iterable[Row]]], caption: str = "") -> str:
    """A dense table in which each group of rows has a heading as wide as the table."""
    bodies = "".join(
        f"<tbody class=group><tr><th colspan={len(head)} scope=rowgroup>{heading}</th></tr>"
        f"{''.join(map(_row, rows))}</tbody>" for heading, rows in groups)
    return _wrapped(_head(head) + bodies, caption, "dense")


def folded(title: str, content: str) -> str:
    """Return a section that is closed at first."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _wrapped(content: str, caption: str, style: str = "") -> str:
    """A card in which a table too wide for the screen scrolls by itself, its caption staying."""
    above = f"<p class=caption>{escape(caption)}</p>" if caption else ""
    return (f'<div class="card wide">{above}<div class="scroll sticky" tabindex=0 role=region '
            f'aria-label="{escape(caption or "Table")}"><table class="{style}">{content}</table>'
            "</div></div>")


def _head(cells: Row) -> str:
    return f"<thead><tr>{''.join(f'<th scope=col>{cell}</th>' for cell in cells)}</tr></thead>"


def _row(cells: Row, kind: str = "") -> str:
    first, *rest = cells
    data = "".join(f"<td>{cell}</td>" for cell in rest)
    return f'<tr class="{kind}"><th scope=row>{first}</th>{data}</tr>'
