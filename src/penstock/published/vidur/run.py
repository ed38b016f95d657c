"""Vidur's per-request answers (microsoft/vidur @7d47513) against ours."""

from functools import partial
from pathlib import Path

import numpy as np

from penstock.core.errors import InputError
from penstock.experiment.run import run_fleet
from penstock.fleet.sources import fleet_workload
from penstock.metrics.definitions import FloatColumn
from penstock.published.columns import read_columns
from penstock.published.examples import example_fleet
from penstock.published.figures import Figure, Options, Reproduction
from penstock.registry.step_times import published_step_time

FLEET = "vidur-a100.yaml"
TTFT_TOLERANCE = 0.06
E2E_TOLERANCE = 0.015
# Mean error of the seven-parameter batch time on held-out batches, and ours on any of them.
BATCH_ERROR = 0.0143
BATCH_TOLERANCE = 0.25


def reproduce_vidur(data: Path, options: Options) -> Reproduction:
    """Replay each request file ``*requests.csv.gz`` in ``data`` and compare TTFT and e2e; check the
    batch-time formula on ``*batches.csv.gz``.

    Raises InputError when the folder holds neither.
    """
    figures: list[Figure] = []
    rows: dict[str, list[dict[str, object]]] = {}
    paths = sorted(data.glob("*requests.csv*"))
    replayed = options.where.results(partial(_requests, seed=options.seed), paths)
    for path, (found, of_file) in zip(paths, replayed, strict=True):
        options.on_progress(f"replayed {path.name}")
        figures += found
        rows["requests.csv"] = of_file
    for path in sorted(data.glob("*llama3_8b_batches.csv*")):
        options.on_progress(f"batch times of {path.name}")
        figures.append(_batches(path))
    if not figures:
        raise InputError(f"{data}: holds no *requests.csv.gz and no *llama3_8b_batches.csv.gz")
    return Reproduction("vidur", tuple(figures), rows)


def _requests(path: Path, seed: int) -> tuple[list[Figure], list[dict[str, object]]]:
    """Replay a file: figures, and a row for each request."""
    columns = read_columns(path, ("arrival_s", "vidur_ttft_s", "vidur_e2e_s"))
    fleet = example_fleet(FLEET, {"traffic[0].trace.file": str(path.resolve())})
    table = run_fleet(fleet, fleet_workload(fleet), seed).result.table
    figures: list[Figure] = []
    for name, ours, published, tolerance in (
            ("TTFT", table.ttft_s, columns["vidur_ttft_s"], TTFT_TOLERANCE),
            ("e2e", table.e2e_s, columns["vidur_e2e_s"], E2E_TOLERANCE)):
        for label, value in _statistics(published).items():
            figures.append(Figure(f"{name} {label}, s", value, _statistics(ours)[label],
                                  tolerance=tolerance, note=path.name))
    return figures, [
        {"request": i, "ttft_s": float(a), "vidur_ttft_s": float(b), "e2e_s": float(c),
         "vidur_e2e_s": float(d)}
        for i, (a, b, c, d) in enumerate(zip(table.ttft_s, columns["vidur_ttft_s"], table.e2e_s,
                                             columns["vidur_e2e_s"], strict=True))]


def _statistics(values: FloatColumn) -> dict[str, float]:
    return {"mean": float(np.mean(values)),
            **{f"p{q}": float(np.percentile(values, q)) for q in (50, 90, 99)}}


def _batches(path: Path) -> Figure:
    columns = read_columns(path, ("prefill_tokens", "prefill_attn_work", "decode_seqs",
                                  "decode_kv_tokens", "ms"))
    model = published_step_time("vidur-a100-llama-3-8b")
    ours = np.array([model.seconds(int(p), w, int(d), int(k)) for p, w, d, k in zip(
        *(columns[name].tolist() for name in list(columns)[:4]), strict=True)])
    error = float(np.mean(np.abs(ours * 1000.0 / columns["ms"] - 1.0)))
    return Figure("batch time, mean error", BATCH_ERROR, error, "at_most", BATCH_TOLERANCE,
                  path.name)
