"""Derived files are those that deploy/generate.py writes."""

import importlib.util
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[3] / "deploy"


def script():
    spec = importlib.util.spec_from_file_location("generate", DEPLOY / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TEXTS = script().texts()


@pytest.mark.parametrize("name", TEXTS)
def test_a_derived_file_is_up_to_date(name):
    assert (DEPLOY / name).read_text() == TEXTS[name], "run python deploy/generate.py"


def test_nothing_else_lies_among_them():
    assert {path.name for path in (DEPLOY / "grafana").iterdir()} == {
        Path(name).name for name in TEXTS if name.startswith("grafana/")}


def test_the_rule_of_the_operator_has_all_groups():
    rule = yaml.safe_load(TEXTS["kustomize/overlays/monitoring/prometheusrule.yaml"])
    assert rule["spec"] == yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())
    assert len(rule["spec"]["groups"]) == 3
