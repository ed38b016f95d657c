"""Models that take turns on attested devices: confidential requests are answered, not told of."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("jwt", reason="the extra 'attest' is not installed")

from penstock.core.attestation import Attestation
from penstock.core.request import Needs
from penstock.fleet.load import parse_fleet
from penstock.policy.multiplex.device import Device
from penstock.serving.attest.agent import agent
from penstock.serving.attest.evidence import attestation_status
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import Offer, read_ask
from penstock.serving.gateway.model_pools import ModelPools
from support.gateway_before_pool import ask, gateway, process, read
from support.nvidia_evidence import NONCE, Signer
from support.small_fleet import FLEET

MODEL = "llama-3-8b"


def attested_fleet(tmp_path, *, allow=False, engine=None, url=None, signer=None):
    signer = signer or Signer(tmp_path)
    evidence = tmp_path / "evidence.json"
    evidence.write_bytes(signer.sign("GPU-1", now_s=time.time()))
    shown = {"evidence": str(evidence), "nonce": NONCE} if url is None else {"evidence": url}
    return parse_fleet(FLEET, overrides={
        "accelerators": [{"name": "h100-80gb", "count": 1, "confidential": True,
                          "attestation": {**shown, "devices": ["GPU-1"]}}],
        "attestation": {"verifier": "test", "keys": str(signer.keys_path)},
        "disclosure": {"allow_model_counts": allow},
        "models": [{"name": MODEL}],
        "traffic": [{"model": "auto", "mix": {"chat": 1.0}, "rate_per_s": 1,
                     "lengths": {"prompt": {"fixed": 4}, "output": {"fixed": 4}}}],
        "replicas": None,
        "multiplexing": [{"name": "gpu", "memory_gib": 20, "policy": "first-come", "models": [
            {"model": MODEL, "size_gib": 15, "batch": {"fixed_s": 0.1, "per_request_s": 0.01},
             "load_s": 1, "engine": engine or process()}]}]})


def told(tmp_path, *, allow):
    """What status and metrics say of the pool after a confidential request was answered."""
    async def run():
        async with gateway(attested_fleet(tmp_path, allow=allow), tmp_path) as client:
            status, document, _ = await ask(client, MODEL, penstock={"confidential": True})
            assert status == 200, document
            async with client.get("/metrics") as answer:
                return await read(client, "/v1/penstock/status"), await answer.text()

    return asyncio.run(run())


def test_an_attested_pool_answers_and_its_models_are_not_told_of(tmp_path) -> None:
    status, metrics = told(tmp_path, allow=False)
    assert status["pools"] == [{"pool": "gpu", "policy": "first-come", "num_devices": 1,
                                "num_models": 1, "num_waiting": 0, "num_started": 16,
                                "num_refused": 0}]
    assert "penstock:model_requests_started_total{" not in metrics
    assert "penstock:model_resident{" not in metrics


def test_who_is_on_the_way_to_an_attested_pool_is_counted_in_buckets(tmp_path) -> None:
    async def run():
        slow = process()
        slow["command"].append("30")  # seconds until its engine answers
        async with gateway(attested_fleet(tmp_path, engine=slow), tmp_path) as client:
            asked = asyncio.ensure_future(ask(client, MODEL, penstock={"confidential": True}))
            while not (found := await read(client, "/v1/penstock/status"))["num_in_flight"]:
                await asyncio.sleep(0.01)
            asked.cancel()
            return found

    assert asyncio.run(run())["num_in_flight"] == 16


def test_counts_by_model_are_told_where_the_operator_allows_it(tmp_path) -> None:
    status, metrics = told(tmp_path, allow=True)
    assert status["pools"][0]["models"][0]["num_started"] == 1
    assert "penstock:model_requests_started_total{" in metrics


class SlowDriver:
    """A turn comes only after ``wait``; then ``running`` has it until it is given back."""

    devices = (Device(0, 1, ()),)

    def __init__(self, wait):
        self.wait = wait
        self.running = []

    def refusal(self, model):
        return None

    def num_waiting(self, model):
        return 0

    async def enter(self, model, *_):
        self.wait()
        self.running.append(ticket := SimpleNamespace(device=0, model=model, url="http://a"))
        return ticket

    async def retry(self, ticket):
        self.leave(ticket, "failed")
        return await self.enter(ticket.model)

    def leave(self, ticket, end):
        self.running.remove(ticket)


def turns_of(tmp_path, wait):
    """Turns at a clock that stands at ``now_s[0]``, attested from 0 to 10 s."""
    fleet, now_s = attested_fleet(tmp_path), [0.0]
    driver = SlowDriver(lambda: wait(now_s))
    model_pools = ModelPools([(fleet.multiplexing[0], driver)], lambda: now_s[0])
    for engine in model_pools.attestation_status:
        engine.attested(Attestation("test", 0.0, 10.0, ("GPU-1",)))
    body = f'{{"model": "{MODEL}", "prompt": "hello"}}'.encode()
    ask = read_ask(body, {}, Offer({one.name: one for one in fleet.service_classes}, {MODEL: 100}))
    return model_pools, driver, ask._replace(needs=Needs(confidential=True)), ask


def test_an_attestation_that_ends_while_a_request_waits_sends_it_nowhere(tmp_path) -> None:
    def wait(now_s):
        now_s[0] += 6.0

    async def run():
        model_pools, driver, secret, plain = turns_of(tmp_path, wait)
        request = SimpleNamespace(prompt_tokens=1, max_tokens=1)
        slot = await model_pools.enter(request, secret)
        assert slot.attestation.expires_at_s == 10.0
        with pytest.raises(ServiceError, match="expired") as caught:  # its second turn, at 12 s
            await model_pools.retry(slot, secret)
        assert caught.value.status == 503
        assert driver.running == []
        slot = await model_pools.enter(request, plain)
        assert (slot.attestation, len(driver.running)) == (None, 1)

    asyncio.run(run())


def test_one_that_ends_before_the_first_turn_does_so_too(tmp_path) -> None:
    def wait(now_s):
        now_s[0] += 60.0

    async def run():
        model_pools, driver, secret, _ = turns_of(tmp_path, wait)
        with pytest.raises(ServiceError, match="expired"):
            await model_pools.enter(SimpleNamespace(prompt_tokens=1, max_tokens=1), secret)
        assert driver.running == []

    asyncio.run(run())


def test_a_pool_is_judged_once_however_many_models_it_has(tmp_path) -> None:
    notes = []

    async def run():
        fleet = attested_fleet(tmp_path)
        pool, = fleet.multiplexing
        other = replace(pool.models[0], spec=replace(pool.models[0].spec, name="llama-2-7b"))
        fleet = replace(fleet, multiplexing=(replace(pool, models=(*pool.models, other)),))
        async with gateway(fleet, tmp_path, notes):
            pass

    asyncio.run(run())
    assert [note for note in notes if "attested" in note] == ["engine pool gpu: attested"]


def test_an_engine_that_may_be_attested_yet_goes_before_a_pool_that_never_will(tmp_path) -> None:
    signer = Signer(tmp_path)
    (tmp_path / "old.json").write_bytes(signer.sign("GPU-1"))
    fleet = parse_fleet(FLEET, overrides={
        "accelerators": [{"name": "a100-80gb"}, {"name": "h100-80gb", "confidential": True}],
        "attestation": {"verifier": "test", "keys": str(signer.keys_path)},
        "models": [{"name": MODEL}, {"name": "llama-2-7b"}],
        "traffic": [{"model": "auto", "mix": {"chat": 1.0}, "rate_per_s": 1,
                     "lengths": {"prompt": {"fixed": 4}, "output": {"fixed": 4}}}],
        "replicas": [{"model": "llama-2-7b", "accelerator": "h100-80gb", "count": 1, "endpoints": [
            "http://127.0.0.1:9"], "attestation": {"devices": [["GPU-1"]], "nonce": NONCE,
                                                   "evidence": [str(tmp_path / "old.json")]}}],
        "multiplexing": [{"name": "gpu", "accelerator": "a100-80gb", "memory_gib": 20, "models": [
            {"model": MODEL, "size_gib": 15, "load_s": 1, "engine": process(),
             "batch": {"fixed_s": 0.1, "per_request_s": 0.01}}]}]})

    async def run():
        async with gateway(fleet, tmp_path) as client:
            secret = {"penstock": {"confidential": True}}
            status, document, headers = await ask(client, "auto", **secret)
            assert (status, headers["Retry-After"]) == (503, "1"), document
            assert "expired" in document["error"]["message"]
            status, document, _ = await ask(client, MODEL, **secret)
            assert (status, document["error"]["code"]) == (400, "needs_unmet")
            assert "does not run in confidential mode" in document["error"]["message"]
            assert (await ask(client, "auto"))[0] == 200

    asyncio.run(run())


def test_a_check_of_evidence_looks_at_pools(tmp_path) -> None:
    fleet = attested_fleet(tmp_path)
    assert asyncio.run(attestation_status(fleet)) == [("pool gpu", None)]
    (tmp_path / "evidence.json").unlink()
    (name, why), = asyncio.run(attestation_status(fleet))
    assert name == "pool gpu"
    assert "cannot be had" in why


@pytest.mark.parametrize(("device", "status"), [("GPU-1", 200), ("GPU-2", 503)])
def test_a_pool_answers_a_challenge_of_the_gateways_own(tmp_path, device, status) -> None:
    signer, nonces = Signer(tmp_path), []

    def make(nonce):
        nonces.append(nonce)
        return signer.sign(device, nonce=nonce, now_s=time.time())

    async def run():
        async with agent(make, "127.0.0.1", 0, print) as url, gateway(
                attested_fleet(tmp_path, url=url, signer=signer), tmp_path) as client:
            return await ask(client, MODEL, penstock={"confidential": True})

    found, document, _ = asyncio.run(run())
    assert found == status, document
    assert nonces
    assert len(set(nonces)) == len(nonces)
