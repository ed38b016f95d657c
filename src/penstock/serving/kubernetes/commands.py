"""Command lines of stock engines in a pod, from a group's variant."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from penstock.core.errors import InputError, nearest
from penstock.fleet.stock import base_engine
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.fleet.values_kubernetes import Created
from penstock.serving.deployments.commands import PLAIN_FORMATS, vllm_formats

LEADER, WORKER = "$(LWS_LEADER_ADDRESS)", "$(LWS_WORKER_INDEX)"
"""Environment variables that a LeaderWorkerSet gives its pods, in the form that a pod's arguments
take."""

_MASTER_PORT = "20000"


def engine_name(fleet: Fleet, number: int) -> str:
    """Return the engine of a group. Raises InputError where the file names none that a pod could
    run."""
    group = fleet.replicas[number]
    return check_engine(group.engine if group.engine != "auto"
                        else fleet.engine_of(group).name or "", f"replicas[{number}].engine")


def check_engine(name: str, field: str) -> str:
    """Return an engine's name without Penstock's scheduler. Raises InputError, which names the
    ``field``, where no pod could run the engine."""
    name = base_engine(name)
    if name not in _MAKERS:
        raise InputError(f"{field}: {name or 'no engine'!r} has no command line for a pod"
                         f"{nearest(name, _MAKERS) if name else ''}; expected one of "
                         f"{', '.join(_MAKERS)}")
    return name


def engine_command(fleet: Fleet, number: int, *, worker: bool = False) -> list[str]:
    """Return the command line of a group's engine: in the pod that answers requests, or in another
    pod of the same replica."""
    group = fleet.replicas[number]
    assert group.kubernetes is not None, "the caller has looked"
    created = group.kubernetes.create
    assert created is not None, "the caller has looked"
    make = _MAKERS[engine_name(fleet, number)]
    return [*make(fleet, group, created), *_several(engine_name(fleet, number), created, worker),
            *created.arguments]


def _vllm(fleet: Fleet, group: ReplicaGroup, created: Created) -> list[str]:
    engine, spread = fleet.engine_of(group), group.parallelism
    found = ["vllm", "serve", created.model, "--served-model-name", group.served_name,
             "--host", "0.0.0.0", "--port", str(created.port),
             "--tensor-parallel-size", str(spread.tensor),
             "--pipeline-parallel-size", str(spread.pipeline),
             "--gpu-memory-utilization", f"{engine.memory_fraction:g}",
             "--max-model-len", str(group.model.max_context_tokens),
             *vllm_formats(group.precision, group.kv_precision)]
    if engine.max_num_seqs is not None:
        found += ["--max-num-seqs", str(engine.max_num_seqs)]
    if not engine.prefix_caching:
        found.append("--no-enable-prefix-caching")
    return found


def _sglang(fleet: Fleet, group: ReplicaGroup, created: Created) -> list[str]:
    engine, spread = fleet.engine_of(group), group.parallelism
    found = ["python3", "-m", "sglang.launch_server", "--model-path", created.model,
             "--served-model-name", group.served_name, "--host", "0.0.0.0",
             "--port", str(created.port), "--tp-size", str(spread.tensor),
             "--pp-size", str(spread.pipeline),
             "--mem-fraction-static", f"{engine.memory_fraction:g}",
             "--context-length", str(group.model.max_context_tokens),
             "--dtype", PLAIN_FORMATS.get(group.precision, "auto"), "--enable-metrics"]
    if group.precision == "fp8":
        found += ["--quantization", "fp8"]
    if group.kv_precision == "fp8":
        found += ["--kv-cache-dtype", "fp8_e5m2"]
    if engine.max_num_seqs is not None:
        found += ["--max-running-requests", str(engine.max_num_seqs)]
    if not engine.prefix_caching:
        found.append("--disable-radix-cache")
    return found


def _tensorrt_llm(fleet: Fleet, group: ReplicaGroup, created: Created) -> list[str]:
    engine, spread = fleet.engine_of(group), group.parallelism
    found = ["trtllm-serve", "serve", created.model, "--host", "0.0.0.0",
             "--port", str(created.port), "--tp_size", str(spread.tensor),
             "--pp_size", str(spread.pipeline),
             "--kv_cache_free_gpu_memory_fraction", f"{engine.memory_fraction:g}",
             "--max_seq_len", str(group.model.max_context_tokens)]
    if engine.max_num_seqs is not None:
        found += ["--max_batch_size", str(engine.max_num_seqs)]
    return found


_MAKERS: Mapping[str, Callable[[Fleet, ReplicaGroup, Created], list[str]]] = MappingProxyType({
    "vllm": _vllm, "sglang": _sglang, "tensorrt-llm": _tensorrt_llm})


def _several(engine: str, created: Created, worker: bool) -> list[str]:
    """Return the arguments by which the pods of one replica find each other."""
    if created.pods == 1:
        return []
    if engine == "vllm":
        return ["--nnodes", str(created.pods), "--node-rank", WORKER, "--master-addr", LEADER,
                "--master-port", _MASTER_PORT, *(["--headless"] if worker else [])]
    if engine == "sglang":
        return ["--nnodes", str(created.pods), "--node-rank", WORKER,
                "--dist-init-addr", f"{LEADER}:{_MASTER_PORT}"]
    raise InputError(f"replicas: kubernetes.create.pods: {engine} needs MPI for several pods, "
                     "which penstock does not set up; expected 1, or adopt your own workload")
