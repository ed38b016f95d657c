"""Builds the policy and the devices of a pool, for simulated and for real engines."""

from collections.abc import Iterable
from math import inf

from penstock.core.slo import ServiceClass
from penstock.fleet.values_multiplexing import DevicePool, SwappedModel
from penstock.policy.multiplex.beliefs import LoadBelief, LoadTable
from penstock.policy.multiplex.build import USUAL_SLA_S, MultiplexContext
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.registry.make import make_multiplexer


def devices_of(pool: DevicePool) -> list[Device]:
    """Return the pool's devices without models."""
    models = [model.hosted() for model in pool.models]
    return [Device(index, pool.memory_bytes, models, continuous=pool.continuous,
                   max_residents=pool.max_residents) for index in range(pool.count)]


def policy_of(pool: DevicePool, classes: Iterable[ServiceClass],
              loads: LoadBelief | None = None) -> Multiplexer:
    """Return the pool's policy. ``loads`` are believed load times; by default those that the file
    states for each model."""
    models = [model.hosted() for model in pool.models]
    load_s = [model.load_s for model in pool.models]
    classes = tuple(classes)
    sla_s = min((e2e_s for one in classes for model in pool.models
                 if (e2e_s := deadline_after_s(model, one)) < inf), default=USUAL_SLA_S)
    context = MultiplexContext(models, loads or LoadTable(load_s), load_s, sla_s)
    return make_multiplexer(pool.policy, pool.settings, context)


def deadline_after_s(model: SwappedModel, service_class: ServiceClass) -> float:
    """Return the seconds from a request's arrival to the deadline of its last token, infinite
    without a deadline."""
    own = inf if model.e2e_s is None else model.e2e_s
    e2e_s = service_class.slo.e2e_s
    return own if e2e_s is None else min(own, e2e_s)
