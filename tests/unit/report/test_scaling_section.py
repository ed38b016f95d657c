"""The section of a run's page on its scaler."""

import json
import re

import pytest

from penstock.metrics.run_summary import RunSummary
from penstock.metrics.series import RunSeries
from penstock.report.html import scaling
from penstock.report.html.run_page import page_parts, write_page
from penstock.report.html.steps import MOST_POINTS
from penstock.report.model.scaling_decisions import MOST_DECISIONS, clock, details, heading, marked
from support.html_pages import browsed, headings_descend_by_one, outline, overflow_px
from support.scaled_runs import fortnight, requests, short_run, summary_document
from support.scaled_runs import scaling as made


def page(found, table):
    summary = RunSummary.read(summary_document(table, found))
    before, _, after = page_parts(summary, table, RunSeries())
    return (before + after).decode()


def test_plots_share_one_time_axis_and_tell_demand_replicas_attainment_and_cost():
    figure = scaling.figure(*short_run())
    titles = [note["text"] for note in figure["layout"]["annotations"]]
    assert titles == ["Arrivals per second", "Tokens per second of these arrivals",
                      "Replicas of llama on h100", "Replicas of qwen on h100", "Attainment",
                      "Cost per hour, $"]
    assert {trace["xaxis"] for trace in figure["data"]} == {"x"}
    by_axis = {}
    for trace in figure["data"]:
        by_axis.setdefault(trace["yaxis"], []).append(trace["name"])
    assert by_axis == {
        "y": ["arrivals per second"], "y2": ["input tokens", "output tokens"],
        "y3": [*scaling.STATES, "wanted", "decision"],
        "y4": [*scaling.STATES, "wanted", "decision"], "y5": ["in time"], "y6": ["cost per hour"]}
    arrivals, prompts, outputs = figure["data"][:3]
    assert arrivals["y"][3] == 2.0
    assert (prompts["y"][3], outputs["y"][3]) == (200.0, 100.0)
    in_time = next(trace for trace in figure["data"] if trace["name"] == "in time")
    shares = [share for share in in_time["y"] if share is not None]
    assert (min(shares), max(shares)) == (0.25, 1.0)
    cost = next(trace for trace in figure["data"] if trace["name"] == "cost per hour")
    assert max(cost["y"]) == 10.0


def test_marks_stand_at_the_changed_group_and_lead_to_the_decision():
    figure = scaling.figure(*short_run())
    first, second = [trace for trace in figure["data"] if trace["name"] == "decision"]
    assert (first["x"], first["y"], first["customdata"]) == ([60.0, 500.0], [3, 1], [0, 2])
    assert first["marker"]["symbol"] == ["triangle-up", "triangle-down"]
    assert second["customdata"] == [1, 2]
    assert second["text"] == ["&lt;b&gt;&amp;burst&lt;/b&gt;", "fewer sufficed"]
    assert [one["x"] for one in figure["decisions"]] == [60.0, 200.0, 500.0]


def test_a_decision_tells_its_cause_and_what_was_set_aside():
    found, _ = short_run()
    told = dict(details(found, found.decisions[0]))
    assert told == {
        "Reason": "load rises", "Figures": "load 2.5",
        "Choice": "3 + 1 replicas, $8.00 per hour, predicted attainment 99.50 %",
        "Next best": "2 + 1 replicas, $6.00 per hour, predicted attainment 93.00 %",
        "Arrivals": "4 /s since the decision before",
        "Queue": "7 at the gateway, 2 at the engines",
        "Running": "31; 1 serving without metrics",
        "Replicas": "llama on h100 2 ready, 1 starting; qwen on h100 1 ready",
        "Ages": "ready for up to 600 s, starting for up to 40 s, metrics up to 400 ms old"}
    assert heading(found, found.decisions[2]) == \
        "8 min 20 s: llama on h100 3 \u2192 1 replicas; qwen on h100 2 \u2192 1 replicas"
    last = dict(details(found, found.decisions[2]))
    assert last["Choice"] == "1 + 1 replicas, $4.00 per hour, attainment not predicted"
    assert last["Next best"] == "the policy names none"
    assert "Arrivals" not in last


@pytest.mark.parametrize(("at_s", "said"), [(0.0, "0 s"), (59.5, "59.5 s"), (60.0, "1 min"),
                                            (90_061.0, "1 d 1 h 1 min 1 s")])
def test_times_read_as_a_clock(at_s, said):
    assert clock(at_s) == said


def test_the_page_is_whole_and_escaped():
    found, table = short_run()
    text = page(found, table)
    parsed = outline(text)
    assert parsed.open == []
    assert headings_descend_by_one(parsed.headings)
    assert "<b>&burst" not in text
    assert 'aria-label="One decision; the arrow keys lead to the others"' in text
    assert "load rises" in " ".join(parsed.text)


def test_a_run_without_decisions_or_prices_has_a_page():
    found, table = short_run()
    old = summary_document(table, made(found.groups, found.changes[:2], ()))
    for group in old["scaling"]["groups"]:
        del group["cost_per_hour"]
    summary = RunSummary.read(old)
    figure = scaling.figure(summary.scaling, requests([]))
    assert not any(trace["name"] == "cost per hour" for trace in figure["data"])
    before, _, after = page_parts(summary, table, RunSeries())
    assert b'class="card decision"' not in before + after


def test_two_weeks_have_few_points_with_every_extreme_and_a_bounded_page():
    found, table = fortnight()
    figure = scaling.figure(found, table)
    assert max(len(trace["x"]) for trace in figure["data"]) <= MOST_POINTS
    wanted = next(trace for trace in figure["data"] if trace["name"] == "wanted")
    assert max(wanted["y"]) == 40
    assert len(figure["fine"]) == 3  # demand, replicas, cost
    assert len(figure["decisions"]) == MOST_DECISIONS == len(marked(found))
    assert figure["layout"]["xaxis"]["title"]["text"] == "days"
    assert len(json.dumps(figure)) < 4e6


PROBE = """<script>
window.addEventListener("load", () => setTimeout(() => {
  const plot = document.querySelector('[data-figure=scaling]');
  const target = plot.querySelector(".draglayer .xy4 .nsewdrag");
  target.scrollIntoView();
  const drag = target.getBoundingClientRect(), axes = plot._fullLayout;
  const at = {bubbles: true, cancelable: true, view: window,
    clientX: drag.left + axes.xaxis.d2p(200), clientY: drag.top + axes.yaxis4.d2p(2)};
  target.dispatchEvent(new MouseEvent("mousemove", at));
  setTimeout(() => {
    target.dispatchEvent(new MouseEvent("mousedown", at));
    document.dispatchEvent(new MouseEvent("mouseup", at));
    setTimeout(() => {
      const card = document.querySelector("[data-decisions]");
      const told = [card.dataset.picked, card.querySelector("h3").textContent];
      const press = (key) => card.dispatchEvent(new KeyboardEvent("keydown", {key}));
      for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft", "Home", "End"]) {
        press(key);
        told.push(card.dataset.picked);
      }
      card.querySelector("button").click();
      told.push(card.dataset.picked, card.querySelector("dl").textContent,
        String(plot.layout.shapes[0].x0));
      document.body.dataset.told = JSON.stringify(told);
    }, 400);
  }, 400);
}, 300));
</script></body>"""


@pytest.mark.browser
def test_a_click_and_the_keys_pick_decisions(tmp_path):
    found, table = short_run()
    path = tmp_path / "report.html"
    write_page(path, RunSummary.read(summary_document(table, found)), table, RunSeries())
    # Only the scaling's section stays, so that its plot is within the window.
    path.write_text(path.read_text().replace("</style>", "section:not(#section-scaling), .facts "
                                             "{ display: none }</style>", 1)
                    .replace("</body>", PROBE))
    shown = browsed(path, tmp_path / "profile")
    told = re.search(r'data-told="(.*?)"', shown.stdout)
    assert told is not None, shown.stderr
    picked, title, *rest = json.loads(told[1].replace("&quot;", '"').replace("&amp;", "&"))
    assert (picked, title) == ("1", "3 min 20 s: qwen on h100 1 \u2192 2 replicas")
    *keys, text, line_s = rest
    assert keys == ["2", "2", "1", "0", "2", "1"]
    assert "<b>&burst</b>" in text.replace("&lt;", "<").replace("&gt;", ">")
    assert line_s == "200"
    assert "Uncaught" not in shown.stderr


ZOOM = """<script>
window.addEventListener("load", () => setTimeout(async () => {
  const plot = document.querySelector('[data-figure=scaling]');
  const points = () => {
    const wanted = plot.data.find((trace) => trace.name === "wanted");
    return wanted.x.filter((x) => x > 3 && x < 4).length;
  };
  const told = [points()];
  await Plotly.relayout(plot, {"xaxis.range[0]": 3, "xaxis.range[1]": 4});
  told.push(points(), Math.max(...plot.data.map((trace) => trace.x.length)));
  await Plotly.relayout(plot, {"xaxis.autorange": true});
  told.push(points());
  document.body.dataset.told = JSON.stringify(told);
}, 300));
</script></body>"""


@pytest.mark.browser
def test_two_weeks_refine_where_the_reader_looks_closer(tmp_path):
    found, table = fortnight()
    path = tmp_path / "report.html"
    write_page(path, RunSummary.read(summary_document(table, found)), table, RunSeries())
    assert path.stat().st_size < 5e6
    assert overflow_px(path, tmp_path / "narrow", 400) <= 0
    path.write_text(path.read_text().replace("</body>", ZOOM))
    shown = browsed(path, tmp_path / "profile")
    told = re.search(r'data-told="(.*?)"', shown.stdout)
    assert told is not None, shown.stderr
    before, within, most, after = json.loads(told[1])
    assert within > 3 * before > 0
    assert most <= MOST_POINTS
    assert after == pytest.approx(before, abs=20)
