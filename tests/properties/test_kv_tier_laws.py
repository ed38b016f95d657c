"""Laws of the tiers below a KV cache: every block is in one place, and jumps change no time."""

from dataclasses import replace
from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.units import to_ps
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.kv.prefix import PrefixKv
from penstock.policy.kv.retained import RetainingKv
from penstock.policy.kv.tiers import KvTiers, TierSpec
from penstock.policy.route.simple import RoundRobin
from penstock.policy.schedule.build import build_kv
from penstock.policy.schedule.options import scheduler_options
from penstock.policy.schedule.replica import ReplicaScheduler
from penstock.registry.make import build_scheduler
from penstock.sim.cluster import Cluster
from penstock.sim.dispatch import Dispatcher, ReplicaSpec
from penstock.sim.oracle import Oracle
from penstock.sim.recorder import ReplicaRecorder
from penstock.sim.replica import SimReplica
from penstock.sim.upcoming import InOrder
from support.reference_driver import assert_same_tokens, run_reference
from support.scaled_examples import examples
from support.strategies import EVIDENCE, POLICIES, Case, cases, linear_step_times

BLOCK = 16
SIZES = st.sampled_from((0, 3, 5, 200))


def specs(host: int, disk: int, remote: int, block_tokens: int = BLOCK) -> tuple[TierSpec, ...]:
    """Tiers of so many blocks. Replicas share the remote one."""
    return (TierSpec("host", host * block_tokens, 1e-5, 0.001),
            TierSpec("disk", disk * block_tokens, 3e-5, 0.003),
            TierSpec("remote", remote * block_tokens, 1e-4, 0.01, True))


class Row(NamedTuple):
    """A sequence of a replica that starts, or ends where it has started."""

    replica: int
    number: int
    family: int
    tokens: int


ROWS = st.lists(st.builds(Row, st.integers(0, 1), st.integers(0, 3), st.integers(0, 2),
                          st.integers(1, 90)), max_size=40)


@examples(150)
@given(ROWS, SIZES, SIZES, SIZES, st.sampled_from((PrefixKv, RetainingKv)))
def test_every_block_is_in_one_place(rows: list[Row], host: int, disk: int, remote: int,
                                     cache: type[PrefixKv] | type[RetainingKv]) -> None:
    """Two replicas share the remote tier. Blocks that were computed are in the cache, in one tier,
    or were dropped; a prompt finds exactly what they have without a gap."""
    *own, common = specs(host, disk, remote)
    shared = common.store(BLOCK)
    kvs = [cache(8, BLOCK, KvTiers([*(one.store(BLOCK) for one in own), shared]))
           for _ in range(2)]
    held: list[dict[int, int]] = [{}, {}]
    for row in rows:
        kv, mine = kvs[row.replica], held[row.replica]
        number = 10 * row.replica + row.number
        tokens = mine.pop(number, 0)
        if tokens:
            kv.free(number, -(-tokens // BLOCK), tokens)
        else:
            hashes = tuple(10 * row.family + place for place in range(row.tokens // BLOCK))
            found = kv.found_tokens(row.tokens, hashes, BLOCK)
            cached = kv.allocate(number, row.tokens, row.tokens, hashes, BLOCK, 0)
            if cached is not None:
                assert found <= cached < row.tokens  # more where it is the sequence's own
                mine[number] = row.tokens
                kv.computed(number, row.tokens)
                assert kv.found_tokens(row.tokens + 1, hashes, BLOCK) == BLOCK * len(hashes)
        for one, sequences in zip(kvs, held, strict=True):
            assert one.tiers is not None
            one.check_integrity(sum(-(-stored // BLOCK) for stored in sequences.values()))
            one.tiers.check_integrity()


@examples(100)
@given(ROWS)
def test_with_room_below_nothing_is_lost(rows: list[Row]) -> None:
    """Above a tier without end, a prompt finds all that its replica ever computed of it."""
    kv = PrefixKv(8, BLOCK, KvTiers([TierSpec("host", 10**6, 1e-5).store(BLOCK)]))
    computed: set[int] = set()
    for number, row in enumerate(rows):
        hashes = tuple(10 * row.family + place for place in range(row.tokens // BLOCK))
        most = (row.tokens - 1) // BLOCK
        before = 0
        while before < most and hashes[before] in computed:
            before += 1
        assert kv.allocate(number, row.tokens, row.tokens, hashes, BLOCK, 0) == BLOCK * before
        kv.computed(number, row.tokens)
        computed.update(hashes)
        kv.free(number, -(-row.tokens // BLOCK), row.tokens)


def scheduler_above(case: Case, tiers: KvTiers) -> ReplicaScheduler:
    kv = build_kv(case.options, case.total_blocks, case.block_tokens, case.prefix_caching, tiers)
    return build_scheduler(case.options, case.step_time, kv)


def jumped(case: Case, tiers: KvTiers) -> ReplicaRecorder:
    """The recorder of the jumping driver, after the run."""
    recorder = ReplicaRecorder(to_ps(1.0))
    replica = SimReplica(0, scheduler_above(case, tiers), StepClock(case.step_time),
                         Oracle(case.output_tokens), recorder, tiers=tiers)

    def refuse(request: Request, reason: str) -> None:
        """Do nothing."""

    Cluster([replica], Dispatcher(RoundRobin(), [replica], [ReplicaSpec("m")], refuse),
            refuse).run(InOrder(case.requests))
    return recorder


def squeezed(case: Case) -> Case:
    """The same case with two families of prompts, and just room enough for any one request."""
    requests = tuple(one._replace(
        prefix_hashes=tuple(range(1000 * (one.request_id % 2),
                                  1000 * (one.request_id % 2) + one.prompt_tokens
                                  // case.block_tokens)),
        hash_block_tokens=case.block_tokens) for one in case.requests)
    most = max(one.prompt_tokens + one.max_tokens for one in requests)
    return replace(case, requests=requests, prefix_caching=True,
                   total_blocks=most // case.block_tokens + 2,
                   options=replace(case.options, kv_watermark=0.0))


# The blocks of a request that ended late make room for the later steps of the jump after it.
LATE = squeezed(Case(
    scheduler_options("sarathi", chunk_tokens=2, kv_reserve="prompt", late_results=True),
    LinearStepTime(0.01, 0.0, 0.0, 0.0, 0.0, EVIDENCE), 1, 0, True,
    tuple(Request(number, 0.0, prompt, answer, ServiceClass("any"), hash_block_tokens=1)
          for number, (prompt, answer) in enumerate(((4, 1), (1, 3), (1, 1)))), {0: 1, 1: 3, 2: 1}))


@examples(150)
@example(LATE, 0, 0)
@given(cases(POLICIES, linear_step_times()).map(squeezed), SIZES, SIZES)
def test_jumps_equal_steps(case: Case, host: int, remote: int) -> None:
    runs = [KvTiers([tier.store(case.block_tokens)
                     for tier in specs(host, 4, remote, case.block_tokens)]) for _ in range(2)]
    trace = run_reference(scheduler_above(case, runs[0]), StepClock(case.step_time), case.requests,
                          case.output_tokens, tiers=runs[0])
    ended = jumped(case, runs[1]).flush()
    assert_same_tokens(trace, ended)
    assert runs[0].loaded_s == runs[1].loaded_s
    for one, other in zip(runs[0].stores, runs[1].stores, strict=True):
        assert list(one.blocks.items()) == list(other.blocks.items())
