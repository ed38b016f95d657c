"""A journal brings the same plans from a fresh scheduler, whoever drove the first one."""

from hypothesis import given

from penstock.journal.replay import replay, scheduler_of
from support.scaled_examples import examples
from support.scheduler_runs import Journaled, jump, step_by_step
from support.strategies import Case, cases


@examples(400)
@given(cases(aborts=True, max_in_flight=(1, 2)))
def test_step_by_step_journal_replays(case: Case) -> None:
    journaled = Journaled(case)
    trace = step_by_step(case, journaled)
    records = journaled.records
    report = replay(records, scheduler_of(records[0], case.step_time))
    assert report.mismatch is None
    assert report.num_plans == len(trace.plans)


@examples(250)
@given(cases())
def test_journal_of_jumps_replays(case: Case) -> None:
    records = jump(case).records
    report = replay(records, scheduler_of(records[0], case.step_time))
    assert report.mismatch is None
    assert report.num_plans == sum(record["kind"] == "plan" for record in records)
