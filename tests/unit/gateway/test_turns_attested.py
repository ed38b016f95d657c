"""Models that take turns on attested devices: confidential requests are answered, not told of."""

import asyncio
import time

import pytest

pytest.importorskip("jwt", reason="the extra 'attest' is not installed")

from evidence import NONCE, Signer
from penstock.fleet.load import parse_fleet
from small_fleet import FLEET
from turning_gateway import ask, gateway, process, read

MODEL = "llama-3-8b"


def attested_fleet(tmp_path, *, allow=False):
    signer = Signer(tmp_path)
    evidence = tmp_path / "evidence.json"
    evidence.write_bytes(signer.sign("GPU-1", now_s=time.time()))
    return parse_fleet(FLEET, overrides={
        "accelerators": [{"name": "h100-80gb", "count": 1, "confidential": True, "attestation": {
            "evidence": str(evidence), "nonce": NONCE, "devices": ["GPU-1"]}}],
        "attestation": {"verifier": "test", "keys": str(signer.keys_path)},
        "disclosure": {"allow_model_counts": allow},
        "models": [{"name": MODEL}],
        "traffic": [{"model": "auto", "mix": {"chat": 1.0}, "rate_per_s": 1,
                     "lengths": {"prompt": {"fixed": 4}, "output": {"fixed": 4}}}],
        "replicas": None,
        "residency": [{"name": "gpu", "memory_gib": 20, "policy": "first-come", "models": [
            {"model": MODEL, "size_gib": 15, "batch": {"fixed_s": 0.1, "per_request_s": 0.01},
             "load_s": 1, "engine": process()}]}]})


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


def test_counts_by_model_are_told_where_the_operator_allows_it(tmp_path) -> None:
    status, metrics = told(tmp_path, allow=True)
    assert status["pools"][0]["models"][0]["num_started"] == 1
    assert "penstock:model_requests_started_total{" in metrics
