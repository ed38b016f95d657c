"""A real engine against its simulation: vLLM on the CPU with Penstock's scheduler inside.

    python benchmarks/truth_vllm.py --vllm-python VENV/bin/python --trace TRACE [--requests 300]

A small Llama of random weights is served by vLLM's own HTTP server. Some traffic is run to journal
steps, and a step-time model is fitted to them. Then the trace's lengths (divided by ``--shrink``)
arrive anew, as a Poisson process, measured by the load generator; the simulation of the same
requests takes the fitted model. What HTTP and tokens' way take (``overhead``) is measured on single
requests, and told apart.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import show

from penstock.engine.journal import read_journal
from penstock.engine.sim.simulation import simulate
from penstock.experiment.compare_runs import compare_runs
from penstock.experiment.load.bench import BenchRun, Target, bench
from penstock.experiment.load.manner import Manner
from penstock.experiment.load.plan import LoadPlan, fleet_plan
from penstock.fleet.load import load_fleet
from penstock.perf.fitting import fit_step_time
from penstock.perf.steps import StepTable
from penstock.perf.store import save_step_time

MODEL, VOCABULARY = "llama-3.1-8b", 512
STEP_TOKENS, SEQS, BLOCKS, BLOCK_TOKENS = 256, 16, 1024, 32
NUM_SINGLE = 15

MAKE_MODEL = f"""
import sys, torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
torch.manual_seed(7)
config = LlamaConfig(vocab_size={VOCABULARY}, hidden_size=512, intermediate_size=1408,
                     num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4,
                     max_position_embeddings=4096, initializer_range=0.15)
LlamaForCausalLM(config).float().save_pretrained(sys.argv[1])
words = Tokenizer(models.WordLevel({{f"t{{n}}": n for n in range({VOCABULARY})}}, "t511"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(sys.argv[1])
"""

FLEET = """\
name: truth
accelerators: [{name: a100-80gb, count: 1}]
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 30}}]
traffic:
  - trace: {file: TRACE, arrivals: poisson, shuffle: true}
    rate_per_s: 1
    num_requests: 300
replicas: [{count: 1}]
engine: {kv_tokens: KV, block_tokens: 32}
policies: {schedule: {name: sarathi, chunk_tokens: STEP, max_num_seqs: SEQS}}
"""


@contextmanager
def vllm(python: Path, folder: Path, port: int = 8731) -> Iterator[str]:
    """The URL of a server that has come up."""
    subprocess.run([python, "-c", MAKE_MODEL, str(folder / "model")], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    inside = {"policy": "sarathi", "calibrate": False, "journal": str(folder / "journal"),
              "schedule": {"chunk_tokens": STEP_TOKENS, "max_num_seqs": SEQS}}
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder / "model",
               "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", port,
               "--enforce-eager", "--dtype", "float32", "--max-model-len", 4096,
               "--max-num-batched-tokens", STEP_TOKENS, "--max-num-seqs", SEQS, "--block-size",
               BLOCK_TOKENS, "--num-gpu-blocks-override", BLOCKS, "--no-enable-prefix-caching",
               "--scheduler-cls", "penstock.engine.live.vllm_plugin.PenstockScheduler",
               "--additional-config", json.dumps({"penstock": inside})]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
                   "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                   "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    with (folder / "log").open("wb") as log, subprocess.Popen(
            list(map(str, command)), env=environment, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(log.read_text()[-3000:])
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    sys.exit("vLLM does not come up")


def cadence(journal: Path) -> StepTable:
    """The steps of a busy engine, each as long as until the next one was planned: what lies between
    two steps belongs to them. After a step that left no request, the engine was idle."""
    rows: list[tuple[float, ...]] = []
    live: set[int] = set()
    begun_s, ended = 0.0, None
    for record in read_journal(journal):
        if record["kind"] == "add":
            live.add(record["request"]["request_id"])
        elif record["kind"] == "plan":
            if ended is not None:
                rows.append((*ended["features"], record["now_s"] - begun_s))
            begun_s, ended = record["now_s"], None
        elif record["kind"] == "commit":
            live.difference_update(record["finished"])
            ended = record if live else None
    columns = np.array([row for row in rows if row[0] + row[2] > 0], dtype=np.float64).T
    return StepTable(*columns, source="steps of vLLM on this machine")


def plan_of(folder: Path, trace: Path, shrink: int, requests: int, rate: float, seed: int,
            **more: Any) -> tuple[Any, LoadPlan]:
    """The fleet, and its traffic with shortened prompts and answers."""
    text = FLEET.replace("TRACE", str(trace)).replace("KV", str(BLOCKS * BLOCK_TOKENS)).replace(
        "STEP", str(STEP_TOKENS)).replace("SEQS", str(SEQS))
    (folder / "fleet.yaml").write_text(text)
    fleet = load_fleet(folder / "fleet.yaml", {
        "traffic[0].num_requests": requests, "traffic[0].rate_per_s": rate, "run.seed": seed,
        **more})
    plan = fleet_plan(fleet)
    outputs = np.maximum(1, plan.workload.output_tokens // shrink)
    return fleet, replace(plan, workload=replace(
        plan.workload, prompt_tokens=np.clip(plan.workload.prompt_tokens // shrink, 8, 1500),
        output_tokens=outputs, max_tokens=outputs))


def measured(url: str, plan: LoadPlan) -> BenchRun:
    return asyncio.run(bench(Target(url, Manner(model=MODEL, form="ids")), plan))


def overhead_s(live: Any, simulated: Any) -> dict[str, float]:
    return {key: float(np.median(getattr(live, key) - getattr(simulated, key)))
            for key in ("ttft_s", "e2e_s")}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vllm-python", type=Path, required=True)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--shrink", type=int, default=8)
    parser.add_argument("--keep", type=Path, help="new folder for the journals and vLLM's log")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trace = options.trace.resolve()

        def planned(requests: int, seed: int, **more: Any) -> tuple[Any, LoadPlan]:
            return plan_of(folder, trace, options.shrink, requests, options.rate, seed, **more)

        with vllm(options.vllm_python, folder) as url:
            measured(url, planned(options.requests // 2, 101)[1])
            (journal,) = (folder / "journal").glob("*.jsonl")
            shutil.copy(journal, folder / "steps.jsonl")
            alone = planned(NUM_SINGLE, 7)[1].at_concurrency(1, NUM_SINGLE, None)
            single = measured(url, alone)
            run = measured(url, planned(options.requests, 1)[1])
        if options.keep is not None:
            shutil.copytree(folder, options.keep)
        fit = fit_step_time(cadence(folder / "steps.jsonl"), "auto")
        save_step_time(fit.model, folder / "fitted.yaml")
        more = {"replicas[0].step_time": str(folder / "fitted.yaml")}
        fleet, plan = planned(options.requests, 1, **more)
        idle = replace(alone.workload, arrival_s=np.arange(NUM_SINGLE) * 60.0)
        taken = overhead_s(single.table, simulate(fleet, idle).table)
        simulated = simulate(fleet, plan.workload).table
        shifted = replace(simulated, first_token_s=simulated.first_token_s + taken["ttft_s"],
                          last_token_s=simulated.last_token_s + taken["e2e_s"])
        figures = compare_runs({"live": run.table, "simulated": simulated,
                                "with_overhead": shifted})["classes"]["chat"]
    show({"requests": options.requests, "rate_per_s": options.rate, "shrink": options.shrink,
          "outcomes": run.summary["outcomes"],
          "lateness_s": run.summary["generator"]["lateness_s"], "overhead_s": taken,
          "fit": {"form": fit.form, "num_steps": fit.num_steps, "mean": fit.blocked.mean,
                  "median": fit.blocked.median, "p95": fit.blocked.p95},
          "relative_error": {name: _relative(found) for name, found in figures.items()
                             if "differences" in found and name != "attainment"}})


def _relative(found: dict[str, Any]) -> dict[str, Any]:
    live, simulated, _ = found["values"]
    return {"live_s": live, "simulated_s": simulated,
            **{name: {key: value / live for key, value in difference.items()}
               for name, difference in zip(("error", "error_with_overhead"),
                                           found["differences"][1:], strict=True)}}


if __name__ == "__main__":
    main()
