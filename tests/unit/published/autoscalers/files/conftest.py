"""Autoscalers' files as tests write them."""

from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Gauges, Observation, SeenGroup, SeenReplica
from penstock.published.autoscalers.files.read import scaler_of_file
from penstock.registry.make import make_scaler

PHASES = ((0, 0.1), (20, 0.3), (300, 0.9), (40, 0.5), (0, 0.0))
"""Requests in the system and used share of KV, ten minutes each."""


class Written:
    """Writes one file and reads the file's scale policy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, text: str) -> dict[str, object]:
        """Return the policy of a text."""
        self.path.write_text(text)
        return scaler_of_file(str(self.path))

    def error(self, text: str) -> str:
        """Return the error for a text, without the folder."""
        with pytest.raises(InputError) as caught:
            self.read(text)
        return str(caught.value).removeprefix(f"{self.path.parent}/")


@pytest.fixture
def written(tmp_path) -> Written:
    return Written(tmp_path / "scaler.yaml")


def decisions(choice, floor=1, ceiling=9) -> list[int]:
    """Return the replicas of one group over time, which start at once and share all requests."""
    facts = GroupFacts("m", floor, ceiling, 2, 1.0, 60.0, 100_000)
    settings = {key: value for key, value in choice.items() if key != "name"}
    scaler = make_scaler(choice["name"], settings, ScalerContext((facts,), {}))
    current, found, now_s = 2, [], 0.0
    while now_s < 600.0 * len(PHASES):
        requests, share = PHASES[int(now_s / 600.0)]
        each = requests // current if current else 0
        gauges = Gauges(min(each, 16), max(0, each - 16), share)
        replicas = tuple(SeenReplica(i, "ready", 0.0, gauges) for i in range(current))
        current = scaler.decide(Observation(now_s, (SeenGroup(current, replicas),)),
                                now_s).targets[0]
        found.append(current)
        now_s += scaler.period_s
    return found


@pytest.fixture
def decided():
    return decisions
