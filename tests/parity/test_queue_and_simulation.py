"""The queueing model's percentiles against the simulator: one replica, Poisson arrivals.

Tolerances are what the model is documented to reach at moderate load (docs/reference/queueing.md).
"""

import json

import numpy as np
import pytest

from penstock.fleet.load import load_fleet
from penstock.fleet.sources import fleet_workload
from penstock.perf.evidence import Evidence
from penstock.perf.queueing.analysis import analyze
from penstock.perf.queueing.build import from_step_model
from penstock.perf.queueing.parameters import RequestSize, Variability
from penstock.perf.step_time.linear import LinearStepTime
from penstock.sim.simulation import simulate

FLEET = """\
name: one-replica
accelerators: [{{name: a100-80gb, count: 1}}]
models: [{{name: llama-3-8b, max_context_tokens: 200000}}]
service_classes: [{{name: chat, slo: {{}}}}]
engine: {{kv_tokens: 2000000}}
traffic:
  - mix: {{chat: 1}}
    lengths: {{prompt: {prompt}, output: {output}}}
    arrivals: poisson
    rate_per_s: {rate}
    num_requests: {num_requests}
replicas:
  - count: 1
    step_time: {{kind: linear, coefficients: {{base_s: 0.01, prefill_token_s: {token_s},
      work_s: {work_s}, decode_seq_s: {token_s}, context_s: 5.0e-8}}}}
policies: {{schedule: {{name: sarathi, chunk_tokens: {budget}, max_num_seqs: {slots}}}}}
"""
# Prompt, answer, step budget, slots, seconds per token and per token^2 of attention.
CHAT = (256, 256, 2048, 64, 3e-5, 0.0)
CHUNKED = (2000, 128, 512, 128, 6e-5, 2e-9)
SPREAD = 0.8  # sd of ln(tokens) where lengths vary


def lengths(mean: int, varied: bool) -> str:
    if not varied:
        return f"{{fixed: {mean}}}"
    mu = np.log(mean) - SPREAD**2 / 2.0
    return f"{{weights: [1], mus: [{mu}], sigmas: [{SPREAD}], max_tokens: 100000}}"


def gap_percentile(journal, percentile: float) -> float:
    """Of the gaps between tokens, each decode of a step being one."""
    gaps, counts, started = [], [], 0.0
    for line in journal.read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "plan":
            started = record["now_s"]
        elif record["kind"] == "commit" and record["features"][2]:
            gaps.append((record["now_s"] - started) / record["num_steps"])
            counts.append(record["features"][2] * record["num_steps"])
    order = np.argsort(gaps)
    shares = np.cumsum(np.array(counts)[order]) / sum(counts)
    return float(np.array(gaps)[order][np.searchsorted(shares, percentile / 100.0)])


@pytest.mark.parametrize("varied", [False, True])
@pytest.mark.parametrize("load", [0.3, 0.6])
@pytest.mark.parametrize("case", [pytest.param(CHAT, id="chat"), pytest.param(
    CHUNKED, id="chunked", marks=pytest.mark.long)])
def test_percentiles_at_moderate_load(case, load, varied, tmp_path) -> None:
    prompt, output, budget, slots, token_s, work_s = case
    scv = float(np.expm1(SPREAD**2)) if varied else 0.0
    model = LinearStepTime(0.01, token_s, work_s, token_s, 5e-8, Evidence("test", 0.0, 0.0))
    batch = from_step_model(model, RequestSize(prompt, output), slots, max_step_tokens=budget,
                            variability=Variability(1.0, scv, scv))
    rate = load * float(batch.capacity_per_s[0])
    (tmp_path / "fleet.yaml").write_text(FLEET.format(
        prompt=lengths(prompt, varied), output=lengths(output, varied), rate=rate,
        num_requests=6000, token_s=token_s, work_s=work_s, budget=budget, slots=slots))
    fleet = load_fleet(tmp_path / "fleet.yaml")
    result = simulate(fleet, fleet_workload(fleet, 1), journal_dir=tmp_path, seed=1)
    ours = analyze(batch, np.array([rate]))
    simulated = np.percentile(result.table.ttft_s, ours.percentiles)
    assert ours.ttft_percentiles_s[0, :3] == pytest.approx(simulated[:3], rel=0.2)
    assert ours.ttft_percentiles_s[0, 3] == pytest.approx(simulated[3], rel=0.3)
    journal = next(tmp_path.glob("journal-0*"))
    assert ours.itl_percentiles_s[0, 3] == pytest.approx(gap_percentile(journal, 99.0), rel=0.1)
    assert ours.itl_percentiles_s[0, 0] == pytest.approx(gap_percentile(journal, 50.0), rel=0.1)
