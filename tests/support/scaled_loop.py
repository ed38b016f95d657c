"""Parts of a live scaling loop: a scripted policy, groups and a record."""

from penstock.policy.scale.demand import DemandMeter
from penstock.policy.scale.values import ScalingDecision
from penstock.serving.scaling.source import GatewaySource


def source_of(*groups):
    """A gateway without requests before some groups."""
    return GatewaySource(groups, DemandMeter())


class Scripted:
    """Decides as the script says, and keeps what it saw."""

    def __init__(self, *targets, wakes=False, period_s=1000.0):
        self.script = list(targets)
        self.wakes = wakes
        self.period_s = period_s
        self.seen = []

    def decide(self, seen, now_s):
        self.seen.append((seen, now_s))
        return ScalingDecision((self.script[min(len(self.seen), len(self.script)) - 1],), "script",
                               {"load": 2.0})


class Group:
    num_places = 4
    inherited = 0

    def __init__(self, *replicas):
        self.target = 1
        self.orders = []
        self._replicas = replicas

    def replicas(self):
        return self._replicas

    def adopt(self, numbers):
        pass

    def order(self, target):
        self.target = target
        self.orders.append(target)

    async def tend(self):
        pass


class Record:
    policy = "script"

    def __init__(self):
        self.lines = []

    def add(self, *line):
        self.lines.append(line)
