"""Real vLLM servers with a model of random weights, their gateway, and timed requests to them."""

import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import yaml

MODEL = "llama-3.1-8b"
PATIENCE_S = 240
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0, "max_position_embeddings": 131072, "hidden_act": "silu",
    "tie_word_embeddings": False, "bos_token_id": 128000, "eos_token_id": 128001,
    "torch_dtype": "bfloat16"}
TINY = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "vocab_size": 512,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"}


@dataclass(frozen=True)
class Setting:
    """What the parts share: a folder, a model, and whether all is tiny."""

    out: Path
    model: Path
    tiny: bool

    @property
    def vocabulary(self) -> int:
        found = json.loads((self.model / "config.json").read_text())["vocab_size"]
        assert isinstance(found, int)
        return found


def made_model(folder: Path, tiny: bool) -> Path:
    """A folder with a configuration, and a tokenizer of one word per token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    config = LLAMA | (TINY if tiny else {})
    (folder / "config.json").write_text(json.dumps(config))
    words = Tokenizer(models.WordLevel({f"t{number}": number
                                        for number in range(config["vocab_size"])}, "t0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="t0").save_pretrained(folder)
    return folder


# -- servers ------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """vLLM's server as a process group."""

    def __init__(self, setting: Setting, name: str, arguments: Sequence[str],
                 variables: dict[str, str] | None = None) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = setting.out / f"{name}.log"
        self.command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model",
                        str(setting.model), "--load-format", "dummy", "--served-model-name", MODEL,
                        "--host", "127.0.0.1", "--port", self.url.rpartition(":")[2], *arguments]
        if setting.tiny:
            self.command += ["--enforce-eager", "--num-gpu-blocks-override", "512"]
            variables = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1",
                         "VLLM_CPU_OMP_THREADS_BIND": "nobind", **(variables or {})}
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
                       **(variables or {})}
        self._started_s = time.monotonic()
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(self.command, env=environment, stdout=stream,
                                            stderr=subprocess.STDOUT, start_new_session=True)

    def wait(self) -> float:
        """Seconds from the start until the server answers."""
        while time.monotonic() - self._started_s < PATIENCE_S:
            if self.process.poll() is not None:
                break
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return time.monotonic() - self._started_s
            time.sleep(0.25)
        raise RuntimeError(f"{self.log.name}: {self.log.read_text(errors='replace')[-3000:]}")

    def metrics(self, start: str) -> dict[str, float]:
        """Values of the metrics whose names begin so, without buckets."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines
                if line.startswith(start) and "_bucket" not in line and "_created" not in line}

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@contextmanager
def servers(*found: Server) -> Iterator[list[float]]:
    """Servers that have started, with the seconds that each start took."""
    try:
        yield [server.wait() for server in found]
    finally:
        for server in found:
            server.kill()


@contextmanager
def gateway(setting: Setting, name: str, fleet: dict[str, Any]) -> Iterator[str]:
    """``penstock serve``; its URL."""
    file = setting.out / f"{name}.yaml"
    file.write_text(yaml.safe_dump({
        "name": name, "accelerators": [{"name": "h100-80gb"}], "models": [{"name": MODEL}],
        "service_classes": [{"name": "chat", "slo": {"ttft_s": 30}}],
        "traffic": [{"lengths": {"prompt": {"fixed": 100}, "output": {"fixed": 10}},
                     "rate_per_s": 1, "num_requests": 1}], **fleet}))
    with (setting.out / f"{name}-gateway.log").open("wb") as log, subprocess.Popen(
            [sys.executable, "-m", "penstock", "serve", str(file), "--port", "0"],
            stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            assert process.stdout is not None
            word, _, url = process.stdout.readline().partition(" ")
            assert word == "gateway", word
            yield url.strip()
        finally:
            process.terminate()


# -- requests -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timed:
    """Times of one streamed answer, seconds."""

    ttft_s: float
    tpot_s: float
    num_tokens: int
    at_s: tuple[float, ...]  # of each token, by ``time.perf_counter``


async def one(session: aiohttp.ClientSession, url: str, prompt: list[int], output_tokens: int,
              model: str = MODEL) -> Timed:
    body = {"model": model, "prompt": prompt, "max_tokens": output_tokens, "temperature": 0,
            "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    started_s = time.perf_counter()
    times, num_tokens = [], 0
    async with session.post(f"{url}/v1/completions", json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {(await answer.text())[:300]}")
        async for line in answer.content:
            if line.startswith(b"data: {"):
                assert b'"error"' not in line[:20], line
                at_s = time.perf_counter()
                event = json.loads(line[6:])
                if event["choices"]:
                    times.append(at_s)
                else:
                    num_tokens = event["usage"]["completion_tokens"]
    return Timed(times[0] - started_s, (times[-1] - times[0]) / max(1, output_tokens - 1),
                 num_tokens, tuple(times))


def ask(url: str, requests: Sequence[tuple[str, list[int]]], output_tokens: int) -> list[Timed]:
    """Answers to requests (model and prompt) that are sent at once."""
    async def all_of_them() -> list[Timed]:
        limits = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=limits,
                                         timeout=aiohttp.ClientTimeout(180)) as session:
            return await asyncio.gather(*(one(session, url, prompt, output_tokens, model)
                                          for model, prompt in requests))
    return asyncio.run(all_of_them())


def prompts(setting: Setting, num: int, tokens: int, seed: int) -> list[list[int]]:
    rng, vocabulary = Random(seed), setting.vocabulary
    return [[rng.randrange(3, vocabulary) for _ in range(tokens)] for _ in range(num)]


def median_ttft_ms(url: str, asked: Sequence[list[int]], output_tokens: int = 4) -> float:
    """Median TTFT of requests one after the other."""
    return 1e3 * statistics.median(ask(url, [(MODEL, prompt)], output_tokens)[0].ttft_s
                                   for prompt in asked)


def post(url: str, body: dict[str, Any] | None = None) -> tuple[float, int]:
    """Seconds and status of a POST."""
    request = urllib.request.Request(url, json.dumps(body or {}).encode(),
                                     {"Content-Type": "application/json"}, method="POST")
    started_s = time.perf_counter()
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()
        return time.perf_counter() - started_s, int(answer.status)


def penstock(*arguments: str) -> dict[str, Any]:
    """Output of a command with ``--json``."""
    done = subprocess.run([sys.executable, "-m", "penstock", *arguments, "--json"],
                          capture_output=True, text=True, timeout=400)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{arguments}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found
