"""Two real vLLM servers with NIXL's connector, paired by the gateway: one prefills, one answers.

NIXL is not installed in CI: ``pip install nixl`` beside vLLM.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from vllm_server import MODEL, free_port, gateway, with_tokenizer

pytestmark = [
    pytest.mark.skipif(find_spec("nixl") is None,
                       reason="NIXL is not installed: pip install nixl beside vLLM"),
    pytest.mark.filterwarnings("default")]

_PATIENCE_S = 240
PROMPT = " ".join(f"t{(7 * number) % 512}" for number in range(150))
ROLES = {"prefill": "kv_producer", "decode": "kv_consumer"}


def answered(url: str, prompt: str = PROMPT) -> tuple[str, str]:
    """The text and the decision of a request."""
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 12, "temperature": 0,
            "ignore_eos": True}
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
        found = json.loads(answer.read())
        return found["choices"][0]["text"], answer.headers.get("X-Penstock-Decision", "")


def attempts(url: str, decision: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/v1/penstock/decisions/{decision}", timeout=30) as answer:
        return [one["outcome"] for one in json.loads(answer.read())["attempts"]]


def metric(url: str, name: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{"))


def started(model: Path, role: str, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server with a connector, and its URL. ``started`` does not wait for the server."""
    port = free_port()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
                   "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1", "UCX_TLS": "tcp,sm,self",
                   "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                   "VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1",
                   "VLLM_NIXL_SIDE_CHANNEL_PORT": str(free_port())}
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    connector = {"kv_connector": "NixlConnector", "kv_role": ROLES[role],
                 "kv_buffer_device": "cpu"}
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
             "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port),
             "--enforce-eager", "--dtype", "float32", "--max-model-len", "2048",
             "--max-num-batched-tokens", "256", "--max-num-seqs", "16", "--block-size", "32",
             "--num-gpu-blocks-override", "512", "--no-enable-prefix-caching",
             "--kv-transfer-config", json.dumps(connector)],
            env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True), \
            f"http://127.0.0.1:{port}"


def wait_for(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"vLLM did not start: {log.read_text()[-4000:]}")


@contextmanager
def pair(model: Path, folder: Path) -> Iterator[dict[str, tuple[Any, str]]]:
    """Process and URL of a server of each role."""
    found = {role: started(model, role, folder / f"{role}.log") for role in ROLES}
    try:
        for role, (process, url) in found.items():
            wait_for(process, url, folder / f"{role}.log")
        yield found
    finally:
        for process, _ in found.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def fleet_file(folder: Path, urls: dict[str, str]) -> Path:
    path = folder / "apart.yaml"
    path.write_text(yaml.safe_dump({
        "name": "apart", "accelerators": [{"name": "h100-80gb"}], "models": [{"name": MODEL}],
        "service_classes": [{"name": "chat", "slo": {"ttft_s": 30}}],
        "traffic": [{"lengths": {"prompt": {"fixed": 100}, "output": {"fixed": 10}},
                     "rate_per_s": 1, "num_requests": 1}],
        "replicas": [{"role": role, "engine": "vllm", "endpoints": [url]}
                     for role, url in urls.items()],
        "disaggregation": {"transfer": {"gb_per_s": 1}}}))
    return path


def test_one_prefills_the_other_answers_and_a_lost_role_loses_nothing(
        tiny_llama: Path, tmp_path: Path) -> None:
    with_tokenizer(tiny_llama)
    with pair(tiny_llama, tmp_path) as servers, gateway(fleet_file(
            tmp_path, {role: url for role, (_, url) in servers.items()})) as url:
        alone, _ = answered(servers["decode"][1])
        text, decision = answered(url)
        assert text == alone
        assert attempts(url, decision) == ["prefilled for another engine", "answered 200"]
        assert metric(servers["decode"][1], "vllm:nixl_bytes_transferred_sum") > 0
        prompts = [f"t{number} {PROMPT}" for number in range(12)]
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(answered, url, prompt) for prompt in prompts]
            asked[3].result()
            os.killpg(servers["prefill"][0].pid, signal.SIGKILL)
            texts = [one.result()[0] for one in asked]
        assert texts == [answered(servers["decode"][1], prompt)[0] for prompt in prompts]
