"""What the recorder keeps of a request against all its tokens, written out."""

import numpy as np
import pytest
from hypothesis import given

from penstock.core.request import Request
from penstock.metrics.definitions import request_latencies
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.schedule.options import scheduler_options
from penstock.sim.recorder import Ended
from support.reference_driver import Trace
from support.scaled_examples import unit_examples
from support.scheduler_runs import jump, step_by_step
from support.strategies import EVIDENCE, SERVICE_CLASSES, Case, cases


def assert_agrees(case: Case, trace: Trace, ended: Ended) -> None:
    preemptions = [request_id for plan in trace.plans for request_id in plan.preempted]
    relegations = [request_id for plan in trace.plans for request_id in plan.relegated]
    for row, request_id in enumerate(ended.request_id.tolist()):
        request = case.requests[request_id]
        token_s = np.array(trace.token_ps[request_id]) / 1e12
        scheduled_s = trace.first_scheduled_ps[request_id] / 1e12
        exact = request_latencies(request.service_class.slo, request.arrival_s, scheduled_s,
                                  token_s)
        assert ended.output_tokens[row] == len(token_s)
        assert ended.first_scheduled_s[row] == scheduled_s
        assert (ended.first_token_s[row], ended.last_token_s[row]) == (token_s[0], token_s[-1])
        got = (ended.itl_mean_s[row], ended.itl_p99_s[row], ended.itl_max_s[row])
        want = (exact.itl_mean_s, exact.itl_p99_s, exact.itl_max_s)
        assert got == pytest.approx(want, abs=1e-9, nan_ok=True)
        assert ended.num_late_tokens[row] == exact.num_late_tokens
        assert ended.num_preemptions[row] == preemptions.count(request_id)
        assert ended.num_relegations[row] == relegations.count(request_id)


@unit_examples(400)
@given(cases())
def test_statistics_equal_those_of_the_tokens(case: Case) -> None:
    trace, jumps = step_by_step(case), jump(case)
    done = {i for i, ends in trace.token_ps.items() if len(ends) == case.output_tokens[i]}
    assert done <= set(jumps.ended.request_id.tolist())
    if not jumps.shed:
        assert_agrees(case, trace, jumps.ended)


def crowded(policy: str, max_decodes: int = 0) -> Case:
    """Five long answers in a KV cache that holds two of them."""
    requests = tuple(Request(i, 0.02 * i, 30, 60, SERVICE_CLASSES[1 + i % 3]) for i in range(5))
    return Case(scheduler_options(policy, chunk_tokens=32, max_decodes=max_decodes),
                LinearStepTime(0.01, 1e-4, 0.0, 1e-4, 1e-6, EVIDENCE), 4, 45,
                prefix_caching=False, requests=requests, output_tokens=dict.fromkeys(range(5), 60))


def test_pieces_of_preempted_requests_join_up() -> None:
    case = crowded("sarathi")
    trace, jumps = step_by_step(case), jump(case)
    assert jumps.ended.num_preemptions.sum() > 0
    assert_agrees(case, trace, jumps.ended)


def test_pieces_of_benched_requests_join_up() -> None:
    case = crowded("niyama", max_decodes=1)
    trace, jumps = step_by_step(case), jump(case)
    moved = [plan for plan in trace.plans if set(plan.left) - set(plan.preempted)]
    assert moved
    assert_agrees(case, trace, jumps.ended)
