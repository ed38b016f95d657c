"""Kept runs in MLflow: against a double of its client, and against MLflow where it is installed."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from penstock.core.errors import InputError
from penstock.experiment.runs.mlflow_export import connected, exported
from support.kept_runs import kept_run

DOCUMENT = {
    "window_s": 10.0, "overall": {"attainment": 0.5, "meets_slo": False, "latency": None},
    "classes": {"chat (eu)": {"met": 3}}, "scaling": {"changes": [{"at_s": 1.0}] * 5},
    "fleet": {"replicas": [{"count": 2}], "engine": {"kv_tokens": None}, "name": "x" * 900}}
RUN = kept_run(id="ab12", host="here", seed=7, attainment=0.5, duration_s=2.0, name="chat")


class Pair(NamedTuple):
    key: str
    value: Any


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


class Client:
    """MLflow's client as far as the export calls it; it keeps what it gets."""

    experiments: dict[str, str]

    def __init__(self, tracking_uri):
        self.uri, self.runs, self.experiments = tracking_uri, {}, {}

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=self.experiments[name]) \
            if name in self.experiments else None

    def create_experiment(self, name):
        return self.experiments.setdefault(name, "1")

    def search_runs(self, experiments, text, max_results):
        assert experiments == ["1"]
        return [run for run in self.runs.values() if run.state == "FINISHED"
                and f"'{run.tags['penstock.id']}'" in text][:max_results]

    def create_run(self, experiment, start_time, tags, run_name):
        made = SimpleNamespace(info=SimpleNamespace(run_id=f"m{len(self.runs)}"), tags=tags,
                               begun_ms=start_time, name=run_name, params={}, metrics={},
                               files=[], state="RUNNING")
        self.runs[made.info.run_id] = made
        return made

    def log_batch(self, run, params=(), metrics=()):
        assert max(len(params), len(metrics)) <= 100
        self.runs[run].params |= dict(params)
        self.runs[run].metrics |= {one.key: one.value for one in metrics}

    def log_artifact(self, run, path):
        if not path.endswith(".json"):
            raise OSError(28, "No space left")
        self.runs[run].files.append(path)

    def set_terminated(self, run, state, end_time):
        self.runs[run].state, self.runs[run].ended_ms = state, end_time


@pytest.fixture
def double(monkeypatch):
    parts = {"mlflow": {}, "mlflow.tracking": {"MlflowClient": Client},
             "mlflow.entities": {"Metric": Metric, "Param": Pair},
             "mlflow.exceptions": {"MlflowException": type("MlflowException", (Exception,), {})}}
    for name, members in parts.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)


def test_a_run_is_written_once_with_all_that_it_states(double, tmp_path):
    target = connected("http://here")
    assert exported(target, RUN, DOCUMENT, [tmp_path / "summary.json"]) == ("m0", True)
    assert exported(target, RUN, DOCUMENT, []) == ("m0", False)
    (made,) = target.client.runs.values()
    assert (made.name, made.state, made.begun_ms, made.ended_ms) == (
        "chat ab12", "FINISHED", 1_000_000, 1_002_000)
    assert made.tags == {
        "penstock.id": "ab12", "penstock.kind": "simulate", "penstock.status": "met",
        "penstock.folder": "/runs/0", "penstock.digest": "0" * 32, "penstock.host": "here",
        "penstock.name": "chat"}
    assert made.params == {"seed": "7", "fleet.replicas.0.count": "2", "fleet.name": "x" * 500}
    assert made.metrics == {"window_s": 10.0, "overall.attainment": 0.5, "overall.meets_slo": 0.0,
                            "classes.chat _eu_.met": 3.0, "attainment": 0.5, "duration_s": 2.0}
    assert made.files == [str(tmp_path / "summary.json")]


def test_many_figures_go_in_batches(double):
    target = connected(None)
    classes = {f"c{place}": {"met": place} for place in range(250)}
    exported(target, RUN, {"classes": classes}, [])
    (made,) = target.client.runs.values()
    assert len(made.metrics) == 252


def test_a_run_that_fails_halfway_is_marked_and_written_again(double, tmp_path):
    target = connected(None)
    with pytest.raises(InputError, match=r"mlflow ab12: .*No space left"):
        exported(target, RUN, DOCUMENT, [tmp_path / "requests.parquet"])
    assert exported(target, RUN, DOCUMENT, []) == ("m1", True)
    assert [run.state for run in target.client.runs.values()] == ["FAILED", "FINISHED"]


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match=r"needs the extra 'mlflow'.*pip install '\.\[mlflow\]'"):
        connected(None)


def test_mlflow_itself_takes_a_run(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    target = connected((tmp_path / "mlruns").as_uri())
    (tmp_path / "summary.json").write_text("{}")
    made, is_new = exported(target, RUN, DOCUMENT, [tmp_path / "summary.json"])
    assert (is_new, exported(target, RUN, DOCUMENT, [])) == (True, (made, False))
    run = target.client.get_run(made)
    assert (run.info.status, run.data.tags["penstock.id"]) == ("FINISHED", "ab12")
    assert run.data.metrics["classes.chat _eu_.met"] == 3.0
    assert run.data.params["fleet.replicas.0.count"] == "2"
    assert [one.path for one in target.client.list_artifacts(made)] == ["summary.json"]
