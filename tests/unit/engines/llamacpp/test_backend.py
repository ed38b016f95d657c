"""Texts to tokens and back, and what a request may ask for, without llama.cpp."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.engines.embedded.fields import ServiceClasses
from penstock.engines.llamacpp import device
from penstock.engines.llamacpp.backend import LlamaBackend
from penstock.engines.server.ask import Ask, read_chat, read_completion
from penstock.engines.server.errors import ApiError
from penstock.engines.server.server import Prompt
from penstock.engines.server.stream import Token, TokenStream

CHAT = ServiceClass("chat", Slo(ttft_s=1.0, itl_s=0.05))


class Letters:
    """A vocabulary of bytes; conversations are their last message."""

    vocabulary_size = 256

    def tokens(self, text: bytes, *, special: bool = False) -> tuple[int, ...]:
        return ((1,) if special else ()) + tuple(text)

    def piece(self, token_id: int) -> bytes:
        return bytes([token_id])

    def is_end(self, token_id: int) -> bool:
        return token_id == 2

    def conversation(self, messages: Sequence[tuple[str, str]]) -> bytes:
        return messages[-1][1].encode()


class Taken:
    """An engine that notes what it is handed."""

    def __init__(self) -> None:
        self.handed: list[Any] = []
        self.cancelled: list[int] = []

    async def submit(self, request: Request, generation: Any) -> TokenStream:
        self.handed.append((request, generation))
        return TokenStream()

    def cancel(self, request_id: int) -> None:
        self.cancelled.append(request_id)


def backend(engine: Taken | None = None) -> LlamaBackend:
    return LlamaBackend(engine or Taken(), Letters(),  # type: ignore[arg-type]
                        ServiceClasses((CHAT,), CHAT))


def ask(**body: Any) -> Ask:
    import json

    return read_completion(json.dumps({"prompt": "hey", **body}).encode())


def begun(**body: Any) -> tuple[Request, Any, Any]:
    engine = Taken()
    one = backend(engine)
    asked = ask(**body)
    answer = asyncio.run(one.begin(asked, one.read(asked), Request(7, 0.0, 3, 5, CHAT)))
    ((request, generation),) = engine.handed
    return request, generation, answer


def test_prompts_are_read_by_the_models_vocabulary() -> None:
    assert backend().read(ask()) == Prompt(3, tuple(b"hey"))
    assert backend().read(ask(prompt=[9, 8])) == Prompt(2, (9, 8))
    chat = read_chat(b'{"messages": [{"role": "user", "content": "hi"}]}')
    assert backend().read(chat) == Prompt(3, (1, *b"hi"))


@pytest.mark.parametrize(("body", "param"), [
    ({"prompt": ""}, "prompt"), ({"prompt": [256]}, "prompt"), ({"temperature": 3}, "temperature"),
    ({"temperature": True}, "temperature"), ({"temperature": "hot"}, "temperature"),
    ({"temperature": -0.1}, "temperature"), ({"seed": 1.5}, "seed"), ({"seed": "x"}, "seed")])
def test_what_makes_no_sense_is_told(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        backend().read(ask(**body))
    assert (caught.value.status, caught.value.param) == (400, param)


def test_how_tokens_are_chosen() -> None:
    _, generation, _ = begun()
    assert (generation.temperature, generation.seed, generation.ends(2)) == (1.0, 7, True)
    _, generation, _ = begun(temperature=0, seed=-4, ignore_eos=True)
    assert (generation.temperature, generation.seed, generation.ends(2)) == (0.0, 4, False)


def test_targets_of_its_own_reach_the_scheduler() -> None:
    request, _, _ = begun(vllm_xargs={"service_class": "chat", "ttft_s": 0.25})
    assert request.service_class.slo == Slo(ttft_s=0.25, itl_s=0.05)


def test_tokens_are_spoken_in_order() -> None:
    _, _, answer = begun()
    euro = "€".encode()
    texts = [answer.text(Token(number, 0.0, None, byte)) for number, byte in enumerate(euro)]
    assert texts == ["", "", "€"]


def test_a_client_that_left() -> None:
    engine = Taken()
    backend(engine).cancel(3)
    assert engine.cancelled == [3]


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from pathlib import Path

    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(InputError, match=r"pip install '\.\[llamacpp\]'"):
        device.LlamaDevice(Path("model.gguf"), 64, 1, 16, 1)
