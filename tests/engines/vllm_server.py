"""vLLM's own HTTP server as a process, with Penstock's scheduler inside."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MODEL = "llama-3.1-8b"  # a name that fleet files know; the weights are a tiny model's
_PATIENCE_S = 240


def with_tokenizer(model: Path) -> None:
    """Give a model of 512 tokens words for them: t0 to t511."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"t{number}": number for number in range(512)}, "t0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="t0").save_pretrained(model)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """One process group: the HTTP server and the engine that it starts. Without settings of
    ``penstock``, vLLM's own scheduler runs, with the arguments ``more``."""

    def __init__(self, model: Path, penstock: Mapping[str, Any] | None, log: Path,
                 variables: Mapping[str, str] | None = None, more: Sequence[str] = ()) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = log
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
                       "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1",
                       "VLLM_CPU_OMP_THREADS_BIND": "nobind", **(variables or {})}
        environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
        scheduler = [] if penstock is None else [
            "--no-enable-prefix-caching", "--scheduler-cls",
            "penstock.engines.vllm.scheduler.PenstockScheduler",
            "--additional-config", json.dumps({"penstock": dict(penstock)})]
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vllm.entrypoints.openai.api_server",
                 "--model", str(model), "--served-model-name", MODEL, "--host", "127.0.0.1",
                 "--port", self.url.rpartition(":")[2], "--enforce-eager", "--dtype", "float32",
                 "--max-model-len", "2048", "--max-num-batched-tokens", "256",
                 "--max-num-seqs", "16", "--block-size", "32", "--num-gpu-blocks-override", "512",
                 *scheduler, *more],
                env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)

    def wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s:
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise AssertionError(f"vLLM did not start: {self.log.read_text()[-4000:]}")

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines
                   if line.startswith((f"{name}{{", f"{name} ")))

    def kill(self) -> None:
        """All of it at once, without a chance to say goodbye."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)

    def stop(self) -> None:
        """As an operator would."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def gateway(fleet: Path) -> Iterator[str]:
    """``penstock serve``; its URL."""
    with subprocess.Popen([sys.executable, "-m", "penstock", "serve", str(fleet), "--port", "0"],
                          stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            word, url = process.stdout.readline().split()
            assert word == "gateway"
            yield url
        finally:
            process.terminate()
