"""CPU time, wall time and memory of AISimulate and Penstock on the same questions.

    python benchmarks/rivals_speed.py RIVALS_PYTHON simulate 5000 --repeats 3
    python benchmarks/rivals_speed.py RIVALS_PYTHON simulate 1000000
    python benchmarks/rivals_speed.py RIVALS_PYTHON plan

RIVALS_PYTHON is the interpreter of an environment with aisimulate. ``--ours`` names the executable
of Penstock; left out, that of this interpreter. Every figure is of whole processes, from their
start to their last file, with their children: user and system time, wall time, and the peak memory
of the largest process. The two take turns; ``cpu_ratio`` is the median of theirs over ours.

``simulate`` replays one trace file of NUMBER requests: Poisson arrivals at 6.5 requests/s a
replica, lengths of the Azure conversation trace, round robin over 1 and 8 replicas of llama-3.1-8b.
Both compose step times from the kernel tables that aisimulate ships (vLLM), plan steps of 8,192
tokens and 256 sequences, cache no prefix and have no host overhead. Penstock writes its tables of
requests and its page, AISimulate a summary; ``no page`` is Penstock without its page.

``plan`` asks for the fewest GPUs that serve a load within targets: Penstock's plan, AISimulate's
own search for the fewest GPUs, and a loop of AISimulate's predictions over numbers of replicas.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common import show

# Their name, ours, and the version of vLLM whose tables both take.
GPUS = {"a100": ("a100_sxm", "a100-80gb", "0.14.0"), "h100": ("h100_sxm", "h100-80gb", "0.24.0")}
THEIR_MODEL, OUR_MODEL = "meta-llama/Meta-Llama-3.1-8B", "llama-3.1-8b"
STEP_TOKENS, STEP_SEQS, BLOCK_TOKENS = 8192, 256, 512
RATE_PER_S = 6.5
# The load of the plan: rate, lengths, targets.
PLAN = {"rate_per_s": 40.0, "prompt": 1000, "output": 200, "ttft_s": 1.0, "tpot_s": 0.05}
MOST_GPUS = 16
TRIALS = 8  # as in the example of AISimulate's documents; its default is 320
PLAN_REQUESTS = 2000


def measured(command: list[str], folder: Path) -> dict[str, Any]:
    """Run a command to its end. Raises RuntimeError where it fails; 1 of Penstock is a verdict."""
    with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
        began_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=folder)
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began_s
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        said, errors = out.read().decode(), err.read().decode()
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(command)}: status {process.returncode}\n{errors[-2000:]}")
    return {"cpu_s": used.ru_utime + used.ru_stime, "wall_s": wall_s,
            "peak_mb": used.ru_maxrss // 1024, "stdout": said}


def write_trace(path: Path, number: int, rate_per_s: float) -> None:
    """Requests that share no prefix, in the JSON lines that both read (Mooncake's)."""
    import numpy as np

    from penstock.workload.length_tables import length_table

    rng = np.random.default_rng(0)
    lengths = length_table("azure-2023-conv").draw(rng, number)
    arrival_ms = 1e3 * np.cumsum(rng.exponential(1.0 / rate_per_s, number))
    used = 0
    with path.open("w") as file:
        for time_ms, prompt, output in zip(arrival_ms.tolist(), lengths.prompt_tokens.tolist(),
                                           lengths.output_tokens.tolist(), strict=True):
            blocks = range(used, used := used + -(-prompt // BLOCK_TOKENS))
            file.write(json.dumps({"timestamp": round(time_ms, 3), "input_length": prompt,
                                   "output_length": output, "hash_ids": list(blocks)}) + "\n")


def tables_of(python: str) -> str:
    """The folder of the kernel tables that aisimulate ships."""
    code = "import aisimulate_core, pathlib; print(pathlib.Path(aisimulate_core.__file__).parent)"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return f"{found.stdout.strip()}/systems/data"


def version_of(python: str) -> str:
    code = "from importlib.metadata import version; print(version('aisimulate'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True,
                          check=True).stdout.strip()


def their_engine(gpu: str, replicas: int) -> dict[str, Any]:
    return {"model": THEIR_MODEL, "hardware": GPUS[gpu][0], "backend": "vllm",
            "backend_version": GPUS[gpu][2], "workers": {
        "aggregated": {
            "parallelism": {"replicas": replicas}, "kv_cache": {"prefix_caching": False},
            "scheduler": {"max_batched_tokens": STEP_TOKENS, "max_sequences": STEP_SEQS}}}}


def their_trace(trace: Path, gpu: str, replicas: int) -> dict[str, Any]:
    return {"traffic": {"source": {"type": "trace", "paths": [str(trace)], "format": "mooncake",
                                   "block_size": BLOCK_TOKENS},
                        "load": {"type": "trace_timestamps"}},
            "engine": their_engine(gpu, replicas)}


def our_trace(trace: Path, gpu: str, replicas: int, tables: str) -> dict[str, Any]:
    accelerator = GPUS[gpu][1]
    step_time = {"kind": "kernels", "path": tables, "system": GPUS[gpu][0],
                 "version": GPUS[gpu][2], "host_overhead_s": 0}
    return {"name": "rivals", "accelerators": [{"name": accelerator, "count": replicas}],
            "models": [{"name": OUR_MODEL}],
            "service_classes": [{"name": "chat", "slo": {"ttft_s": 1, "itl_s": 0.05}}],
            "traffic": [{"trace": {"file": str(trace), "arrivals": "own"}}],
            "replicas": [{"accelerator": accelerator, "count": replicas, "step_time": step_time}],
            "policies": {"route": "round_robin",
                         "schedule": {"name": "sarathi", "chunk_tokens": STEP_TOKENS,
                                      "max_num_seqs": STEP_SEQS}},
            "run": {"beliefs": "exact"}}


def written(config: dict[str, Any], path: Path) -> str:
    path.write_text(json.dumps(config))  # YAML holds JSON
    return str(path)


def predict(python: str, config: str, folder: Path) -> list[str]:
    return [python, "-m", "aisimulate", "predict", "-c", config, "--format", "json",
            "--output-dir", str(folder / "theirs"), "--overwrite"]


def their_answer(said: str) -> dict[str, float]:
    found = json.loads(said.strip().splitlines()[-1])
    return {"finished": found["completed_requests"], "ttft_s": found["median_ttft_ms"] / 1e3,
            "tpot_s": found["median_tpot_ms"] / 1e3}


def our_answer(said: str) -> dict[str, float]:
    found = json.loads(said)["overall"]
    return {"finished": found["finished"], "ttft_s": found["latency"]["ttft_s"]["p50"],
            "tpot_s": found["latency"]["tpot_s"]["p50"]}


def in_turn(commands: dict[str, list[str]], repeats: int, folder: Path
            ) -> dict[str, list[dict[str, Any]]]:
    """The runs of each command; the order turns around from one repeat to the next."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for repeat in range(repeats):
        for name in list(commands)[::-1 if repeat % 2 else 1]:
            runs[name].append(measured(commands[name], folder))
            told = {key: runs[name][-1][key] for key in ("cpu_s", "wall_s", "peak_mb")}
            print(name, told, file=sys.stderr, flush=True)
    return runs


def medians(runs: Iterable[dict[str, Any]]) -> dict[str, float]:
    found = list(runs)
    return {key: round(statistics.median(run[key] for run in found), 3)
            for key in ("cpu_s", "wall_s", "peak_mb")}


def against(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, float]:
    """Ratios, theirs over ours."""
    one, other = medians(theirs), medians(ours)
    return {f"{key.split('_')[0]}_ratio": round(one[key] / other[key], 2) for key in one}


def simulate(python: str, penstock: str, number: int, repeats: int, gpu: str,
             sizes: list[int]) -> Iterator[dict[str, Any]]:
    """A row for each number of replicas."""
    tables = tables_of(python)
    for replicas in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            trace = folder / "trace.jsonl"
            write_trace(trace, number, RATE_PER_S * replicas)
            theirs = written(their_trace(trace, gpu, replicas), folder / "theirs.yaml")
            ours = written(our_trace(trace, gpu, replicas, tables), folder / "ours.yaml")
            run = [penstock, "run", ours, "--json", "--out", str(folder / "ours")]
            runs = in_turn({"AISimulate": predict(python, theirs, folder), "Penstock": run,
                            "no page": [*run, "--no-report"]}, repeats, folder)
            answers = {"AISimulate": their_answer(runs["AISimulate"][-1]["stdout"]),
                       "Penstock": our_answer(runs["Penstock"][-1]["stdout"])}
        yield {"requests": number, "replicas": replicas, "gpu": gpu,
               "medians": {system: medians(found) for system, found in runs.items()},
               "theirs_over_ours": {name: against(runs["AISimulate"], runs[name])
                                    for name in ("Penstock", "no page")},
               "answers": answers}


def their_search(gpu: str, trials: int) -> dict[str, Any]:
    """AISimulate's own search for the fewest GPUs."""
    return {"traffic": {"source": {"type": "synthetic", "input_tokens": PLAN["prompt"],
                                   "output_tokens": PLAN["output"]},
                        "load": {"type": "poisson", "requests_per_second": PLAN["rate_per_s"],
                                 "seed": 0},
                        "stop": {"requests": PLAN_REQUESTS}},
            "engine": {"mode": "aggregated", "model": THEIR_MODEL, "hardware": GPUS[gpu][0],
                       "backend": "vllm", "backend_version": GPUS[gpu][2],
                       "workers": {"aggregated": {"parallelism": {
                           "preset": False, "tensor": 1, "pipeline": 1, "attention_data": 1,
                           "moe_tensor": 1, "moe_expert": 1,
                           "replicas": {"range": {"min": 1, "max": MOST_GPUS, "step": 1}}}}}},
            "evaluation": {"sla": {"ttft_ms": PLAN["ttft_s"] * 1e3,
                                   "itl_ms": PLAN["tpot_s"] * 1e3}},
            "optimization": {"target": "min_gpus", "hardware": GPUS[gpu][0], "strict_sla": True,
                             "constraints": {"max_candidate_gpus": MOST_GPUS,
                                             "min_goodput_rps": 0.95 * PLAN["rate_per_s"]}},
            "optimizer": {"max_trials": trials},
            # On a busy host their process takes longer to start and to end than they allow.
            "execution": {"resources": {"initialization_timeout_seconds": 600.0,
                                        "shutdown_timeout_seconds": 600.0}}}


def their_point(gpu: str, replicas: int) -> dict[str, Any]:
    return {"traffic": their_search(gpu, TRIALS)["traffic"], "engine": their_engine(gpu, replicas)}


def loop(python: str, gpu: str, folder: Path) -> dict[str, Any]:
    """The fewest replicas by one prediction each, from 1 up, whose p99 meets both targets."""
    total: dict[str, Any] = {"cpu_s": 0.0, "wall_s": 0.0, "peak_mb": 0}
    for replicas in range(1, MOST_GPUS + 1):
        config = written(their_point(gpu, replicas), folder / "point.yaml")
        run = measured(predict(python, config, folder), folder)
        total = {"cpu_s": total["cpu_s"] + run["cpu_s"], "wall_s": total["wall_s"] + run["wall_s"],
                 "peak_mb": max(total["peak_mb"], run["peak_mb"])}
        found = json.loads(run["stdout"].strip().splitlines()[-1])
        if found["p99_ttft_ms"] <= 1e3 * PLAN["ttft_s"] \
                and found["p99_tpot_ms"] <= 1e3 * PLAN["tpot_s"]:
            return {**total, "answer": _gpus(replicas)}
    return {**total, "answer": f"more than {MOST_GPUS} GPUs"}


def plan(python: str, penstock: str, repeats: int, gpu: str, trials: int) -> dict[str, Any]:
    step_time = (f"engine.step_time={{kind: kernels, path: {tables_of(python)}, "
                 f"system: {GPUS[gpu][0]}, version: {GPUS[gpu][2]}}}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        search = written(their_search(gpu, trials), folder / "search.yaml")
        commands = {
            "Penstock": [penstock, "plan", "--model", OUR_MODEL, "--gpu",
                         f"{GPUS[gpu][1]}:{MOST_GPUS}", "--rate", str(PLAN["rate_per_s"]),
                         "--ttft", str(PLAN["ttft_s"]), "--tpot", str(PLAN["tpot_s"]),
                         "--prompt-tokens", str(PLAN["prompt"]), "--output-tokens",
                         str(PLAN["output"]), "--requests", str(PLAN_REQUESTS),
                         "--precisions", "bf16", "--set", step_time, "--jobs", "1", "--json",
                         "--out", str(folder / "ours")],
            "AISimulate's search": [python, "-m", "aisimulate", "recommend", "-c", search,
                                    "--format", "json", "--output-dir", str(folder / "theirs"),
                                    "--overwrite"]}
        runs = in_turn(commands, repeats, folder)
        looped = [loop(python, gpu, folder) for _ in range(repeats)]
    return {"question": {**PLAN, "gpu": gpu, "most_gpus": MOST_GPUS, "trials": trials},
            "medians": {system: medians(found) for system, found in
                        {**runs, "AISimulate in a loop": looped}.items()},
            "theirs_over_ours": {"search": against(runs["AISimulate's search"], runs["Penstock"]),
                                 "loop": against(looped, runs["Penstock"])},
            "answers": {"Penstock": _gpus(sum(
                            one["count"] for one in
                            json.loads(runs["Penstock"][-1]["stdout"])["replicas"])),
                        "AISimulate's search": _gpus(_fewest(
                            runs["AISimulate's search"][-1]["stdout"])),
                        "AISimulate in a loop": looped[-1]["answer"]}}


def _fewest(said: str) -> int:
    """The GPUs of the best of AISimulate's recommendations."""
    return min(int(one["used_gpus"]) for one in json.loads(said.strip().splitlines()[-1]))


def _gpus(number: int) -> str:
    return f"{number} GPUs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", metavar="RIVALS_PYTHON")
    parser.add_argument("what", choices=("simulate", "plan"))
    parser.add_argument("number", type=int, nargs="?", default=5000)
    parser.add_argument("--ours", default=str(Path(sys.executable).with_name("penstock")))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--gpu", choices=tuple(GPUS), default="h100")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--trials", type=int, default=TRIALS, help="of AISimulate's search")
    asked = parser.parse_args()
    found: Any
    if asked.what == "plan":
        found = plan(asked.python, asked.ours, asked.repeats, asked.gpu, asked.trials)
    else:
        found = list(simulate(asked.python, asked.ours, asked.number, asked.repeats, asked.gpu,
                              asked.replicas))
    show({"aisimulate": version_of(asked.python), asked.what: found})


if __name__ == "__main__":
    main()
