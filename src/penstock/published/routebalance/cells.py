"""One run of one policy at one rate, and what it is judged by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from penstock.experiment.run import run_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Choice, Fleet
from penstock.metrics.table import RequestTable
from penstock.published.routebalance.world import with_answers, with_oracle
from penstock.workload.mixing import scale_rate
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Policy:
    """A routing policy under test; ``oracle`` lets it see the truth in place of predictions."""

    name: str
    route: Choice
    oracle: bool = False


def policy(name: str, route: str, **settings: Any) -> Policy:
    """A policy by its name in fleet files."""
    return Policy(name, Choice(route, settings))


BASELINES: Sequence[Policy] = (
    policy("routebalance balance", "routebalance", preset="balance"),
    policy("routebalance latency", "routebalance", preset="latency"),
    policy("routebalance price", "routebalance", preset="price"),
    policy("routebalance relevance", "routebalance", preset="relevance"),
    policy("best-route + round robin", "best_route", dispatcher="round_robin"),
    policy("best-route + shortest queue", "best_route", dispatcher="shortest_queue"),
    policy("routellm 50 % + round robin", "routellm", share=0.5, dispatcher="round_robin"),
    policy("routellm 10 % + shortest queue", "routellm", share=0.1, dispatcher="shortest_queue"),
    policy("avengers .25 + shortest queue", "avengers", alpha=0.25, dispatcher="shortest_queue"),
    policy("avengers .8 + shortest queue", "avengers", alpha=0.8, dispatcher="shortest_queue"),
    # At a step of 1 it keeps to its floor sooner, and is worth less in money.
    policy("omnirouter .39 + shortest queue", "omnirouter", floor=0.39, step=0.05,
           dispatcher="shortest_queue"),
    policy("dual pool + shortest queue", "dual_pool", dispatcher="shortest_queue"),
    policy("qlm + shortest queue", "qlm", dispatcher="shortest_queue"),
    policy("always smallest + shortest queue", "fixed_model", model="smallest",
           dispatcher="shortest_queue"),
    policy("always largest + shortest queue", "fixed_model", model="largest",
           dispatcher="shortest_queue"),
    policy("shortest queue over all", "shortest_queue"),
)


def joint(answer_value: float, second_value: float, late_share: float = 0.0, *,
          oracle: bool = False) -> Policy:
    """Joint routing at what an answer, a second and a late answer are worth."""
    choice = Choice("joint", {"answer_value": answer_value, "second_value": second_value,
                              "late_share": late_share, "min_chance": 0.0})
    name = f"{'oracle' if oracle else 'joint'} {answer_value:g}/{second_value:g}/{late_share:g}"
    return Policy(name, choice, oracle)


@dataclass(frozen=True, slots=True)
class Cell:
    """Means over the requests of one run: quality of the answers given (0 where none was), end to
    end time and cost of the finished, the share that met every target, and each model's share."""

    quality: float
    e2e_s: float
    e2e_p95_s: float
    ttft_s: float
    cost: float
    attainment: float
    value_in_time: float
    shares: Mapping[str, float]

    def utility(self, answer_value: float) -> float:
        """Money per request: what answers in time are worth, less what all cost."""
        return answer_value * self.value_in_time - self.cost


def prompts(fleet: Fleet, rate_per_s: float, num_requests: int, seed: int) -> Workload:
    """The requests of one seed at one rate: the same prompts and order at every rate."""
    traffic = replace(fleet.traffic[0], num_requests=num_requests)
    workload = fleet_workload(replace(fleet, traffic=(traffic,)), seed)
    return with_answers(scale_rate(workload, rate_per_s / workload.rate_per_s), seed)


def run_cell(fleet: Fleet, workload: Workload, chosen: Policy, seed: int) -> Cell:
    """Simulate one policy."""
    policies = replace(fleet.policies, route=chosen.route)
    seen = with_oracle(workload) if chosen.oracle else workload
    table = run_fleet(replace(fleet, policies=policies), seen, seed).result.table
    return judged(fleet, workload, table)


def judged(fleet: Fleet, workload: Workload, table: RequestTable) -> Cell:
    """Return the outcome of every received request; an unanswered request has quality 0."""
    answers = workload.answers
    assert answers is not None
    groups = [group for group in fleet.replicas for _ in range(group.count)]
    column = np.array([answers.models.index(group.model.name) for group in groups])
    placed = table.finished
    model = np.where(placed, column[table.replica], 0)
    rows = np.arange(len(table))
    quality = np.where(placed, answers.quality[rows, model], 0.0)
    prices = {choice.spec.name: choice.price for choice in fleet.models}
    cost = np.zeros(len(table))
    for i, name in enumerate(answers.models):
        price = prices[name]
        assert price is not None
        here = placed & (model == i)
        cost[here] = (table.prompt_tokens[here] * price.input_per_token
                      + table.output_tokens[here] * price.output_per_token)
    e2e_s = table.e2e_s[placed]
    return Cell(
        float(quality.mean()), float(e2e_s.mean()), float(np.quantile(e2e_s, 0.95)),
        float(table.ttft_s[placed].mean()), float(cost.mean()), float(table.met_slo.mean()),
        float(np.mean(quality * table.met_slo)),
        {name: float(np.mean(placed & (model == i))) for i, name in enumerate(answers.models)})
