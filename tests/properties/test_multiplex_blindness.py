"""Laws of blindness for models that take turns on devices.

As in ``test_blindness``. The disclosure is the end of a load, a read ahead or a static batch that
takes longer or shorter in the other world, or fails there; with continuous batching also the end of
such a step, and of a request whose length differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.values import BatchTime, HostedModel, Queued
from penstock.policy.schedule.options import PRESETS
from penstock.registry.policies import MULTIPLEXERS
from penstock.sim.multiplex.continuous import EngineSpec, Residents
from penstock.sim.multiplex.driver import MultiplexSimulation
from support.multiplexing_cases import (
    ALL_POLICIES,
    PENSTOCK,
    MultiplexCase,
    TableMachine,
    multiplexing,
)
from support.strategies import (
    multiplex_cases,
    step_times,
)
from support.worlds import (
    AS_BELIEVED,
    LENGTHS_ONLY,
    TWISTS,
    SeenMultiplexer,
    Twist,
    TwistedMachine,
    TwistedSteps,
    World,
    assert_blind,
    fails,
)


@dataclass(frozen=True, slots=True)
class JoiningCase:
    """A policy, models that run several requests at once, and who asks for what."""

    policy: str
    models: tuple[HostedModel, ...]
    specs: tuple[EngineSpec, ...]
    memory_bytes: int
    num_devices: int
    load_s: float
    requests: tuple[Queued, ...]
    output_tokens: tuple[int, ...]


# -- static batches -------------------------------------------------------------------------------


def multiplexed(case: MultiplexCase, twist: Twist, believed_factor: float = 1.0) -> World:
    """Static batches. With ``believed_factor`` loads are believed to take that much longer."""
    world = World()
    believed = replace(case, loads_s=[one * believed_factor for one in case.loads_s])
    believed.run(TwistedMachine(case.machine(), twist, world),
                 lambda policy: SeenMultiplexer(policy, world))
    return world


@given(multiplex_cases(ALL_POLICIES), TWISTS)
def test_multiplexing_of_static_batches_is_blind(case: MultiplexCase, twist: Twist) -> None:
    assert_blind(multiplexed(case, AS_BELIEVED), multiplexed(case, twist))


def test_a_multiplexer_that_knows_how_long_loads_really_take_is_caught() -> None:
    @given(multiplex_cases((PENSTOCK,)))
    def law(case: MultiplexCase) -> None:
        assert_blind(multiplexed(case, AS_BELIEVED), multiplexed(case, Twist(3, 4.0), 4.0))

    assert fails(law)


# -- requests that join what runs -----------------------------------------------------------------


CONTINUOUS = [name for name in MULTIPLEXERS.names()
              if "static" not in MULTIPLEXERS.entry(name).traits]


@st.composite
def joining_cases(draw: st.DrawFn) -> JoiningCase:
    """Two or three models on one or two devices, and requests that join what runs."""
    num_models = draw(st.integers(2, 3))
    models = tuple(HostedModel(
        f"m{one}", draw(st.sampled_from((4, 6, 10))), BatchTime(0.2, 0.02),
        draw(st.sampled_from((0, 0, 3))), draw(st.sampled_from((1, 2, 5))))
        for one in range(num_models))
    schedules = st.sampled_from(list(PRESETS.values()))
    specs = tuple(EngineSpec(draw(step_times()), 400, draw(schedules), 4) for _ in models)
    least = max(model.size_bytes + model.request_bytes for model in models)
    at_s, requests = 0.0, []
    for place in range(draw(st.integers(1, 12))):
        at_s += draw(st.sampled_from((0.0, 0.0, 0.03, 0.4, 3.0)))
        requests.append(Queued(place, draw(st.integers(0, num_models - 1)), at_s,
                               at_s + draw(st.sampled_from((0.3, 2.0, 20.0, inf))),
                               draw(st.integers(1, 20)), 12))
    outputs = [draw(st.integers(1, 12)) for _ in requests]
    return JoiningCase(
        draw(st.sampled_from(CONTINUOUS)), models, specs,
        least + draw(st.sampled_from((0, 5, 12))), draw(st.integers(1, 2)),
        draw(st.sampled_from((0.25, 2.0))), tuple(requests), tuple(outputs))


def joined(case: JoiningCase, lengths: Sequence[int], twist: Twist,
           believed_factor: float = 1.0) -> World:
    """Requests join models that run; steps are never jumped over."""
    world = World()
    specs = [replace(spec, step_time=TwistedSteps(spec.step_time, twist, world, place),
                     believed=spec.step_time) for place, spec in enumerate(case.specs)]
    due = ServiceClass("due", Slo(e2e_s=2.0))
    requests = [Request(one.request_id, one.arrival_s, one.prompt_tokens, one.max_tokens, due)
                for one in case.requests]
    devices = [Device(index, case.memory_bytes, case.models, continuous=True)
               for index in range(case.num_devices)]
    residents = [Residents(specs, requests, lengths) for _ in devices]
    loads_s = [case.load_s] * len(case.models)
    believed = LoadTable([believed_factor * each for each in loads_s])
    policy = multiplexing(case.policy, case.models, believed)
    machine = TwistedMachine(TableMachine(case.models, loads_s), twist, world)
    MultiplexSimulation(SeenMultiplexer(policy, world), devices, machine, residents).run(
        case.requests)
    for one in residents:
        for ended in one.answers().values():
            world.ends_s.update(zip(ended.request_id.tolist(), ended.last_token_s.tolist(),
                                    strict=True))
    return world


@given(st.data(), joining_cases(), st.one_of(LENGTHS_ONLY, TWISTS))
def test_multiplexing_of_running_requests_is_blind(data: st.DataObject, case: JoiningCase,
                                                   twist: Twist) -> None:
    lengths = [data.draw(st.sampled_from((length, 1, 7, 12))) for length in case.output_tokens]
    differ = [place for place, (one, other) in enumerate(
        zip(lengths, case.output_tokens, strict=True)) if one != other]
    assert_blind(joined(case, case.output_tokens, AS_BELIEVED), joined(case, lengths, twist),
                 differ)


def test_a_multiplexer_of_running_requests_that_knows_loads_is_caught() -> None:
    @given(joining_cases())
    def law(case: JoiningCase) -> None:
        assert_blind(joined(case, case.output_tokens, AS_BELIEVED),
                     joined(case, case.output_tokens, Twist(3, 4.0), 4.0))

    assert fails(law)


