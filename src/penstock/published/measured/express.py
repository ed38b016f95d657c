"""A measured point as a fleet and its requests, or why it cannot be one."""

import re
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from penstock.catalog.engines import EngineDefaults, engine_defaults, oldest_version
from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.slo import ServiceClass, Slo
from penstock.fleet.stock import stock_intake, stock_schedule
from penstock.fleet.values import (
    AcceleratorPool,
    Choice,
    EngineOptions,
    Fleet,
    ModelChoice,
    Policies,
    ReplicaGroup,
    TrafficSpec,
)
from penstock.fleet.values_disaggregation import DisaggregationOptions
from penstock.fleet.values_speculation import SGLANG_DRAFTED_SEQS
from penstock.perf.kv_transfer import KvTransfer
from penstock.perf.step_time.rate_table import Deployment, deployment
from penstock.policy.route.roles import DECODE, PREFILL
from penstock.policy.schedule.options import SchedulerOptions
from penstock.published.measured.names import (
    NotExpressedError,
    accelerator_of,
    model_of,
    precision_of,
)
from penstock.published.measured.recipes import Side, System
from penstock.published.measured.rows import Measured
from penstock.published.measured.settings import Run, RunSettings, inferencex_settings
from penstock.published.measured.speculation import NONE, is_too_fast, speculation_of
from penstock.published.measured.split import GB_PER_S_OF_A_GPU, Split, side_row, split_of
from penstock.workload.workload import IntColumn, Loops, Workload

ENGINES = {"dynamo-trt": "tensorrt-llm", "dynamo-sglang": "sglang", "mori-sglang": "sglang",
           "dynamo-vllm": "vllm", "vllm": "vllm", "sglang": "sglang", "trtllm": "tensorrt-llm",
           "trt": "tensorrt-llm", "atom": "atom"}
_RELEASE = re.compile(r"\d+\.\d+(\.\d+)?")
# TensorRT-LLM in Dynamo's runtime images, by Dynamo's release (its release notes).
_IN_DYNAMO = {"0.5": "1.1.0", "0.7": "1.2.0", "0.8": "1.2.0", "1.1": "1.3.0"}
_CLOSED_LOOP_STEP_TOKENS = 8192
# Notes of rows that runs of InferenceX, or of its client, gave.
_INFERENCEX = "of that project"
_MOST_REQUESTS = 4096
_PROMPTS_PER_CLIENT = 10  # InferenceX: ten prompts a client
_CLASS = ServiceClass("all", Slo())


@dataclass(frozen=True, slots=True)
class Expressed:
    """A point as a fleet of equal replicas and its requests."""

    fleet: Fleet
    workload: Workload
    engine: str
    version: str
    is_inferred: bool = False

    def deployment(self, group: ReplicaGroup) -> Deployment:
        """Facts on which the rates of replicas depend."""
        return deployment(group.model, group.accelerator, group.parallelism, group.precision,
                          self.engine, self.version, group.step_role)

    @property
    def group(self) -> ReplicaGroup:
        """The replicas that decode."""
        return self.fleet.replicas[-1]


def express(row: Measured) -> Expressed:
    """Return the point as a fleet and requests. Raises NotExpressedError."""
    engine = ENGINES.get(row.framework)
    if engine is None:
        raise NotExpressedError(f"engine {row.framework}")
    found = _split(row, engine) if row.disaggregated else None
    if found is None:
        groups: tuple[ReplicaGroup, ...] = (_group(row, engine),)
    else:
        row = replace(row, version=_inside_dynamo(row, engine))
        groups = tuple(_side(side, role, row, engine, found.drafts) for side, role in (
            (found.prefill, PREFILL), (found.decode, DECODE)))
    first = groups[0]
    defaults = _defaults(row, engine, first.accelerator)
    settings = _settings(row, engine, first.model.name, first.accelerator.name, first.precision)
    width = min(group.parallelism.num_accelerators for group in groups)
    split = None if found is None else DisaggregationOptions(
        KvTransfer(width * GB_PER_S_OF_A_GPU * 1e9))
    fleet = Fleet(
        f"{row.file}:{row.row}",
        (AcceleratorPool(first.accelerator, sum(group.num_accelerators for group in groups), 0.0),),
        (ModelChoice(first.model, (first.precision,)),), (_CLASS,),
        (TrafficSpec("all", first.model.name, {_CLASS.name: 1.0}, ""),), groups,
        policies=Policies(_schedule(row, defaults, settings), Choice("round_robin")),
        engine=EngineOptions(block_tokens=defaults.block_tokens,
                             memory_fraction=settings.memory_fraction
                             or defaults.memory_fraction),
        disaggregation=split)
    return Expressed(fleet, _workload(row, first.model.name), engine, _version(row),
                     found is not None and found.is_inferred)


def _split(row: Measured, engine: str) -> Split:
    """Return the sides of a point. Raises NotExpressedError."""
    system = System(accelerator_of(row.hardware).name, model_of(row.model).name, precision_of(row),
                    engine, int(row.isl or 0), int(row.osl or 0))
    found = split_of(row, system)
    if isinstance(found, str):
        raise NotExpressedError(found)
    return found


def _inside_dynamo(row: Measured, engine: str) -> str:
    """Return the engine's release. Rows of TensorRT-LLM state that of Dynamo's image."""
    version = _version(row)
    if engine == "tensorrt-llm":
        return _IN_DYNAMO.get(".".join(version.split(".")[:2]), version)
    return version


def _side(side: Side, role: str, row: Measured, engine: str, drafts: int | None) -> ReplicaGroup:
    """Return replicas of a role."""
    drafted = role == DECODE and (row.spec_decode not in NONE if drafts is None else drafts > 0)
    group = _group(side_row(side, row, drafts=drafted), engine, drafts)
    defaults = _defaults(row, engine, group.accelerator)
    # SGLang divides a step's tokens among the ranks, other engines count each rank's own.
    ranks = 1 if engine == "sglang" else group.parallelism.data
    step_tokens = side.step_tokens or defaults.step_tokens * ranks
    options = _schedule(row, defaults, RunSettings(step_tokens=step_tokens,
                                                   max_num_seqs=side.seqs),
                        moved_prompts=role == DECODE)
    return replace(group, role=role, schedule=options)


def _group(row: Measured, engine: str, drafts: int | None = None) -> ReplicaGroup:
    """Return the replicas of a point, or of one side of it, which drafts so many tokens where that
    is known. Raises NotExpressedError."""
    model, accelerator = model_of(row.model), accelerator_of(row.hardware)
    speculation = None if row.spec_decode in NONE else speculation_of(
        row, engine, model, accelerator, drafts)
    if isinstance(speculation, str):
        raise NotExpressedError(speculation)
    parallelism = _parallelism(row, model)
    if speculation is not None and is_too_fast(row, speculation, model, accelerator, parallelism,
                                               precision_of(row)):
        raise NotExpressedError("TPOT below that of all drafts accepted at peak bandwidth")
    if reason := model.indivisible(parallelism.tensor):
        raise NotExpressedError(reason)
    precision = precision_of(row)
    count = max(1, round((row.num_gpus or 0) / parallelism.num_accelerators))
    if _is_squared(row):
        count = 1  # the number of GPUs is as wrong as the parallelism
    defaults = _defaults(row, engine, accelerator)
    settings = _settings(row, engine, model.name, accelerator.name, precision)
    kv_precision = row.kv_precision or settings.kv_precision
    return ReplicaGroup(model, accelerator, count, parallelism, precision,
                        "fp8" if kv_precision == "fp8" else "bf16",
                        step_time={"kind": "measured", "engine": engine, "version": _version(row)},
                        intake=stock_intake(defaults, settings.every_steps),
                        speculation=speculation)


def _is_squared(row: Measured) -> bool:
    """Whether a degree is stated multiplied by the number of expert ranks. The file has the same
    measurements twice, once so and once with the degree itself."""
    ep = row.ep or 1
    return ep > 1 and ep * ep in (row.tp, row.dp)


def _parallelism(row: Measured, model: ModelSpec) -> Parallelism:
    """Return the degrees of one replica. Tensor and expert ranks are the same accelerators.

    SGLang and vLLM state attention's data ranks beside as many tensor ranks: these are the same
    accelerators, too. Ranks that do not divide a mixture's heads can only be data ranks. For a
    dense model data ranks are whole replicas.
    """
    if row.tp is None:
        raise NotExpressedError("the parallelism is not stated")
    tensor, data, pipeline = int(row.tp), int(row.dp or 1), int(row.pp or 1)
    if _is_squared(row):
        root = int(row.ep or 1)
        tensor, data = (root if one == root * root else one for one in (tensor, data))
    if not model.num_moe_layers:
        return Parallelism(tensor, pipeline)
    if data > 1 and data == tensor:
        tensor = 1
    elif data == 1 and model.indivisible(tensor):
        tensor, data = 1, tensor
    expert = int(row.ep or 1)
    return Parallelism(tensor, pipeline, data, expert if tensor * data % expert == 0 else 1)


def _defaults(row: Measured, engine: str, accelerator: Accelerator) -> EngineDefaults:
    """Return the engine's defaults: of the newest version where the row names none, and of the
    oldest that is described where the row's is older."""
    version = _version(row)
    if not version:
        return engine_defaults(engine, accelerator)
    try:
        return engine_defaults(engine, accelerator, version)
    except InputError:
        return engine_defaults(engine, accelerator, oldest_version(engine))


def _version(row: Measured) -> str:
    """Return the release that a row states, empty where the row states none."""
    found = _RELEASE.search(row.version)
    return found[0] if found else ""


def _settings(row: Measured, engine: str, model: str, accelerator: str,
              precision: str) -> RunSettings:
    """Return the settings that the source of a row publishes elsewhere."""
    if _INFERENCEX not in row.notes:
        drafts_on_sglang = row.spec_decode not in NONE and engine == "sglang"
        return RunSettings(max_num_seqs=SGLANG_DRAFTED_SEQS if drafts_on_sglang else None)
    found = inferencex_settings(Run(engine, model, accelerator, precision, int(row.tp or 1),
                                    int(row.isl or 0), int(row.load_value or 1)))
    # Scripts with drafts have limits of their own, which rows show to be no less than the clients.
    return found if row.spec_decode in NONE else replace(found, max_num_seqs=None)


def is_nvidia_sweep(row: Measured) -> bool:
    """Whether a row is of NVIDIA's sweeps, whose lengths and number of requests are unstated."""
    return "NVIDIA's own sweep" in row.notes


def _seat_is_missing(row: Measured) -> bool:
    """Whether the engine computed one sequence less than there were clients: in a sweep of NVIDIA,
    times to first token grow with the answers' length, by the time of an answer over the number of
    clients, as when each client waits for a seat."""
    return (is_nvidia_sweep(row) and row.framework == "trtllm"
            and row.version == "1.0.0rc3" and "Llama-3.1-8B" in row.model)


def _schedule(row: Measured, defaults: EngineDefaults, settings: RunSettings, *,
              moved_prompts: bool = False) -> SchedulerOptions:
    """Return how the engine's own scheduler plans steps, under the limits that the row's source
    sets: load tools of closed loops allow 8,192 tokens a step, and as many sequences as clients."""
    step_tokens, seqs = defaults.step_tokens, defaults.max_num_seqs
    if row.load_kind == "concurrency" and not row.own:
        step_tokens, seqs = _CLOSED_LOOP_STEP_TOKENS, max(1, int(row.load_value or 1))
    step_tokens = settings.step_tokens or step_tokens
    seqs = min(seqs, settings.max_num_seqs or seqs)
    if _seat_is_missing(row):
        seqs = max(1, seqs - 1)
    return stock_schedule(defaults, step_tokens, seqs, moved_prompts=moved_prompts)


def _workload(row: Measured, model: str) -> Workload:
    if row.isl is None or row.osl is None or (row.load_value is None and row.load_kind != "burst"):
        raise NotExpressedError("lengths or load are not stated")
    load = row.load_value or row.num_requests or 0
    if load < 1 and row.load_kind != "rate":
        raise NotExpressedError("the load is not stated")
    rng = np.random.default_rng(crc32(f"{row.file}:{row.row}".encode()))
    loops = None
    if row.load_kind == "concurrency":
        clients = int(load)
        num = int(row.num_requests or _PROMPTS_PER_CLIENT * clients)
        num = max(clients, min(num, max(_MOST_REQUESTS, 2 * clients)))
        loops = Loops((np.zeros(clients),), np.zeros(num, np.int64), np.zeros(num))
        arrival_s = np.zeros(num)
    elif row.load_kind in ("burst", "batch"):
        num = int(load)
        arrival_s = np.zeros(num)
    elif row.load_kind == "rate":
        num = int(row.num_requests or 500)
        arrival_s = np.cumsum(rng.exponential(1.0 / load, num))
    else:
        raise NotExpressedError(f"load {row.load_kind}")
    prompts, outputs = _lengths(row, num, rng)
    zeros = np.zeros(num, np.int64)
    return Workload(arrival_s, prompts, outputs, outputs, (model,), zeros, (_CLASS.name,), zeros,
                    ("default",), zeros, np.zeros(0, np.int64), np.zeros(0, np.int64), loops=loops)


def _lengths(row: Measured, num: int, rng: np.random.Generator) -> tuple[IntColumn, IntColumn]:
    assert row.isl is not None
    assert row.osl is not None
    isl, osl = int(row.isl), max(1, int(row.osl))
    if row.length_kind == "uniform ratio 0.8":
        return (rng.integers(int(0.8 * isl), isl + 1, num),
                rng.integers(max(1, int(0.8 * osl)), osl + 1, num))
    return np.full(num, isl, np.int64), np.full(num, osl, np.int64)
