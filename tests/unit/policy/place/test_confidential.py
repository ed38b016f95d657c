"""Devices that may hold a confidential model, by the rule that routers go by, too."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.attestation import Attestation, Confidentiality, attestation_violation
from penstock.policy.place.confidential import attested
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.values import Device, Footprint, Infeasible

GIB = 1 << 30
DEVICES = [Device(number, "n", 40 * GIB, link_group="n") for number in range(4)]
SOUND = Confidentiality(mode_on=True, attestations=(Attestation("v", 0.0, 100.0),))
ENDED = Confidentiality(mode_on=True, attestations=(Attestation("v", 0.0, 50.0),))
OPEN = Confidentiality(mode_on=False, attestations=(Attestation("v", 0.0, 100.0),))
BARE = Confidentiality(mode_on=True)


@given(st.lists(st.sampled_from((SOUND, ENDED, OPEN, BARE, None)), min_size=4, max_size=4),
       st.sampled_from((10.0, 49.0, 50.0, 99.0, 100.0)))
def test_exactly_the_attested_ones_may_and_unknown_ones_may_not(
        attestation_status: list[Confidentiality | None], now_s: float) -> None:
    known = {number: one for number, one in enumerate(attestation_status) if one is not None}
    found = attested(DEVICES, known, now_s)
    may = [device for device in DEVICES if device.device_id in known
           and attestation_violation(known[device.device_id], now_s) is None]
    assert found == may if may else isinstance(found, Infeasible)


def test_the_reasons_are_told_once_each() -> None:
    found = attested(DEVICES, {0: ENDED, 1: OPEN, 2: OPEN}, 62.0)
    assert isinstance(found, Infeasible)
    assert found.reason == (
        "no accelerator may hold a confidential model: every one does not run in confidential mode "
        "or has an attestation that has expired (12 s ago)")
    assert isinstance(attested([], {}, 0.0), Infeasible)


def test_a_placement_stays_among_them() -> None:
    found = attested(DEVICES, {1: SOUND, 3: SOUND}, 0.0)
    assert isinstance(found, list)
    two = PenstockPlacer().place(Footprint("m", 4, 2, 1, GIB), found)
    assert not isinstance(two, Infeasible)
    assert set(two.device_ids) == {1, 3}
    assert isinstance(PenstockPlacer().place(Footprint("m", 4, 4, 1, GIB), found), Infeasible)
