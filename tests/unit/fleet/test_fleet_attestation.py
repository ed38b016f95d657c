"""The fleet file's words about confidential mode: what is wrong, and what is filled in."""

from pathlib import Path

import pytest

from penstock.core.attestation import Attestation, attestation_violation
from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.values_attestation import ASSUMED, NO_EVIDENCE, EvidenceSource, Window
from penstock.fleet.write import to_yaml

BASE = """\
accelerators: [{name: a100-80gb}, {name: h100-80gb, confidential: true}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2}, confidential: true}, {name: open}]
traffic: [{mix: {chat: 0.5, open: 0.5}, lengths: {prompt: {fixed: 10}, output: {fixed: 9}},
           rate_per_s: 1}]
"""
RULES = "attestation: {verifier: test, keys: keys.json}\n"


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("keys.json", "evidence.json"):
        (tmp_path / name).write_text("{}")


def replicas(attestation: str, more: str = "") -> str:
    return (BASE + RULES + f"replicas: [{{accelerator: h100-80gb, attestation: {attestation}"
            f"{more}}}]\n")


def pools(attestation: str, more: str = "") -> str:
    return BASE.replace("h100-80gb, confidential: true",
                        f"h100-80gb, confidential: true, count: 1, attestation: {attestation}"
                        ) + more


@pytest.mark.parametrize(("text", "said"), [
    (BASE.replace("h100-80gb, conf", "l40s, conf"), "no confidential-computing mode"),
    (BASE.replace(", confidential: true}]\nm", "}]\nm"), "none is in confidential mode"),
    (replicas("{evidence: [evidence.json]}"), "no devices"),
    (replicas("{evidence: [evidence.json], devices: [[a]]}"), "no nonce"),
    (replicas("{evidence: [evidence.json], devices: [[a]], nonce: xy}"),
     "expected 16 to 64 bytes in lower-case hexadecimal digits, found 'xy'"),
    (replicas("{evidence: ['http://x/y'], devices: [[a]], nonce: " + "ab" * 16 + "}"),
     "is for files"),
    (replicas("{evidence: ['http://x/y'], devices: [[a], [b]]}"), "2 for 1 replicas"),
    (replicas("{evidence: ['http://x/y'], devices: [[a, b]]}"), "2 for a replica on 1"),
    (replicas("{evidence: ['http://x/y'], devices: [[a, a]]}", ", parallelism: {tensor: 2}"),
     "1 for a replica on 2"),
    (replicas("{evidence: ['http://x/y'], devices: [[a]]}").replace(RULES, ""),
     "expected a section attestation"),
    (replicas("{evidence: [gone.json], devices: [[a]], nonce: " + "ab" * 16 + "}"),
     "no file 'gone.json'"),
    (replicas("{simulated: [{from_s: 5, until_s: 5}]}"), "not after it begins"),
    (replicas("{simulated: [{}]}").replace("accelerator: h100", "accelerator: a100"),
     "a100-80gb is not in confidential mode"),
    (pools("{nonce: " + "ab" * 16 + "}", RULES),
     "accelerators.1..attestation.evidence: is missing"),
    (pools("{}"), "is empty; expected evidence and devices, or simulated"),
    (pools("{evidence: evidence.json, devices: [a], nonce: " + "ab" * 16 + "}"),
     "expected a section attestation"),
    (pools("{simulated: [{from_s: 5, until_s: 5}]}"), "not after it begins"),
    (pools("{evidence: 'http://x/y', devices: [a], nonce: " + "ab" * 16 + "}", RULES),
     "is for files"),
    (pools("{evidence: 'http://x/y'}", RULES), "attestation.devices: is missing"),
    (BASE + "attestation: {verifier: test, keys: lost.json}", "lost.json"),
    (BASE + "attestation: {verifier: amd, keys: keys.json}", "verifier"),
    (BASE + "variant: {accelerator: a100-80gb}", "a100-80gb is not in confidential mode, which"),
    (BASE + "sizing: {groups: [{accelerator: a100-80gb, classes: [chat]}, {classes: [open]}]}",
     "a100-80gb is not in confidential mode, which")])
def test_what_cannot_be_is_said(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_fleet(text)


def test_traffic_that_may_never_be_served_is_named_at_its_accelerators() -> None:
    tenant = BASE.replace("confidential: true}, {name: open", "confidential: false}, {name: open")
    tenant = tenant.replace(", confidential: true}]\nm", "}]\nm").replace(
        "rate_per_s: 1", "rate_per_s: 1, tenants: {bank: 1}")
    assert parse_fleet(tenant).replicas == ()
    with pytest.raises(InputError, match="none is in confidential mode"):
        parse_fleet(tenant + "gateway: {tenants: [{name: bank, confidential: true}]}\n")


def test_replicas_are_sized_where_their_traffic_may_go() -> None:
    (group,) = parse_fleet(BASE).sizing.groups
    assert (group.accelerator.name, group.attestation) == ("h100-80gb", ASSUMED)
    assert attestation_violation(group.confidentiality, 7.0) is None
    groups = parse_fleet(BASE + "sizing: {groups: [{classes: [open]}, {classes: [chat]}]}"
                         ).sizing.groups
    assert [(one.accelerator.name, one.attestation) for one in groups] == [
        ("a100-80gb", NO_EVIDENCE), ("h100-80gb", ASSUMED)]


def test_evidence_is_found_beside_the_file_or_asked_for_at_its_url() -> None:
    nonce = "0f" * 32
    (group,) = parse_fleet(replicas(
        f"{{evidence: [evidence.json, 'https://x/y'], devices: [[a], [b]], nonce: {nonce}, "
        "simulated: [{from_s: 1}]}", ", count: 2")).replicas
    assert group.attestation == EvidenceSource(
        (str(Path("evidence.json").resolve()), "https://x/y"), nonce, (("a",), ("b",)),
        (Window(1.0),))
    (only,) = group.confidentiality.attestations
    assert only == Attestation("simulated", 1.0, float("inf"))


def test_devices_of_a_pool_are_attested_in_simulation_by_its_accelerators() -> None:
    turns = "multiplexing: [{accelerator: h100-80gb, models: [{model: llama-3-8b}]}]\n"
    fleet = parse_fleet(pools("{simulated: [{until_s: 3}]}", turns))
    (pool,) = fleet.multiplexing
    assert pool.attestation is None
    assert attestation_violation(pool.confidentiality, 2.0) is None
    assert attestation_violation(pool.confidentiality, 3.0) is not None
    assert parse_fleet(to_yaml(fleet)) == fleet


def test_a_chosen_accelerator_must_be_in_confidential_mode() -> None:
    with pytest.raises(InputError, match=r"replicas\[0\].attestation: a100-80gb is not in conf"):
        parse_fleet("""\
name: chosen
accelerators: [{name: a100-80gb}, {name: h100-80gb, confidential: true}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat}]
traffic: [{lengths: {prompt: {fixed: 9}, output: {fixed: 9}}, rate_per_s: 1, num_requests: 1}]
replicas: [{attestation: {simulated: [{from_s: 0}]}}]
""")
