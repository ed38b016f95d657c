"""Files of measured points for tests."""

import csv
import gzip
from pathlib import Path
from typing import Any

COLUMNS = (
    "source_repo", "source_path", "commit", "licence", "date", "hardware", "hardware_raw",
    "num_gpus", "model", "precision", "kv_precision", "framework", "framework_version", "tp", "pp",
    "ep", "dp", "spec_decode", "disaggregated", "isl", "osl", "length_kind", "load_kind",
    "load_value", "num_requests", "ttft_mean", "ttft_p50", "ttft_p90", "ttft_p95", "ttft_p99",
    "tpot_mean", "tpot_p50", "tpot_p90", "tpot_p99", "e2e_mean", "e2e_p50", "e2e_p99",
    "output_tok_per_s", "total_tok_per_s", "notes")
POINT = {
    "hardware": "h100-80gb", "num_gpus": 1, "model": "meta-llama/Llama-3.1-8B-Instruct",
    "precision": "fp8", "framework": "vllm", "framework_version": "0.19.0", "tp": 1, "pp": 1,
    "spec_decode": "none", "disaggregated": 0, "isl": 512, "osl": 64,
    "length_kind": "uniform ratio 0.8", "load_kind": "concurrency", "load_value": 8,
    "ttft_mean": 0.05, "tpot_mean": 0.006}


def write_measured(folder: Path, *points: dict[str, Any], name: str = "measured.csv.gz") -> Path:
    """Write points, each as its differences from POINT, and return the file."""
    path = folder / name
    with gzip.open(path, "wt", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows({**POINT, **point} for point in points)
    return path
