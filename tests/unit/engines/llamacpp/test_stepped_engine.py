"""Plans become batches and tokens, on a device that only checks and counts."""

import asyncio
from collections.abc import Sequence
from itertools import count
from random import Random
from typing import Any

import numpy as np
import pytest

from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.engines.embedded.calibrate import GUESS
from penstock.engines.embedded.scheduler import EmbeddedScheduler
from penstock.engines.llamacpp.backend import Detokenizer
from penstock.engines.llamacpp.device import Row
from penstock.engines.llamacpp.engine import GenerationInput, SteppedEngine
from penstock.engines.llamacpp.executor import PlanExecutor, chosen
from penstock.engines.server.stream import RefusedError, Token
from penstock.policy.kv.counting import CountingKv
from penstock.policy.schedule.options import scheduler_options
from penstock.registry.make import build_scheduler

VOCABULARY = 97
URGENT = ServiceClass("urgent", Slo(ttft_s=0.01, itl_s=0.02))
CALM = ServiceClass("calm")


class CheckedDevice:
    """Its next token follows from all tokens of the sequence; gaps in the cache are an error."""

    def __init__(self) -> None:
        self.cache: dict[int, list[int]] = {}
        self.batches: list[list[Row]] = []

    def run(self, rows: Sequence[Row]) -> list[Any]:
        self.batches.append(list(rows))
        found = []
        for row in rows:
            held = self.cache.setdefault(row.sequence, [])
            assert row.position == len(held), "every token is computed once, in order"
            held.append(row.token_id)
            if row.wanted:
                logits = np.zeros(VOCABULARY, dtype=np.float32)
                logits[following(held)] = 1.0
                found.append(logits)
        return found

    def forget(self, sequence: int) -> None:
        self.cache.pop(sequence, None)


def following(tokens: Sequence[int]) -> int:
    return sum((place + 1) * token for place, token in enumerate(tokens)) % VOCABULARY


def expected(prompt: Sequence[int], num: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(num):
        tokens.append(following(tokens))
    return tokens[len(prompt):]


def engine_on(device: CheckedDevice, *, blocks: int = 64, seqs: int = 4,
              **knobs: Any) -> SteppedEngine:
    options = scheduler_options("penstock", **{"max_num_seqs": seqs, "max_step_tokens": 20,
                                               "kv_watermark": 0.0, **knobs})
    ticks = count()
    driver = EmbeddedScheduler(build_scheduler(options, GUESS, CountingKv(blocks, 4)),
                               lambda: next(ticks) / 1000)
    return SteppedEngine(driver, PlanExecutor(device, seqs))  # type: ignore[arg-type]


def generation(prompt: Sequence[int], ends: int = -1) -> GenerationInput:
    return GenerationInput(tuple(prompt), 0.0, 0, lambda token: token == ends)


async def answer(engine: SteppedEngine, number: int, prompt: Sequence[int], num: int,
                 service_class: ServiceClass = CALM, ends: int = -1) -> list[Token]:
    stream = await engine.submit(Request(number, 0.0, len(prompt), num, service_class),
                                 generation(prompt, ends))
    return [token async for token in stream]


async def served(engine: SteppedEngine, *work: Any) -> list[Any]:
    task = asyncio.create_task(engine.run())
    try:
        return await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 60)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def prompts(num: int, seed: int = 1) -> list[list[int]]:
    rng = Random(seed)
    return [[rng.randrange(VOCABULARY) for _ in range(rng.randrange(1, 60))] for _ in range(num)]


@pytest.mark.parametrize("blocks", [64, 22])  # with 22, sequences lose their KV
def test_everyone_gets_the_tokens_of_a_request_alone(blocks: int) -> None:
    device = CheckedDevice()
    engine = engine_on(device, blocks=blocks)
    asked = prompts(12)
    answers = asyncio.run(served(engine, *[
        answer(engine, number, prompt, 25, URGENT if number % 3 else CALM)
        for number, prompt in enumerate(asked)]))
    for prompt, tokens in zip(asked, answers, strict=True):
        assert [token.token_id for token in tokens] == expected(prompt, 25)
        assert [token.number for token in tokens] == list(range(25))
        assert tokens[-1].finish_reason == "length"
    assert device.cache == {}
    assert any(sum(not row.wanted for row in rows) and sum(row.wanted for row in rows) > 1
               for rows in device.batches), "decodes and parts of prompts share batches"
    assert all(len(rows) <= 20 for rows in device.batches)
    engine.driver.scheduler.check_integrity()


def test_an_answer_ends_with_its_end_token() -> None:
    engine = engine_on(CheckedDevice())
    tokens = expected([5, 6], 9)
    (found,) = asyncio.run(served(engine, answer(engine, 0, [5, 6], 30, ends=tokens[3])))
    assert [token.token_id for token in found] == tokens[:4]
    assert found[-1].finish_reason == "stop"


def test_a_client_that_leaves_gives_its_place_back() -> None:
    device = CheckedDevice()
    engine = engine_on(device, seqs=1)

    async def leave() -> None:
        stream = await engine.submit(Request(0, 0.0, 3, 5000, CALM), generation([1, 2, 3]))
        await stream.some()
        engine.cancel(0)

    async def work() -> list[Any]:
        return await served(engine, leave(), answer(engine, 1, [7, 8], 5))

    _, tokens = asyncio.run(work())
    assert [token.token_id for token in tokens] == expected([7, 8], 5)
    assert device.cache == {}
    assert engine.num_live == 0


def test_what_never_fits_is_refused_for_good() -> None:
    engine = engine_on(CheckedDevice(), blocks=5)
    (error,) = asyncio.run(served(engine, answer(engine, 0, [1] * 30, 5)))
    assert isinstance(error, RefusedError)
    assert error.final


def test_what_is_shed_is_refused_for_now() -> None:
    engine = engine_on(CheckedDevice(), queue_timeout_s=0.0, review_s=0.0, seqs=1)
    late = ServiceClass("late", Slo(ttft_s=0.001))
    answers = asyncio.run(served(engine, *[answer(engine, number, [1] * 40, 30, late)
                                           for number in range(6)]))
    refused = [one for one in answers if isinstance(one, RefusedError)]
    assert refused
    assert not any(error.final for error in refused)


def test_a_stopped_engine_refuses_everything() -> None:
    engine = engine_on(CheckedDevice())

    async def work() -> Any:
        await served(engine, answer(engine, 0, [1], 1))
        with pytest.raises(RefusedError, match="stopped"):
            await engine.submit(Request(1, 0.0, 1, 1, CALM), generation([1]))

    asyncio.run(work())


def test_a_device_that_fails_ends_every_answer() -> None:
    class Broken(CheckedDevice):
        def run(self, rows: Sequence[Row]) -> list[Any]:
            raise RuntimeError("out of order")

    engine = engine_on(Broken())

    async def work() -> None:
        task = asyncio.create_task(engine.run())
        with pytest.raises(RefusedError):
            await answer(engine, 0, [1], 5)
        with pytest.raises(RuntimeError, match="out of order"):
            await task

    asyncio.run(work())


def test_the_likeliest_token_or_one_by_its_weight() -> None:
    logits = np.log(np.array([0.7, 0.2, 0.1], dtype=np.float32))
    rng = np.random.default_rng(3)
    assert chosen(logits, 0.0, rng) == 0
    drawn = np.bincount([chosen(logits, 1.0, rng) for _ in range(4000)], minlength=3) / 4000
    assert np.allclose(drawn, [0.7, 0.2, 0.1], atol=0.03)
    cold = np.bincount([chosen(logits, 0.25, rng) for _ in range(2000)], minlength=3) / 2000
    assert cold[0] > 0.97


def test_characters_of_several_tokens_come_whole() -> None:
    class Bytes:
        def piece(self, token_id: int) -> bytes:
            return bytes([token_id])

    speech = Detokenizer(Bytes())  # type: ignore[arg-type]
    pieces = ["é€!".encode()[place] for place in range(6)]
    texts = [speech(Token(number, 0.0, None, piece)) for number, piece in enumerate(pieces)]
    assert texts == ["", "é", "", "", "€", "!"]
    assert Detokenizer(Bytes())(Token(0, 0.0, "length", 0xC3)) == "\ufffd"  # type: ignore[arg-type]
