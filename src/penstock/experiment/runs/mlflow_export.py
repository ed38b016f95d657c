"""Kept runs as runs of MLflow, which the extra ``mlflow`` brings."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from penstock.core.errors import InputError, missing_extra
from penstock.experiment.runs.kept import COLUMNS, KeptRun

EXPERIMENT = "penstock"
_ID_TAG = "penstock.id"
_LONGEST = 500          # characters of a parameter's value, in every release of MLflow
_BATCH = 100            # parameters or metrics of one call
_FIGURES = ("window_s", "overall", "classes", "scaling", "energy")


class Target(NamedTuple):
    """MLflow's client, and the experiment that gets the runs."""

    client: Any
    experiment_id: str


def connected(uri: str | None) -> Target:
    """Return the target at a tracking URI, None for MLflow's own. Raises InputError."""
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise missing_extra("--to mlflow", "mlflow", error) from error
    with _told(uri):
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        return Target(client, client.create_experiment(EXPERIMENT) if found is None
                      else found.experiment_id)


def exported(target: Target, run: KeptRun, document: Mapping[str, Any],
             files: Sequence[Path]) -> tuple[str, bool]:
    """Write a run with its summary or plan and its files; MLflow's id, and False where it was there
    already.

    A run that is only partly written is marked as failed. Raises InputError.
    """
    from mlflow.entities import Metric, Param

    client, begin_ms = target.client, round(1e3 * run.begun_s)
    end_ms = round(1e3 * (run.begun_s + (run.duration_s or 0.0)))
    with _told(run.id):
        earlier = client.search_runs(
            [target.experiment_id],
            f"tags.`{_ID_TAG}` = '{run.id}' and attributes.status = 'FINISHED'", max_results=1)
        if earlier:
            return earlier[0].info.run_id, False
        made = client.create_run(target.experiment_id, start_time=begin_ms, tags=_tags(run),
                                 run_name=f"{run.name or run.kind} {run.id}").info.run_id
        state = "FAILED"
        try:
            for params in _batches(_params(run, document)):
                client.log_batch(made, params=[Param(*param) for param in params])
            for metrics in _batches(_metrics(run, document)):
                client.log_batch(made, metrics=[Metric(name, value, end_ms, 0)
                                                for name, value in metrics])
            for path in files:
                client.log_artifact(made, str(path))
            state = "FINISHED"
        finally:
            client.set_terminated(made, state, end_ms)
    return made, True


@contextmanager
def _told(what: str | None) -> Iterator[None]:
    """Turn MLflow's errors into one line."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError, ModuleNotFoundError) as error:
        raise InputError(f"mlflow {what or ''}: {' '.join(str(error).split())[:400]}") from error


def _tags(run: KeptRun) -> dict[str, str]:
    named = {name: value for name, value in run._asdict().items() if COLUMNS[name] is str}
    return {f"penstock.{name}": str(value) for name, value in named.items() if value is not None}


def _params(run: KeptRun, document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if run.seed is not None:
        yield "seed", str(run.seed)
    fleet = document.get("fleet", {"replicas": document.get("replicas")})
    for name, value in _flat(fleet, "fleet"):
        text = str(value)
        if value is not None and text:
            yield name, text[:_LONGEST]


def _metrics(run: KeptRun, document: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    stated = {name: value for name, value in run._asdict().items()
              if COLUMNS[name] is not str and name not in ("seed", "begun_s")}
    figures = {name: document[name] for name in _FIGURES if name in document}
    for name, value in _flat({**figures, **stated}, "", lists=False):
        if isinstance(value, int | float) and math.isfinite(value):
            yield name, float(value)


def _flat(value: Any, place: str, *, lists: bool = True) -> Iterator[tuple[str, Any]]:
    """Leaves of a document, with or without those in lists, under dotted names of the characters
    that MLflow takes."""
    if isinstance(value, Mapping):
        members = list(value.items())
    elif isinstance(value, list):
        members = list(enumerate(value)) if lists else []
    else:
        yield place, value
        return
    for key, member in members:
        name = re.sub(r"[^\w .:/-]", "_", str(key))
        yield from _flat(member, f"{place}.{name}" if place else name, lists=lists)


def _batches(pairs: Iterator[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    while batch := list(islice(pairs, _BATCH)):
        yield batch
