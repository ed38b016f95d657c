"""AIConfigurator and AISimulate beside Penstock on the same measured points.

    python benchmarks/rivals.py RIVALS_PYTHON DATA [NUMBER] [apart]

RIVALS_PYTHON is the interpreter of an environment with aisimulate, DATA a folder with
measured*.csv.gz. Draws NUMBER (100) aggregated closed loops evenly over accelerators, models and
engines; with `apart`, loops whose prompts and answers were computed apart, without drafts. All
predict with their own shipped data. Penstock's rates were fitted on these points, so it stands here
twice: as shipped, and with rates that were fitted without the point's whole curve.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from common import show

METRICS = ("ttft_s", "tpot_s", "output_tok_per_s")
NUMBER = 100
BACKENDS = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "trtllm"}


def drawn(data: Path, number: int, *, apart: bool) -> list[Any]:
    """Measured points that are closed loops on NVIDIA's chips and that Penstock expresses."""
    from penstock.published.measured.express import express
    from penstock.published.measured.names import NotExpressedError
    from penstock.published.measured.rows import read_measured, run_of

    seen: set[Any] = set()
    kinds: dict[Any, list[Any]] = defaultdict(list)
    for row in read_measured(data):
        if (row.load_kind != "concurrency" or row.disaggregated is not apart
                or not (row.tpot_s and row.ttft_s) or (apart and run_of(row) in seen)):
            continue
        seen.add(run_of(row))
        try:
            point = express(row)
        except NotExpressedError:
            continue
        if apart and point.group.speculation is not None:
            continue
        if point.group.accelerator.vendor == "nvidia" and point.engine in BACKENDS:
            kinds[row.hardware, row.model, point.engine].append((row, point))
    rng = np.random.default_rng(0)
    queues = [list(rng.permutation(len(rows))) for rows in kinds.values()]
    found = []
    while len(found) < number and any(queues):
        for queue, rows in zip(queues, kinds.values(), strict=True):
            if queue and len(found) < number:
                found.append(rows[queue.pop()])
    return found


def job_of(row: Any, point: Any) -> dict[str, Any]:
    """A point as the rivals' process reads it."""
    group, sides = point.group, point.fleet.replicas
    job = {"file": row.file, "row": row.row, "hardware": row.hardware, "model": row.model,
           "precision": group.precision, "engine": BACKENDS[point.engine], **spread_of(group),
           "mixture": bool(group.model.num_experts), "isl": round(row.isl),
           "osl": round(row.osl), "clients": round(row.load_value / group.count)}
    if len(sides) > 1:
        job |= {"prefill": spread_of(sides[0]), "decode": spread_of(sides[1]),
                "clients": round(row.load_value)}
    return job


def spread_of(group: Any) -> dict[str, int]:
    """Workers of a group, their degrees, and their sequences at once."""
    spread = group.parallelism
    return {"tp": spread.tensor, "pp": spread.pipeline, "dp": spread.data, "ep": spread.expert,
            "workers": group.count,
            "seqs": group.schedule.max_num_seqs if group.schedule is not None else 0}


def errors(found: list[tuple[dict[str, float], Any]], metric: str) -> list[float]:
    """|predicted / measured - 1| where both are known."""
    return [abs(predicted[metric] / getattr(row, metric) - 1.0) for predicted, row in found
            if metric in predicted and getattr(row, metric)]


def table(points: list[Any], by_system: dict[str, dict[Any, dict[str, float]]]) -> list[Any]:
    """Coverage and median errors by group, on the points that every system covers."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for row, point in points:
        kind = "mixture" if point.group.model.num_experts else "dense"
        for name in ("all", kind, f"{kind}, {point.engine}"):
            groups[name].append(row)
    records = []
    for name, rows in sorted(groups.items()):
        common = [row for row in rows if all((row.file, row.row) in known
                                             for known in by_system.values())]
        for system, known in by_system.items():
            mine = [(known[row.file, row.row], row) for row in common]
            records.append({
                "group": name, "system": system, "points": len(rows),
                "covered": sum((row.file, row.row) in known for row in rows),
                "common": len(common), **{
                    metric: float(np.median(found)) if (found := errors(mine, metric)) else None
                    for metric in METRICS}})
    return records


def ours(points: list[Any]) -> dict[Any, dict[str, float]]:
    """Predictions of Penstock as it ships."""
    from penstock.published.measured.predict import predict

    return {(row.file, row.row): {name: one.value for name, one in predict(row).metrics.items()}
            for row, _ in points}


def left_out(data: Path, points: list[Any]) -> dict[Any, dict[str, float]]:
    """Predictions of Penstock's rates, each by a fit without the point's whole curve."""
    from penstock.experiment.workers import Cores, num_cores
    from penstock.published.measured.fit import held_out_ratios

    ratios = held_out_ratios([data], on_progress=lambda text: print(text, file=sys.stderr),
                             where=Cores(num_cores()))
    return {(row.file, row.row): {metric: getattr(row, metric) / ratio for metric, ratio in
                                  ratios[row.file, row.row].items() if getattr(row, metric)}
            for row, _ in points if (row.file, row.row) in ratios}


def theirs(python: str, points: list[Any]) -> dict[str, Any]:
    """Predictions of the rivals, by a process of their environment."""
    with tempfile.TemporaryDirectory() as folder:
        jobs, out = Path(folder, "jobs.json"), Path(folder, "predictions.json")
        jobs.write_text(json.dumps([job_of(*point) for point in points]))
        subprocess.run([python, str(Path(__file__).with_name("rivals_predict.py")), str(jobs),
                        str(out)], check=True)
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def main() -> None:
    python, data = sys.argv[1], Path(sys.argv[2])
    points = drawn(data, int(sys.argv[3]) if len(sys.argv) > 3 else NUMBER,
                   apart="apart" in sys.argv[4:])
    by_system = {"Penstock": ours(points), "Penstock, curve left out": left_out(data, points)}
    found = theirs(python, points)
    by_system |= {name: {(row["file"], row["row"]): row[name] for row in found["rows"]
                         if "error" not in row[name]} for name in ("AIConfigurator", "AISimulate")}
    show({"rivals": {"versions": found["versions"], "table": table(points, by_system)}})


if __name__ == "__main__":
    main()
