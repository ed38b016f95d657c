"""Dashboards, rules and alerts ask for series that exist, by labels that these have."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.serving.gateway.request_metrics import OUTCOMES
from penstock.serving.gateway.tally import _JUDGED
from penstock.serving.scaling.loop import STATES
from support.exposed_metrics import controller_series, gateway_series
from support.promql import read

REPOSITORY = Path(__file__).parents[3]
DEPLOY = REPOSITORY / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())
TARGET = {"instance", "job", "namespace", "pod"}
"""Labels that Prometheus gives to every series of a target."""
VALUES = {("penstock:requests_total", "outcome"): set(OUTCOMES),
          ("penstock:replicas", "state"): set(STATES),
          ("penstock_reconcile_total", "result"): {"ok", "error"},
          ("penstock:model_loads_total", "outcome"): {"loaded", "failed"},
          ("penstock:tenant_refused_total", "reason"): {"budget_exhausted", "budget_reserved"}}
"""Values of labels that matchers may ask for."""


def rules(key):
    return [rule for group in RULES["groups"] for rule in group["rules"] if key in rule]


@cache
def known():
    """Labels by series, those that rules record included."""
    series = {**gateway_series(), **controller_series()}
    for rule in rules("record"):
        series[rule["record"]] = read(rule["expr"]).grouping - {"instance"}
    return series


def problems(text, series):
    """What an expression asks for that is not there."""
    found, labels = [], {"le", *TARGET}
    expression = read(text)
    for one in expression.selectors:
        if one.metric not in series:
            found.append(f"no series {one.metric}")
            continue
        own = series[one.metric] | TARGET
        labels |= own
        for label, _, value in one.matchers:
            if label not in own:
                found.append(f"{one.metric} has no label {label}")
            allowed = VALUES.get((one.metric, label))
            if allowed is not None and not set(value.split("|")) <= allowed:
                found.append(f"{one.metric}: {label} is never {value}")
            if allowed is None and not value.startswith("$"):
                found.append(f"{one.metric}: values of {label} are not listed")
    return found + [f"no label {label}" for label in sorted(expression.grouping - labels)]


def dashboards():
    return {path.stem: json.loads(path.read_text())
            for path in sorted((DEPLOY / "grafana").glob("*.json"))}


def expressions():
    """Every expression of rules and dashboards, with its place."""
    for rule in rules("expr"):
        yield rule.get("alert") or rule["record"], rule["expr"]
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                query, label = re.fullmatch(r"label_values\((.+), (\w+)\)",
                                            variable["query"]).groups()
                yield f"{name}: ${variable['name']}", f"count by ({label}) ({query})"


def test_every_series_and_label_is_shown():
    found = {place: wrong for place, text in expressions() if (wrong := problems(text, known()))}
    assert not found
    assert len(list(expressions())) > 50


@pytest.mark.parametrize(("text", "problem"), [
    ("penstock:request_total", "no series penstock:request_total"),
    ("sum by (url) (penstock:ledger_available)", "no label url"),
    ('penstock:replicas{stat="ready"}', "penstock:replicas has no label stat"),
    ('penstock:replicas{state="redy"}', "penstock:replicas: state is never redy"),
    ('penstock:retries_total{url="x"}', "penstock:retries_total: values of url are not listed")])
def test_a_false_expression_is_noticed(text, problem):
    assert problem in problems(text, known())


def test_everything_of_the_controller_is_looked_at():
    """All but what repeats other series: sums of a histogram, and the names of llm-d's WVA."""
    names = {one.metric for _, text in expressions() for one in read(text).selectors}
    assert {one for one in set(controller_series()) - names
            if not re.search(r"^wva_|_created$|_sum$|_count$", one)} == set()
    assert len(controller_series()) > 10


def test_attainment_counts_the_outcomes_that_the_gateway_judges():
    recorded = [rule["expr"] for rule in rules("record")
                if rule["record"].startswith("class:penstock_attainment")]
    assert len(recorded) == 4
    for text in recorded:
        (total,) = [one for one in read(text).selectors if one.metric == "penstock:requests_total"]
        assert set(total.matchers[0][2].split("|")) == set(_JUDGED)


def test_the_window_of_a_recorded_series_is_in_its_name():
    for rule in rules("record"):
        ranges = set(re.findall(r"\[(\w+)\]", rule["expr"]))
        assert ranges == set(re.findall(r"_rate(\d+\w)$", rule["record"])), rule["record"]


@pytest.mark.parametrize("name", ["fleet", "gateway", "controller"])
def test_a_dashboard_is_well_formed(name):
    dashboard = dashboards()[name]
    panels, variables = dashboard["panels"], dashboard["templating"]["list"]
    assert variables[0]["type"] == "datasource"
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(x, panel["gridPos"]["y"] + y) for panel in panels
              for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
              for y in range(panel["gridPos"]["h"])]
    assert len(set(places)) == len(places), "panels lie on each other"
    assert all(x < 24 for x, _ in places)
    for panel in panels:
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    used = set(re.findall(r"\$(\w+)", json.dumps(panels))) - {"__rate_interval"}
    assert used <= {variable["name"] for variable in variables}
