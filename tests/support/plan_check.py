"""An independent check of plans, which shares no code with the solvers."""

from penstock.plan.assign.problem import Problem, usable_options
from penstock.plan.assign.solution import SLACK, Solution, switching_cost


def check(problem: Problem, solution: Solution) -> list[str]:
    """Every way in which the solution breaks the problem or misstates itself; empty when sound.

    Shares no code with the solvers beyond the problem's definitions.
    """
    faults = [*_check_shares(problem, solution), *_check_pools(problem, solution)]
    pools = {pool.name: pool for pool in problem.pools}
    runs = {name: count for name, count in solution.replicas.items() if name in pools}
    cost = sum(pools[name].cost_per_hour * count for name, count in runs.items())
    power_w = sum(pools[name].power_w * count for name, count in runs.items())
    taken: dict[str, int] = {}
    for name, count in runs.items():
        for kind, each in pools[name].accelerators.items():
            taken[kind] = taken.get(kind, 0) + each * count
    for what, stated, true in (
            ("cost_per_hour", solution.cost_per_hour, cost), ("power_w", solution.power_w, power_w),
            ("switching_cost", solution.switching_cost,
             switching_cost(problem, solution.replicas, solution.shares))):
        if abs(stated - true) > SLACK * max(1.0, true):
            faults.append(f"{what} is stated as {stated}, but it is {true}")
    if dict(solution.accelerators) != taken:
        faults.append(f"accelerators are stated as {dict(solution.accelerators)}, "
                      f"but they are {taken}")
    for what, used, limit in (("cost", cost, problem.limits.cost_per_hour),
                              ("power", power_w, problem.limits.power_w)):
        if limit is not None and used > limit + SLACK * max(1.0, limit):
            faults.append(f"{what} {used} is over the limit {limit}")
    for kind, count in problem.supply.accelerators.items():
        if taken.get(kind, 0) > count:
            faults.append(f"{taken[kind]} accelerators of {kind!r} are used, {count} are there")
    return faults


def _check_shares(problem: Problem, solution: Solution) -> list[str]:
    faults = []
    allowed = {(d.name, o.pool) for d in problem.demands for o in usable_options(d)}
    faults += [f"share of {key} is no option" for key in solution.shares if key not in allowed]
    faults += [f"share of {key} is {share}" for key, share in solution.shares.items()
               if not 0.0 < share <= 1.0 + SLACK]
    by_demand: dict[str, list[float]] = {}
    for (name, _), share in solution.shares.items():
        by_demand.setdefault(name, []).append(share)
    for demand in problem.demands:
        own = by_demand.get(demand.name, [])
        served = solution.served.get(demand.name, 0.0)
        if sum(own) > 1.0 + SLACK or abs(served - sum(own)) > SLACK:
            faults.append(f"{demand.name!r} has shares {own} and is said to be served {served}")
        if not demand.mixed and len(own) > 1:
            faults.append(f"{demand.name!r} is split over {len(own)} pools")
        if not demand.partial and SLACK < served < 1.0 - SLACK:
            faults.append(f"{demand.name!r} is served in part ({served})")
        if (served < 1.0 - SLACK) != (demand.name in solution.unserved):
            faults.append(f"{demand.name!r} is served {served}; unserved: {solution.unserved}")
    return faults


def _check_pools(problem: Problem, solution: Solution) -> list[str]:
    known = {pool.name for pool in problem.pools}
    faults = [f"pool {name!r} is unknown" for name in solution.replicas if name not in known]
    loads = {(d.name, o.pool): o.load for d in problem.demands for o in d.options}
    carried: dict[str, float] = {}
    for key, share in solution.shares.items():
        carried[key[1]] = carried.get(key[1], 0.0) + share * loads.get(key, 0.0)
    for pool in problem.pools:
        count, load = solution.replicas.get(pool.name, 0), carried.get(pool.name, 0.0)
        if load > count + SLACK * max(1, count):
            faults.append(f"pool {pool.name!r} carries {load} on {count} replicas")
        if count and count < pool.min_replicas:
            faults.append(f"pool {pool.name!r} runs {count}, fewer than {pool.min_replicas}")
        if pool.max_replicas is not None and count > pool.max_replicas:
            faults.append(f"pool {pool.name!r} runs {count}, more than {pool.max_replicas}")
    return faults
