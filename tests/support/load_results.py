"""Results of load tools, written to files."""

import json
from pathlib import Path

BENCH = {"num_prompts": 100, "request_rate": "inf", "max_concurrency": 8, "completed": 100,
         "total_input_tokens": 50_000, "total_output_tokens": 10_000, "output_throughput": 900.0,
         "mean_ttft_ms": 40.0, "mean_tpot_ms": 8.0}


def written(folder: Path, *records: object, name: str = "own.json") -> Path:
    """Return a file with a record a line."""
    path = folder / name
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path
