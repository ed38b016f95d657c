"""llama.cpp in two forms: a library that Penstock schedules, and llama-server as a router of
models."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.engines.engine import ActuatorContext, Engine
from penstock.perf.profiling.options import EngineOptions

if TYPE_CHECKING:
    from penstock.engines.actuators.protocol import Actuator
    from penstock.perf.profiling.architecture import Architecture
    from penstock.perf.profiling.protocol import ProfiledEngine


def _actuator(context: ActuatorContext) -> "Actuator":
    from penstock.engines.embedded.options import EmbeddedOptions
    from penstock.engines.llamacpp.actuator import LlamaCppActuator
    from penstock.engines.llamacpp.serve import LlamaSettings

    engine, fleet = context.engine, context.fleet
    assert engine.file is not None, "the fleet file was validated"
    settings = LlamaSettings(Path(engine.file), context.name, max_num_seqs=context.model.max_batch)
    if engine.kv_tokens is not None:
        settings = replace(settings, kv_tokens=engine.kv_tokens)
    if engine.threads is not None:
        settings = replace(settings, num_threads=engine.threads)
    classes = fleet.service_classes
    return LlamaCppActuator(settings, EmbeddedOptions(fleet.policies.schedule, classes, classes[0]),
                            context.around.note)


def _server_actuator(context: ActuatorContext) -> "Actuator":
    from penstock.engines.llamacpp.router_actuator import LlamaServerActuator

    return LlamaServerActuator(context.around.session, context.url, context.name)


def _profiled(architecture: "Architecture", clock: Callable[[], float],
              options: EngineOptions) -> "ProfiledEngine":
    from penstock.engines.llamacpp.profiled import LlamaCppEngine

    return LlamaCppEngine(architecture, clock, scratch=options.scratch,
                          num_threads=options.num_threads or 2,
                          max_step_tokens=options.max_step_tokens, seed=options.seed,
                          memory_bytes=options.memory_bytes)


def engine() -> Engine:
    """Return the engine for the library in a process of Penstock."""
    return Engine(actuator=_actuator, profiled=_profiled)


def server() -> Engine:
    """Return the engine for a running llama-server that loads and unloads models. It is called like
    llama.cpp."""
    return Engine(actuator=_server_actuator, called_as="llamacpp")
