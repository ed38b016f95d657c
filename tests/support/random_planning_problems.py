"""Random planning problems of any size, by seed."""

import numpy as np

from penstock.plan.assign.problem import Demand, Option, Pool, Problem, Supply


def server_problem(num_demands: int, num_types: int, scarcity: float, seed: int, *,
                   mixed: bool = False) -> Problem:
    """One demand per (class, model), each with pools of its own on most accelerator types.

    Faster types cost about as much more; loads are log-normal around 8 replicas. ``scarcity`` is
    the supply of each type over what it would take to carry its even part of all demands.
    """
    rng = np.random.default_rng(seed)
    speed = rng.uniform(0.3, 3.0, num_types)
    multiplicity = rng.choice([1, 1, 1, 2, 4], num_types)
    price = np.round(2.0 * speed * rng.uniform(0.7, 1.4, num_types) * multiplicity, 2)
    size = rng.lognormal(np.log(8.0), 0.9, num_demands)
    tensor_parallel = rng.choice([1, 1, 2, 4], num_demands)
    fit = rng.lognormal(0.0, 0.25, (num_demands, num_types))
    load = size[:, None] / (speed * multiplicity * fit * tensor_parallel[:, None])
    usable = rng.random((num_demands, num_types)) < 0.85
    cards = tensor_parallel[:, None] * multiplicity[None, :]
    supply = scarcity * (np.ceil(load) * cards).sum(axis=0) / num_types
    pools, demands = [], []
    for d in range(num_demands):
        options = []
        for t in np.flatnonzero(usable[d]):
            name = f"server-{d:04}@type-{t:02}"
            pools.append(Pool(name, float(price[t] * tensor_parallel[d]),
                              {f"type-{t:02}": int(cards[d, t])}, 300.0 * int(cards[d, t])))
            options.append(Option(name, float(load[d, t])))
        demands.append(Demand(f"server-{d:04}", tuple(options), int(rng.integers(1, 4)),
                              float(size[d]), mixed))
    return Problem(tuple(pools), tuple(demands),
                   Supply({f"type-{t:02}": int(supply[t]) for t in range(num_types)}))
