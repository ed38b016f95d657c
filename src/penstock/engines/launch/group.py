"""Settings that a replica of a fleet states at its start: those that the file states, those that a
plan decided, and those of which the engine's own default is another."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from re import compile as pattern
from typing import Any

from penstock.catalog.catalog import Catalog
from penstock.catalog.engines import EngineDefaults, engine_defaults, engine_facts, since
from penstock.core.errors import InputError
from penstock.engines.launch import tensorrt_llm
from penstock.engines.launch.statements import Statements
from penstock.engines.launch.values import AdapterRoom, Drafts, Key, Launch, Nodes, Setting
from penstock.fleet.adapter_costs import adapters_of_model
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.stock import (
    CHUNKED,
    INSIDE,
    STOCK,
    WHOLE,
    base_engine,
    engine_adapter_wait_s,
)
from penstock.fleet.values import EngineOptions, Fleet, ReplicaGroup
from penstock.policy.route.roles import BOTH
from penstock.policy.schedule.options import SchedulerOptions

_REPOSITORY = pattern(r"([\w.-]+/[\w.-]+) config\.json")
_OWN_DRAFTS = ("mtp", "ngram")
"""Methods of drafting that need no weights besides the model's."""


@dataclass(frozen=True, slots=True)
class Group:
    """The replicas of one group of a fleet, whose engine is named. ``fleet_file`` is the path by
    which the engines' machines know the fleet file, None where they have none."""

    fleet: Fleet
    number: int
    catalog: Catalog
    said: Statements
    fleet_file: str | None = None

    @property
    def replicas(self) -> ReplicaGroup:
        """The group's values."""
        return self.fleet.replicas[self.number]

    @property
    def options(self) -> EngineOptions:
        """The engine as the fleet has it."""
        return self.fleet.engine_of(self.replicas)

    @property
    def place(self) -> str:
        """The group's place in the fleet file."""
        return f"replicas[{self.number}]"

    @property
    def index_of_model(self) -> int:
        """The index of the group's model in the fleet file."""
        return next(i for i, choice in enumerate(self.fleet.models)
                    if choice.spec is self.replicas.model)

    @property
    def engine(self) -> str:
        """The engine's name, without Penstock's scheduler."""
        return base_engine(str(self.options.name))

    @property
    def is_inside(self) -> bool:
        """Whether Penstock's scheduler runs in the engine."""
        return str(self.options.name).startswith(INSIDE)

    def defaults(self) -> EngineDefaults:
        """Return the engine's own defaults. Raises InputError for an unknown version."""
        return engine_defaults(self.engine, self.replicas.accelerator, self.options.version)


def launch_of(group: Group, more: Mapping[Key, Setting], *, nodes: Nodes | None = None,
              serial: int = 0, options_file: str = "options.yaml") -> Launch:
    """Return the start of a group's replica: ``more`` beside what the fleet says. ``serial`` is the
    replica's index in the fleet. Raises InputError for a model whose repository is unknown."""
    defaults = group.defaults()
    model, own_weights = _model(group)
    settings: dict[Key, Setting] = {
        **_served_name(group, model), **more, **_spread(group, defaults), **_formats(group),
        **_memory(group, defaults), **_steps(group, defaults), **_context(group),
        **_apart(group), **_drafts(group), **_adapters(group)}
    if group.is_inside and group.fleet_file is not None:
        inside = {"penstock": {"fleet": group.fleet_file, "replica": serial}}
        settings["scheduler"] = Setting(json.dumps(inside), group.said.reason("engine", "name")
                                        or f"the fleet's engine is {group.options.name}")
    return Launch(group.place, defaults.version, model, group.replicas.parallelism, settings,
                  own_weights, nodes, options_file)


def on_engine(fleet: Fleet, engine: str, version: str | None, said: Statements) -> Fleet:
    """Return the fleet on another engine: what nobody states is as that engine has it. Raises
    InputError for an unknown version."""
    groups = tuple(replace(group, engine="auto", setup=None if group.setup is None else _set_up(
        group.setup, engine, version, said)) for group in fleet.replicas)
    return replace(fleet, replicas=groups, engine=_set_up(fleet.engine, engine, version, said))


def _set_up(options: EngineOptions, engine: str, version: str | None,
            said: Statements) -> EngineOptions:
    theirs = engine_facts(engine, version)
    was = options if options.name is None else \
        engine_facts(base_engine(options.name), options.version)
    kept = {} if options.name is None else {
        key: getattr(theirs, key) for key in ("block_tokens", "memory_fraction", "prefix_caching")
        if said.reason("engine", key) is None and getattr(options, key) == getattr(was, key)}
    return replace(options, name=engine, version=version, rates=None, step_time=None, **kept)


def notes_of(group: Group) -> list[str]:
    """Return what the command lines of a group leave out, in sentences."""
    found, policy = [], _policy(group)
    if group.is_inside:
        if group.engine != "vllm" or group.fleet_file is None:
            found.append(f"Penstock's scheduler inside {group.engine} is not started by this "
                         "command line; the engine's own scheduler runs")
    elif policy not in (STOCK, CHUNKED, WHOLE):
        found.append(f"{group.engine} has no schedule {policy}: its own scheduler runs (engine: "
                     f"{{name: {INSIDE}vllm}} runs Penstock's inside vLLM)")
    elif policy != STOCK and group.fleet.schedule_of(group.replicas).prefill_first and \
            group.defaults().batching != "alone":
        found.append(f"{group.engine} has no prefill_first: prompts and decodes share its steps")
    model = str(_model(group)[0].value)
    if group.engine == tensorrt_llm.NAME and group.replicas.served_name != model:
        found.append(f"trtllm-serve calls the model {model}, which no known flag changes; "
                     f"`penstock serve` asks for {group.replicas.served_name} unless the file "
                     f"states served_as: {model}")
    if group.replicas.speculation is not None and _unnamed_head(group):
        found.append(f"speculation: the weights that draft ({group.replicas.speculation.method}) "
                     "are not named by the file, so the command line leaves drafts out")
    if group.replicas.lora is not None:
        found += _notes_of_adapters(group, policy)
    if group.options.kv_tiers:
        found.append("engine.kv_tiers is simulated alone: this command line starts no tiers below "
                     "the KV cache")
    return found + _notes_of_version(group)


def _notes_of_adapters(group: Group, policy: str) -> list[str]:
    found = []
    at_start = [one.served_name for one in adapters_of_model(
        group.fleet, group.replicas.model.name) if one.path is None]
    if at_start:
        found.append(f"adapters without a path are not loaded by this command line: "
                     f"{', '.join(at_start[:5])}{' ...' if at_start[5:] else ''}")
    wait_s = _schedule(group).adapter_wait_s
    if policy in (STOCK, CHUNKED, WHOLE) and wait_s is not None and not group.is_inside and \
            _adapter_wait_s(group) is None:
        found.append(f"{group.engine} {group.defaults().version} has no adapter_wait_s: busy "
                     f"adapters may keep a request waiting for longer than {wait_s:g} s")
    return found


def _notes_of_version(group: Group) -> list[str]:
    if group.options.version is None:
        return [f"no version is stated, so flags and defaults are those of {group.engine} "
                f"{group.defaults().version}, the newest described"]
    newest = engine_facts(group.engine).version
    return [] if since(newest, group.options.version) else [
        f"{group.options.version} is not described yet, so flags and defaults are those of "
        f"{group.engine} {newest}"]


def _apart(group: Group) -> dict[Key, Setting]:
    role = group.replicas.role
    if role == BOTH:
        return {}
    found: dict[Key, Setting] = {
        "role": Setting(role, group.said.reason("replicas", group.number, "role")
                        or f"the plan gives them the role {role}")}
    options = group.fleet.disaggregation
    if options is not None and options.connector is not None:
        found["connector"] = Setting(options.connector, group.said.reason(
            "disaggregation", "connector") or "the file's connector")
    return found


def _drafts(group: Group) -> dict[Key, Setting]:
    """Return the drafts of the group, as far as the fleet file names the weights that draft."""
    found = group.replicas.speculation
    if found is None or _unnamed_head(group):
        return {}
    model = None if found.draft is None else _REPOSITORY.fullmatch(found.draft.source)
    drafts = Drafts(found.method, found.depth.tokens, None if model is None else model[1],
                    found.depth.by_batch)
    return {"drafts": Setting(drafts, group.said.reason("replicas", group.number, "speculation")
                              or "the file's speculation")}


def _adapters(group: Group) -> dict[Key, Setting]:
    lora = group.replicas.lora
    if lora is None:
        return {}
    found: dict[Key, Setting] = {
        "adapters": Setting(AdapterRoom(lora.max_loras, lora.most_loaded, lora.max_rank),
                            group.said.reason("replicas", group.number, "lora")
                            or "the room for adapters that the plan counted on")}
    wait_s = _adapter_wait_s(group)
    if wait_s is not None:
        found["adapter_wait_s"] = Setting(wait_s, group.said.reason(
            *_schedule_path(group), "adapter_wait_s") or _other(group.defaults(), "none"))
    return found


def _adapter_wait_s(group: Group) -> float | None:
    """Return the wait for an adapter's place that the engine is to bound, None without a bound."""
    if group.is_inside:
        return None
    return engine_adapter_wait_s(_schedule(group), group.engine, group.options.version)


def _unnamed_head(group: Group) -> bool:
    """Whether the group drafts with weights whose repository nobody names."""
    found = group.replicas.speculation
    return found is not None and found.method not in _OWN_DRAFTS and (
        found.draft is None or _REPOSITORY.fullmatch(found.draft.source) is None)


def _policy(group: Group) -> str:
    return _schedule(group).policy


def _schedule(group: Group) -> SchedulerOptions:
    return group.replicas.schedule or group.fleet.policies.schedule


def _schedule_path(group: Group) -> tuple[str | int, ...]:
    """Return the place of the group's schedule in the fleet file."""
    return ("policies", "schedule") if group.replicas.schedule is None else \
        ("replicas", group.number, "schedule")


def _model(group: Group) -> tuple[Setting, bool]:
    """Return the engine's argument for the model, and whether it was stated for this replica."""
    replicas, said, n = group.replicas, group.said, group.number
    created = replicas.kubernetes and replicas.kubernetes.create
    if created:
        reason = said.reason("replicas", n, "kubernetes", "create", "model")
        return Setting(created.model, reason or "stated by the section kubernetes"), True
    own = Setting(replicas.served_as, said.reason("replicas", n, "served_as") or "served_as")
    if replicas.served_as is not None and "/" in replicas.served_as:
        return own, True
    index = group.index_of_model
    known = _REPOSITORY.fullmatch(replicas.model.source)
    if group.fleet.models[index].config is None and known is not None:
        written = str(said.value("models", index, "name"))
        if "/" in written:
            return Setting(written, said.reason("models", index, "name") or "the file's name"), \
                False
        return Setting(known[1], f"repository of {replicas.model.name} in the catalog"), False
    if replicas.served_as is not None:
        return own, True
    raise InputError(f"{group.place}: the repository of model {replicas.model.name} is unknown; "
                     "expected served_as: a repository, or the folder of the weights")


def _served_name(group: Group, model: Setting) -> dict[Key, Setting]:
    name = group.replicas.served_name
    if name == model.value:
        return {}
    reason = group.said.reason("replicas", group.number, "served_as") \
        if group.replicas.served_as is not None else None
    return {"served_name": Setting(name, reason or "the fleet's name of the model, by which "
                                                   "`penstock serve` asks for it")}


def _spread(group: Group, defaults: EngineDefaults) -> dict[Key, Setting]:
    spread = group.replicas.parallelism
    found: dict[Key, Setting] = {}
    degrees: dict[Key, int] = {"tensor": spread.tensor, "pipeline": spread.pipeline,
                               "data": spread.data, "expert": spread.expert}
    for key, value in degrees.items():
        reason = group.said.reason("replicas", group.number, "parallelism", key)
        if value == 1 and key in ("data", "expert"):
            continue  # not all engines and models know these degrees
        if reason is not None or value != 1:
            found[key] = Setting(value, reason or _other(defaults, 1))
    return found


def _other(defaults: EngineDefaults, usual: Any) -> str:
    return f"differs from the default of {defaults.engine} {defaults.version}, {usual}"


def _formats(group: Group) -> dict[Key, Setting]:
    found: dict[Key, Setting] = {}
    values: dict[Key, str] = {"precision": group.replicas.precision,
                              "kv_precision": group.replicas.kv_precision}
    for key, value in values.items():
        reason = group.said.reason("replicas", group.number, key)
        if reason is None and key == "precision":
            reason = group.said.reason("models", group.index_of_model, "precisions")
        if reason is not None or value != "bf16":
            found[key] = Setting(value, reason or "differs from the checkpoint's own format")
    return found


def _memory(group: Group, defaults: EngineDefaults) -> dict[Key, Setting]:
    """Return memory, blocks and prefix caching."""
    options = group.options
    is_own = group.replicas.setup is None  # else the section engine says nothing of it
    values: dict[Key, tuple[str, Any, Any]] = {
        "memory_fraction": ("memory_fraction", options.memory_fraction, defaults.memory_fraction),
        "prefix_caching": ("prefix_caching", options.prefix_caching, defaults.prefix_caching),
        "block_tokens": ("block_tokens", options.block_tokens, defaults.block_tokens)}
    found: dict[Key, Setting] = {}
    for key, (name, value, usual) in values.items():
        reason = group.said.reason("engine", name) if is_own else None
        if group.said.counted_on is not None and value == usual and \
                (key == "block_tokens" or group.engine != "vllm"):
            continue  # SGLang works out its own fraction, and blocks depend on the hardware
        if reason is not None or value != usual:
            found[key] = Setting(value, reason or _other(defaults, usual))
    return found


def _steps(group: Group, defaults: EngineDefaults) -> dict[Key, Setting]:
    """Return the limits of steps, as far as a stock engine's scheduler has them."""
    replicas, said, policy = group.replicas, group.said, _policy(group)
    schedule = group.fleet.schedule_of(replicas)
    path = _schedule_path(group)
    found: dict[Key, Setting] = {}
    most = group.options.max_num_seqs
    if most is not None:
        reason = said.reason("engine", "max_num_seqs")
        if reason is not None or most != defaults.max_num_seqs:
            found["max_num_seqs"] = Setting(most, reason or _other(defaults, defaults.max_num_seqs))
    if policy not in (CHUNKED, WHOLE) or group.is_inside:
        return found
    step_tokens = schedule.chunk_tokens if policy == CHUNKED else schedule.max_step_tokens
    values: dict[Key, tuple[Any, Any]] = {
        "max_num_seqs": (schedule.max_num_seqs, defaults.max_num_seqs),
        "step_tokens": (step_tokens, defaults.step_tokens),
        "chunked": (policy == CHUNKED, defaults.batching != "whole"),
        "mixed": (not schedule.prefill_first, defaults.batching != "alone")}
    for key, (value, usual) in values.items():
        reason = said.reason(*path)
        if key not in found and (value != usual or (reason is not None and key == "step_tokens")):
            found[key] = Setting(value, reason if reason is not None and key != "max_num_seqs"
                                 else _other(defaults, usual))
    return found


def _context(group: Group) -> dict[Key, Setting]:
    """Return the longest request. Engines refuse to start where their KV cache holds no request of
    the model's full context."""
    model, options, index = group.replicas.model, group.options, group.index_of_model
    reason = group.said.reason("models", index, "max_context_tokens")
    known = group.catalog.models.get(model.name)
    if reason is None and group.fleet.models[index].config is None and known is not None \
            and known.max_context_tokens != model.max_context_tokens:
        reason = f"differs from the model's own, {known.max_context_tokens}"
    held = kv_tokens(group.fleet, group.replicas) // group.replicas.parallelism.data
    held = held // options.block_tokens * options.block_tokens
    if held < model.max_context_tokens:
        return {"context_tokens": Setting(held, "the KV cache of a replica holds no more, of the "
                                                f"model's {model.max_context_tokens}")}
    return {} if reason is None else {
        "context_tokens": Setting(model.max_context_tokens, reason)}
