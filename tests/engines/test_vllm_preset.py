"""The preset of vLLM's scheduler against vLLM's own: the same plans on random states."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from random import Random

import pytest
from vllm_scheduler import Ask, Configured, Limits, Planned, Vllm

from penstock.catalog.catalog import load_catalog
from penstock.catalog.engines import engine_defaults
from penstock.core.intake import Intake
from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.core.step import Chunk, StepFeatures, StepPlan, StepResult
from penstock.core.units import to_ps
from penstock.engines.embedded.calibrate import GUESS
from penstock.fleet.stock import stock_schedule
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.schedule.build import build_kv
from penstock.policy.schedule.options import SchedulerOptions
from penstock.registry.make import build_scheduler
from support.scheduler_runs import jump
from support.strategies import Case

pytestmark = pytest.mark.filterwarnings("default")  # vLLM and torch have warnings of their own

VERSION = "0.32.0"
OLD_VERSION = "0.18.0"  # a prompt started when its first chunk had room; 0.32 has a switch for that
CLASS = ServiceClass("all", Slo(), 1)


def options_of(limits: Limits) -> SchedulerOptions:
    """The preset within these limits, of the release that takes prompts as they say."""
    accelerator = load_catalog().accelerator("h100-80gb")
    version = VERSION if limits.whole_prompt_fits else OLD_VERSION
    defaults = replace(engine_defaults("vllm", accelerator, version), overlaps=limits.plans_ahead)
    return stock_schedule(defaults, limits.step_tokens, limits.max_num_seqs)


def request_of(ask: Ask, limits: Limits, arrival_s: float) -> Request:
    hashes = prefix_hashes(ask.prompt, limits.block_tokens) if limits.prefix_caching else ()
    return Request(ask.number, arrival_s, len(ask.prompt), ask.output_tokens, CLASS,
                   prefix_hashes=hashes,
                   hash_block_tokens=limits.block_tokens if limits.prefix_caching else 0)


class Preset:
    """Penstock's scheduler with the settings of the preset, stepped like vLLM's."""

    def __init__(self, limits: Limits) -> None:
        options = options_of(limits)
        kv = build_kv(options, limits.num_blocks, limits.block_tokens, limits.prefix_caching)
        self.scheduler = build_scheduler(options, GUESS, kv)
        self.left: dict[int, int] = {}
        self._plan: StepPlan | None = None
        self._now_s = 0.0
        self._limits = limits

    def add(self, asks: Sequence[Ask]) -> None:
        for ask in asks:
            self.scheduler.add(request_of(ask, self._limits, self._now_s), self._now_s)
            self.left[ask.number] = ask.output_tokens

    def plan(self) -> Planned:
        """Plan a step."""
        scheduler = self.scheduler
        past = {number: group.stored_tokens(sequence) for group in scheduler.groups
                for number, sequence in group.members.items()}
        preempted: tuple[int, ...] = ()
        while True:
            plan = self._plan = scheduler.plan(self._now_s)
            if plan is None:
                return Planned({}, preempted)
            preempted += plan.preempted
            if plan.chunks or plan.decode_ids:
                break
            scheduler.commit(plan, StepResult(), self._now_s)
        tokens = {number: (1, past[number]) for number in plan.decode_ids}
        tokens |= {chunk.request_id: (chunk.tokens, chunk.past) for chunk in plan.chunks}
        return Planned(tokens, tuple(sorted(preempted)))

    def commit(self) -> None:
        """Give every request of the step a token, where one is due."""
        plan = self._plan
        self._now_s += 1.0
        if plan is None:
            return
        given = [*plan.decode_ids, *(chunk.request_id for chunk in plan.chunks if chunk.last)]
        for number in given:
            self.left[number] -= 1
        ended = tuple(number for number in given if not self.left[number])
        self.scheduler.commit(plan, StepResult(ended), self._now_s)
        self.scheduler.check_integrity()


def prefix_hashes(prompt: Sequence[int], block_tokens: int) -> tuple[int, ...]:
    """Chained hashes of a prompt's full blocks."""
    return tuple(hash(tuple(prompt[:end]))
                 for end in range(block_tokens, len(prompt) + 1, block_tokens))


def random_limits(rng: Random, *, plans_ahead: bool = False, whole_prompt_fits: bool = True,
                  prefix_caching: bool = False) -> Limits:
    block_tokens = rng.choice((8, 16, 16, 32))
    max_num_seqs = rng.randint(1, 24)
    room = rng.choice((150, 300, 900))
    return Limits(rng.randint(max_num_seqs, 160), max_num_seqs,
                  -(-rng.randint(100, room) // block_tokens), block_tokens, prefix_caching,
                  plans_ahead, whole_prompt_fits)


def random_asks(rng: Random, limits: Limits) -> list[Ask]:
    """Requests that the KV cache can hold, at steps drawn by chance."""
    room = limits.num_blocks * limits.block_tokens
    last_step = rng.choice((0, 20, 60))
    beginnings = [tuple(rng.randrange(3, 500) for _ in range(400)) for _ in range(3)]
    asks = []
    for number in range(rng.randint(5, 40)):
        prompt_tokens = rng.randint(1, min(room - 1, rng.choice((20, 120, 400))))
        output_tokens = rng.randint(1, min(room - prompt_tokens, rng.choice((3, 40, 200))))
        shared = rng.choice(beginnings)[:rng.choice((0, prompt_tokens // 2, prompt_tokens))]
        prompt = shared + tuple(rng.randrange(3, 500) for _ in range(prompt_tokens - len(shared)))
        asks.append(Ask(number, rng.randint(0, last_step), prompt, output_tokens))
    asks.sort(key=lambda ask: ask.step)
    return [ask._replace(number=number) for number, ask in enumerate(asks)]


def next_plan(real: Vllm) -> Planned:
    """vLLM's next plan that computes something. An engine that plans ahead, and has nothing to run
    before it knows which requests have ended, waits for that."""
    plan = real.plan()
    preempted = plan.preempted
    while not plan.tokens and (real.in_flight > 1 or plan.preempted):
        while real.in_flight:
            real.commit()
        plan = real.plan()
        preempted += plan.preempted
    return plan._replace(preempted=tuple(sorted(preempted)))


def compare(configured: Configured, limits: Limits, asks: Sequence[Ask]) -> list[Planned]:
    """Run both. Returns vLLM's plans. Raises AssertionError at the first that differs."""
    real, preset = Vllm(configured, limits), Preset(limits)
    plans = []
    for step in range(20_000):
        arrived = [ask for ask in asks if ask.step == step]
        real.add(arrived)
        preset.add(arrived)
        expected, found = next_plan(real), preset.plan()
        # A request that has ended may be preempted before its end is known: it loses nothing.
        expected = expected._replace(preempted=tuple(filter(preset.left.get, expected.preempted)))
        assert found == expected, (limits, step, len(plans))
        plans.append(expected)
        preset.commit()
        while real.in_flight > limits.plans_ahead:
            real.commit()
        if not real.busy and step >= asks[-1].step:
            return plans
    raise AssertionError("requests are stuck")


@pytest.fixture(scope="module")
def configured(tiny_llama: Path) -> Configured:
    return Configured(tiny_llama)


def sweep(configured: Configured, seed: int, num_states: int,
          limits_of: Callable[[Random], Limits]) -> tuple[int, int]:
    """Compare random runs of that many states. Returns the states and the preemptions."""
    states = preemptions = 0
    while states < num_states:
        rng = Random(seed)
        seed += 1
        limits = limits_of(rng)
        plans = compare(configured, limits, random_asks(rng, limits))
        states += sum(bool(plan.tokens) for plan in plans)
        preemptions += sum(len(plan.preempted) for plan in plans)
    return states, preemptions


CASES = list(product((False, True), repeat=3))
STATES = int(os.environ.get("PENSTOCK_PRESET_STATES", "10_000"))


@pytest.mark.parametrize(("plans_ahead", "prefix_caching", "whole_prompt_fits"), CASES)
def test_plans_are_equal(configured: Configured, plans_ahead: bool, prefix_caching: bool,
                         whole_prompt_fits: bool) -> None:
    states, preemptions = sweep(configured, 1, STATES // len(CASES), partial(
        random_limits, plans_ahead=plans_ahead, prefix_caching=prefix_caching,
        whole_prompt_fits=whole_prompt_fits))
    assert preemptions > states / 200


class Device:
    """Runs vLLM's plans as its engine core does, on a clock of picoseconds. Where vLLM plans ahead,
    two steps are in flight, and the second waits for the first."""

    def __init__(self, real: Vllm, asks: Sequence[Ask], limits: Limits, clock: StepClock) -> None:
        self._real = real
        self._asks = asks
        self._depth = 1 + limits.plans_ahead
        self._clock = clock
        self._in_flight: list[int] = []  # ends of steps
        self._target = {ask.number: len(ask.prompt) for ask in asks}
        self._given = dict.fromkeys(self._target, 0)  # tokens, those of steps in flight included
        self.token_ps: dict[int, list[int]] = {ask.number: [] for ask in asks}

    def run(self, arrival_ps: Mapping[int, int]) -> None:
        now_ps, pending = 0, list(self._asks)
        while pending or self._real.busy or self._in_flight:
            while pending and arrival_ps[pending[0].number] <= now_ps:
                self._real.add([pending.pop(0)])
            if not self._real.busy and not self._in_flight:
                now_ps = arrival_ps[pending[0].number]
                continue
            if self._real.busy:
                free_ps = max([now_ps, *self._in_flight])
                self._in_flight.append(free_ps + self._duration_ps(self._real.plan()))
                if len(self._in_flight) < self._depth:
                    continue
            now_ps = max(now_ps, self._in_flight.pop(0))
            for number in self._real.commit():
                self.token_ps[number].append(now_ps)

    def _duration_ps(self, plan: Planned) -> int:
        chunks, decodes, context_tokens = [], [], 0
        for number, (tokens, past) in plan.tokens.items():
            known = self._target[number]
            if past >= known:
                decodes.append(number)
                context_tokens += past + 1
            else:
                chunks.append(Chunk(number, tokens, past, past + tokens >= known))
            self._given[number] += past + tokens >= known
        for number in plan.preempted:
            self._target[number] = len(self._asks[number].prompt) + self._given[number]
        features = StepFeatures(sum(chunk.tokens for chunk in chunks),
                                sum(c.tokens * (c.past + 0.5 * c.tokens) for c in chunks),
                                len(decodes), context_tokens)
        return self._clock.duration_ps(StepPlan(0, tuple(chunks), tuple(decodes), features)) \
            if plan.tokens else 0


@pytest.mark.parametrize("plans_ahead", [False, True])
def test_simulated_tokens_come_when_vllms_do(configured: Configured, plans_ahead: bool) -> None:
    step_time = LinearStepTime(0.004, 1e-5, 1e-9, 1e-4, 1e-7, GUESS.evidence)
    different = []
    for seed in range(30):
        rng = Random(seed)
        limits = random_limits(rng, plans_ahead=plans_ahead, prefix_caching=seed % 2 == 1)
        asks = random_asks(rng, limits)
        arrivals_s = sorted(rng.uniform(0.0, rng.choice((0.01, 0.3, 1.0))) for _ in asks)
        requests = [request_of(ask, limits, arrival_s)
                    for ask, arrival_s in zip(asks, arrivals_s, strict=True)]
        device = Device(Vllm(configured, limits), asks, limits, StepClock(step_time))
        device.run({request.request_id: to_ps(request.arrival_s) for request in requests})
        case = Case(options_of(limits), step_time, limits.block_tokens, limits.num_blocks,
                    limits.prefix_caching, tuple(requests),
                    {ask.number: ask.output_tokens for ask in asks})
        found = jump(case, Intake(plans_ahead=plans_ahead)).recorder.token_ps
        if found != device.token_ps:
            different.append(seed)
    # Where all running requests end with one step while the first waiting one has no room beside
    # them, vLLM plans the next step at the end of that step, and reads requests that arrived during
    # it. The simulator reads them a step later, as after any other step.
    assert different == ([23] if plans_ahead else [])
