"""Every policy that can be chosen is built, with each of its settings."""

from typing import Any

import pytest

from penstock.core.errors import InputError
from penstock.core.settings import Flag, Number, Setting, Shares, Steps, Table, Text, Word, Words
from penstock.policy.kv.counting import CountingKv
from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.build import MultiplexContext
from penstock.policy.route.context import RouterContext
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.schedule.options import PRESETS, scheduler_options
from penstock.registry.axis import Axis
from penstock.registry.listing import AXES
from penstock.registry.make import build_scheduler, make_scaler, schedule_options
from penstock.registry.policies import (
    ADMISSIONS,
    MULTIPLEXERS,
    PLACERS,
    ROUTERS,
    SCALERS,
    SCHEDULES,
)
from penstock.registry.sources import PLANNING
from support.small_hosts import models
from support.small_routing import STEP, fact

ROUTING = RouterContext([fact(0), fact(1)], lambda n: 0)
MULTIPLEXING = MultiplexContext(models(2), LoadTable([1.0, 1.0]))
SCALING = ScalerContext((GroupFacts("m", 1, 8, 1, 1.0, 60.0, 1000),), {}, (), (lambda _: 0.01,))
ARGUMENTS: dict[Axis, tuple[Any, ...]] = {
    ROUTERS: (ROUTING,), ADMISSIONS: (ROUTERS.load("random")({}, ROUTING), ROUTING),
    MULTIPLEXERS: (MULTIPLEXING,), PLACERS: (), SCALERS: (SCALING,)}
EVERY = [(axis, name) for axis in ARGUMENTS for name in axis.names()]


ACCEPTED: dict[type, object] = {Flag: True, Text: "largest", Shares: {"small": 1.0},
                                Steps: [[0, 2], [3600, 5]]}


def accepted(setting: Setting) -> object:
    """A value that the setting takes."""
    match setting:
        case Number():
            return max(setting.low, 1) if setting.whole else (setting.low + setting.high) / 2
        case Word():
            return setting.words[-1]
        case Words():
            return [setting.words[-1]]
        case Table():
            return [{key: accepted(setting.columns[key]) for key in setting.required}]
    return ACCEPTED[type(setting)]


def needed_of(axis: Axis, name: str) -> dict[str, object]:
    """Settings without a default; of alternatives, the first."""
    keys = [one if isinstance(one, str) else one[0] for one in axis.entry(name).required]
    return {key: accepted(axis.entry(name).settings[key]) for key in keys}


def built(axis: Axis, name: str, settings: dict[str, object]) -> object:
    """The policy as the system builds it."""
    if axis is SCALERS:
        return make_scaler(name, settings, SCALING)
    return axis.load(name)(settings, *ARGUMENTS[axis])


@pytest.mark.parametrize(("axis", "name"), EVERY,
                         ids=[f"{axis.kind}-{name}" for axis, name in EVERY])
def test_every_policy_takes_each_setting_that_is_declared(axis: Axis, name: str) -> None:
    settings = axis.entry(name).settings
    needed = needed_of(axis, name)
    for key, setting in settings.items():
        given = {**needed, key: accepted(setting)}
        assert setting.problem(given[key]) == ""
        assert built(axis, name, given) is not None
    if name != "fixed_mix":
        assert built(axis, name, needed) is not None


@pytest.mark.parametrize("axis", [SCHEDULES, ROUTERS, ADMISSIONS, SCALERS, MULTIPLEXERS, PLACERS],
                         ids=lambda axis: axis.group)
def test_an_unknown_policy_is_named_with_the_nearest(axis: Axis) -> None:
    name = axis.names()[0]
    with pytest.raises(InputError, match=f"unknown {axis.kind} '{name}x'.*{name}"):
        axis.entry(name + "x")


@pytest.mark.parametrize("name", SCALERS.names())
def test_every_scaler_says_when_it_is_asked(name: str) -> None:
    scaler = make_scaler(name, needed_of(SCALERS, name), SCALING)
    assert scaler.period_s > 0.0
    assert scaler.wakes in (True, False)


@pytest.mark.parametrize("axis", [*AXES, PLANNING], ids=lambda axis: axis.group)
def test_every_target_exists(axis: Axis) -> None:
    for name in axis.names():
        assert axis.entry(name).target == "" or axis.load(name) is not None


def test_presets_of_the_scheduler_are_the_registered_ones() -> None:
    assert SCHEDULES.names() == tuple(PRESETS)
    for name in PRESETS:
        assert schedule_options(name) == scheduler_options(name)
        assert build_scheduler(schedule_options(name), STEP, CountingKv(100, 16)) is not None


def test_a_preset_has_no_settings_of_its_own() -> None:
    assert schedule_options("edf", settings=()) == scheduler_options("edf")
    with pytest.raises(InputError, match="has no option 'half_life_s'"):
        schedule_options("edf", half_life_s=1.0)
