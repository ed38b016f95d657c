"""The cheapest whole replicas that cover one demand: a covering knapsack with few kinds."""

from collections.abc import Sequence
from dataclasses import dataclass, field

# Least residual share that still needs a replica.
_COVERED = 1e-9


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of replica: its priced cost, replicas for the whole demand, and how many may run."""

    price: float
    load: float
    most: int
    least: int = 1


@dataclass(slots=True)
class CoverSearch:
    """Depth-first search over numbers of replicas, kinds in the order of price per share.

    What stays uncovered costs ``unserved`` per share (infinity: it must be covered). With ``slack``
    every cover within it of the cheapest is collected, otherwise the cheapest only. After ``limit``
    nodes the search stops; ``bound`` is then the relaxation's value, else the cheapest cost.
    """

    kinds: Sequence[Kind]
    unserved: float
    slack: float = 0.0
    limit: int = 20_000
    best: float = float("inf")
    covers: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    nodes: int = 0

    def run(self) -> None:
        """Fills ``covers`` with (cost, replicas by kind), cheapest last found."""
        self._order = sorted(range(len(self.kinds)),
                             key=lambda i: (self.kinds[i].price * self.kinds[i].load, i))
        self._density = [self.kinds[i].price * self.kinds[i].load for i in self._order]
        self._density.append(float("inf"))
        self._counts = [0] * len(self.kinds)
        self._record(self.unserved)
        self._visit(0, 1.0, 0.0)
        worst = self.best + self.slack
        self.covers = [cover for cover in self.covers if cover[0] <= worst]

    _order: list[int] = field(default_factory=list)
    _density: list[float] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.nodes <= self.limit

    @property
    def bound(self) -> float:
        """No cover costs less."""
        return self.best if self.complete else min(self._density[0], self.unserved)

    def _visit(self, depth: int, residual: float, cost: float) -> None:
        """Kinds from ``depth`` on cover what is left; the counts so far are recorded already if
        they may stay as they are."""
        self.nodes += 1
        if depth == len(self._order) or not self.complete:
            return
        number = self._order[depth]
        kind = self.kinds[number]
        needed = -int(-(residual - _COVERED) * kind.load // 1)
        after = min(self._density[depth + 1], self.unserved)
        ordered = self._density[depth] <= after
        for count in range(min(max(needed, kind.least), kind.most), -1, -1):
            if 0 < count < kind.least:
                continue
            left = residual - count / kind.load
            spent = cost + count * kind.price
            self._counts[number] = count
            if left <= _COVERED:
                self._record(spent)
                continue
            if self._infeasible(spent + left * after):
                if ordered:
                    break  # fewer of this kind leave more to kinds that are no cheaper per share
                continue
            if count:
                self._record(spent + left * self.unserved)
            self._visit(depth + 1, left, spent)
        self._counts[number] = 0

    def _infeasible(self, bound: float) -> bool:
        return bound > self.best + self.slack or (not self.slack and bound >= self.best)

    def _record(self, cost: float) -> None:
        if self._infeasible(cost) or cost == float("inf"):
            return
        if cost < self.best:
            self.best = cost
            if not self.slack:
                self.covers.clear()
        self.covers.append((cost, tuple(self._counts)))
