"""vLLM as an engine: service classes in its scheduler, sleep and wake, measurement of steps."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.engines.client.connectors import NIXL
from penstock.engines.client.dialects import OpenAiDialect
from penstock.engines.engine import ActuatorContext, Engine
from penstock.perf.profiling.options import EngineOptions

if TYPE_CHECKING:
    from penstock.engines.actuators.protocol import Actuator
    from penstock.perf.profiling.architecture import Architecture
    from penstock.perf.profiling.protocol import ProfiledEngine


def _actuator(context: ActuatorContext) -> "Actuator":
    from penstock.engines.vllm.actuator import VllmActuator

    return VllmActuator(context.around.session, context.url, context.engine.sleep_level)


def _profiled(architecture: "Architecture", clock: Callable[[], float],
              options: EngineOptions) -> "ProfiledEngine":
    from penstock.engines.vllm.profiled import VllmEngine

    return VllmEngine(architecture, clock, scratch=options.scratch, from_files=options.from_files,
                      num_accelerators=options.num_accelerators, num_threads=options.num_threads,
                      max_step_tokens=options.max_step_tokens,
                      memory_fraction=options.memory_fraction, eager=options.eager,
                      seed=options.seed)


def engine() -> Engine:
    """Return the engine vLLM."""
    return Engine(OpenAiDialect(tells_class=True, salts_cache=True), actuator=_actuator,
                  profiled=_profiled, connector=NIXL)
