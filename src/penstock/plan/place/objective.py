"""Objective of exact placement, for one model or several that are placed together.

In order: tensor-parallel groups that leave a node, link groups they are split over, steps of a
pipeline from node to node, the largest stage, memory left beside what is placed. The first three
come first because they are paid on every token: a tensor-parallel group exchanges activations twice
in each layer, a pipeline once at each of its steps, and a slow link there slows all layers behind
it. The largest stage sets a pipeline's rate when it is full, but hardly moves the latency of one
request (0.5 % at most in MaverIQ's measurements of skewed maps), so evenness is worth no slow link.
Memory left beside a placement costs nothing now and something later, when the next model asks for
whole devices; it decides between what is otherwise equal. Weights would have to price a second of
latency in bytes, so the order is lexicographic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from penstock.policy.place.score import score
from penstock.policy.place.values import Device, Placement

# Names of the levels, as fields of ``policy.place.score.Score`` are called.
LEVELS = ("node_splits", "link_splits", "node_crossings", "largest_stage", "stranded_bytes")


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the order: what was reached, and a bound that nothing of equal rank so far goes
    below. ``largest_stage`` is the sum over models of their largest stage's share of layers."""

    name: str
    value: Fraction
    bound: Fraction

    @property
    def proven(self) -> bool:
        """Whether nothing better exists."""
        return self.bound >= self.value

    @property
    def gap(self) -> float:
        """Distance to the bound, relative to the value."""
        return 0.0 if self.proven else float((self.value - self.bound) / self.value)


def objective(placements: Sequence[Placement],
              devices: Mapping[int, Device]) -> tuple[Fraction, ...]:
    """The value of every level; less is better, compared in order."""
    scores = [score(placement, devices) for placement in placements]
    used = {device for placement in placements for device in placement.device_ids}
    stranded = (sum(devices[device].free_bytes for device in used)
                - sum(placement.footprint.total_bytes for placement in placements))
    return (Fraction(sum(each.node_splits for each in scores)),
            Fraction(sum(each.link_splits for each in scores)),
            Fraction(sum(each.node_crossings for each in scores)),
            sum((Fraction(max(p.layer_map), p.footprint.num_layers) for p in placements),
                Fraction(0)),
            Fraction(stranded))
