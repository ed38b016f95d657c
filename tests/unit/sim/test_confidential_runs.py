"""Confidential requests in a simulation: who serves them, and what becomes of them when an
attestation ends on the way."""

import numpy as np
import pytest

from penstock.core.attestation import EXPIRED, NO_ATTESTATION, NOT_CONFIDENTIAL, NOT_YET
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.metrics.table import FINISHED, REJECTED
from penstock.registry.policies import ROUTERS
from penstock.sim.simulation import SimulationResult, simulate

FLEET = """\
accelerators: [{name: a100-80gb, count: 4}, {name: h100-80gb, count: 4, confidential: true}]
models: [{name: llama-3-8b}]
service_classes:
  - {name: open, slo: {e2e_s: 60}}
  - {name: secret, slo: {e2e_s: 60}, confidential: true}
traffic:
  - {mix: {open: 0.5, secret: 0.5}, lengths: {prompt: {fixed: 300}, output: {fixed: 200}},
     rate_per_s: 4, num_requests: 120}
replicas:
  - {accelerator: a100-80gb, count: 1}
  - {accelerator: h100-80gb, count: 1, attestation: {simulated: [{until_s: 10}, {from_s: 20}]}}
  - {accelerator: h100-80gb, count: 1, attestation: {simulated: [{from_s: 5, until_s: 15}]}}
policies: {schedule: sarathi, route: ROUTE}
"""


def run(text: str) -> SimulationResult:
    fleet = parse_fleet(text)
    return simulate(fleet, fleet_workload(fleet))


def is_secret(result: SimulationResult) -> np.ndarray:
    return result.table.class_index == result.table.service_classes.index("secret")


@pytest.mark.parametrize("route", [name for name in ROUTERS.names() if name != "fixed_model"])
def test_every_router_keeps_them_where_an_attestation_is_valid(route: str) -> None:
    result = run(FLEET.replace("ROUTE", "{name: fixed_mix, shares: {llama-3-8b: 1}}"
                               if route == "fixed_mix" else route))
    table, secret = result.table, is_secret(result)
    arrival_s = table.arrival_s
    served = secret & (table.status == FINISHED)
    assert {0} | set(table.replica[served].tolist()) == {0, 1, 2}
    assert not (table.replica[served] == 0).any()
    first = served & (table.replica == 1)
    assert ((arrival_s[first] < 10) | (arrival_s[first] >= 20)).all()
    second = served & (table.replica == 2)
    assert ((arrival_s[second] >= 5) & (arrival_s[second] < 15)).all()
    # Between 15 and 20 s nobody is attested: exactly those requests are refused, and said why.
    gap = secret & (arrival_s >= 15) & (arrival_s < 20)
    assert gap.any()
    assert np.array_equal(secret & (table.status == REJECTED), gap)
    (reason, count), = result.reasons.items()
    assert count == gap.sum()
    assert EXPIRED in reason
    assert NOT_CONFIDENTIAL in reason


def test_what_runs_when_an_attestation_ends_is_served_to_its_end() -> None:
    result = run(FLEET.replace("ROUTE", "least_loaded"))
    table = result.table
    across = is_secret(result) & (table.replica == 1) & (table.arrival_s < 10) & (
        table.last_token_s > 10)
    assert across.any()
    assert (table.status[across] == FINISHED).all()


def test_open_requests_go_anywhere() -> None:
    result = run(FLEET.replace("ROUTE", "round_robin"))
    mine = ~is_secret(result)
    assert (result.table.status[mine] == FINISHED).all()
    assert set(result.table.replica[mine].tolist()) == {0, 1, 2}


@pytest.mark.parametrize(("attestation", "reason"), [
    ("", NO_ATTESTATION), ("attestation: {simulated: [{from_s: 1000}]}", NOT_YET),
    ("attestation: {simulated: []}", NO_ATTESTATION)])
def test_without_a_valid_attestation_they_are_refused_even_where_only_one_replica_runs(
        attestation: str, reason: str) -> None:
    text = FLEET.partition("replicas:")[0] + (
        f"replicas: [{{accelerator: h100-80gb, {attestation}}}]\n")
    result = run(text)
    assert np.array_equal(result.table.status == REJECTED, is_secret(result))
    assert all(reason in said for said in result.reasons)


def test_all_requests_of_a_confidential_tenant_are() -> None:
    text = FLEET.replace("ROUTE", "round_robin").replace(", confidential: true}\ntraffic", "}\n"
                                                         "traffic")
    text = text.replace("num_requests: 120", "num_requests: 120, tenants: {bank: 0.3, shop: 0.7}")
    result = run(text + "gateway: {tenants: [{name: bank, confidential: true}, {name: shop}]}\n")
    table = result.table
    bank = table.tenant_index == table.tenants.index("bank")
    assert 0 < bank.sum() < len(bank)
    assert not (table.replica[bank] == 0).any()
    assert (table.replica[~bank] == 0).any()
