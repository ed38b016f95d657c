"""The cheapest assignment of a few requests to replicas, each further request of which costs more.

Successive shortest paths with dual prices (the Hungarian method as Jonker and Volgenant run it,
1987). A replica is a series of slots with rising surcharges. Only its first free slot is
considered, because later slots cannot be better. The result is exact for separable costs.
"""

from collections.abc import Sequence
from math import inf


def assign(costs: Sequence[Sequence[float]], surcharges: Sequence[float]) -> list[int]:
    """Return the replica of every request at the least total cost; -1 where none may serve it.

    ``costs[r][i]`` is the cost of request r on replica i (inf: not allowed). ``surcharges[i]`` >= 0
    is the cost that every request on replica i adds to the next one there. Takes at most
    O(requests^2 * (requests + replicas)) steps.
    """
    num_replicas = len(surcharges)
    seat_of = list(range(num_replicas))  # of a column: its replica
    extra = [0.0] * num_replicas  # of a column: the surcharge of its slot
    owner = [-1] * num_replicas  # of a column: its request
    price = [0.0] * num_replicas  # dual price of a column, never above 0
    for request, own in enumerate(costs):
        if min(own, default=inf) == inf:
            continue
        taken = _augment(costs, request, seat_of, extra, owner, price)
        replica = seat_of[taken]
        seat_of.append(replica)
        extra.append(extra[taken] + surcharges[replica])
        owner.append(-1)
        price.append(0.0)
    chosen = [-1] * len(costs)
    for column, request in enumerate(owner):
        if request >= 0:
            chosen[request] = seat_of[column]
    return chosen


def _augment(costs: Sequence[Sequence[float]], request: int, seat_of: list[int],
             extra: list[float], owner: list[int], price: list[float]) -> int:
    """Assign one more request, moving others where that is cheaper. Returns the free column that is
    used."""
    num_columns = len(seat_of)
    distance = [inf] * num_columns
    before = [-1] * num_columns
    done = [False] * num_columns
    order: list[int] = []
    row, column, reached = request, -1, 0.0
    while True:
        own = costs[row]
        # Reduced costs of an assigned request are relative to its own slot, where they are 0.
        base = 0.0 if column < 0 else own[seat_of[column]] + extra[column] - price[column]
        least, nearest = inf, -1
        for other in range(num_columns):
            if done[other]:
                continue
            length = reached + own[seat_of[other]] + extra[other] - price[other] - base
            if length < distance[other]:
                distance[other] = length
                before[other] = column
            if distance[other] < least:
                least, nearest = distance[other], other
        column, reached = nearest, least
        done[column] = True
        if owner[column] < 0:
            break
        order.append(column)
        row = owner[column]
    for visited in order:
        price[visited] += distance[visited] - reached
    end = column
    while column >= 0:
        source = before[column]
        owner[column] = request if source < 0 else owner[source]
        column = source
    return end
