"""An engine may run steps otherwise than planned: books stay true, all ends, journals replay."""

from io import BytesIO
from random import Random
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.decision import Reject
from penstock.core.step import StepPlan
from penstock.engines.embedded.options import correctable
from penstock.engines.embedded.scheduler import EmbeddedScheduler
from penstock.journal.journal import Journal
from penstock.journal.replay import replay, scheduler_of
from penstock.policy.kv.counting import CountingKv
from penstock.registry.make import build_scheduler
from support.scaled_examples import examples
from support.scheduler_runs import header
from support.strategies import Case, cases


class Wilful:
    """An engine that does as it likes with a part of the steps, and the pilot that it has."""

    def __init__(self, case: Case, seed: int, *, wilful: bool = True) -> None:
        self.case = case
        self.now_s = 0.0
        self.stream = BytesIO()
        scheduler = build_scheduler(case.options, case.step_time,
                                    CountingKv(case.total_blocks, case.block_tokens),
                                    max_in_flight=case.max_in_flight)
        self.driver = EmbeddedScheduler(scheduler, lambda: self.now_s,
                                        Journal(self.stream, header(case)))
        self.rng = Random(seed)
        self.wilful = wilful
        self.computed: dict[int, int] = {}
        self.generated: dict[int, int] = {}
        self.target: dict[int, int] = {}
        self.num_steps = 0

    def run(self) -> None:
        arrivals = sorted(self.case.requests, key=lambda request: request.arrival_s)
        in_flight: list[StepPlan] = []
        while arrivals or self.computed:
            while arrivals and arrivals[0].arrival_s <= self.now_s:
                request = arrivals.pop(0)
                if not isinstance(self.driver.add(request), Reject):
                    self.computed[request.request_id] = 0
                    self.generated[request.request_id] = 0
                    self.target[request.request_id] = request.prompt_tokens
            plan = self.driver.plan()
            for request_id in self.driver.take_preempted():
                self._lose(request_id)
            for request_id, _ in self.driver.take_shed():
                self._drop(request_id)
            if plan is not None:
                in_flight.append(self._carry_out(plan))
                self.num_steps += 1
                assert self.num_steps < 5000, "requests are stuck"
            self.now_s += 0.01
            if plan is None or len(in_flight) == self.case.max_in_flight:
                if in_flight:
                    self._end(in_flight.pop(0))
                elif arrivals:
                    self.now_s = max(self.now_s, arrivals[0].arrival_s)
            self.driver.scheduler.check_integrity()

    def _carry_out(self, plan: StepPlan) -> StepPlan:
        """The plan as run; counters here are the engine's, kept apart from the scheduler's."""
        ran: dict[int, tuple[int, int]] = {}
        lost = []
        same = True
        # The will must tire, or nothing would ever end.
        wild = self.wilful and self.num_steps < 60 and self.rng.random() < 0.5
        for chunk in plan.chunks:
            tokens, past = chunk.tokens, self.computed[chunk.request_id]
            assert past == chunk.past
            if wild and self.rng.random() < 0.6:
                left = self.target[chunk.request_id] - past
                if past == 0 and self.rng.random() < 0.5:
                    past = self.rng.randrange(left)  # the beginning is cached
                tokens = self.rng.randint(0, self.target[chunk.request_id] - past)
                past = past if tokens else chunk.past
                if not tokens and chunk.past and self.rng.random() < 0.5:
                    lost.append(chunk.request_id)
                same = False
            if tokens:
                ran[chunk.request_id] = tokens, past
        for request_id in plan.decode_ids:
            if wild and self.rng.random() < 0.3:
                same = False
                # What has a step in flight is not taken away by any engine.
                if self.case.max_in_flight == 1 and self.rng.random() < 0.5:
                    lost.append(request_id)
            else:
                ran[request_id] = 1, self.computed[request_id]
        amended = plan if same else self.driver.amend(plan, ran, lost)
        for request_id, (tokens, past) in ran.items():
            self.computed[request_id] = past + tokens
            if self.computed[request_id] >= self.target[request_id]:
                self.generated[request_id] += 1
                self.target[request_id] += 1
        for request_id in lost:
            self._lose(request_id)
        assert amended.tokens_by_request == {i: tokens for i, (tokens, _) in ran.items()}
        return amended

    def _end(self, plan: StepPlan) -> None:
        finished = []
        for request_id in plan.tokens_by_request:
            if self.generated.get(request_id, 0) >= self.case.output_tokens[request_id]:
                finished.append(request_id)
                self._drop(request_id)
        self.driver.commit(plan, tuple(finished))

    def _lose(self, request_id: int) -> None:
        if request_id in self.computed:
            self.computed[request_id] = 0

    def _drop(self, request_id: int) -> None:
        for table in (self.computed, self.generated, self.target):
            table.pop(request_id, None)

    def records(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.stream.getvalue().splitlines()]


def without_prefixes(case: Case) -> Case:
    from dataclasses import replace

    return replace(case, prefix_caching=False, options=correctable(case.options))


@examples(300)
@given(cases().map(without_prefixes), st.integers(0, 2**32))
def test_books_stay_true_whatever_the_engine_does(case: Case, seed: int) -> None:
    engine = Wilful(case, seed)
    engine.run()
    assert not engine.driver.scheduler.has_work()
    assert engine.driver.scheduler.kv_used_tokens == 0
    records = engine.records()
    assert replay(records, scheduler_of(records[0], case.step_time)).mismatch is None


@examples(100)
@given(cases().map(without_prefixes))
def test_an_obedient_engine_amends_nothing(case: Case) -> None:
    engine = Wilful(case, 0, wilful=False)
    engine.run()
    assert engine.driver.num_amended == 0
