"""The cycle log: one JSON line for each cycle, with the keys of llm-inferno/control-loop
``pkg/monitor/record.go``, which ``loop.cycles`` reads."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from penstock.core.errors import InputError
from penstock.perf.queueing.parameters import IterationTimes
from penstock.published.inferno.cluster.decide import Decision, Order
from penstock.published.inferno.export import shortest
from penstock.published.inferno.values import Allocation, Profile, System, Targets


class CycleLog:
    """File to which cycles are appended."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Raise InputError where the file cannot be written."""
        try:
            self._path.open("ab").close()
        except OSError as error:
            raise InputError(f"--cycle-log {self._path}: cannot be written "
                             f"({error.strerror})") from error

    def write(self, number: int, decision: Decision, spent_ms: Mapping[str, int]) -> None:
        """Append a cycle. Raises OSError."""
        with self._path.open("ab") as file:
            file.write(orjson.dumps(record(number, decision, spent_ms, datetime.now(UTC)),
                                    option=orjson.OPT_APPEND_NEWLINE))


def record(number: int, decision: Decision, spent_ms: Mapping[str, int], at: datetime
           ) -> dict[str, Any]:
    """Return a cycle as upstream's record. Servers without an allocation are not in it."""
    system, plan = decision.plan.system, decision.plan
    served = [order for order in decision.orders if order.desired is not None]
    used = plan.used_devices
    return {
        "ts": at.isoformat(), "cycle": number,
        "servers": [_server(system, order, order.desired) for order in served
                    if order.desired is not None],
        "internals": [_internals(profile) for profile in system.profiles.values()
                      if isinstance(profile.times, IterationTimes)],
        "capacity": [{"type": pool, "allocated": used.get(pool, 0), "available": count}
                     for pool, count in (system.capacity or {}).items()],
        "totalCost": shortest(plan.total_cost), "timing": {**spent_ms}}


def _server(system: System, order: Order, desired: Allocation) -> dict[str, Any]:
    own, measured = order.observed.managed, order.observed.measured
    found = system.service_classes.get(own.service_class)
    targets = (None if found is None else found.targets.get(own.model)) or Targets()
    return {
        "name": own.name, "class": own.service_class, "model": own.model,
        "rpm": measured.load.arrival_per_min, "throughput": measured.load.throughput_per_min,
        "avgInTok": measured.load.input_tokens, "avgOutTok": measured.load.output_tokens,
        "itl": measured.itl_ms, "ttft": measured.ttft_ms,
        "sloItl": targets.itl_ms or 0.0, "sloTtft": targets.ttft_ms or 0.0,
        # An idle server without a floor has no accelerator; then the log has that of its label.
        "accelerator": desired.accelerator or own.accelerator or "none",
        "replicas": desired.num_replicas, "maxBatch": desired.max_batch,
        "cost": shortest(desired.cost_cents_per_hour)}


def _internals(profile: Profile) -> dict[str, Any]:
    times = profile.times
    assert isinstance(times, IterationTimes), "the caller has looked"
    return {"model": profile.model, "acc": profile.accelerator, "alpha": times.alpha_ms,
            "beta": times.beta_ms, "gamma": times.gamma_ms}
