"""Ollama as an engine: dialect, health, loading of models."""

from typing import TYPE_CHECKING, Any

import orjson

from penstock.engines.client.dialects import Question
from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.engine import ActuatorContext, Engine, Get
from penstock.engines.ollama.ask import ollama_call
from penstock.engines.ollama.dialect import (
    OllamaStream,
    OllamaWhole,
    error_document,
    holds_model,
)

if TYPE_CHECKING:
    from penstock.engines.actuators.protocol import Actuator


class OllamaDialect:
    """Ollama's own API, which reports load times and counts every token."""

    def call(self, question: Question) -> tuple[str, dict[str, Any]]:
        return ollama_call(question.path, question.body, question.model, stream=question.stream)

    def is_busy(self, status: int, retry_after: str | None) -> bool:
        return status in (429, 503)  # Ollama answers 503 when its queue is full

    def stream(self, question: Question) -> OllamaStream:
        return OllamaStream(question.answer_id, question.model, question.created_s,
                            question.prompt_tokens, chat=question.path.endswith("chat/completions"))

    def whole(self, question: Question, document: dict[str, Any],
              status: int) -> tuple[dict[str, Any], float | None]:
        if status >= 400:
            return error_document(document, status), None
        return OllamaWhole(question.answer_id, question.model, question.created_s,
                           question.prompt_tokens).document(question.path, document)


async def look(get: Get, url: str, model: str) -> tuple[bool, EngineLoad]:
    """Return whether the server is healthy, and whether it holds the model."""
    status, _ = await get(f"{url}/api/version")
    if status != 200:
        return False, EngineLoad()
    status, text = await get(f"{url}/api/ps")
    loaded = holds_model(orjson.loads(text), model) if status == 200 else None
    return True, EngineLoad(kind="ollama", loaded=loaded)


def _actuator(context: ActuatorContext) -> "Actuator":
    from penstock.engines.ollama.actuator import OllamaActuator

    return OllamaActuator(context.around.session, context.url, context.name)


def engine() -> Engine:
    """Return the engine Ollama. Clients do not decide when a multiplexed model is unloaded: -1
    keeps it."""
    return Engine(OllamaDialect(), look, _actuator, while_multiplexed={"keep_alive": -1})
