"""An engine that is any command: started to load its model and stopped to unload it."""

from typing import TYPE_CHECKING
from urllib.parse import quote

from penstock.engines.engine import ActuatorContext, Engine

if TYPE_CHECKING:
    from penstock.engines.actuators.protocol import Actuator


def _actuator(context: ActuatorContext) -> "Actuator":
    from penstock.engines.actuators.process import ProcessActuator, ProcessCommand

    engine, around = context.engine, context.around
    around.folder.mkdir(parents=True, exist_ok=True)
    command = ProcessCommand(engine.command, context.name, engine.environment,
                             around.folder.parent)
    log = quote(f"{context.pool.name}-{context.device}-{context.model.spec.name}", safe="")
    return ProcessActuator(command, context.device, around.folder, log, around.session)


def process() -> Engine:
    """Return the engine for any command that serves OpenAI's API."""
    return Engine(actuator=_actuator, called_as="auto")
