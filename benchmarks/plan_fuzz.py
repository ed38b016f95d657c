"""Random fleets over the whole catalog, planned: none may end as a bug, or lose an estimate to one.

    python benchmarks/plan_fuzz.py                # 500 fleets
    python benchmarks/plan_fuzz.py 40 700         # 40 fleets from seed 700 on

Prints how many ended with which exit status (0: all is met, 1: not all can be, 2: the file is
refused), and every fleet that ended otherwise. The exit status is 1 if any did.
"""

import io
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import REPOSITORY, show

WITH_PAGE = 5  # every so many fleets also write report.html
MANY_REQUESTS = 400  # for estimates; what is simulated has a tenth of them


def planned(seed: int) -> dict[str, Any]:
    """One fleet, planned on the command line of this process."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from penstock.cli.main import main
    from penstock.plan.estimate import FAILED
    from support.random_fleets import failed_estimates, random_text

    out, err = io.StringIO(), io.StringIO()
    began_s = time.process_time()
    with TemporaryDirectory() as folder, redirect_stdout(out), redirect_stderr(err):
        file = Path(folder, "fleet.yaml")
        file.write_text(random_text(seed))
        page = [] if seed % WITH_PAGE == 0 else ["--no-report"]
        status = main(["plan", str(file), "--json", "--out", str(Path(folder, "plan")), *page])
    said = err.getvalue().strip().rpartition("\n")[2]
    failed = failed_estimates(random_text(seed, num_requests=MANY_REQUESTS))
    return {"seed": seed, "status": status, "said": said,
            "failed": failed or FAILED in out.getvalue(),
            "cpu_s": round(time.process_time() - began_s, 2)}


def run(count: int, first: int) -> int:
    """Plan that many fleets; the exit status."""
    found = []
    with ProcessPoolExecutor(2) as pool:
        for done in as_completed([pool.submit(planned, seed)
                                  for seed in range(first, first + count)]):
            result = done.result()
            found.append(result)
            if result["status"] not in (0, 1, 2) or result["failed"] or len(found) % 25 == 0:
                print(len(found), result, file=sys.stderr, flush=True)
    wrong = [r for r in found if r["status"] not in (0, 1, 2) or r["failed"]]
    cpu_s = sorted(r["cpu_s"] for r in found)
    show({"plan_fuzz": {
        "fleets": count, "first_seed": first,
        "statuses": dict(sorted(Counter(r["status"] for r in found).items())),
        "wrong": wrong, "median_cpu_s": cpu_s[count // 2], "most_cpu_s": cpu_s[-1]}})
    return 1 if wrong else 0


if __name__ == "__main__":
    count, first = (*map(int, sys.argv[1:]), *(500, 0)[len(sys.argv) - 1:])
    sys.exit(run(count, first))
