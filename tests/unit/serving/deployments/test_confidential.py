"""Confidential deployments: where they run, and that they answer only while it is attested."""

import time
from dataclasses import replace

import pytest

from penstock.core.attestation import Attestation, Confidentiality
from penstock.serving.deployments.attested import Gate, attestation_status
from penstock.serving.deployments.deployments import DeployIntent, RefusedError, State
from support.simulated_deployments import FLEET, World, in_loop

SECRET = DeployIntent(confidential=True)


class Gated(World):
    """Deployments behind a gate that goes by what is ``known`` of accelerators."""

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.known: dict[int, Confidentiality] = {}
        self.gate_keeper = Gate(self._attestation_status, lambda: self.now_s)
        self.choose = self.gate_keeper.choosing(super().choose)

    async def _attestation_status(self, _):
        return self.known

    def controller(self, queue=None):
        found = super().controller(queue)
        devices = {device.device_id: device for device in self.cluster.devices()}
        dependencies = found._dependencies
        found._dependencies = replace(dependencies, engines={
            kind: self.gate_keeper.before(one, devices) for kind,
            one in dependencies.engines.items()})
        return found


def until(ends_s: float) -> Confidentiality:
    return Confidentiality(mode_on=True, attestations=(Attestation("v", 0.0, ends_s),))


@in_loop
async def test_it_is_placed_on_attested_accelerators_and_refused_where_there_are_none(tmp_path):
    world = Gated(tmp_path)
    async with world.open() as controller:
        controller.register("a", "llama-2-7b", "sim", {})
        with pytest.raises(RefusedError, match="every one does not run in") as caught:
            await controller.deploy("a", SECRET)
        assert caught.value.code == "not_attested"
        assert controller.show("a").state == State.REGISTERED
        world.known = {2: until(5000.0), 3: until(999.0)}
        one, _ = await controller.deploy("a", SECRET)
        assert one.devices == (2,)
        assert (await controller.settled("a")).state == State.RUNNING
        controller.register("b", "llama-2-7b", "sim", {})
        world.num_gib["b"] = (10, 2)
        with pytest.raises(RefusedError) as caught:
            await controller.deploy("b", SECRET)
        assert caught.value.code == "no_room", "only one is attested"
        two, _ = await controller.deploy("b", DeployIntent())
        assert len(two.devices) == 2, "what is open goes anywhere"


@in_loop
async def test_it_answers_only_while_its_accelerators_are_attested(tmp_path):
    world = Gated(tmp_path)
    world.known = {0: until(1100.0)}
    async with world.open() as controller:
        controller.register("a", "llama-2-7b", "sim", {})
        await controller.deploy("a", SECRET)
        await controller.settled("a")
        assert (await controller.infer("a", {"prompt": "x"})).output_tokens
        world.now_s = 1112.0
        with pytest.raises(RefusedError, match=r"has expired \(12 s ago\)") as caught:
            await controller.infer("a", {"prompt": "x"})
        assert caught.value.code == "not_attested"
        assert controller.show("a").state == State.RUNNING, "it is not stopped for it"
        world.known = {0: until(2000.0)}
        assert (await controller.infer("a", {"prompt": "x"})).output_tokens
    async with world.open() as again:  # the mark outlives the process
        world.known = {}
        with pytest.raises(RefusedError, match="confidential mode"):
            await again.infer("a", {"prompt": "x"})


def test_a_site_s_standing_is_what_its_evidence_shows_now(tmp_path) -> None:
    pytest.importorskip("jwt", reason="the extra 'attest' is not installed")
    from penstock.serving.deployments.cluster import create_cluster
    from support.nvidia_evidence import NONCE, Signer

    signer = Signer(tmp_path)
    evidence = tmp_path / "evidence.json"
    evidence.write_bytes(signer.sign("A", "B", now_s=1000.0, valid_s=100))
    text = FLEET.replace("{name: a6000, count: 4}", "{name: h100-80gb, count: 2, confidential: "
                         "true, attestation: {evidence: evidence.json, nonce: " + NONCE
                         + ", devices: [A, B]}}")
    text += f"attestation: {{verifier: test, keys: {signer.keys_path}}}\n"
    (tmp_path / "fleet.yaml").write_text(text)
    cluster = create_cluster(tmp_path / "state", tmp_path / "fleet.yaml")
    assert {number: one.attestations[0].expires_at_s
            for number, one in attestation_status(cluster, 1050.0).items()} == {0: 1100.0,
                                                                                1: 1100.0}
    assert attestation_status(cluster, 1112.0)[0].doubt == "its evidence expired 12 s ago"
    evidence.write_bytes(signer.sign("A", "C", now_s=1000.0))
    assert attestation_status(cluster, 1000.0)[1].doubt == "its evidence is of another device, 'C'"
    evidence.unlink()
    assert "cannot be had" in attestation_status(cluster, time.time())[0].doubt
    text = text.replace(f"evidence.json, nonce: {NONCE}", "'http://127.0.0.1:9/attestation'")
    (tmp_path / "fleet.yaml").write_text(text)
    cluster = create_cluster(tmp_path / "other", tmp_path / "fleet.yaml")
    assert "deployments need it in a file" in attestation_status(cluster, 1050.0)[0].doubt


def test_a_site_that_says_nothing_of_it_has_no_standing(tmp_path) -> None:
    assert set(attestation_status(World(tmp_path).cluster, 0.0).values()) == {Confidentiality()}
