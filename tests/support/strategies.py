"""Hypothesis strategies: everything a property test may be run on.

The sizes are small so that ties, full KV caches, preemptions and refusals are the rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.core.snapshot import QueuedWork, ReplicaSnapshot
from penstock.perf.calibration.values import Prior, ServedPoint
from penstock.perf.evidence import Evidence
from penstock.perf.queueing.batch import QueueBatch
from penstock.perf.queueing.build import from_spec
from penstock.perf.queueing.parameters import (
    DecodePrefillTimes,
    IterationTimes,
    QueueSpec,
    RequestSize,
    Variability,
)
from penstock.perf.speculation.acceptance import Acceptance
from penstock.perf.step_time.knee import KneeStepTime
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.plan.assign.problem import Demand, Limits, Option, Pool, Problem, Supply, Switching
from penstock.policy.multiplex.values import BatchTime, HostedModel, Queued
from penstock.policy.place.values import Device, Footprint
from penstock.policy.schedule.options import PRESETS, SchedulerOptions, scheduler_options
from penstock.predict.latency import LatencyPrior
from penstock.published.niyama.step_time import NiyamaRange, NiyamaStepTime
from support.faulty_machine import Faults
from support.inferno_bundles import document, rows
from support.multiplexing_cases import MultiplexCase

POLICIES = tuple(PRESETS)
EVIDENCE = Evidence("made up for tests", 0.0, 0.0)

SERVICE_CLASSES = (
    ServiceClass("none"),
    ServiceClass("paced", Slo(ttft_s=1.0, itl_s=0.05)),
    ServiceClass("tight", Slo(ttft_s=0.05, itl_s=0.012), priority=0, weight=3.0),
    ServiceClass("strict", Slo(ttft_s=0.5, itl_s=0.03, itl="strict")),
    ServiceClass("mean", Slo(ttft_s=0.5, itl_s=0.03, itl="mean", percentile=90.0)),
    ServiceClass("pace-only", Slo(itl_s=0.02)),
    ServiceClass("e2e", Slo(e2e_s=5.0), priority=2),
    ServiceClass("short-e2e", Slo(e2e_s=0.3, percentile=90.0), weight=0.5),
    ServiceClass("all", Slo(ttft_s=0.4, itl_s=0.04, e2e_s=2.0)),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One replica, its policy, its traffic, and how the client misbehaves."""

    options: SchedulerOptions
    step_time: StepTimeModel
    block_tokens: int
    total_blocks: int
    prefix_caching: bool
    requests: tuple[Request, ...]
    output_tokens: dict[int, int]
    aborts: tuple[tuple[float, int], ...] = ()
    max_in_flight: int = 1


def linear_step_times() -> st.SearchStrategy[LinearStepTime]:
    """Affine in everything; zero rates make many durations equal, and so many ties."""
    return st.builds(
        LinearStepTime, st.sampled_from((0.01, 1 / 300, 0.0101)),
        st.sampled_from((0.0, 1e-4, 7e-5)), st.sampled_from((0.0, 1e-7, 3.3e-6)),
        st.sampled_from((0.0, 1e-4)), st.sampled_from((0.0, 1e-6, 1.7e-5)), st.just(EVIDENCE))


def knee_step_times() -> st.SearchStrategy[KneeStepTime]:
    """Affine in work and context only."""
    return st.builds(KneeStepTime, st.sampled_from((0.01, 0.0033)), st.sampled_from((1e-4, 5e-5)),
                     st.sampled_from((1.0, 4.0)), st.just(5e-5), st.sampled_from((0.0, 1e-5)),
                     st.sampled_from((0.0, 2.3e-9)), st.sampled_from((0.0, 7.4e-8)),
                     st.just(EVIDENCE))


def niyama_step_times() -> st.SearchStrategy[NiyamaStepTime]:
    """Two ranges that meet nowhere: not affine, and not even monotone."""
    short = NiyamaRange(0.005, 6e-5, 2e-5, 4e-5, 1.1e-6, 7.6e-7)
    long = NiyamaRange(0.004, 3e-5, 7e-5, -4e-5, 1.7e-6, 2.7e-6)
    return st.builds(NiyamaStepTime, st.sampled_from((16, 64, 512)), st.just(short), st.just(long),
                     st.just(EVIDENCE))


def step_times() -> st.SearchStrategy[StepTimeModel]:
    """Affine and other step times."""
    return st.one_of(linear_step_times(), knee_step_times(), niyama_step_times())


_ANY_STEP_TIME = step_times()

_KNOBS: dict[str, st.SearchStrategy[object]] = {
    "chunk_tokens": st.sampled_from((1, 2, 7, 16, 33, 64)),
    "max_step_tokens": st.sampled_from((8, 20, 64, 256, 2048)),
    "max_num_seqs": st.sampled_from((1, 2, 3, 8)),
    "prefill_first": st.booleans(),
    "kv_reserve": st.sampled_from(("prompt", "max_tokens", "prompt_fits", "chunk")),
    "late_results": st.booleans(),
    "kv_watermark": st.sampled_from((0.0, 0.01, 0.1, 0.3)),
    "hybrid_s_per_token": st.sampled_from((0.0, 0.008, 1.0)),
    "batch_itl_s": st.sampled_from((0.02, 0.4)),
    "predicted_output_tokens": st.sampled_from((0, 15)),
    "initial_tokens_per_s": st.sampled_from((100.0, 8500.0)),
    "max_decodes": st.sampled_from((0, 1, 2, 3)),
    "most_slack_first": st.booleans(),
    "slack_spend_fraction": st.sampled_from((0.0, 0.125, 1.0)),
    "time_margin": st.sampled_from((0.0, 0.05, 0.5)),
    "review_s": st.sampled_from((0.0, 0.05, 0.25)),
    "queue_timeout_s": st.sampled_from((0.0, 0.02, 60.0)),
}


# Knobs without which a policy's own machinery seldom shows at this size.
_OWN_KNOBS = {"niyama": ("max_decodes", "most_slack_first"),
              "penstock": ("queue_timeout_s", "review_s", "max_num_seqs", "max_step_tokens"),
              "sarathi": ("chunk_tokens", "kv_reserve", "late_results"),
              "edf": ("chunk_tokens",), "srpf": ("chunk_tokens",),
              "plas": ("chunk_tokens",)}


def scheduler_options_of(policies: tuple[str, ...] = POLICIES) -> st.SearchStrategy[
        SchedulerOptions]:
    """Every named policy with its own knobs and up to three others turned."""

    def turned(policy: str) -> st.SearchStrategy[SchedulerOptions]:
        knobs = st.lists(st.sampled_from(sorted(_KNOBS)), max_size=3, unique=True)
        return knobs.flatmap(lambda names: st.fixed_dictionaries(
            {name: _KNOBS[name] for name in (*_OWN_KNOBS.get(policy, ()), *names)}
        )).map(lambda changes: scheduler_options(policy, **changes))

    return st.sampled_from(policies).flatmap(turned)


_GAPS_S = st.one_of(st.sampled_from((0.0, 0.0, 0.0, 0.0, 0.01, 0.02, 0.1, 1 / 3, 0.1 + 0.2, 2.0)),
                    st.floats(0.0, 0.2, allow_subnormal=False))
_PROMPTS = st.one_of(st.integers(1, 40), st.integers(1, 40), st.sampled_from((1, 16, 64, 150)))
_OUTPUTS = st.one_of(st.integers(1, 40), st.sampled_from((1, 2, 33, 70)))
_ROWS = st.lists(st.tuples(
    _GAPS_S, _PROMPTS, _OUTPUTS, st.sampled_from(SERVICE_CLASSES),
    st.sampled_from((0, 0, 0, 5, 60)),  # max_tokens beyond the true output
    st.integers(0, 2), st.integers(0, 4)),  # prefix family, hashes shared with the family
    min_size=1, max_size=14)


@st.composite
def cases(draw: st.DrawFn, policies: tuple[str, ...] = POLICIES,
          step_times: st.SearchStrategy[StepTimeModel] | None = None,
          aborts: bool = False, max_in_flight: tuple[int, ...] = (1,)) -> Case:
    """A whole case; ``aborts`` and more than one step in flight are for the reference driver."""
    block_tokens = draw(st.sampled_from((1, 4, 16)))
    capacity = draw(st.sampled_from((64, 100, 100, 200, 480, 50_000)))
    prefix_caching = draw(st.booleans())
    hash_block_tokens = block_tokens * draw(st.sampled_from((1, 3))) if prefix_caching else 0
    requests, outputs = [], {}
    now_s = 0.0
    for number, (gap_s, prompt, output, service_class, extra, family, shared) in enumerate(
            draw(_ROWS)):
        now_s += gap_s
        hashes = _hashes(number, family, shared, prompt // hash_block_tokens
                         if hash_block_tokens else 0)
        requests.append(Request(number, now_s, prompt, output + extra, service_class,
                                prefix_hashes=hashes, hash_block_tokens=hash_block_tokens))
        outputs[number] = output
    leaving = st.tuples(st.one_of(st.floats(0.0, now_s + 0.5), st.sampled_from((0.0, now_s))),
                        st.integers(0, len(requests)))
    return Case(draw(scheduler_options_of(policies)),
                draw(_ANY_STEP_TIME if step_times is None else step_times),
                block_tokens, max(1, capacity // block_tokens), prefix_caching, tuple(requests),
                outputs, tuple(draw(st.lists(leaving, max_size=3))) if aborts else (),
                draw(st.sampled_from(max_in_flight)))


def _hashes(number: int, family: int, shared: int, count: int) -> tuple[int, ...]:
    """Chained hashes: the first ``shared`` are the family's, the others the request's own."""
    return tuple(1000 * family + i if i < shared else 100_000 + 1000 * number + i
                 for i in range(count))


def without_aborts(case: Case) -> Case:
    """The same case with patient clients."""
    return replace(case, aborts=())


LOADS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.25, 2.5)
PRICES = (0.0, 1.0, 1.5, 2.0, 3.25)


@st.composite
def planning_problems(draw: st.DrawFn, mixed: bool | None = None, partial: bool | None = None,
                      max_pools: int = 3, max_demands: int = 3, own_pools: bool = False,
                      switching: bool = False) -> Problem:
    """Few pools and demands with prices, loads and cards that tie and run short.

    With ``own_pools`` every demand has pools of its own, as many as ``max_pools``.
    """
    num_demands = draw(st.integers(1, max_demands))
    owners = range(num_demands) if own_pools else (0,)
    pools = tuple(draw(_pools(f"p{owner}{i}", switching)) for owner in owners
                  for i in range(draw(st.integers(1, max_pools))))
    demands = tuple(
        draw(_demands(f"d{i}", [p.name for p in pools if not own_pools or p.name[1] == str(i)],
                      mixed, partial, switching))
        for i in range(num_demands))
    supply = Supply(draw(st.dictionaries(st.sampled_from(("a", "b")), st.integers(0, 6))))
    limits = Limits(draw(st.one_of(st.none(), st.sampled_from((2.0, 5.0, 9.5)))),
                    draw(st.one_of(st.none(), st.sampled_from((300.0, 800.0)))))
    changes = Switching(draw(st.sampled_from((0.0, 1.0))), draw(st.sampled_from((0.0, 0.5))),
                        draw(st.sampled_from((0.0, 0.1))), draw(st.booleans()))
    return Problem(pools, demands, supply, limits, changes if switching else Switching())


def _pools(name: str, switching: bool) -> st.SearchStrategy[Pool]:
    cards = st.sampled_from(({"a": 1}, {"a": 2}, {"b": 1}, {"a": 1, "b": 1}, {"c": 1}))
    return st.builds(Pool, st.just(name), st.sampled_from(PRICES), cards,
                     st.sampled_from((0.0, 100.0, 250.0)), st.sampled_from((0, 0, 1, 2)),
                     st.sampled_from((None, None, 2, 3)),
                     st.integers(0, 3) if switching else st.just(0))


@st.composite
def _demands(draw: st.DrawFn, name: str, pools: list[str], mixed: bool | None,
             partial: bool | None, switching: bool) -> Demand:
    named = draw(st.lists(st.sampled_from(pools), unique=True, max_size=len(pools)))
    options = tuple(Option(pool, draw(st.sampled_from(LOADS))) for pool in named)
    current = (draw(st.one_of(st.none(), st.builds(Option, st.sampled_from(pools),
                                                   st.sampled_from((1.0, 2.0)))))
               if switching else None)
    return Demand(name, options, draw(st.integers(1, 2)), draw(st.sampled_from((0.5, 1.0, 2.0))),
                  draw(st.booleans()) if mixed is None else mixed,
                  draw(st.booleans()) if partial is None else partial, current,
                  keep_pool=current is not None and draw(st.sampled_from((False, False, True))))


_PARTS_MS = st.sampled_from((0.0, 0.01, 0.05, 0.3))
_ITERATIONS = st.builds(IterationTimes, st.floats(1.0, 30.0), _PARTS_MS,
                        st.sampled_from((0.0, 5e-5, 1e-3)), st.sampled_from((256, 2048, 8192)))
_DECODE_PREFILL = st.builds(DecodePrefillTimes, st.floats(1.0, 30.0), _PARTS_MS,
                            st.floats(0.0, 300.0), st.sampled_from((0.0, 1e-3, 0.02)))
_REQUEST_SIZES = st.builds(RequestSize, st.sampled_from((0, 1, 64, 700, 4096)),
                           st.sampled_from((1, 2, 64, 500)))


def queue_specs() -> st.SearchStrategy[QueueSpec]:
    """One replica as a queue, of either generation."""
    batches, rooms = st.sampled_from((1, 2, 7, 40, 150)), st.sampled_from((0, 1, 100))
    # A first-generation answer of one token to an empty prompt takes no time at all.
    return st.one_of(
        st.builds(QueueSpec, _ITERATIONS, _REQUEST_SIZES, batches, rooms),
        st.builds(QueueSpec, _DECODE_PREFILL, _REQUEST_SIZES.filter(
            lambda size: size.output_tokens > 1), batches, rooms))


def calibration_priors() -> st.SearchStrategy[Prior]:
    """Beliefs about iteration times over six orders of magnitude, narrow and wide."""
    sds = st.floats(0.01, 3.0)
    return st.builds(Prior, st.builds(
        IterationTimes, st.floats(1e-2, 1e3), st.floats(1e-5, 10.0), st.floats(1e-8, 1.0)),
        sds, st.tuples(sds, sds, sds))


def served_points() -> st.SearchStrategy[ServedPoint]:
    """Points of a calibration; no latency need be possible, and some are missing."""
    latencies = st.one_of(st.floats(1e-3, 1e6), st.sampled_from([0.0, float("nan"), float("inf")]))
    return st.builds(
        ServedPoint, st.floats(0.0, 1e3), st.builds(
            RequestSize, st.floats(0.0, 1e5), st.floats(1.0, 1e4)),
        st.integers(1, 512), latencies, latencies, st.integers(0, 512),
        st.sampled_from([0.0, 60.0, float("inf")]))


def queue_batches() -> st.SearchStrategy[QueueBatch]:
    """The same for Penstock's own mode, with all sorts of variability."""
    vary = st.builds(Variability, st.sampled_from((0.0, 1.0, 4.0)),
                     st.sampled_from((0.0, 0.5, 2.0)), st.sampled_from((0.0, 0.5, 2.0)))
    return st.builds(lambda spec, vary: from_spec(spec, variability=vary), queue_specs(), vary)


_JUNK = st.sampled_from((None, "", "x", -1, 0, 1e300, 1e-40, 2.5, True, [], {}, [1], {"a": 1},
                         10**9))


@st.composite
def inferno_bundles(draw: st.DrawFn) -> dict[str, Any]:
    """Small bundles of either schema: scarce cards, idle servers, loose and impossible targets."""
    made = document(draw(st.sampled_from(("v1", "v2"))))
    for row in rows(made, "acceleratorData"):
        row["cost"] = draw(st.sampled_from((1.0, 3.75, 23.0, 40.0, 40.0)))
    for row in rows(made, "capacityData"):
        row["count"] = draw(st.integers(0, 200))
    for row in rows(made, "serviceClassData"):
        row["priority"] = draw(st.integers(0, 4))
        for target in row["modelTargets"]:
            target["slo-itl"] = draw(st.sampled_from((0, 5, 40, 80, 320)))
            target["slo-ttft"] = draw(st.sampled_from((0, 300, 2000)))
            target["slo-tps"] = draw(st.sampled_from((0, 0, 0, 2000)))
    servers = rows(made, "serverData")
    del servers[draw(st.integers(1, len(servers))):]
    for row in servers:
        row["minNumReplicas"] = draw(st.sampled_from((0, 0, 3)))
        row["maxQueueSize"] = draw(st.sampled_from((0, 10)))
        row["currentAlloc"]["load"]["ArrivalRate"] = draw(st.sampled_from((0, 1, 30, 120, 500)))
    return made


@st.composite
def broken_bundles(draw: st.DrawFn) -> dict[str, Any]:
    """A bundle with junk in the place of one or two of its values."""
    made = draw(inferno_bundles())
    for _ in range(draw(st.integers(1, 2))):
        node: Any = made["system"]
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and draw(st.integers(0, 3)):
                node = node[key]
            else:
                node[key] = draw(_JUNK)
                break
    return made


def queued_works() -> st.SearchStrategy[QueuedWork]:
    """What is left of one request: all of it, some of its prompt, or only tokens to generate."""
    return st.builds(QueuedWork, st.sampled_from((0, 1, 16, 40, 150)),
                     st.sampled_from((0, 16, 33)), st.sampled_from((0.2, 1.0, 2.5, 17.0, 40.0)))


def work_queues(max_size: int = 8) -> st.SearchStrategy[tuple[QueuedWork, ...]]:
    """A replica's queue, in order of service."""
    return st.lists(queued_works(), max_size=max_size).map(tuple)


def latency_priors(step_times: st.SearchStrategy[StepTimeModel] = _ANY_STEP_TIME
                   ) -> st.SearchStrategy[LatencyPrior]:
    """Replicas with few seats and small chunks."""
    return st.builds(LatencyPrior, step_times, st.sampled_from((1, 2, 4, 64)),
                     st.sampled_from((1, 16, 50, 512)))


def replica_snapshots(replica_id: int = 0, model: str = "small") -> st.SearchStrategy[
        ReplicaSnapshot]:
    """Replicas that are idle, busy, full, or look as none should."""
    counts = st.sampled_from((0, 0, 1, 3, 64, 500))
    tokens = st.sampled_from((0, 1, 100, 5000, 10**6))
    return st.builds(
        ReplicaSnapshot, st.just(replica_id), st.just(model), st.just(0.0), counts, counts, tokens,
        tokens, st.sampled_from((1, 1000, 100_000)), st.none(), st.sampled_from((0.25, 1.0)),
        st.sampled_from((0.0, 0.5, 100.0, 1e6)), st.just(()), st.sampled_from((0.0, 0.0, 20.0)))


_COSTS = st.one_of(st.sampled_from((0.0, 1.0, 1.0, 2.0, -3.0, 0.1)), st.floats(-10.0, 10.0))


@st.composite
def cost_tables(draw: st.DrawFn) -> tuple[list[list[float]], list[float]]:
    """(costs of a few requests on a few replicas, infinite where not allowed, and surcharges)."""
    num_replicas = draw(st.integers(1, 4))
    rows = draw(st.lists(
        st.lists(st.one_of(_COSTS, _COSTS, st.just(float("inf"))), min_size=num_replicas,
                 max_size=num_replicas), min_size=1, max_size=5))
    surcharges = draw(st.lists(st.sampled_from((0.0, 0.5, 1.0, 3.0)), min_size=num_replicas,
                               max_size=num_replicas))
    return rows, surcharges


def fragmented_devices(max_nodes: int = 2, max_per_node: int = 4, most_free: int = 30
                       ) -> st.SearchStrategy[list[Device]]:
    """Nodes with little memory in small numbers, so that ties and exact fits are common; link
    groups of any size, foreign use, buffers."""
    free = st.one_of(st.integers(0, most_free), st.integers(most_free // 3, most_free),
                     st.sampled_from((most_free // 2, most_free)))
    device = st.tuples(free, st.sampled_from((0, 0, 3)),
                       st.sampled_from((0.0, 0.0, 0.25)), st.sampled_from(("", "x", "x", "y")),
                       st.sampled_from((0.0, 0.3, 0.8, 1.0)))
    nodes = st.lists(st.lists(device, min_size=min(2, max_per_node), max_size=max_per_node),
                     min_size=1, max_size=max_nodes)
    return nodes.map(lambda nodes: [
        Device(8 * number + index, f"n{number}", free + used, used, busy, links, buffer)
        for number, node in enumerate(nodes)
        for index, (free, used, buffer, links, busy) in enumerate(node)])


def footprints(max_layers: int = 20, max_tensor: int = 3, max_pipeline: int = 3
               ) -> st.SearchStrategy[Footprint]:
    """Small models; what the ends hold beside layers may be more than a layer."""
    return st.builds(Footprint, st.sampled_from(("m", "n")), st.integers(1, max_layers),
                     st.integers(1, max_tensor), st.integers(1, max_pipeline),
                     st.sampled_from((1, 1, 1, 2)), st.sampled_from((0, 0, 2, 7)),
                     st.sampled_from((0, 0, 3)), st.sampled_from((0, 1)))


def deployment_scripts(names: Sequence[str]) -> st.SearchStrategy[list[tuple[str, str, bool]]]:
    """What is asked of deployments, and what befalls them: (what, name, flag) one after another."""
    words = ("register", "profile", "deploy", "deploy", "infer", "infer", "remove", "restart",
             "dry_run", "tend", "die", "kill", "gate", "answers", "break", "go_on", "go_on")
    return st.lists(st.tuples(st.sampled_from(words), st.sampled_from(names), st.booleans()),
                    max_size=40)


@st.composite
def multiplex_cases(draw: st.DrawFn, policies: Sequence[str], *, healthy: bool = False,
                    max_models: int = 4, max_requests: int = 40) -> MultiplexCase:
    """Models that each fit on every device, memory for one or a few of them, arrivals in bursts;
    unless ``healthy``, a machine that breaks in every way. SINCERE's strategies get what they can
    do: one device, one resident."""
    policy = draw(st.sampled_from(tuple(policies)))
    sincere = policy.startswith("sincere")
    num = draw(st.integers(1, max_models))
    most = 2**31 if sincere and draw(st.booleans()) else draw(st.integers(1, 6))
    models, largest = [], []
    for index in range(num):
        line = BatchTime(draw(st.sampled_from((0.25, 1.0, 2.0))),
                         draw(st.sampled_from((0.0, 0.125, 0.5))))
        models.append(HostedModel(
            f"m{index}", draw(st.integers(0, 10)), line, 0 if sincere else draw(st.integers(0, 3)),
            most, draw(st.sampled_from((0.0, 0.0, 0.2)))))
        largest.append(draw(st.integers(0, 6)))
    least = max(one.size_bytes + one.request_bytes for one in models)
    memories = [least + draw(st.integers(0, 25))
                for _ in range(1 if sincere else draw(st.integers(1, 3)))]
    slack_s = st.sampled_from((0.5, 3.0, 10.0, 20.0, 20.0, 100.0, float("inf")))
    coming = draw(st.lists(st.tuples(
        st.sampled_from((0.0, 0.0, 0.0, 0.25, 1.0, 7.0, 60.0)), st.integers(0, num - 1),
        st.just(20.0) if sincere else slack_s), max_size=max_requests))
    at_s, requests = 0.0, []
    for place, (gap_s, model, slack) in enumerate(coming):
        at_s += gap_s
        requests.append(Queued(place, model, at_s, at_s + slack))
    loads_s = draw(st.lists(st.sampled_from((0.5, 2.0, 5.0, 11.0)), min_size=num, max_size=num))
    faults = Faults() if healthy else Faults(
        failing=draw(st.sets(st.integers(0, 12), max_size=6)),
        load_failure=draw(st.sampled_from((0.0, 0.0, 0.3, 1.0))),
        hang=draw(st.sampled_from((0.0, 0.2, 1.0))), hang_s=draw(st.sampled_from((10.0, 300.0))),
        largest_batch=draw(st.sampled_from((None, largest))),
        load_share=draw(st.sampled_from((0.7, 1.0, 1.3, 3.0))),
        batch_share=draw(st.sampled_from((0.8, 1.0, 1.5))))
    residents = 1 if sincere else draw(st.sampled_from((None, 1, 2)))
    return MultiplexCase(policy, models, loads_s, memories, residents, requests, faults,
                         shed=draw(st.booleans()), seed=draw(st.integers(0, 3)),
                         after_s=draw(st.sampled_from((0.0, 0.25))))


@dataclass(frozen=True, slots=True)
class LoggedTrace:
    """Requests as another tool's log has them: ``stamps`` since 1970 in ``unit``, and the names of
    its columns by Penstock's names."""

    names: dict[str, str]
    unit: str
    stamps: list[int]
    prompts: list[int]
    outputs: list[int]
    classes: list[str]


@st.composite
def logged_traces(draw: st.DrawFn) -> LoggedTrace:
    """A log in its own words and unit, not sorted."""
    own = [draw(st.sampled_from(spellings)) for spellings in (
        ("arrived_at", "arrival_s"), ("input_tokens", "prompt_tokens"),
        ("completion_tokens", "output_tokens"), ("class", "service_class"))]
    word = st.text(st.characters(categories=["L", "N"], exclude_characters="=,:"), min_size=1,
                   max_size=8).map(lambda text: f"x{text}")
    theirs = draw(st.lists(word, min_size=4, max_size=4, unique_by=str.lower))
    unit, per_s = draw(st.sampled_from((("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))))
    num = draw(st.integers(1, 8))

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=num, max_size=num))

    begin = draw(st.integers(1_000_000_000 * per_s, 4_000_000_000 * per_s))
    return LoggedTrace(
        dict(zip(own, theirs, strict=True)), unit,
        [begin + passed for passed in column(st.integers(0, 10_000 * per_s))],
        column(st.integers(1, 10_000)), column(st.integers(1, 900)),
        column(st.sampled_from(("chat", "batch", "a,b"))))


def acceptances_of_drafts() -> st.SearchStrategy[Acceptance]:
    """Any acceptance of up to four positions, certain and impossible ones included."""
    rates = st.lists(st.one_of(st.sampled_from((0.0, 0.5, 1.0)), st.floats(0.0, 1.0)), min_size=1,
                     max_size=4)
    return rates.map(lambda found: Acceptance(tuple(sorted(found, reverse=True))))
