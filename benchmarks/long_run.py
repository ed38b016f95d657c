"""CPU time and peak memory of runs of a million to thirty million generated requests.

    python benchmarks/long_run.py                           # 1, 3 and 10 million (about 12 minutes)
    python benchmarks/long_run.py 30000000                  # a week of 50 requests/s (25 minutes)

Each run is a process of its own: ``penstock run benchmarks/million.yaml`` at 50 requests/s, with
all files.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import REPOSITORY, show

SIZES = (1_000_000, 3_000_000, 10_000_000)
RATE_PER_S = 50


def row(num_requests: int) -> dict[str, Any]:
    """One run."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"num_requests": num_requests, "rate_per_s": RATE_PER_S}
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock", "run", str(REPOSITORY / "benchmarks/million.yaml"),
             "--out", f"{folder}/run", "--json",
             *(f"--set=traffic[0].{name}={value}" for name, value in settings.items())],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status) not in (0, 1):  # 1: a class missed its objective
            raise SystemExit(f"the run of {num_requests:,} requests failed")
        written = (Path(folder) / "run" / "requests.parquet").stat().st_size
    cpu_s = used.ru_utime + used.ru_stime
    return {"num_requests": num_requests, "cpu_s": round(cpu_s, 1),
            "cpu_us_per_request": round(1e6 * cpu_s / num_requests, 1),
            "peak_mb": round(used.ru_maxrss / 1024), "parquet_mb": round(written / 1e6)}


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    rows = []
    for size in sizes:
        rows.append(row(size))
        print(rows[-1], file=sys.stderr, flush=True)
    show({"rate_per_s": RATE_PER_S, "runs": rows})


if __name__ == "__main__":
    main()
