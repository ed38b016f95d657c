"""Command lines of each kind of engine."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from penstock.catalog.engines import engine_facts
from penstock.core.errors import InputError, nearest
from penstock.engines import process
from penstock.engines.launch import kinds, sglang, vllm
from penstock.engines.launch.values import AdapterRoom, Key, Launch, Setting
from penstock.fleet.values import Policies, ReplicaGroup, ScalingOptions
from penstock.fleet.values_adapters import LoraOptions
from penstock.fleet.write import to_yaml
from penstock.policy.route.roles import DECODE, PREFILL
from penstock.serving.deployments.cluster import Cluster
from penstock.serving.deployments.deployments import Deployment

SIMULATED = "sim"


@dataclass(frozen=True, slots=True)
class Command:
    """Command of an engine: arguments, extra environment, and the model's name in its API."""

    argv: tuple[str, ...]
    served_as: str
    environment: Mapping[str, str] = field(default_factory=dict)


_OF_SERVERS: Mapping[str, type] = MappingProxyType({
    "model": str, "max_model_len": int, "max_num_seqs": int, "eager": bool,
    "max_loras": int, "max_cpu_loras": int, "max_rank": int, "evict": str})

# Kind of engine -> its options -> kind of value.
OPTIONS: Mapping[str, Mapping[str, type]] = MappingProxyType({
    SIMULATED: {"load_s": float},
    "emulate": {"speed": float},
    "llamacpp": {"model": str, "kv_tokens": int, "max_num_seqs": int, "threads": int},
    vllm.NAME: {**_OF_SERVERS, "role": str},
    sglang.NAME: {**_OF_SERVERS, "adapter_wait_s": float},
})
"""Kinds of engines, with the options of each that ``--with`` may state."""

_NEEDED = {"llamacpp": ("model",), vllm.NAME: ("model",), sglang.NAME: ("model",)}
_OF_FILES = {"llamacpp"}
_WORDS = {"role": (PREFILL, DECODE), "evict": ("demand", "lru")}
_LAYERS = {vllm.NAME: "VLLM_PP_LAYER_PARTITION", sglang.NAME: "SGLANG_PP_LAYER_PARTITION"}
"""Variables of the number of layers of each pipeline stage."""

_STATED_OPTIONS: Mapping[Key, str] = MappingProxyType({
    "context_tokens": "max_model_len", "max_num_seqs": "max_num_seqs", "eager": "eager"})
ONE_ACCELERATOR = frozenset({"llamacpp"})
"""Kinds of engines that run a model on one accelerator only."""
ON_GPUS = frozenset({vllm.NAME, sglang.NAME})
"""Kinds of engines that take the memory of this machine's accelerators."""


def checked_options(engine: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return validated options of an engine. Raises InputError for an unknown engine, an option
    that is unknown or missing, a value of another kind, and a missing file."""
    if engine not in OPTIONS:
        raise InputError(f"engine: {engine[:40]!r} is unknown{nearest(engine[:40], OPTIONS)}")
    kinds = OPTIONS[engine]
    found = {}
    for key, value in options.items():
        if key not in kinds:
            raise InputError(f"options: {engine} has no option {key[:40]!r}"
                             f"{nearest(key[:40], kinds)}")
        found[key] = _value(key, kinds[key], value)
    for key in _NEEDED.get(engine, ()):
        if key not in found:
            raise InputError(f"options: {engine} needs {key}, the model's "
                             f"{'file' if engine in _OF_FILES else 'folder or name'}")
    if engine in _OF_FILES and not Path(found["model"]).is_file():
        raise InputError(f"options: model {found['model'][:200]!r}: no such file")
    if "model" in found and Path(found["model"]).exists():  # engines run in folders of their own
        found["model"] = str(Path(found["model"]).resolve())
    return found


def _value(key: str, kind: type, value: Any) -> Any:
    words = {"true": True, "false": False}
    if key in _WORDS and value not in _WORDS[key]:
        raise InputError(f"options: {key}: found {str(value)[:60]!r}; expected "
                         f"{' or '.join(_WORDS[key])}")
    try:
        if kind is bool:
            return words[str(value).lower()]
        if kind is str and isinstance(value, str) and value and not value.startswith("-"):
            return value
        number = kind(value) if kind is not str and not isinstance(value, bool) else None
        if number is not None and 0 <= number < float("inf"):
            return number
    except (KeyError, TypeError, ValueError):
        pass
    expected = {bool: "true or false", str: "a text"}.get(kind, "a number of 0 or more")
    raise InputError(f"options: {key}: found {str(value)[:60]!r}; expected {expected}")


def command_of(cluster: Cluster, one: Deployment, port: int) -> Command:
    """Return the command line of a deployment's engine, which listens on a loopback port.

    Raises InputError for a configuration that this kind of engine does not support.
    """
    makers: Mapping[str, Callable[[Cluster, Deployment, int], Command]] = {
        "emulate": _emulate, "llamacpp": _llamacpp, vllm.NAME: _server, sglang.NAME: _server}
    return makers[one.engine](cluster, one, port)


def check_runnable(one: Deployment) -> None:
    """Raises InputError for a configuration that the deployment's kind of engine does not
    support."""
    assert one.configuration is not None
    spread = one.configuration.parallelism
    if one.engine in ONE_ACCELERATOR and spread.num_accelerators > 1:
        raise InputError(f"configuration: {one.configuration.name}: {one.engine} runs on "
                         "one accelerator; expected tp1 pp1")


def penstock_command(*arguments: str) -> tuple[str, ...]:
    """Return a command line of this program."""
    # -P: import nothing from the engine's working directory.
    return (sys.executable, "-P", "-m", "penstock", *arguments)


def _emulate(cluster: Cluster, one: Deployment, port: int) -> Command:
    assert one.configuration is not None
    spread, precision = one.configuration.parallelism, one.configuration.precision
    return emulate_command(cluster, one, port, ReplicaGroup(
        cluster.model(one.model).spec, cluster.accelerator, 1, spread, precision.partition("_")[0],
        one.configuration.kv_precision))


def emulate_command(cluster: Cluster, one: Deployment, port: int, group: ReplicaGroup) -> Command:
    """Return the command line of an emulated replica of a group."""
    folder = cluster.run_folder(one.name)
    fleet = folder / "fleet.yaml"
    # An emulated engine draws answer lengths from its traffic, which must be its own model's alone.
    traffic = [spec for spec in cluster.fleet.traffic if spec.model == one.model] \
        or cluster.fleet.traffic[:1]
    # One engine is not scaled: bounds of its group would not fit one replica.
    alone = replace(group, count=1, endpoints=(), engine="auto", min_replicas=None,
                    max_replicas=None, start_s=None, spot=None)
    own = replace(cluster.fleet, replicas=(alone,), scaling=ScalingOptions(), policies=replace(
        cluster.fleet.policies, scale=Policies().scale), traffic=tuple(
        replace(spec, model=one.model) for spec in traffic))
    fleet.write_text(to_yaml(own), encoding="utf-8")
    return Command(penstock_command("emulate", str(fleet), "--port", str(port), "--speed",
                             str(one.options.get("speed", 1.0))), one.model)


def _llamacpp(_: Cluster, one: Deployment, port: int) -> Command:
    more = [part for key, option in (("kv_tokens", "--kv-tokens"), ("threads", "--threads"),
                                     ("max_num_seqs", "--max-num-seqs"))
            if key in one.options for part in (option, str(one.options[key]))]
    return Command(penstock_command("lab", "engine", one.options["model"], "--name", one.name,
                                    "--port", str(port), *more), one.name)


def _server(cluster: Cluster, one: Deployment, port: int) -> Command:
    configuration, placement = one.configuration, one.placement
    assert configuration is not None
    assert placement is not None
    spread, version = configuration.parallelism, engine_facts(one.engine).version
    values: dict[Key, Any] = {
        "served_name": one.name, "host": "127.0.0.1", "port": port, "tensor": spread.tensor,
        "pipeline": spread.pipeline, **_share(cluster, one),
        "precision": configuration.precision.partition("_")[0],
        "kv_precision": configuration.kv_precision,
        **({"data": spread.data} if spread.data > 1 else {}),
        **({"expert": spread.expert} if spread.expert > 1 else {}),
        **{key: one.options[option] for key, option in _STATED_OPTIONS.items()
           if option in one.options}, **_side_channel(one), **_adapters(one)}
    if one.engine == sglang.NAME:
        values["metrics"] = True
    reason = "the deployment's configuration"
    line = kinds.KINDS[one.engine].command_line(Launch(
        f"configuration: {configuration.name}", version, Setting(one.options["model"], reason),
        spread, {key: Setting(value, reason) for key, value in values.items()}, own_weights=True))
    visible = ",".join(str(cluster.ordinal(device)) for device in placement.device_ids)
    # Device numbers in NVML's order, by PCI bus; CUDA's default order is by speed.
    environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": visible,
                   **{name: str(found.value) for name, found in line.environment.items()}}
    if spread.pipeline > 1:
        environment[_LAYERS[one.engine]] = ",".join(map(str, placement.layer_map))
    return Command(tuple(line.argv), one.name, environment)


def _share(cluster: Cluster, one: Deployment) -> dict[Key, Any]:
    """Return the engine's share of its devices' memory. SGLang's does not count activations, so
    where it has a device to itself, by its usual share, SGLang works out its own."""
    assert one.placement is not None
    share = max(one.placement.bytes_by_device.values()) / cluster.accelerator.memory_bytes
    stated, usual = f"{min(1.0, share):.3f}", f"{engine_facts(one.engine).memory_fraction:.3f}"
    return {} if one.engine == sglang.NAME and stated == usual else {"memory_fraction": stated}


def lora_of(options: Mapping[str, Any]) -> LoraOptions | None:
    """Return the room for adapters that an engine's options state, None without one."""
    names = ("max_loras", "max_cpu_loras", "max_rank", "evict")
    stated = {name: options[name] for name in names if name in options}
    return LoraOptions(**stated) if stated else None


def _adapters(one: Deployment) -> dict[Key, Any]:
    lora = lora_of(one.options)
    if lora is None:
        return {}
    found: dict[Key, Any] = {
        "adapters": AdapterRoom(lora.max_loras, lora.most_loaded, lora.max_rank)}
    if "adapter_wait_s" in one.options:
        found["adapter_wait_s"] = one.options["adapter_wait_s"]
    return found


def _side_channel(one: Deployment) -> dict[Key, Any]:
    """Return the role of an engine, and where other engines reach it for KV caches. Each rank may
    take a port of its own, behind the first."""
    if "role" not in one.options:
        return {}
    assert one.configuration is not None
    num_ranks = one.configuration.parallelism.num_accelerators
    return {"role": one.options["role"], "side_host": "127.0.0.1",
            "side_port": process.free_port(num_ranks)}
