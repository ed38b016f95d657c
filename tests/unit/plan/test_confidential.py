"""Plans of confidential traffic: on accelerators in confidential mode, whatever others cost."""

import pytest
import yaml

from penstock.core.attestation import attestation_violation
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values_attestation import ASSUMED, NO_EVIDENCE
from penstock.fleet.write import replicas_section, to_yaml
from penstock.sim.simulation import simulate
from support.small_plans import BATCH, CHAT, planned, traffic

# The open accelerator is far cheaper, so that nothing but the mark speaks for the other.
BOTH = [{"name": "a100-80gb", "price_per_hour": 1},
        {"name": "h100-80gb", "price_per_hour": 9, "confidential": True}]
SECRET = {**CHAT, "confidential": True}


def kinds(plan):
    return {demand: {name.partition("-bf16")[0] for name, _ in counts}
            for demand, counts in plan.checked.counts.items()}


def test_without_confidential_traffic_the_cheap_one_is_taken():
    assert kinds(planned(accelerators=BOTH)) == {"llama-3-8b": {"a100-80gb"}}


@pytest.mark.parametrize("sections", [
    {"service_classes": [SECRET, BATCH]},
    {"gateway": {"tenants": [{"name": "bank", "confidential": True}]}}])
def test_what_is_shared_with_confidential_requests_is_in_confidential_mode(sections):
    plan = planned(traffic(tenants={"bank": 0.2, "shop": 0.8}), accelerators=BOTH, **sections)
    assert plan.served_in_full
    assert kinds(plan) == {"llama-3-8b": {"h100-80gb"}}
    (group,) = plan.fleet.replicas
    assert group.attestation == ASSUMED
    reasons = {one.reason for one in plan.dropped if one.variant.startswith("a100")}
    assert reasons == {"does not run in confidential mode, and some of the requests are "
                       "confidential"}


def test_classes_apart_pay_only_for_what_is_confidential():
    plan = planned(accelerators=BOTH, service_classes=[SECRET, BATCH], plan={"pooling": "class"})
    assert kinds(plan) == {"llama-3-8b/chat": {"h100-80gb"}, "llama-3-8b/batch": {"a100-80gb"}}
    assert {group.accelerator.name: group.attestation for group in plan.fleet.replicas} == {
        "h100-80gb": ASSUMED, "a100-80gb": NO_EVIDENCE}


def test_replicas_that_run_without_an_attestation_are_planned_as_if_they_will_have_one():
    now = [{"accelerator": "h100-80gb", "count": 1}]
    plan = planned(accelerators=BOTH, service_classes=[SECRET, BATCH], replicas=now)
    (before,), (group,) = plan.before.replicas, plan.fleet.replicas
    assert attestation_violation(before.confidentiality, 0.0) is not None
    assert attestation_violation(group.confidentiality, 0.0) is None


def test_the_fleet_that_a_plan_writes_serves_what_was_planned():
    plan = planned(accelerators=BOTH, service_classes=[SECRET, BATCH])
    assert replicas_section(plan.fleet)[0]["attestation"] == {"simulated": [{"from_s": 0.0}]}
    fleet = parse_fleet(to_yaml(plan.fleet))
    assert fleet.replicas == plan.fleet.replicas
    assert not simulate(fleet, fleet_workload(fleet)).reasons
    bare = yaml.safe_load(to_yaml(plan.fleet))
    del bare["replicas"][0]["attestation"]
    refused = simulate(parse_fleet(yaml.safe_dump(bare)), fleet_workload(fleet)).reasons
    assert sum(refused.values()) > 0


def test_a_class_that_fits_on_nothing_confidential_is_explained_and_others_are_planned():
    small = [{"name": "a100-80gb", "price_per_hour": 1},
             {"name": "h100-80gb", "count": 1, "confidential": True}]
    plan = planned(accelerators=small, service_classes=[SECRET, BATCH],
                   models=[{"name": "llama-3-70b"}])
    assert not plan.served_in_full
    assert kinds(plan)["llama-3-70b/chat"] == set()
    (found,) = kinds(plan)["llama-3-70b/batch"]
    assert found.startswith("a100-80gb")
