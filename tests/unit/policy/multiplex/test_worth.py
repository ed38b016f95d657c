"""What visits are worth, and what bounds that."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.options import MultiplexOptions
from penstock.policy.multiplex.queues import Queues
from penstock.policy.multiplex.values import BatchTime, HostedModel, Queued
from penstock.policy.multiplex.visits import expected_deadlines, visits
from penstock.policy.multiplex.worth import Worth
from support.scaled_examples import unit_examples

SECONDS = st.sampled_from((0.0, 0.01, 0.1, 0.5, 2.0, 7.0, 30.0))


@unit_examples(500)
@given(st.lists(st.sampled_from((0.0, 0.0, 0.05, 0.3, 1.0, 6.0)), max_size=30),
       st.sampled_from((0.5, 5.0, 40.0)), SECONDS, SECONDS, SECONDS, SECONDS, SECONDS,
       st.integers(1, 12), st.booleans(), st.integers(1, 8))
def test_no_visit_is_worth_more_than_its_bound(
        gaps_s: list[float], slack_s: float, fixed_s: float, per_request_s: float, load_s: float,
        ahead_s: float, later_s: float, max_batch: int, resident: bool, num_left: int) -> None:
    model = HostedModel("m", 10, BatchTime(fixed_s, per_request_s), max_batch=max_batch)
    queues, options, now_s = Queues([model]), MultiplexOptions(), 0.0
    worth = Worth([model], LoadTable([load_s]), queues, options)
    for number, gap_s in enumerate([0.0, *gaps_s]):
        now_s += gap_s
        request = Queued(number, 0, now_s, now_s + slack_s)
        queues.add(request)
        worth.arrived(request, now_s)
    queues.take(0, 0, max(0, len(queues.line(0)) - num_left))
    worth.refresh(0, now_s)
    now_s += later_s
    device = Device(0, 100, [model])
    if resident:
        device.hold(0, 0.0)
    free_s = now_s + ahead_s
    bound = worth.at_most(device, 0, free_s - now_s)
    most = worth.most(device, 0)
    ahead = expected_deadlines(queues.line(0), now_s, worth._paces[0], options.horizon_s,
                    most * options.max_batches)
    for visit in visits(ahead, worth.start_s(device, 0, now_s, free_s), worth.careful(0), most,
                        options.max_batches):
        assert visit.rate(free_s) <= bound * (1 + 1e-9)
