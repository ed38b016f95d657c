"""The cheapest assignment of a few requests to replicas whose next seat costs more than the last.

Successive shortest paths with dual prices (the Hungarian method as Jonker and Volgenant run it,
1987). A replica is a row of seats with rising surcharges; only its first free seat is looked at,
because the seats behind it cannot be better. The result is exact for costs that are separable.
"""

from collections.abc import Sequence
from math import inf


def assign(costs: Sequence[Sequence[float]], surcharges: Sequence[float]) -> list[int]:
    """Return the replica of every request at the least total cost; -1 where none may serve it.

    ``costs[r][i]`` is what request r costs on replica i (inf: may not), ``surcharges[i]`` >= 0 what
    every request that replica i has been given already adds to the next. Takes
    O(requests^2 * (requests + replicas)) steps at most.
    """
    num_replicas = len(surcharges)
    seat_of = list(range(num_replicas))  # of a column: its replica
    extra = [0.0] * num_replicas  # of a column: what the seat itself costs
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
    """Seat one more request, moving others where that is cheaper; the free column that is used."""
    num_columns = len(seat_of)
    distance = [inf] * num_columns
    before = [-1] * num_columns
    done = [False] * num_columns
    order: list[int] = []
    row, column, reached = request, -1, 0.0
    while True:
        own = costs[row]
        # Reduced costs of a seated request are measured from its own seat, where they are 0.
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
