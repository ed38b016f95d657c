"""Laws of confidential requests, whatever is attested when, and whatever is sent as evidence."""

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("jwt", reason="the extra 'attest' is not installed")

from penstock.attest.values import Challenge, EvidenceError
from penstock.core.attestation import attestation_violation
from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.fleet.values_attestation import EvidenceSource, Window, in_simulation
from penstock.metrics.table import FINISHED, REJECTED
from penstock.published.sincere.policy import STRATEGIES
from penstock.sim.simulation import simulate
from penstock.workload.workload import Workload
from support.multiplexing_cases import ALL_POLICIES, MultiplexCase
from support.nvidia_evidence import NONCE, NOW_S, UEID, Nras, Signer
from support.scaled_examples import examples
from support.strategies import multiplex_cases

FLEET = """\
accelerators: [{name: a100-80gb}, {name: h100-80gb, confidential: true}]
models: [{name: llama-3-8b}]
service_classes: [{name: open}, {name: secret, confidential: true}]
traffic: [{mix: {open: 0.4, secret: 0.6}, rate_per_s: 4, num_requests: 40,
           lengths: {prompt: {fixed: 200}, output: {fixed: 60}}}]
replicas: [{accelerator: a100-80gb}, {accelerator: h100-80gb}, {accelerator: h100-80gb}]
policies: {schedule: sarathi}
"""
ROUTES = ("least_loaded", "round_robin", "joint", "two_choices", "predictive")


@cache
def small(route: str) -> tuple[Fleet, Workload]:
    fleet = parse_fleet(FLEET.replace("schedule: sarathi", f"schedule: sarathi, route: {route}"))
    return fleet, fleet_workload(fleet)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Window, ...]:
    """Up to three stretches of time, in any order, perhaps one upon another."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        from_s = draw(st.floats(0, 12))
        until_s = draw(st.one_of(st.none(), st.floats(0.1, 6).map(lambda d, f=from_s: f + d)))
        found.append(Window(from_s, until_s))
    return tuple(found)


@examples(40)
@given(st.sampled_from(ROUTES), st.tuples(windows(), windows(), windows()))
def test_whoever_serves_a_confidential_request_was_attested_when_it_came(
        route: str, schedules: tuple[tuple[Window, ...], ...]) -> None:
    fleet, workload = small(route)
    groups = tuple(replace(group, attestation=EvidenceSource(simulated=one))
                   for group, one in zip(fleet.replicas, schedules, strict=True))
    table = simulate(replace(fleet, replicas=groups), workload).table
    secret = table.class_index == table.service_classes.index("secret")
    for row in range(len(table)):
        able = [number for number, group in enumerate(groups)
                if attestation_violation(group.confidentiality, table.arrival_s[row]) is None]
        assert 0 not in able, "its accelerator is in no such mode, whatever is said of it"
        if not secret[row]:
            assert table.status[row] == FINISHED
        elif able:
            assert table.status[row] == FINISHED
            assert table.replica[row] in able
        else:
            assert table.status[row] == REJECTED


CASES = multiplex_cases(ALL_POLICIES)


@given(CASES, windows(), st.frozensets(st.integers(0, 39), min_size=1))
def test_turns_of_confidential_requests_come_and_begin_while_devices_are_attested(
        case: MultiplexCase, attested: tuple[Window, ...], confidential: frozenset[int]) -> None:
    devices = in_simulation(attested, mode_on=True)
    watched = replace(case, confidential=confidential, devices=devices).run()
    run = watched.run
    for request in case.requests:
        number = request.request_id
        if number not in confidential:
            assert run.reason[number] < 0 or "confidential" not in run.reasons[run.reason[number]]
            continue
        if run.begin_s[number] == run.begin_s[number]:
            assert attestation_violation(devices, request.arrival_s) is None
            assert attestation_violation(devices, run.begin_s[number]) is None
        elif attestation_violation(devices, request.arrival_s) is not None:
            assert watched.place[number] == "shed"
            assert "confidential" in run.reasons[run.reason[number]]
    if case.policy not in STRATEGIES:
        assert "waits" not in watched.place.values()


# -- evidence -----------------------------------------------------------------------------------

_ODD = st.one_of(st.none(), st.booleans(), st.integers(-2**70, 2**70), st.floats(), st.text(),
                 st.lists(st.integers(), max_size=2), st.just({}), st.just({"GPU-0": []}))


@cache
def signers() -> tuple[Nras, Signer]:
    folder = Path(tempfile.mkdtemp(prefix="h-attest-"))
    return Nras(folder), Signer(folder)


def refused(verifier: Any, document: bytes, devices: tuple[str, ...]) -> bool:
    """Whether it is refused as it must be; anything else that is raised is a fault."""
    try:
        verifier.verify(document, Challenge(NONCE, devices), NOW_S + 1)
    except EvidenceError as error:
        return "\n" not in str(error)
    return False


@given(st.data())
def test_a_claim_that_is_anything_else_is_refused_and_nothing_breaks(data: st.DataObject) -> None:
    nras, _ = signers()
    device = nras.device()
    harmless = {"jti", "hwmodel", "oemid", "nbf", "x-nvidia-gpu-driver-version",
                "x-nvidia-gpu-vbios-version", "exp",
                "iss"}  # the library signs no token with an odd issuer
    claim = data.draw(st.sampled_from(sorted(set(device) - harmless)))
    device[claim] = data.draw(_ODD.filter(lambda value: value != device[claim]))
    if claim == "iat" and isinstance(device[claim], int | float):
        device[claim] = -1.0
    assert refused(nras.verifier(), json.dumps(nras.bundle(device)).encode(), (UEID,))


@given(st.data())
def test_whatever_is_sent_is_refused_in_words(data: st.DataObject) -> None:
    nras, signer = signers()
    bundle = nras.bundle()
    at = data.draw(st.sampled_from(("whole", "kind", "overall", "devices", "device", "more")))
    odd = data.draw(_ODD)
    changed: Any = {"whole": odd, "kind": [[odd, bundle[0][1]], bundle[1]],
                    "overall": [["JWT", odd], bundle[1]], "devices": [bundle[0], odd],
                    "device": [bundle[0], {"GPU-0": odd}],
                    "more": [bundle[0], {**bundle[1], "GPU-1": odd}]}[at]
    document = json.dumps(changed).encode()
    assert refused(nras.verifier(), document, (UEID,))
    assert refused(signer.verifier(), document, ("GPU-1",))


@given(st.binary(max_size=200))
def test_bytes_are_no_evidence(content: bytes) -> None:
    for verifier in (one.verifier() for one in signers()):
        assert refused(verifier, content, ("GPU-1",))


@given(st.binary(max_size=200) | st.recursive(_ODD, lambda inner: st.dictionaries(
    st.sampled_from(("keys", "kid", "x", "y", "kty", "crv", "x5c", "alg")), inner)).map(
        lambda value: json.dumps(value).encode()))
def test_keys_that_are_none_are_said_to_be(content: bytes) -> None:
    nras, _ = signers()
    path = nras.keys_path.with_name("odd.json")
    path.write_bytes(content)
    verifier = type(nras.verifier())(replace(nras.verifier()._rules, keys=str(path)))
    with pytest.raises(InputError):
        verifier.verify(json.dumps(nras.bundle()).encode(), Challenge(NONCE, (UEID,)), NOW_S + 1)
