"""The server's backend for llama.cpp: tokenizes prompts and detokenizes answers."""

import codecs

from penstock.core.request import Request
from penstock.engines.embedded.fields import ServiceClasses
from penstock.engines.llamacpp.device import LlamaDevice
from penstock.engines.llamacpp.engine import GenerationInput, SteppedEngine
from penstock.engines.server.ask import Ask
from penstock.engines.server.errors import ApiError
from penstock.engines.server.server import Answer, Prompt
from penstock.engines.server.stream import Token

_HOTTEST = 2


class LlamaBackend:
    """One engine with the model's own vocabulary."""

    def __init__(self, engine: SteppedEngine, device: LlamaDevice,
                 classes: ServiceClasses) -> None:
        self._engine = engine
        self._device = device
        self._classes = classes

    def read(self, ask: Ask) -> Prompt:
        token_ids = ask.token_ids
        if token_ids is None:
            text = self._device.conversation(ask.messages) if ask.messages else ask.prompt
            token_ids = self._device.tokens(text, special=bool(ask.messages))
        if not token_ids:
            raise ApiError(400, "the prompt is empty", "prompt")
        if max(token_ids) >= self._device.vocabulary_size:
            raise ApiError(400, f"prompt has token {max(token_ids)}; the vocabulary ends at "
                                f"{self._device.vocabulary_size - 1}", "prompt")
        _check(ask)
        return Prompt(len(token_ids), token_ids)

    async def begin(self, ask: Ask, prompt: Prompt, request: Request) -> Answer:
        said = {**ask.said, "service_class": request.service_class.name}
        temperature = 1.0 if ask.temperature is None else ask.temperature
        seed = request.request_id if ask.seed is None else abs(ask.seed)
        generation = GenerationInput(prompt.token_ids, float(temperature), seed,
                    (lambda _: False) if ask.ignore_eos else self._device.is_end)
        tokens = await self._engine.submit(
            request._replace(service_class=self._classes.of(said)), generation)
        return Answer(tokens, Detokenizer(self._device))

    def cancel(self, request_id: int) -> None:
        self._engine.cancel(request_id)


def _check(ask: Ask) -> None:
    """Raise ApiError for invalid sampling parameters."""
    value = ask.temperature
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)
                              or not 0 <= value <= _HOTTEST):
        raise ApiError(400, f"temperature must be a number from 0 to {_HOTTEST}", "temperature")
    if ask.seed is not None and type(ask.seed) is not int:
        raise ApiError(400, "seed must be a whole number", "seed")


class Detokenizer:
    """Detokenizes an answer's tokens in order. A character may span several tokens."""

    def __init__(self, device: LlamaDevice) -> None:
        self._device = device
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, token: Token) -> str:
        return self._decoder.decode(self._device.piece(token.token_id),
                                    token.finish_reason is not None)
