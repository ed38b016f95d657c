"""The exchangeable parts of a replica's scheduler, as a scheduling policy contributes them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.schedule.chunking import Chunking
from penstock.policy.schedule.options import SchedulerOptions
from penstock.policy.schedule.order import OrderKey
from penstock.policy.schedule.pacing import Pacing
from penstock.policy.schedule.relegation import Relegation
from penstock.predict.length import LengthPredictor


class SchedulerParts(NamedTuple):
    """Parts of a scheduler. A part that is None is built from the options."""

    order: OrderKey | None = None
    chunking: Chunking | None = None
    relegation: Relegation | None = None
    pacing: Pacing | None = None


class SchedulerContext(NamedTuple):
    """The settings and beliefs from which parts are built.

    ``step_time`` is the policy's belief about the device, which may differ from a simulator's true
    durations; ``lengths`` is its belief about outputs.
    """

    options: SchedulerOptions
    step_time: StepTimeModel
    lengths: LengthPredictor


def preset_parts(_settings: Mapping[str, Any], _context: SchedulerContext) -> SchedulerParts:
    """Return no parts, so that all are built from the options: the factory of built-in policies."""
    return SchedulerParts()
