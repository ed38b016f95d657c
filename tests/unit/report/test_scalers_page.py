"""The page of scale policies side by side."""

import re
from dataclasses import replace

import pytest

from penstock.metrics.bins import demand_curve
from penstock.report.html.scalers_page import write_scalers_page
from penstock.report.html.scalers_plots import (
    Nines,
    dash_of,
    overlay_figure,
    pareto_figure,
)
from penstock.report.model.scalers import (
    ScalerPoint,
    ScalerResult,
    bound_gpu_hours,
    front,
    headline,
    points,
    scalers_table,
)
from support.html_pages import browsed, headings_descend_by_one, outline, overflow_px
from support.scaled_runs import short_run

COLOURS = {"a": "#111111", "b": "#222222", "c": "#333333", "d": "#444444"}


def point(scale, gpu_hours, attainment, meets_slo=True):
    return ScalerPoint(scale, gpu_hours, 2.0 * gpu_hours, attainment, meets_slo)


def result(scale, seed=0, attainment=0.995, gpu_hours=10.0, bound=4.0, meets_slo=True):
    scaling, table = short_run()
    return ScalerResult(scale, seed, attainment, meets_slo, bound,
                        replace(scaling, gpu_hours=gpu_hours), demand_curve(table, 600.0))


@pytest.mark.parametrize(("found", "best"), [
    ([point("a", 5, 0.9), point("b", 4, 0.8), point("c", 6, 0.85)], ["b", "a"]),
    ([point("a", 5, 0.9), point("b", 5, 0.9)], ["a", "b"]),
    ([point("a", 5, 0.9), point("b", 5, 0.8)], ["a"]),
    ([point("a", 5, 0.9), point("b", 6, 0.9)], ["a"]),
    ([], []),
])
def test_the_front_has_those_that_no_other_beats(found, best):
    assert front(found) == best


def test_points_are_means_over_the_seeds_and_leave_out_what_is_unknown():
    found = points([result("a", 0, 0.9, 8.0), result("a", 1, 0.8, 12.0, meets_slo=False),
                    result("b", 0, None), result("b", 1, 0.7)])
    assert [(one.scale, one.gpu_hours, one.meets_slo) for one in found] == [("a", 10.0, False)]
    assert found[0].attainment == pytest.approx(0.85)


def test_energy_has_a_column_where_it_is_known():
    def titles(**more):
        one = result("a")
        shown = scalers_table([replace(one, scaling=replace(one.scaling, **more))])
        return {column.title for column in shown.columns}, str(shown.notes)

    unknown = {"energy_kwh": None, "carbon_kg": None, "power_coverage": 0.25}
    found, notes = titles(**unknown)
    assert not {"energy", "carbon"} & found
    assert "25.00 % of the GPU-hours" in notes
    assert "energy" in titles(**{**unknown, "energy_kwh": 3.0})[0]
    assert "carbon" in titles(energy_kwh=3.0, carbon_kg=1.0)[0]


def test_the_bound_is_a_mean_over_seeds_where_each_has_one():
    assert bound_gpu_hours([result("a", 0, bound=4.0), result("b", 0, bound=4.0),
                            result("a", 1, bound=6.0), result("b", 1, bound=6.0)]) == 5.0
    assert bound_gpu_hours([result("a", 0), result("a", 1, bound=None)]) is None


@pytest.mark.parametrize(("found", "said"), [
    ([point("a", 5, 0.9), point("b", 4, 0.9), point("c", 3, 0.5, False)],
     "b meets the objectives with the fewest GPU-hours: 4.0"),
    ([point("a", 5, 0.9, False)], "No policy meets the objectives"),
    ([point("a", 5, 0.9, None)], "Scale policies side by side"),
])
def test_the_headline_names_the_cheapest_that_is_good_enough(found, said):
    assert headline(found) == said


def test_the_table_marks_the_front_on_the_page_alone():
    results = [result("a"), result("b", gpu_hours=12.0)]
    assert "on the front" not in [column.title for column in scalers_table(results).columns]
    told = scalers_table(results, ["a"], ["a", "b"]).select("policy", "over bound", "on the front")
    assert [[cell.text for cell in row] for row in told.rows] == [
        ["a", "x2.50", "yes"], ["b", "x3.00", "no"]]


def test_the_beaten_are_grey_and_the_bound_is_a_line():
    figure = pareto_figure([point("a", 5, 0.9), point("b", 4, 0.8, False), point("c", 6, 0.85)],
                           COLOURS, 3.0)
    by_name = {trace["name"]: trace for trace in figure["data"]}
    assert by_name["front"]["x"] == [4, 5]
    assert by_name["a"]["marker"]["color"] == COLOURS["a"]
    assert by_name["b"]["marker"]["symbol"] == "x"
    assert by_name["c"]["marker"]["color"] not in COLOURS.values()
    assert "85.00 %, 6.0 GPU-hours" in by_name["c"]["customdata"][0]
    assert figure["layout"]["shapes"][0]["x0"] == 3.0
    assert "shapes" not in pareto_figure([point("a", 5, 0.9)], COLOURS, None)["layout"]


def test_every_nine_has_the_same_room_and_all_in_time_has_a_place():
    nines = Nines([0.5, 0.999, 1.0])
    heights = [nines.height(one) for one in (0.0, 0.9, 0.99, 0.999)]
    assert heights == pytest.approx([0.0, 1.0, 2.0, 3.0])
    assert 3.0 < nines.height(1.0) < 4.0
    assert nines.axis()["ticktext"] == ["0 %", "50 %", "90 %", "99 %", "99.9 %"]
    assert Nines([]).axis()["ticktext"] == ["0 %", "50 %"]


def test_policies_of_one_colour_differ_in_their_lines():
    assert [dash_of(place) for place in (0, 5, 6, 12, 18, 24)] == [
        "solid", "solid", "dash", "dot", "dashdot", "solid"]


def test_replicas_of_all_policies_lie_over_each_other_below_the_demand():
    figure = overlay_figure([result("a"), result("b")], COLOURS)
    by_axis = {}
    for trace in figure["data"]:
        by_axis.setdefault(trace["yaxis"], []).append(trace["name"])
    assert by_axis == {"y": ["arrivals per second"], "y2": ["input tokens per second"],
                       "y3": ["a", "b"], "y4": ["a", "b"]}
    held = figure["data"][2]
    steps = dict(zip(held["x"], held["y"], strict=True))
    assert [steps[at_s] for at_s in (0.0, 60.0, 200.0, 500.0, 510.0)] == [2, 4, 5, 5, 3]


def test_the_page_is_whole_and_escaped(tmp_path):
    evil = "x:label=</script><img src=x>"
    path = tmp_path / "page.html"
    write_scalers_page(path, [result("a"), result(evil, gpu_hours=5.0, attainment=0.5)],
                       {"name": "demo", "version": "1"})
    page = path.read_text()
    parsed = outline(page)
    assert parsed.open == []
    assert headings_descend_by_one(parsed.headings)
    assert "<img" not in page
    assert parsed.figures == ["pareto", "replicas"]
    assert "a meets the objectives" not in page, "the other one needs fewer GPU-hours"


PROBE = """<script>
window.addEventListener("load", () => setTimeout(() => {
  const plot = document.querySelector('[data-figure=replicas]');
  const button = document.querySelector('[data-curves=b]');
  const shown = () => plot.data.filter((one) => one.visible !== false).map((one) => one.name);
  const told = [shown().length];
  button.click();
  told.push(shown().length, shown().includes("b"), button.getAttribute("aria-pressed"));
  button.click();
  told.push(shown().length);
  document.body.dataset.told = told.join(" ");
}, 300));
</script></body>"""


@pytest.mark.browser
def test_a_policy_can_be_hidden(tmp_path):
    path = tmp_path / "page.html"
    write_scalers_page(path, [result("a"), result("b")], {"name": "demo"})
    assert overflow_px(path, tmp_path / "narrow", 400) <= 0
    path.write_text(path.read_text().replace("</body>", PROBE))
    shown = browsed(path, tmp_path / "profile")
    assert re.search(r'data-told="(.*?)"', shown.stdout)[1] == "6 4 false false 6"
    assert "Uncaught" not in shown.stderr
