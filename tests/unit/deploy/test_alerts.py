"""Each alert fires for its trouble, in Prometheus' own evaluator, and is silent otherwise."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[3]
FILE = REPOSITORY / "deploy" / "prometheus" / "rules.yaml"
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(FILE.read_text())["groups"]
          for rule in group["rules"] if "alert" in rule}
PAGE = (REPOSITORY / "docs" / "reference" / "deploy.md").read_text()
DESIRED = 'penstock_desired_replicas{instance="a",namespace="n",fleet="f",group="g",model="m",' \
          'accelerator="h"}'
CURRENT, BEHIND = DESIRED.replace("desired", "current"), DESIRED.replace('="a"', '="b"')
LEADER, OTHER = 'penstock_leader{instance="a"}', 'penstock_leader{instance="b"}'
ENDED = 'penstock:requests_total{model_name="m",service_class="c",outcome="finished"}'
LEFT = ENDED.replace("finished", "cancelled")
MET = 'penstock:requests_in_time_total{model_name="m",service_class="c"}'
ATTAINMENT = 'penstock_fleet_attainment{instance="a",namespace="n",fleet="f"}'
MISSING = 'penstock_metrics_missing{instance="a",namespace="n",fleet="f"}'
GROUP = 'namespace="p",instance="a",group="0",model_name="m"'
READY, STARTING, WAITING = (f'penstock:replicas{{{GROUP},state="{state}"}}'
                            for state in ("ready", "starting", "waiting"))
WANTED = f"penstock:replicas_wanted{{{GROUP}}}"
ENGINES = [f'penstock:engine_available{{namespace="p",job="j",url="{url}"}}' for url in "xy"]
PRESSURE = 'penstock_overload_pressure{namespace="p",instance="a",of="memory"}'
LEDGER = 'penstock:ledger_available{namespace="p",instance="a"}'
LOADS = 'penstock:model_loads_total{namespace="p",pool="q",model_name="m",outcome="failed"}'
UP = 'penstock:scaling_metrics_up{namespace="p",instance="a"}'
AGE = 'penstock:scaling_decision_age_seconds{namespace="p",instance="a"}'
SPENT = 'penstock:tenant_budget_spent{namespace="p",tenant="t"}'
BUDGET = SPENT.replace("_spent", "")
REFUSED = 'penstock:tenant_refused_total{namespace="p",tenant="t",reason="budget_exhausted"}'
RECONCILES = 'penstock_reconcile_total{instance="a",result="ok"}'
FAILED = RECONCILES.replace("ok", "error")
# Values are Prometheus' notation: "0+60x400" starts at 0 and grows by 60 in each of 400 minutes.
# Alert, minute, series under which it fires, and changes of these after which it does not.
CASES = [
    ("PenstockObjectiveBurnsFast", 100, {ENDED: "0+100x400", MET: "0+80x400"},
     [{MET: "0+90x400"}, {MET: "0+80x60 4800+100x340"}, {ENDED: "0+0x400", MET: "0+0x400"},
      {ENDED: "0+100x400", MET: "0+100x400", LEFT: "0+100x400"}]),
    ("PenstockObjectiveBurnsSlowly", 399, {ENDED: "0+100x400", MET: "0+92x400"},
     [{MET: "0+95x400"}]),
    ("PenstockFleetMissesObjective", 399, {ATTAINMENT: "0.9x400", LEADER: "1x400"},
     [{ATTAINMENT: "0.95x400"}, {LEADER: "0x400"}]),
    ("PenstockControllerWithoutLeader", 5, {LEADER: "0x400", OTHER: "0x400"},
     [{OTHER: "1x400"}]),
    ("PenstockControllerWithoutLeader", 5, {RECONCILES: "1x400"}, [{LEADER: "1x400"}]),
    ("PenstockControllerTwoLeaders", 5, {LEADER: "1x400", OTHER: "1x400"}, [{OTHER: "0x400"}]),
    ("PenstockControllerStalled", 30, {LEADER: "1x400", RECONCILES: "7x400"},
     [{RECONCILES: "0+1x400"}, {LEADER: "0x400"}]),
    ("PenstockReconcilesFail", 30, {FAILED: "0+1x400", RECONCILES: "0+3x400"},
     [{FAILED: "0+1x400", RECONCILES: "0+9x400"}]),
    ("PenstockMetricsMissing", 15, {LEADER: "1x400", MISSING: "1x400"},
     [{MISSING: "0x400"}, {MISSING: "1x8 0x400"}, {LEADER: "0x400"}]),
    ("PenstockReplicasNotRunning", 30, {LEADER: "1x400", DESIRED: "3x400", CURRENT: "2x400"},
     [{CURRENT: "3x400"}, {DESIRED: "2x400", BEHIND: "3x400", OTHER: "0x400"},
      {CURRENT: "2x9 3x400"}]),
    ("PenstockGatewayWithoutEngine", 5, dict.fromkeys(ENGINES, "0x400"), [{ENGINES[0]: "1x400"}]),
    ("PenstockGatewayOverloaded", 15, {PRESSURE: "0.7x400"}, [{PRESSURE: "0.65x400"}]),
    ("PenstockLedgerUnavailable", 5, {LEDGER: "0x400"}, [{LEDGER: "1x400"}]),
    ("PenstockStartsFail", 20, {LOADS: "0+1x400"}, [{LOADS: "3x400"}]),
    ("PenstockStartsTakeLong", 45, {STARTING: "1x400"}, [{STARTING: "1x20 0x1 1x400"}]),
    ("PenstockAcceleratorsMissing", 25, {WAITING: "1x400"}, [{WAITING: "1x15 0x1 1x400"}]),
    ("PenstockGatewayReplicasNotReady", 30, {WANTED: "2x400", READY: "1x400"},
     [{READY: "2x400"}, {READY: "1x9 2x400"}]),
    ("PenstockScalingMetricsMissing", 15, {UP: "0x400"}, [{UP: "1x400"}]),
    ("PenstockScalingStalled", 20, {AGE: "0+60x400"}, [{AGE: "60x400"}]),
    ("PenstockBudgetNearlySpent", 10, {SPENT: "95x400", BUDGET: "100x400"}, [{SPENT: "80x400"}]),
    ("PenstockBudgetLimits", 20, {REFUSED: "0+1x400"}, [{REFUSED: "5x400"}]),
]


def evaluated(alert, minute, series, fires):
    """A test of promtool, with its minute. Whether an alert fires is asked by the series that
    Prometheus makes of alerts, so that texts and labels need not stand here again."""
    return minute, {"interval": "1m", "input_series": [
        {"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{
            "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": "{}", "value": 1}] if fires else []}]}


def promtool(folder, tests):
    """Runs tests. Those of many minutes evaluate rules less often, to take less time."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    files = []
    for every, some in (("1m", [test for minute, test in tests if minute <= 60]),
                        ("5m", [test for minute, test in tests if minute > 60])):
        files.append(folder / f"{every}.yaml")
        files[-1].write_text(yaml.safe_dump({
            "rule_files": [str(FILE)], "evaluation_interval": every, "tests": some}))
    return subprocess.run([program, "test", "rules", *files], capture_output=True, text=True,
                          check=False)


def test_alerts_fire_for_their_trouble_and_not_without(tmp_path):
    tests = [evaluated(alert, minute, series, True) for alert, minute, series, _ in CASES]
    tests += [evaluated(alert, minute, {**series, **change}, False)
              for alert, minute, series, changes in CASES for change in changes]
    ended = promtool(tmp_path, tests)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_an_alert_that_does_not_fire_is_noticed(tmp_path):
    alert, minute, series, (change, *_) = CASES[0]
    assert promtool(tmp_path, [evaluated(alert, minute, series, False)]).returncode == 1
    assert promtool(tmp_path, [evaluated(alert, minute, {**series, **change}, True)]
                    ).returncode == 1


def test_every_alert_has_a_case_and_both_outcomes():
    assert {alert for alert, *_ in CASES} == set(ALERTS)
    assert all(changes for *_, changes in CASES)


def test_every_alert_has_a_severity_a_summary_and_a_line_of_the_runbook():
    lines = dict(re.findall(r"^\| `(Penstock\w+)` \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE))
    assert list(lines) == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"] == {"severity": lines[name]}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary"}
