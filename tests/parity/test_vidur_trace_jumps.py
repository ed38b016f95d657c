"""Jumps and single steps agree on real prompt and output lengths at load."""

import csv
import gzip
from pathlib import Path

import pytest

from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.policy.schedule.options import scheduler_options
from penstock.registry.step_times import published_step_time
from support.scaled_examples import EXAMPLES
from support.scheduler_runs import jump, step_by_step
from support.strategies import POLICIES, Case

CLASSES = (ServiceClass("q1", Slo(ttft_s=6.0, itl_s=0.05)), ServiceClass("q2", Slo(e2e_s=600.0)),
           ServiceClass("q3", Slo(e2e_s=1800.0)))
WHOLE_FILE = ("sarathi", "niyama", "penstock")
"""Policies that native code tries on every request of the file."""


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[dict[str, str]]:
    path = shared_data / "vidur" / "vidur_a100_llama3_8b_5000req_qps6.45_requests.csv.gz"
    with gzip.open(path, "rt") as stream:
        return list(csv.DictReader(stream))


def case(rows: list[dict[str, str]], policy: str, kv_tokens: int) -> Case:
    requests = tuple(Request(i, float(row["arrival_s"]), int(row["prompt_tokens"]), 2048,
                             CLASSES[i % 3]) for i, row in enumerate(rows))
    outputs = {i: int(row["output_tokens"]) for i, row in enumerate(rows)}
    return Case(scheduler_options(policy), published_step_time("vidur-a100-llama-3-8b"), 16,
                kv_tokens // 16, prefix_caching=False, requests=requests, output_tokens=outputs)


def assert_same(case: Case) -> None:
    trace, jumps = step_by_step(case), jump(case)
    assert jumps.recorder.token_ps == trace.token_ps
    assert jumps.recorder.first_scheduled_ps == trace.first_scheduled_ps
    assert (jumps.shed, jumps.refused) == (trace.shed, trace.refused)
    jumps.scheduler.check_integrity()


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy(rows: list[dict[str, str]], policy: str) -> None:
    whole = EXAMPLES >= 1 and policy in WHOLE_FILE
    assert_same(case(rows if whole else rows[:1500], policy, 410_000))


@pytest.mark.parametrize("policy", POLICIES)
def test_with_a_small_kv_cache(rows: list[dict[str, str]], policy: str) -> None:
    assert_same(case(rows[:500], policy, 20_000))
