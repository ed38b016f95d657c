"""Builds policies from their names and settings."""

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError
from penstock.core.settings import LARGEST, refused
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.route.context import RouterContext
from penstock.policy.route.explore import Exploring
from penstock.policy.route.protocol import Router
from penstock.policy.scale.protocol import Scaler, ScalerContext
from penstock.policy.schedule.adaptable import AdaptableScheduler
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.build import assemble
from penstock.policy.schedule.drafting import Drafting
from penstock.policy.schedule.options import PRESETS, SchedulerOptions, scheduler_options
from penstock.policy.schedule.parts import SchedulerContext, SchedulerParts
from penstock.predict.length import HistoryLengths, LengthPredictor
from penstock.registry.policies import (
    ADMISSIONS,
    MULTIPLEXERS,
    PLACERS,
    ROUTERS,
    SCALER_FILES,
    SCALERS,
    SCHEDULES,
)

if TYPE_CHECKING:  # a plain run needs neither, and every command that reads a fleet imports this
    from penstock.policy.multiplex.build import MultiplexContext
    from penstock.policy.multiplex.protocol import Multiplexer
    from penstock.policy.place.protocol import Placer

Named = tuple[str, Mapping[str, Any]]
"""A policy's name with its validated settings."""


def schedule_options(policy: str, **changes: Any) -> SchedulerOptions:
    """Return the options of the named scheduling policy with some settings changed.

    Raises InputError for an unknown policy or setting, with the nearest valid name.
    """
    entry = SCHEDULES.entry(policy)
    own = {**dict(changes.pop("settings", ())),
           **{key: changes.pop(key) for key in entry.settings if key in changes}}
    if policy in PRESETS:
        return scheduler_options(policy, **changes)
    for key, problem in refused(own, entry.settings):
        raise InputError(f"policy {policy!r}: {key}: {problem}, found {own[key]!r}")
    return replace(scheduler_options(entry.base or "penstock", **changes), policy=policy,
                   settings=tuple(sorted(own.items())))


def build_scheduler(options: SchedulerOptions, step_time: StepTimeModel, kv: KvAllocator,
                    lengths: LengthPredictor | None = None,
                    max_in_flight: int = 1, drafting: Drafting | None = None,
                    lists_decodes: bool = True, adapters: AdapterStore | None = None
                    ) -> AdaptableScheduler:
    """Build a new scheduler.

    ``step_time`` is the policy's belief about the device, which may differ from a simulator's true
    durations. ``lengths`` is its belief about outputs (default: learned from finished requests),
    ``drafting`` its belief about speculative decoding. ``lists_decodes`` says whether plans list
    their decodes. ``adapters`` has the replica's adapters, None where any may start.
    """
    context = SchedulerContext(options, step_time, lengths or HistoryLengths())
    parts: SchedulerParts = SCHEDULES.load(options.policy)(dict(options.settings), context)
    return assemble(parts, context, kv, max_in_flight, drafting, lists_decodes, adapters)


def make_router(name: str, settings: Mapping[str, Any], context: RouterContext) -> Router:
    """Build the named router over the context's replicas.

    Raises InputError for an unknown name. Settings must be validated (``ROUTERS.entry``).
    """
    router: Router = ROUTERS.load(name)(settings, context)
    return router


def make_dispatch(route: Named, admit: Named, context: RouterContext,
                  explore: float = 0.0) -> Router:
    """Build the router with its admission policy and its share of exploration."""
    name, settings = admit
    router: Router = ADMISSIONS.load(name)(settings, make_router(*route, context), context)
    return Exploring(router, explore, context.draw) if explore > 0.0 else router


def make_scaler(name: str, settings: Mapping[str, Any], context: ScalerContext) -> Scaler:
    """Build the named scaler. A policy with the trait ``bounded`` has settings that narrow the
    bounds of every group. Raises InputError for an unknown name."""
    given = dict(settings)
    if "bounded" in SCALERS.entry(name).traits:
        least, most = given.pop("min_replicas", 0), given.pop("max_replicas", int(LARGEST))
        context = replace(context, groups=tuple(one.narrowed(least, most)
                                                for one in context.groups))
    scaler: Scaler = SCALERS.load(name)(given, context)
    return scaler


def read_scaler_file(path: str) -> dict[str, Any]:
    """Return the scale policy of an autoscaler's own file, its name and settings as a fleet file
    has them. Raises InputError with file, line and field."""
    module, _, attribute = SCALER_FILES.partition(":")
    found: dict[str, Any] = getattr(import_module(module), attribute)(path)
    return found


def make_multiplexer(name: str, settings: Mapping[str, Any],
                     context: "MultiplexContext") -> "Multiplexer":
    """Build the named multiplexing policy. Raises InputError for an unknown name."""
    policy: Multiplexer = MULTIPLEXERS.load(name)(settings, context)
    return policy


def make_placer(name: str, settings: Mapping[str, Any] | None = None) -> "Placer":
    """Build the named placer. Raises InputError for an unknown name."""
    placer: Placer = PLACERS.load(name)(settings or {})
    return placer
