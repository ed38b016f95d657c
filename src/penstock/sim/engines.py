"""The engines of simulated replicas."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from penstock.core.units import to_ps
from penstock.fleet.adapter_costs import adapter_store
from penstock.fleet.replica_factory import (
    belief_factor,
    journal_header,
    kv_cache,
    random_stream,
    step_clock,
    step_noise,
    step_time,
    tier_specs,
    true_step_time,
)
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.speculation import drafting_of
from penstock.fleet.values import Fleet
from penstock.journal.journal import Journal
from penstock.perf.step_time.calibration import biased
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.kv.tiers import KvTiers, TierStore
from penstock.policy.schedule.adaptable import AdaptableScheduler
from penstock.policy.schedule.adapters import AdapterStore
from penstock.registry.make import build_scheduler
from penstock.sim.beliefs import Beliefs
from penstock.sim.drafted_oracle import DraftedOracle
from penstock.sim.drafted_recorder import DraftedRecorder
from penstock.sim.drafts import true_drafts
from penstock.sim.oracle import Oracle, TrueLengths
from penstock.sim.recorder import ReplicaRecorder
from penstock.sim.replica import SimReplica
from penstock.workload.workload import Traffic, Workload

_NUM_SAMPLES = 2000


class SimulatedEngines:
    """Makes the engines of simulated replicas: at the start, and again in slots whose replica has
    stopped."""

    def __init__(self, fleet: Fleet, traffic: Traffic, beliefs: Beliefs,
                 journal_dir: Path | None, seed: int, stack: ExitStack) -> None:
        self.lengths = {group.model.name: TrueLengths() for group in fleet.replicas}
        self.drafts = [None if group.speculation is None
                       else true_drafts(group.speculation, traffic.service_classes, seed, number)
                       for number, group in enumerate(fleet.replicas)]
        self.kvs: dict[int, KvAllocator] = {}  # of the present life of each replica
        self._fleet = fleet
        self._beliefs = beliefs
        self._journal_dir = journal_dir
        self._seed = seed
        self._stack = stack
        # How long a closed loop lasts is not known before.
        closed = isinstance(traffic, Workload) and traffic.waits
        period_s = 1.0 if closed else traffic.duration_s / _NUM_SAMPLES
        self._period_ps = max(1, to_ps(period_s))
        self._models = [step_time(group) for group in fleet.replicas]
        self._factors = [beliefs.step_time_factor * belief_factor(fleet, group, seed)
                         for group in fleet.replicas]
        self._num_lives: Counter[int] = Counter()
        self._shared_tiers: dict[tuple[str, str, str], TierStore] = {}

    def replica(self, number: int, replica_id: int) -> SimReplica:
        """Return a replica of a group."""
        fleet, group, seed = self._fleet, self._fleet.replicas[number], self._seed
        model = self._models[number]
        truth = true_step_time(fleet, model, random_stream(seed, "truth", replica_id))
        clock = step_clock(group, truth, step_noise(fleet, random_stream(seed, "step-time",
                                                                         replica_id)))
        lengths, warmup_ps = self.lengths[group.model.name], to_ps(fleet.run.warmup_s)
        drafts, tiers = self.drafts[number], self._tiers(number)
        adapters = adapter_store(fleet, group.model, group.accelerator, group.parallelism,
                                 group.lora)
        oracle = (Oracle(lengths) if drafts is None or group.speculation is None
                  else DraftedOracle(lengths, drafts, group.speculation.depth.tokens))
        recorder = (ReplicaRecorder(self._period_ps, warmup_ps) if drafts is None
                    else DraftedRecorder(self._period_ps, warmup_ps, drafts))
        return SimReplica(replica_id, self._scheduler(number, replica_id, tiers, adapters), clock,
                          oracle, recorder, self._journal(number, replica_id), group.intake, tiers,
                          adapters)

    def renew(self, number: int, replica: SimReplica) -> None:
        """Give a slot a fresh engine. A first life needs none."""
        self._num_lives[replica.replica_id] += 1
        replica_id = replica.replica_id
        tiers = self._tiers(number)
        adapters = None if replica.adapters is None else replica.adapters.emptied()
        replica.renew(self._scheduler(number, replica_id, tiers, adapters),
                      self._journal(number, replica_id), tiers, adapters)

    def _tiers(self, number: int) -> KvTiers | None:
        """Return the tiers below a new replica's cache: empty ones, but for shared stores."""
        group = self._fleet.replicas[number]
        block_tokens = self._fleet.engine_of(group).block_tokens
        stores = []
        for tier in tier_specs(self._fleet, group):
            key = (group.model.name, group.kv_precision, tier.name)
            stores.append(self._shared_tiers.setdefault(key, tier.store(block_tokens))
                          if tier.shared else tier.store(block_tokens))
        return KvTiers(stores) if stores else None

    def _scheduler(self, number: int, replica_id: int, tiers: KvTiers | None,
                   adapters: AdapterStore | None) -> AdaptableScheduler:
        fleet, group = self._fleet, self._fleet.replicas[number]
        kv = kv_cache(fleet, group, kv_tokens(fleet, group), tiers)
        self.kvs[replica_id] = kv
        return build_scheduler(fleet.schedule_of(group),
                               biased(self._models[number], self._factors[number]), kv,
                               self._beliefs.lengths(), drafting=drafting_of(group),
                               lists_decodes=self._journal_dir is not None, adapters=adapters)

    def _journal(self, number: int, replica_id: int) -> Journal | None:
        if self._journal_dir is None:
            return None
        life = self._num_lives[replica_id]
        name = f"journal-{replica_id}.jsonl" if not life else f"journal-{replica_id}-{life}.jsonl"
        stream = self._stack.enter_context((self._journal_dir / name).open("wb"))
        return Journal(stream, journal_header(self._fleet, self._fleet.replicas[number],
                                              replica_id, self._factors[number]))
