"""Laws of multiplexing with continuous batching, for any models, devices and policy."""

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.values import Batch, BatchTime, HostedModel, Queued
from penstock.policy.schedule.options import PRESETS
from penstock.sim.multiplex.continuous import EngineSpec, Residents
from penstock.sim.multiplex.driver import MultiplexSimulation
from penstock.sim.multiplex.machine import Took
from penstock.sim.multiplex.record import MultiplexRun
from support.adapter_cases import NAMES, ROOMS, store_of
from support.multiplexing_cases import POLICIES, multiplexing
from support.scaled_examples import examples
from support.strategies import step_times


@dataclass(frozen=True, slots=True)
class Instance:
    """Models, devices, what fails, and who asks for what."""

    policy: str
    shed: bool
    models: tuple[HostedModel, ...]
    specs: tuple[EngineSpec, ...]
    memory_bytes: int
    num_devices: int
    turn_steps: int
    load_s: float
    failing: frozenset[int]
    requests: tuple[Queued, ...]
    output_tokens: tuple[int, ...]
    adapters: tuple[str, ...]


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    num_models = draw(st.integers(1, 3))
    models = tuple(HostedModel(
        f"m{one}", draw(st.sampled_from((4, 6, 10))), BatchTime(0.2, 0.02),
        draw(st.sampled_from((0, 0, 1, 3))), draw(st.sampled_from((1, 2, 5))),
        draw(st.sampled_from((0.0, 0.0, 0.3)))) for one in range(num_models))
    specs = tuple(EngineSpec(draw(step_times()), draw(st.sampled_from((24, 48, 400))),
                             PRESETS[draw(st.sampled_from(("sarathi", "penstock", "fcfs")))], 4,
                             draw(st.booleans()),
                             adapters=draw(st.none() | st.builds(store_of, ROOMS)))
                  for _ in models)
    least = max(model.size_bytes + model.request_bytes for model in models)
    num = draw(st.integers(1, 12))
    gaps = draw(st.lists(st.sampled_from((0.0, 0.0, 0.03, 0.4, 3.0)), min_size=num, max_size=num))
    requests, at_s = [], 0.0
    for place, gap_s in enumerate(gaps):
        at_s += gap_s
        requests.append(Queued(place, draw(st.integers(0, num_models - 1)), at_s,
                               at_s + draw(st.sampled_from((0.3, 2.0, 20.0, inf))),
                               draw(st.integers(1, 20)), 0))
    outputs = tuple(draw(st.lists(st.integers(1, 12), min_size=num, max_size=num)))
    adapters = tuple("" if specs[one.model].adapters is None else draw(st.sampled_from(NAMES))
                     for one in requests)
    return Instance(draw(st.sampled_from(POLICIES)), draw(st.booleans()), models, specs,
                    least + draw(st.sampled_from((0, 1, 5, 12, 30))), draw(st.integers(1, 2)),
                    draw(st.sampled_from((1, 1, 3))), draw(st.sampled_from((0.0, 0.25, 2.0))),
                    draw(st.frozensets(st.integers(0, 5), max_size=3)), tuple(requests), outputs,
                    adapters)


class Loads:
    """Loads of one duration, of which some fail, by number."""

    def __init__(self, seconds: float, failing: frozenset[int]) -> None:
        self._seconds, self._failing, self._num = seconds, failing, -1

    def load(self, device: int, model: int, now_s: float) -> Took:
        self._num += 1
        return Took(self._seconds, self._num in self._failing)

    def prefetch(self, model: int, now_s: float) -> Took:
        return Took(self._seconds / 2)

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        raise AssertionError("batches are not static")


class Watched:
    """A policy between whose calls the books are audited."""

    def __init__(self, policy: Any, devices: list[Device], residents: list[Residents]) -> None:
        self._policy, self._devices, self._residents = policy, devices, residents
        self._now_s = -inf

    def _audit(self, now_s: float) -> None:
        assert now_s >= self._now_s, "the clock went back"
        self._now_s = now_s
        for device, residents in zip(self._devices, self._residents, strict=True):
            assert device.free_bytes >= 0
            residents.check_integrity()

    def next(self, device: Device, now_s: float) -> Any:
        self._audit(now_s)
        action = self._policy.next(device, now_s)
        if isinstance(action, Batch):
            joining = getattr(self._policy, "_joining", self._policy)
            leaving = joining._drains.leaving(device)
            assert action.model not in leaving, "who runs out takes no more"
        return action

    def ended(self, device: Device, batch: Batch, now_s: float, *, failed: bool) -> None:
        self._audit(now_s)
        self._policy.ended(device, batch, now_s, failed=failed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


def simulated(case: Instance) -> tuple[MultiplexRun, list[Residents]]:
    slo = ServiceClass("due", Slo(e2e_s=2.0))
    requests = [Request(one.request_id, one.arrival_s, one.prompt_tokens, 12, slo,
                        adapter=adapter)
                for one, adapter in zip(case.requests, case.adapters, strict=True)]
    devices = [Device(index, case.memory_bytes, case.models, continuous=True)
               for index in range(case.num_devices)]
    residents = [Residents(case.specs, requests, case.output_tokens, turn_steps=case.turn_steps)
                 for _ in devices]
    policy = multiplexing(case.policy, case.models, LoadTable([case.load_s] * len(case.models)),
                       {"shed": case.shed})
    run = MultiplexSimulation(Watched(policy, devices, residents), devices,
                              Loads(case.load_s, case.failing), residents).run(case.requests)
    return run, residents


@examples(150)
@given(instances())
def test_every_request_ends_once_and_no_book_is_ever_wrong(case: Instance) -> None:
    run, residents = simulated(case)
    shed = ~np.isnan(run.shed_s)
    assert run.num_waiting == 0
    assert (run.served ^ shed).all(), "answered, or told why not"
    assert ((run.reason >= 0) == shed).all()
    begun = ~np.isnan(run.begin_s)
    assert (begun | shed).all()
    assert (run.begin_s[begun] >= run.arrival_s[begun] - 1e-12).all()
    assert (run.end_s[run.served] > run.begin_s[run.served]).all()
    for one in residents:
        one.check_integrity()
        for ended in one.answers().values():
            for row, request_id in enumerate(ended.request_id.tolist()):
                if run.served[request_id]:
                    assert ended.output_tokens[row] == case.output_tokens[request_id]
                    assert ended.last_token_s[row] == run.end_s[request_id]
                    # Loads end at any moment, steps at whole picoseconds.
                    assert run.begin_s[request_id] - 1e-12 <= ended.first_scheduled_s[row]
    a_device_runs_one_step_at_a_time(case, run, residents)
    a_model_that_is_loaded_again_loads_its_adapters_again(case, run, residents)


def a_device_runs_one_step_at_a_time(case: Instance, run: MultiplexRun,
                                     residents: list[Residents]) -> None:
    ends_s = np.concatenate([run.end_s[run.served], run.shed_s[~np.isnan(run.shed_s)]])
    for one in residents:
        busy_s = sum(one.busy_s(model) for model in range(len(case.models)))
        assert busy_s <= ends_s.max() - run.arrival_s[0] + 1e-9


def a_model_that_is_loaded_again_loads_its_adapters_again(
        case: Instance, run: MultiplexRun, residents: list[Residents]) -> None:
    for model, spec in enumerate(case.specs):
        stores = [one.stores[model] for one in residents if model in one.stores]
        assert not stores or spec.adapters is not None
        used = {adapter for request, adapter in zip(case.requests, case.adapters, strict=True)
                if request.model == model and adapter and run.served[request.request_id]}
        assert sum(one.num_copies for one in stores) >= len(used)
        assert all(one.num_fetches <= one.num_copies for one in stores)


@examples(60)
@given(instances())
def test_same_instance_same_run(case: Instance) -> None:
    first, second = simulated(case)[0], simulated(case)[0]
    assert first.loads == second.loads
    for name in ("begin_s", "end_s", "shed_s", "reason"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
