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
    """Parts of a scheduler; a part that is None is the one which the options name."""

    order: OrderKey | None = None
    chunking: Chunking | None = None
    relegation: Relegation | None = None
    pacing: Pacing | None = None


class SchedulerContext(NamedTuple):
    """The knobs and beliefs that parts are built from.

    ``step_time`` is what the policy believes about the device, which need not be what a simulator
    charges; ``lengths`` is what it believes about outputs.
    """

    options: SchedulerOptions
    step_time: StepTimeModel
    lengths: LengthPredictor


def preset_parts(_settings: Mapping[str, Any], _context: SchedulerContext) -> SchedulerParts:
    """Every part as the options name it: the factory of built-in policies."""
    return SchedulerParts()
