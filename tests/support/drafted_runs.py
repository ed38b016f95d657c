"""Cases of speculative decoding, run by the plain driver and by the simulator's own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from hypothesis import strategies as st

from penstock.core.draft_depth import DraftDepth
from penstock.core.step import CONTEXT_PARTS
from penstock.core.units import to_ps
from penstock.journal.journal import Journal
from penstock.perf.speculation.acceptance import Acceptance
from penstock.perf.speculation.step_time import Draft, SpeculativeStepTime, speculative
from penstock.perf.step_time.clock import DraftedClock
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.route.simple import RoundRobin
from penstock.policy.schedule.adaptable import AdaptableScheduler
from penstock.policy.schedule.drafting import Drafting
from penstock.registry.make import build_scheduler
from penstock.sim.cluster import Cluster
from penstock.sim.dispatch import Dispatcher, ReplicaSpec
from penstock.sim.drafted_oracle import DraftedOracle
from penstock.sim.drafted_recorder import DraftedRecorder
from penstock.sim.drafts import TrueDrafts
from penstock.sim.recorder import Ended
from penstock.sim.replica import SimReplica
from penstock.sim.upcoming import InOrder
from support.reference_driver import Trace, run_reference
from support.scheduler_runs import header, make_kv
from support.strategies import (
    SERVICE_CLASSES,
    Case,
    acceptances_of_drafts,
    cases,
    knee_step_times,
    linear_step_times,
)

CLASSES = tuple(one.name for one in SERVICE_CLASSES)


@dataclass(frozen=True, slots=True)
class DraftedCase:
    """A case with its drafts. ``believed`` is the policy's acceptance, ``accepted`` the true one,
    each of all classes and of the class ``paced``."""

    case: Case
    depth: DraftDepth
    believed: tuple[Acceptance, Acceptance]
    accepted: tuple[Acceptance, Acceptance]
    seed: int

    @property
    def deepest(self) -> int:
        return max(1, *self.depth.choices)

    @property
    def model(self) -> SpeculativeStepTime:
        passes: StepTimeModel | None = self.case.step_time if self.seed % 2 else None
        return speculative(self.case.step_time, Draft(passes), self.depth)

    def scheduler(self) -> AdaptableScheduler:
        parts = {name: tuple(round(CONTEXT_PARTS * of.tokens_per_turn(k))
                             for k in range(self.deepest + 1))
                 for name, of in zip(("", "paced"), self.believed, strict=True)}
        return build_scheduler(self.case.options, self.model, make_kv(self.case),
                               drafting=Drafting(self.depth, parts))

    def clock(self) -> DraftedClock:
        return DraftedClock(self.model.by_depth)

    def drafts(self) -> TrueDrafts:
        usual, paced = self.accepted
        found = TrueDrafts([paced if name == "paced" else usual for name in CLASSES],
                           self.depth.tokens, self.deepest, self.seed)
        lengths = [self.case.output_tokens[one.request_id] for one in self.case.requests]
        found.add(np.array(lengths, dtype=np.int64),
                  np.array([CLASSES.index(one.service_class.name)
                            for one in self.case.requests], dtype=np.int64))
        return found


def depths() -> st.SearchStrategy[DraftDepth]:
    """Constant depths, and depths that change at few sequences."""
    return st.integers(1, 5).flatmap(lambda tokens: st.one_of(
        st.just(DraftDepth(tokens)),
        st.integers(1, 3).flatmap(lambda edge: st.integers(0, tokens).map(
            lambda fewer: DraftDepth(tokens, ((edge + 1, edge + 4, fewer),))))))


@st.composite
def drafted_cases(draw: st.DrawFn) -> DraftedCase:
    """Cases with affine step times, so that the simulator jumps."""
    case = draw(cases(step_times=st.one_of(linear_step_times(), knee_step_times())))
    pairs = st.tuples(acceptances_of_drafts(), acceptances_of_drafts())
    return DraftedCase(case, draw(depths()), draw(pairs), draw(pairs), draw(st.integers(0, 99)))


@dataclass(slots=True)
class DraftedRun:
    """What the simulator leaves of a case."""

    ended: Ended
    shed: Mapping[int, str]
    refused: Mapping[int, str]
    scheduler: AdaptableScheduler
    journal: bytes
    num_steps: int


def drafted_jump(of: DraftedCase, drafts: TrueDrafts | None = None) -> DraftedRun:
    """Run a case with the simulator's own driver on one replica."""
    drafts = drafts or of.drafts()
    recorder, stream, refused = DraftedRecorder(to_ps(1.0), 0, drafts), BytesIO(), {}
    scheduler = of.scheduler()
    replica = SimReplica(0, scheduler, of.clock(),
                         DraftedOracle(of.case.output_tokens, drafts, of.depth.tokens), recorder,
                         Journal(stream, header(of.case)))

    def refuse(request: object, reason: str) -> None:
        refused[request.request_id] = reason  # type: ignore[attr-defined]

    dispatcher = Dispatcher(RoundRobin(), [replica], [ReplicaSpec("m")], refuse)
    Cluster([replica], dispatcher, refuse).run(InOrder(of.case.requests))
    return DraftedRun(recorder.flush(), {one.request_id: why for one, why, _ in replica.shed},
                      refused, scheduler, stream.getvalue(), recorder.num_steps)


def other_truth(of: DraftedCase, accepted: tuple[Acceptance, Acceptance],
                seed: int) -> DraftedCase:
    """The same case where other drafts are accepted."""
    return replace(of, accepted=accepted, seed=of.seed % 2 + 2 * seed)


def drafted_step_by_step(of: DraftedCase) -> tuple[Trace, AdaptableScheduler]:
    """Run a case with the plain driver, whose books are audited after every step."""
    drafts, scheduler = of.drafts(), of.scheduler()
    trace = run_reference(
        scheduler, of.clock(), of.case.requests, of.case.output_tokens,
        on_step=lambda _: scheduler.check_integrity(),
        turn_tokens=lambda request_id, turn, depth: drafts.tokens(request_id, turn, 1, depth))
    return trace, scheduler
