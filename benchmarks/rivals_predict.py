"""Predictions of AIConfigurator and AISimulate for measured points, with their own shipped data.

    RIVALS_PYTHON benchmarks/rivals_predict.py jobs.json predictions.json

Runs in an environment of its own, which has aisimulate (`pip install --pre aisimulate`); needs
nothing of Penstock. `benchmarks/rivals.py` calls it.
"""

import io
import json
import logging
import sys
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

SYSTEMS = {"h100-80gb": "h100_sxm", "h200": "h200_sxm", "b200": "b200_sxm", "b300": "b300_sxm",
           "gb200": "gb200", "gb300": "gb300", "a100-80gb": "a100_sxm", "l40s": "l40s",
           "rtx-pro-6000": "rtx_pro_6000_server"}
# A checkpoint whose published configuration has the format of the point.
CHECKPOINTS = {
    ("Qwen/Qwen3-32B", "fp8"): "Qwen/Qwen3-32B-FP8",
    ("meta-llama/Llama-3.1-70B", "fp8"): "nvidia/Llama-3.1-70B-Instruct-FP8",
    ("meta-llama/Llama-3.1-70B", "bf16"): "meta-llama/Meta-Llama-3.1-70B",
    ("meta-llama/Llama-3.1-8B-Instruct", "bf16"): "meta-llama/Meta-Llama-3.1-8B",
    ("meta-llama/Llama-3.1-8B-Instruct", "fp8"): "meta-llama/Meta-Llama-3.1-8B",
    ("nvidia/Llama-3.1-8B-Instruct-FP8", "fp8"): "meta-llama/Meta-Llama-3.1-8B",
    ("nvidia/DeepSeek-R1-NVFP4", "fp4"): "nvidia/DeepSeek-V3.1-NVFP4",
    ("deepseek-ai/DeepSeek-R1", "fp4"): "nvidia/DeepSeek-V3.1-NVFP4",
    ("deepseek-ai/DeepSeek-V3", "fp4"): "nvidia/DeepSeek-V3.1-NVFP4",
    ("deepseek-ai/DeepSeek-R1-0528", "fp4"): "nvidia/DeepSeek-V3.1-NVFP4",
    ("deepseek-ai/DeepSeek-R1-0528", "fp8"): "deepseek-ai/DeepSeek-R1",
    ("MiniMaxAI/MiniMax-M2.5", "fp4"): "nvidia/MiniMax-M2.5-NVFP4",
    ("moonshotai/Kimi-K2.5", "fp4"): "nvidia/Kimi-K2.5-NVFP4",
    ("zhipuai/GLM-5", "fp4"): "nvidia/GLM-5-NVFP4"}
# Formats that no published configuration of the model states.
FORMATS = {"meta-llama/Meta-Llama-3.1-8B": {"fp8": "fp8"}}


def checkpoint(job: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The configuration of a point's model, and the format of its GEMMs where that lacks it."""
    name = CHECKPOINTS.get((job["model"], job["precision"]), job["model"])
    found = FORMATS.get(name, {}).get(job["precision"])
    return name, {} if found is None else {"gemm_quant_mode": found}


def configurator(job: dict[str, Any]) -> dict[str, float]:
    from aiconfigurator.cli.api import cli_estimate

    name, formats = checkpoint(job)
    if "prefill" in job:
        found = cli_estimate(
            model_path=name, system_name=SYSTEMS[job["hardware"]], mode="disagg",
            backend_name=job["engine"], isl=job["isl"], osl=job["osl"], **formats,
            **configured_side("prefill", job, 1),
            **configured_side("decode", job, min(job["decode"]["seqs"], round(
                job["clients"] / job["decode"]["workers"]))))
        return latencies(found, job)
    experts = {"moe_ep_size": job["ep"], "moe_tp_size": job["tp"] * job["dp"] // job["ep"]} \
        if job["mixture"] else {}
    found = cli_estimate(
        model_path=name, system_name=SYSTEMS[job["hardware"]], mode="agg",
        backend_name=job["engine"], isl=job["isl"], osl=job["osl"], ctx_tokens=8192,
        batch_size=max(1, round(job["clients"] / job["dp"])), tp_size=job["tp"],
        pp_size=job["pp"], attention_dp_size=job["dp"], **formats, **experts)
    return latencies(found, job)


def configured_side(role: str, job: dict[str, Any], seqs: int) -> dict[str, int]:
    """The workers of one role, in AIConfigurator's words, with so many sequences of each."""
    side = job[role]
    return {f"{role}_{key}": value for key, value in (
        ("tp_size", side["tp"]), ("pp_size", side["pp"]), ("attention_dp_size", side["dp"]),
        ("moe_ep_size", side["ep"]), ("moe_tp_size", side["tp"] * side["dp"] // side["ep"]),
        ("batch_size", max(1, round(seqs / side["dp"]))), ("num_workers", side["workers"]))}


def latencies(found: Any, job: dict[str, Any]) -> dict[str, float]:
    """Latencies of an estimate, and the throughput that follows by Little's law."""
    ttft_s, tpot_s = found.ttft / 1e3, found.tpot / 1e3
    return {"ttft_s": ttft_s, "tpot_s": tpot_s,
            "output_tok_per_s": job["clients"] * job["osl"] / (
                ttft_s + (job["osl"] - 1) * tpot_s)}


def worker_of(side: dict[str, Any], job: dict[str, Any], formats: dict[str, str],
              seqs: int) -> dict[str, Any]:
    """Workers of one kind, in AISimulate's words."""
    spread = {"tensor": side["tp"], "pipeline": side["pp"], "attention_data": side["dp"]}
    if job["mixture"]:
        spread |= {"moe_expert": side["ep"], "moe_tensor": side["tp"] * side["dp"] // side["ep"]}
    worker: dict[str, Any] = {"parallelism": spread, "scheduler": {
        "max_sequences": max(1, round(seqs / side["dp"]))}}
    if "prefill" in job:
        worker["replicas"] = side["workers"]
    return worker | ({"timing": formats} if formats else {})


def simulator(job: dict[str, Any]) -> dict[str, float]:
    from aisimulate.main import main

    name, formats = checkpoint(job)
    if "prefill" in job:
        workers = {role: worker_of(job[role], job, formats, job[role]["seqs"])
                   for role in ("prefill", "decode")}
    else:
        workers = {"aggregated": worker_of(job, job, formats, job["clients"])}
    config = {
        "traffic": {"source": {"type": "synthetic", "input_tokens": job["isl"],
                               "output_tokens": job["osl"]},
                    "load": {"type": "concurrency", "concurrency": job["clients"]},
                    "stop": {"requests": 6 * job["clients"]}},
        "engine": {"model": name, "hardware": SYSTEMS[job["hardware"]], "backend": job["engine"],
                   "workers": workers}}
    out = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(out):
        path = Path(folder, "point.yaml")
        path.write_text(json.dumps(config))
        status = main(["predict", "-c", str(path), "--format", "json", "--output-dir",
                       str(Path(folder, "out")), "--overwrite"])
    if status:
        raise RuntimeError(f"exit status {status}")
    found = json.loads(out.getvalue().strip().splitlines()[-1])
    return {"ttft_s": found["mean_ttft_ms"] / 1e3, "tpot_s": found["mean_tpot_ms"] / 1e3,
            "output_tok_per_s": found["output_throughput_tok_s"]}


PREDICTORS = {"AIConfigurator": configurator, "AISimulate": simulator}


def predicted(asked: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """What a system predicts for a point, or why it does not."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    name, job = asked
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return PREDICTORS[name](job)
    except (Exception, SystemExit) as error:  # what they refuse is not covered
        return {"error": f"{error} {said.getvalue()[-300:]}"}


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    asked = [(name, job) for job in jobs for name in PREDICTORS]
    found = []
    # A process each: AISimulate refuses points after others that it takes alone.
    with get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        for number, answer in enumerate(pool.imap(predicted, asked, chunksize=1), 1):
            found.append(answer)
            print(number, "of", len(asked), file=sys.stderr, flush=True)
    rows = [{"file": job["file"], "row": job["row"],
             **dict(zip(PREDICTORS, found[at * len(PREDICTORS):], strict=False))}
            for at, job in enumerate(jobs)]
    Path(sys.argv[2]).write_text(json.dumps({
        "versions": {name: version(name) for name in ("aiconfigurator", "aisimulate")},
        "rows": rows}))


if __name__ == "__main__":
    main()
