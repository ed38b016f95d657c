"""Schemathesis over the whole OpenAPI document of `penstock serve`, with keys and without.

`python benchmarks/attack_openapi.py [--examples N]`: N drawn requests for each operation, by the
document and against it, for a tenant and for nobody. Prints the number of answers by status; an
answer of 500 is a bug. 501 and 503 are the engines' own.
"""

import argparse
from collections import Counter
from typing import Any

from common import REPOSITORY, show
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.openapi import from_url

from attack import target


def asked(operation: Any, mode: Any, headers: dict[str, str], examples: int,
          found: Counter[int]) -> None:
    """Ask one operation and count the statuses."""
    @settings(max_examples=examples, deadline=None, database=None, derandomize=True,
              phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("max_tokens"), int):
            case.body["max_tokens"] = min(case.body["max_tokens"], 50)
        found[case.call(headers=headers, timeout=60).status_code] += 1

    ask()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=200)
    chosen = parser.parse_args()
    found: dict[str, dict[int, int]] = {}
    with target(REPOSITORY) as at:
        document = from_url(f"http://{at.host}/openapi.json")
        for who, headers in (("nobody", {}), ("tenant", at.key), ("admin", at.admin)):
            counts: Counter[int] = Counter()
            for path in document:
                for operation in document[path].values():
                    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                        if mode == GenerationMode.POSITIVE or operation.method.upper() != "GET":
                            asked(operation, mode, headers, chosen.examples, counts)
            found[who] = dict(sorted(counts.items()))
    show({"examples": chosen.examples, "statuses": found})


if __name__ == "__main__":
    main()
