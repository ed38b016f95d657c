"""Which settings each routing policy takes, and what they may be."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock.policy.route.joint.options import JointOptions
from penstock.policy.route.routebalance.score import PRESETS

_ANY = 1e9


class Number(NamedTuple):
    """A number within bounds, whole where ``whole``."""

    low: float
    high: float
    whole: bool = False

    def problem(self, value: object) -> str:
        """What is wrong with a value, empty if nothing."""
        right = (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and not self.whole)
        if right and self.low <= value <= self.high:  # type: ignore[operator]
            return ""
        what = "a whole number" if self.whole else "a number"
        return f"expected {what} from {self.low:g} to {self.high:g}"


class Word(NamedTuple):
    """One of some words."""

    words: tuple[str, ...]

    def problem(self, value: object) -> str:
        """What is wrong with a value, empty if nothing."""
        return "" if value in self.words else f"expected one of {', '.join(self.words)}"


class Words(NamedTuple):
    """A list of some words, each at most once."""

    words: tuple[str, ...]

    def problem(self, value: object) -> str:
        """What is wrong with a value, empty if nothing."""
        right = isinstance(value, (list, tuple)) and all(word in self.words for word in value) \
            and len(set(value)) == len(value)
        return "" if right else f"expected a list of {', '.join(self.words)}"


class Flag(NamedTuple):
    """True or false."""

    def problem(self, value: object) -> str:
        """What is wrong with a value, empty if nothing."""
        return "" if isinstance(value, bool) else "expected true or false"


class Text(NamedTuple):
    """Any text."""

    def problem(self, value: object) -> str:
        """What is wrong with a value, empty if nothing."""
        return "" if isinstance(value, str) and value else "expected a name"


class Shares(NamedTuple):
    """Names with numbers of at least 0, not all 0."""

    def problem(self, value: object) -> str:
        """What is wrong with a value, empty if nothing."""
        if not isinstance(value, Mapping):
            return "expected names with shares"
        right = all(isinstance(share, (int, float)) and 0 <= share <= _ANY
                    for share in value.values())
        return "" if right and any(value.values()) else "expected names with shares"


Setting = Number | Word | Words | Flag | Text | Shares

MIN_CHANCE = Number(0, 0.95)
"""No higher: as long as little was seen, nobody can promise more, and refusals teach nothing."""

PLAIN: Mapping[str, Mapping[str, Setting]] = {
    "least_loaded": {}, "round_robin": {}, "random": {}, "shortest_queue": {},
    "fewest_waiting": {}, "two_choices": {}, "free_kv": {},
    "prefix_aware": {"imbalance": Number(1, 1000), "slack_tokens": Number(0, _ANY)},
    "predictive": {"target": Word(("e2e", "ttft")), "sample": Number(0, 1000, whole=True)},
}
"""Policies that choose a replica, whatever the model."""

_DISPATCHER: Mapping[str, Setting] = {"dispatcher": Word(tuple(PLAIN))}
MODEL_FIRST: Mapping[str, Mapping[str, Setting]] = {
    "fixed_model": {"model": Text(), **_DISPATCHER},
    "fixed_mix": {"shares": Shares(), **_DISPATCHER},
    "best_route": _DISPATCHER,
    "routellm": {"share": Number(0, 1), "threshold": Number(-1, 1), **_DISPATCHER},
    "avengers": {"alpha": Number(0, 1), **_DISPATCHER},
    "omnirouter": {"floor": Number(0, 1), "step": Number(0, 100), **_DISPATCHER},
    "dual_pool": _DISPATCHER,
    "qlm": _DISPATCHER,
}
"""Policies that choose the model first, then a replica by ``dispatcher``."""

TOGETHER: Mapping[str, Mapping[str, Setting]] = {
    "joint": {"answer_value": Number(0, _ANY), "second_value": Number(0, _ANY),
              "late_share": Number(0, 1), "min_chance": MIN_CHANCE,
              "relax": Words(("chance", "quality")), "caution": Number(0, 100), "affinity": Flag()},
    "routebalance": {"preset": Word(tuple(PRESETS)), "norm": Word(("raw", "minmax", "scaled")),
                     "filter": Word(("none", "slos_serve", "polyserve", "qlm", "cdf")),
                     "latency": Number(0, 1), "cost": Number(0, 1), "quality": Number(0, 1),
                     "balance": Number(0, 1)},
}
"""Policies that choose both at once."""

ROUTERS: Mapping[str, Mapping[str, Setting]] = {**PLAIN, **MODEL_FIRST, **TOGETHER}


def joint_options(given: Mapping[str, Any]) -> JointOptions:
    """The options of joint routing with what was given."""
    options: dict[str, Any] = {key: tuple(value) if key == "relax" else value
                               for key, value in given.items()}
    return JointOptions(**options)
