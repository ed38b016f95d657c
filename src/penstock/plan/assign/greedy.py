"""A fast plan: demands in the order of priority and regret, then moves that save cost."""

from dataclasses import dataclass

import numpy as np

from penstock.plan.assign.instance import Floats, Instance, Ints, served_shares
from penstock.plan.assign.problem import TOLERANCE

MAX_ROUNDS = 4
Change = tuple[float, int, float]  # priced cost, option, share


def greedy_shares(instance: Instance, prices: Floats | None = None) -> Floats:
    """Shares (options,) that fit the scarce resources.

    ``prices`` (resources,) are added to the cost of a replica's usage; with the duals of a
    relaxation as prices, the choice accounts for scarcity. Within a priority, whole demands go
    first, in the order of what they lose by their second choice; then shares of the remaining
    demands.
    """
    state = _State.empty(instance, prices)
    order = _order(instance, state.priced)
    for priority in sorted({d.priority for d in instance.problem.demands}):
        group = [d for d in order if instance.problem.demands[d].priority == priority]
        left = [d for d in group if not state.place_whole(d)]
        for demand in left:
            state.place_part(demand)
    for _ in range(MAX_ROUNDS):
        if not sum(state.improve(d) for d in order):
            break
    return state.shares


def filled_shares(instance: Instance, shares: Floats) -> Floats:
    """A plan's shares (options,) with the remaining resources given to demands that are not served
    in full."""
    state = _State.empty(instance, None)
    for option in np.flatnonzero(shares > TOLERANCE):
        state.add(int(option), float(shares[option]))
    served = served_shares(instance, shares)
    for demand in _order(instance, state.priced):
        if served[demand] < 1.0 - TOLERANCE:
            state.top_up(demand, float(served[demand]))
    return state.shares


def _order(instance: Instance, priced: Floats) -> list[int]:
    """Demands by priority, then by the extra cost of the second choice over the first, largest
    first."""
    alone = priced[instance.option_pool] * instance.option_alone
    alone = np.where(instance.option_alone <= instance.upper[instance.option_pool], alone, np.inf)
    regret = np.zeros(instance.num_demands)
    for demand in range(instance.num_demands):
        choices = np.sort(alone[instance.options_of(demand)])
        if len(choices) and np.isfinite(choices[0]):
            regret[demand] = choices[1] - choices[0] if len(choices) > 1 else np.inf
    keys = [(d.priority, -float(regret[i]), i) for i, d in enumerate(instance.problem.demands)]
    return [i for _, _, i in sorted(keys)]


@dataclass(slots=True)
class _State:
    """The shares so far, the load and replicas of each pool, and the remaining resources."""

    instance: Instance
    priced: Floats
    shares: Floats
    load: Floats
    replicas: Ints
    room: Floats

    @classmethod
    def empty(cls, instance: Instance, prices: Floats | None) -> "_State":
        priced = instance.cost if prices is None else instance.cost + prices @ instance.usage
        return cls(instance, priced, np.zeros(len(instance.option_demand)),
                   np.zeros(instance.num_pools), np.zeros(instance.num_pools, dtype=np.int64),
                   instance.supply.astype(np.float64))

    def _replicas(self, pool: int, load: float) -> int:
        if load <= TOLERANCE:
            return 0
        return max(1, int(np.ceil(load - TOLERANCE)), int(self.instance.floor[pool]))

    def _most(self, pool: int) -> int:
        """The replicas that the pool could have with the remaining resources."""
        usage = self.instance.usage[:, pool]
        used = usage > 0
        limit = int(self.instance.upper[pool])
        if not used.any():
            return limit
        fits = np.floor((self.room[used] * (1 + 1e-12) + 1e-9) / usage[used]).min()
        return min(limit, int(self.replicas[pool]) + max(0, int(fits)))

    def add(self, option: int, share: float) -> None:
        pool = int(self.instance.option_pool[option])
        self.shares[option] += share
        self.load[pool] += share * self.instance.option_load[option]
        if self.shares[option] <= TOLERANCE:
            self.shares[option] = 0.0
        count = self._replicas(pool, float(self.load[pool]))
        self.room -= self.instance.usage[:, pool] * (count - self.replicas[pool])
        self.replicas[pool] = count

    def _whole_changes(self, demand: int, share: float) -> list[Change]:
        """The costs of putting ``share`` on each option with room for it, cheapest first."""
        found = []
        for option in self.instance.options_of(demand):
            pool = int(self.instance.option_pool[option])
            load = float(self.load[pool]) + share * float(self.instance.option_load[option])
            count = self._replicas(pool, load)
            if count <= self.replicas[pool] or count <= self._most(pool):
                added = max(0, count - int(self.replicas[pool]))
                found.append((added * float(self.priced[pool]), option, share))
        return sorted(found)

    def _shares_that_fit(self, demand: int, share: float) -> list[Change]:
        """The largest share up to ``share`` on each option, by share, then by cost per share."""
        found = []
        for option in self.instance.options_of(demand):
            pool = int(self.instance.option_pool[option])
            most = self._most(pool)
            if most < max(1, int(self.instance.floor[pool])):
                continue
            load = float(self.instance.option_load[option])
            fits = min(share, (most - float(self.load[pool])) / load)
            if fits > TOLERANCE:
                found.append((float(self.priced[pool]) * load, option, fits))
        return sorted(found, key=lambda change: (-change[2], change[0], change[1]))

    def place_whole(self, demand: int) -> bool:
        """Serve the whole demand in the cheapest way found, if it fits."""
        changes = self._whole_changes(demand, 1.0)
        if changes:
            self.add(changes[0][1], 1.0)
            return True
        if not self.instance.problem.demands[demand].mixed:
            return False
        return self._fill(demand, whole=True)

    def place_part(self, demand: int) -> None:
        """Serve as much of the demand as fits, if it may be served in part."""
        if not self.instance.problem.demands[demand].partial:
            return
        if self.instance.problem.demands[demand].mixed:
            self._fill(demand, whole=False)
        elif changes := self._shares_that_fit(demand, 1.0):
            self.add(changes[0][1], changes[0][2])

    def top_up(self, demand: int, served: float) -> None:
        """Serve more of a demand of which ``served`` is carried already."""
        if served <= TOLERANCE:
            if not self.place_whole(demand):
                self.place_part(demand)
        elif self.instance.problem.demands[demand].mixed:
            self._fill(demand, whole=False, missing=1.0 - served)
        else:
            (held,) = (o for o in self.instance.options_of(demand) if self.shares[o] > 0.0)
            changes = self._shares_that_fit(demand, 1.0 - served)
            self.add(held, sum(share for _, option, share in changes if option == held))

    def _fill(self, demand: int, *, whole: bool, missing: float = 1.0) -> bool:
        """Split the demand over pools, largest share first. Undone if the demand must be whole and
        is not."""
        placed = []
        while missing > TOLERANCE:
            changes = self._shares_that_fit(demand, missing)
            if not changes:
                break
            _, option, share = changes[0]
            self.add(option, share)
            placed.append((option, share))
            missing -= share
        if whole and missing > TOLERANCE:
            for option, share in placed:
                self.add(option, -share)
            return False
        return True

    def improve(self, demand: int) -> bool:
        """Move a demand that one pool serves in full to a cheaper pool."""
        options = self.instance.options_of(demand)
        held = [o for o in options if self.shares[o] > 0.0]
        if len(held) != 1 or self.shares[held[0]] < 1.0 - TOLERANCE:
            return False
        pool = int(self.instance.option_pool[held[0]])
        before = int(self.replicas[pool])
        self.add(held[0], -1.0)
        saved = (before - int(self.replicas[pool])) * float(self.priced[pool])
        changes = self._whole_changes(demand, 1.0)
        better = changes and changes[0][0] < saved - 1e-9 * max(1.0, saved)
        self.add(changes[0][1] if better else held[0], 1.0)
        return bool(better)
