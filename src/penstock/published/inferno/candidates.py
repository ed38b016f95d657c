"""Candidates of each server on each accelerator: replicas, batch, cost, latencies.

Rules of llm-inferno/optimizer (v1) and optimizer-light 0.7 (v2), queue model included.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from penstock.core.errors import InputError, nearest
from penstock.perf.queueing.parameters import DecodePrefillTimes, QueueSpec, RequestSize
from penstock.published.inferno.queueing.analysis import InfernoQueues, MeanMetrics
from penstock.published.inferno.queueing.sizing import size
from penstock.published.inferno.values import Allocation, Profile, Server, System, Targets, single

# Moving to another accelerator costs this share of both allocations.
TRANSITION_SHARE = 0.1
# Queue slots per slot of the batch, schema v1.
QUEUE_TO_BATCH = 10
# States of one queue, and of the queues that are analysed together: what memory bears.
MAX_STATES = 1_000_000
MAX_REPLICAS = 10**9
# Less than this per step is rounding, in ms.
SHORTEST_MS = 1e-9


@dataclass(frozen=True, slots=True)
class Candidates:
    """``by_server``: allocations by accelerator, of every server. ``reasons``: why there is none,
    by server and then by accelerator; the accelerator "" stands for the server itself."""

    by_server: Mapping[str, Mapping[str, Allocation]]
    reasons: Mapping[str, Mapping[str, str]]

    def reason(self, server: str) -> str:
        """One line for a server without candidates."""
        reasons = self.reasons.get(server, {})
        if "" in reasons:
            return reasons[""]
        each = "; ".join(f"{accelerator}: {text}" for accelerator, text in reasons.items())
        return f"no accelerator can meet its targets ({each})"


@dataclass(frozen=True, slots=True)
class _Pair:
    """A server on an accelerator, ready to be sized."""

    server: Server
    profile: Profile
    queue: QueueSpec
    targets: Targets
    unit_cost: float
    demand_per_s: float


def transition_penalty(current: Allocation, candidate: Allocation) -> float:
    """Return the value of going from ``current`` to ``candidate``, in cents per hour; smaller is
    better.

    The difference in cost, and a tenth of both costs when the accelerator changes. Equal replicas
    of the same accelerator are free, whatever the batch size.
    """
    before, after = np.float32(current.cost_cents_per_hour), np.float32(
        candidate.cost_cents_per_hour)
    if current.accelerator != candidate.accelerator:
        return float(np.float32(TRANSITION_SHARE) * (before + after) + (after - before))
    return 0.0 if current.num_replicas == candidate.num_replicas else float(after - before)


def replicas_for(rate: float, capacity: float) -> int:
    """Replicas for a rate; both in 32-bit floats, as upstream has them when it rounds up."""
    return math.ceil(single(rate) / single(capacity))


def find_candidates(system: System) -> Candidates:
    """Every candidate of every server."""
    reasons: dict[str, dict[str, str]] = {name: {} for name in system.servers}
    found: dict[str, dict[str, Allocation]] = {name: {} for name in system.servers}
    pairs: list[_Pair] = []
    for server in system.servers.values():
        try:
            targets, profiles = _references(system, server)
        except InputError as error:
            reasons[server.name][""] = str(error)
            continue
        for profile in profiles:
            try:
                if server.load.is_zero:
                    idle = _idle(system, server, profile)
                    found[server.name][idle.accelerator] = idle
                else:
                    pairs.append(_pair(system, server, profile, targets))
            except InputError as error:
                reasons[server.name][profile.accelerator] = str(error)
    for pair, outcome in zip(pairs, _size(pairs), strict=True):
        where = pair.server.name, pair.profile.accelerator
        if isinstance(outcome, str):
            reasons[where[0]][where[1]] = outcome
        else:
            found[where[0]][where[1]] = outcome
    return Candidates(found, reasons)


def _references(system: System, server: Server) -> tuple[Targets, list[Profile]]:
    """The server's targets, and the profiles that it may use. Raises InputError with the reason."""
    load = server.load
    if min(load.arrival_per_min, load.input_tokens, load.output_tokens) < 0:
        raise InputError("its load is negative")
    service_class = system.service_classes.get(server.service_class)
    if service_class is None:
        raise InputError(f"no service class {server.service_class!r}"
                         f"{nearest(server.service_class, system.service_classes)}")
    targets = service_class.targets.get(server.model)
    if targets is None:
        raise InputError(f"class {server.service_class!r} has no targets for model "
                         f"{server.model!r}")
    profiles = [profile for profile in system.profiles.values() if profile.model == server.model]
    if not profiles:
        models = {profile.model for profile in system.profiles.values()}
        raise InputError(f"no performance data of model {server.model!r}"
                         f"{nearest(server.model, models)}")
    current = server.current.accelerator
    if server.keep_accelerator and current:
        profiles = [profile for profile in profiles if profile.accelerator == current]
        if not profiles:
            raise InputError(f"it keeps accelerator {current!r}, on which there are no performance "
                             f"data of model {server.model!r}")
    return targets, profiles


def _unit_cost(system: System, profile: Profile) -> float:
    accelerator = system.accelerators.get(profile.accelerator)
    if accelerator is None:
        raise InputError(f"no accelerator {profile.accelerator!r}"
                         f"{nearest(profile.accelerator, system.accelerators)}")
    return accelerator.cost_cents_per_hour * profile.acc_count


def _max_batch(server: Server, profile: Profile) -> int:
    """The server's own batch size, else what fits when every request has its output tokens."""
    if server.max_batch_size > 0:
        return server.max_batch_size
    tokens = profile.max_batch_size * profile.at_tokens
    return max(1, tokens // server.load.output_tokens) if server.load.output_tokens else 1


def _pair(system: System, server: Server, profile: Profile, targets: Targets) -> _Pair:
    cost = _unit_cost(system, profile)
    batch = _max_batch(server, profile)
    room = QUEUE_TO_BATCH * batch if system.generation == "v1" else server.max_queue_size
    if batch + room > MAX_STATES:
        raise InputError(f"a batch of {batch} and a queue of {room}: expected at most "
                         f"{MAX_STATES} together")
    size = RequestSize(server.load.input_tokens, server.load.output_tokens)
    queue = QueueSpec(profile.times, size, batch, room)
    if queue.unit_ms < SHORTEST_MS:
        raise InputError("its step times are as good as zero")
    return _Pair(server, profile, queue, targets, cost, demand_per_s(system, server))


def _idle(system: System, server: Server, profile: Profile) -> Allocation:
    """Without load: nothing, or the floor of replicas at the latencies of a lone request."""
    cost, times, tokens = _unit_cost(system, profile), profile.times, server.load.input_tokens
    if server.min_num_replicas == 0:
        return Allocation()
    if isinstance(times, DecodePrefillTimes):
        ttft_ms = times.gamma_ms + times.delta_ms * tokens
    else:
        ttft_ms = times.alpha_ms + (times.beta_ms + times.gamma_ms) * tokens
    return _valued(server, Allocation(
        profile.accelerator, server.min_num_replicas, _max_batch(server, profile),
        cost * server.min_num_replicas, itl_ms=times.alpha_ms + times.beta_ms, ttft_ms=ttft_ms))


def _valued(server: Server, candidate: Allocation) -> Allocation:
    return replace(candidate, value=transition_penalty(server.current, candidate))


def _size(pairs: Sequence[_Pair]) -> list[Allocation | str]:
    """Each pair's allocation, or why there is none."""
    if not pairs:
        return []
    sized = size([pair.queue for pair in pairs], [pair.targets for pair in pairs])
    answers: list[Allocation | str] = []
    for pair, sizing in zip(pairs, sized, strict=True):
        capacity = sizing.metrics.throughput_per_s if sizing.metrics else 0.0
        answers.append(sizing.error or _priced(pair, capacity))
    served = [(index, answer) for index, answer in enumerate(answers)
              if isinstance(answer, Allocation)]
    rates = [float(np.float32(pairs[index].demand_per_s) / np.float32(answer.num_replicas))
             for index, answer in served]
    for (index, answer), means in zip(
            served, _means([pairs[index].queue for index, _ in served], rates), strict=True):
        answers[index] = replace(answer, itl_ms=means.itl_ms, ttft_ms=means.ttft_ms,
                                 rho=means.utilisation)
    return answers


def _priced(pair: _Pair, capacity_per_s: float) -> Allocation | str:
    if not capacity_per_s * MAX_REPLICAS > pair.demand_per_s:
        return f"it would take more than {MAX_REPLICAS} replicas"
    replicas = max(replicas_for(pair.demand_per_s, capacity_per_s), pair.server.min_num_replicas)
    candidate = Allocation(pair.profile.accelerator, replicas, pair.queue.max_batch,
                           single(pair.unit_cost * replicas), max_per_min=60.0 * capacity_per_s)
    return _valued(pair.server, candidate)


def _means(queues: Sequence[QueueSpec], rates_per_s: Sequence[float]) -> Iterator[MeanMetrics]:
    """Each queue's means at its rate, some at a time to bound the memory."""
    start = 0
    while start < len(queues):
        end, widest = start, 0
        while end < len(queues):
            widest = max(widest, queues[end].max_batch + queues[end].max_queue)
            if end > start and widest * (end + 1 - start) > MAX_STATES:
                break
            end += 1
        found = InfernoQueues(queues[start:end]).metrics(np.array(rates_per_s[start:end]))
        yield from (found.row(index) for index in range(end - start))
        start = end


def demand_per_s(system: System, server: Server) -> float:
    """Measured arrivals, unless there is a target of tokens per second: then what that takes."""
    targets = system.service_classes[server.service_class].targets[server.model]
    if targets.tokens_per_s:
        return float(np.float32(targets.tokens_per_s) / np.float32(server.load.output_tokens))
    return float(np.float32(server.load.arrival_per_min) / np.float32(60.0))


def mixture(system: System, server: Server, candidates: Sequence[Allocation],
            counts: Mapping[str, int]) -> tuple[Allocation, ...]:
    """Replicas on several accelerators; each is loaded in proportion to what it can serve."""
    total = sum(counts[each.accelerator] * each.max_per_min for each in candidates)
    targets = system.service_classes[server.service_class].targets[server.model]
    pairs = [_pair(system, server, system.profiles[server.model, each.accelerator], targets)
             for each in candidates]
    rates = [demand_per_s(system, server) * each.max_per_min / total for each in candidates]
    return tuple(
        _valued(server, replace(
            each, num_replicas=counts[each.accelerator], itl_ms=means.itl_ms,
            cost_cents_per_hour=pair.unit_cost * counts[each.accelerator], ttft_ms=means.ttft_ms,
            rho=means.utilisation))
        for each, pair, means in zip(candidates, pairs, _means(
            [pair.queue for pair in pairs], rates), strict=True))
