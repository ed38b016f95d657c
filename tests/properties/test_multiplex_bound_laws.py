"""The offline bound against whatever a policy does in the simulator."""

from dataclasses import replace
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.multiplex.values import BatchTime
from support.multiplex_bound.bound import in_time_bound
from support.multiplex_bound.values import BoundOptions, DeviceLimits
from support.multiplexing_cases import ALL_POLICIES, PENSTOCK, MultiplexCase
from support.scaled_examples import examples
from support.strategies import multiplex_cases

# Loads and batches take at least what the bound is told.
SLOW_OR_TRUE = multiplex_cases((PENSTOCK, *ALL_POLICIES), max_requests=25).filter(
    lambda case: case.faults.load_share >= 1.0 and case.faults.batch_share >= 1.0)


@given(SLOW_OR_TRUE, st.sampled_from((0.7, 2.0, 9.0)), st.sampled_from((inf, 30.0, 5.0)))
@examples(60)
def test_no_policy_exceeds_it(case: MultiplexCase, slot_s: float, end_s: float) -> None:
    case = replace(case, memories=case.memories[:1])
    last_s = max((one.deadline_s for one in case.requests), default=0.0)
    end_s = 120.0 if end_s == inf and last_s == inf else end_s
    found = in_time_bound(
        case.requests, case.models, case.loads_s,
        DeviceLimits(case.memories[0], case.max_residents, BatchTime(case.after_s, 0.0)),
        BoundOptions(slot_s, end_s))
    run = case.run().run
    in_time = int((run.in_time & (run.end_s < end_s)).sum())
    assert in_time <= found.num_in_time <= found.num_possible <= len(case.requests)
