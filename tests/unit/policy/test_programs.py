"""Least attained service: what a session has had, and who goes first."""

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.step import StepResult
from penstock.perf.evidence import Evidence
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.kv.counting import CountingKv
from penstock.policy.schedule.options import scheduler_options
from penstock.policy.schedule.programs import Programs
from penstock.policy.schedule.sequence import Sequence
from penstock.predict.length import HistoryLengths
from penstock.registry.make import build_scheduler

CHAT = ServiceClass("chat")


def request(number, session, prompt=100, tenant="t"):
    return Request(number, 0.0, prompt, 50, CHAT, tenant=tenant, session=session)


def served(programs, one, computed, generated, cached=0):
    sequence = Sequence(one, 0, 0.0, 0)
    sequence.computed, sequence.generated, sequence.cached = computed, generated, cached
    programs.served(sequence)


def test_output_counts_twice_and_cached_prompts_do_not():
    programs = Programs()
    assert programs.attained(request(0, "a")) == 0.0
    served(programs, request(0, "a"), 100, 10, cached=60)
    served(programs, request(1, "a"), 7, 0)
    assert programs.attained(request(2, "a")) == 40 + 20 + 7


def test_requests_without_a_session_have_none_in_common():
    programs = Programs()
    served(programs, request(0, ""), 100, 10)
    assert programs.attained(request(1, "")) == 0.0


def test_tenants_with_equal_session_names_are_apart():
    programs = Programs()
    served(programs, request(0, "a", tenant="x"), 100, 10)
    assert programs.attained(request(1, "a", tenant="y")) == 0.0


def test_a_session_without_service_goes_before_one_with():
    scheduler = build_scheduler(
        scheduler_options("plas", chunk_tokens=64, max_num_seqs=1),
        LinearStepTime(0.01, 0.0, 0.0, 0.0, 0.0, Evidence("test", 0.0, 0.0)),
        CountingKv(1000, 16), HistoryLengths())
    scheduler.add(request(0, "old", 64), 0.0)
    plan = scheduler.plan(0.0)
    scheduler.commit(plan, StepResult((0,)), 0.1)
    scheduler.add(request(1, "old", 64), 0.2)
    scheduler.add(request(2, "new", 64), 0.3)
    assert [chunk.request_id for chunk in scheduler.plan(0.3).chunks] == [2]
    scheduler.check_integrity()


def test_a_request_that_has_waited_for_the_bound_goes_before_younger_ones():
    scheduler = build_scheduler(
        scheduler_options("plas", chunk_tokens=64, max_num_seqs=1, starvation_s=5.0),
        LinearStepTime(0.01, 0.0, 0.0, 0.0, 0.0, Evidence("test", 0.0, 0.0)),
        CountingKv(1000, 16), HistoryLengths())

    def run(now_s):
        plan = scheduler.plan(now_s)
        while not plan.chunks:
            scheduler.commit(plan, StepResult(), now_s)
            plan = scheduler.plan(now_s)
        (chunk,) = plan.chunks
        scheduler.commit(plan, StepResult((chunk.request_id,)), now_s)
        scheduler.check_integrity()
        return chunk.request_id

    scheduler.add(request(0, "old", 64), 0.0)
    assert run(0.0) == 0
    for number, session in ((1, "old"), (2, "a"), (3, "b"), (4, "c")):
        scheduler.add(request(number, session, 64)._replace(arrival_s=float(number)), number)
    assert [run(5.9), run(6.0), run(6.1), run(6.2)] == [2, 1, 3, 4]
