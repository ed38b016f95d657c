"""AlpaServe's groups for deployments that share devices, guided by the simulation that judges ours.

A group works on one start at a time, as everything here does; AlpaServe's own engines keep a start
in every stage of a pipeline.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.core.errors import InputError
from penstock.plan.place.groups import DeviceGroup, Footprints, place_groups
from penstock.plan.place.options import Forecast, PlacedReplicas, PlacementOption
from penstock.plan.place.outcome import outcome_of
from penstock.policy.place.values import Device, Footprint


@dataclass(frozen=True, slots=True)
class GroupSeats:
    """Seats in the order of the deployments, None for those that are left out because another pays
    more; the share of the forecast within its limits, and how many proposals were simulated.
    ``complete`` is False where that many ended the search."""

    seats: tuple[PlacedReplicas | None, ...]
    attainment: float
    num_simulated: int
    complete: bool


def plan_groups(deployments: Sequence[Sequence[PlacementOption]], devices: Sequence[Device],
                forecast: Forecast, limits_s: Sequence[float], overhead_s: float = 0.0, *,
                beam: int = 1, max_simulated: int = 1000) -> GroupSeats:
    """Equal groups of one configuration with the models that keep most requests of the forecast
    within ``limits_s``, seconds by deployment. Of ways in one configuration the quickest counts.

    Raises InputError for an empty forecast, and limits that are not one for each deployment.
    """
    if not forecast.arrival_s:
        raise InputError("forecast: holds no arrivals to plan for")
    if len(limits_s) != len(deployments):
        raise InputError(f"limits: {len(limits_s)} for {len(deployments)} deployments; expected "
                         "one for each")
    names = [f"{place:06d}" for place in range(len(deployments))]
    quickest = {name: _quickest(ways) for name, ways in zip(names, deployments, strict=True)}

    def seats_of(groups: Sequence[DeviceGroup]) -> list[PlacedReplicas | None]:
        return [_seat(name, quickest[name], groups) for name in names]

    def judge(groups: Sequence[DeviceGroup]) -> float:
        return outcome_of(seats_of(groups), forecast, overhead_s).attainment(limits_s)

    found = place_groups({name: _footprints(name, ways) for name, ways in quickest.items()},
                         devices, judge, beam=beam, max_judged=max_simulated)
    return GroupSeats(tuple(seats_of(found.groups)), found.attainment, found.num_judged,
                      found.complete)


def _quickest(ways: Sequence[PlacementOption]) -> dict[tuple[int, int], PlacementOption]:
    found: dict[tuple[int, int], PlacementOption] = {}
    for way in sorted(ways, key=lambda way: (way.work_s, way.device_bytes)):
        spread = way.configuration.parallelism
        found.setdefault((spread.tensor, spread.pipeline), way)
    return found


def _footprints(name: str, ways: dict[tuple[int, int], PlacementOption]) -> Footprints:
    """A way knows bytes per device alone, so that a stage counts as one layer of as many."""
    return {(tensor, pipeline): Footprint(name, pipeline, tensor, pipeline, way.device_bytes)
            for (tensor, pipeline), way in ways.items()}


def _seat(name: str, ways: dict[tuple[int, int], PlacementOption],
          groups: Sequence[DeviceGroup]) -> PlacedReplicas | None:
    holding = [group for group in groups if name in group.models]
    if not holding:
        return None
    return PlacedReplicas(ways[holding[0].tensor, holding[0].pipeline],
                tuple(frozenset(group.device_ids) for group in holding))
