"""Penstock's scheduler in charge of llama.cpp: mixed batches leave tokens as they are."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from tiny_gguf import VOCABULARY

from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.engines.embedded.calibrate import GUESS
from penstock.engines.embedded.scheduler import EmbeddedScheduler
from penstock.engines.llamacpp.device import LlamaDevice, Row
from penstock.engines.llamacpp.executor import PlanExecutor
from penstock.policy.kv.counting import CountingKv
from penstock.policy.schedule.options import scheduler_options
from penstock.registry.make import build_scheduler

SEQS, STEP = 6, 48
CLASSES = (ServiceClass("interactive", Slo(ttft_s=0.05, itl_s=0.02)), ServiceClass("calm"))


@pytest.fixture(scope="module")
def device(tiny_gguf_file: Path) -> Iterator[LlamaDevice]:
    found = LlamaDevice(tiny_gguf_file, 2048, SEQS, STEP, 1, "f32")
    yield found
    found.close()


def alone(device: LlamaDevice, prompt: list[int], num: int) -> list[int]:
    """The answer to one request that has the device for itself, one token a batch."""
    device.forget(0)
    logits: list[Any] = []
    for position, token in enumerate(prompt):
        logits = device.run([Row(token, position, 0, position == len(prompt) - 1)])
    tokens = [int(np.argmax(logits[0]))]
    while len(tokens) < num:
        logits = device.run([Row(tokens[-1], len(prompt) + len(tokens) - 1, 0, True)])
        tokens.append(int(np.argmax(logits[0])))
    device.forget(0)
    return tokens


def together(device: LlamaDevice, asked: list[tuple[list[int], int]], kv_blocks: int,
             policy: str = "penstock") -> tuple[dict[int, list[int]], list[Any]]:
    """All of them at once, three steps apart; their tokens and the plans that made them."""
    options = scheduler_options(policy, max_num_seqs=SEQS, max_step_tokens=STEP,
                                chunk_tokens=STEP, kv_watermark=0.0)
    ticks = count()
    driver = EmbeddedScheduler(build_scheduler(options, GUESS, CountingKv(kv_blocks, 16)),
                               lambda: next(ticks) / 1000)
    executor = PlanExecutor(device, SEQS)
    tokens: dict[int, list[int]] = {}
    plans = []
    for step in range(3000):
        if step % 3 == 0 and step // 3 < len(asked):
            number = step // 3
            prompt, num = asked[number]
            tokens[number] = []
            executor.begin(number, prompt, 0.0, 0)
            driver.add(Request(number, driver.now_s(), len(prompt), num, CLASSES[number % 2]))
        plan = driver.plan()
        for number in driver.take_preempted():
            executor.preempt(number)
        if plan is None:
            if len(tokens) == len(asked):
                break
            continue
        plans.append(plan)
        finished = []
        for number, token in executor.run(plan).items():
            tokens[number].append(token)
            if len(tokens[number]) == asked[number][1]:
                finished.append(number)
                executor.end(number)
        driver.commit(plan, tuple(finished))
    return tokens, plans


def requests(num: int = 12) -> list[tuple[list[int], int]]:
    rng = Random(4)
    return [([rng.randrange(3, VOCABULARY) for _ in range(rng.choice((3, 30, 120, 250)))],
             rng.randrange(2, 30)) for _ in range(num)]


@pytest.mark.parametrize("policy", ["penstock", "sarathi"])
def test_mixed_batches_give_the_tokens_of_each_request_alone(device: LlamaDevice,
                                                             policy: str) -> None:
    asked = requests()
    tokens, plans = together(device, asked, 128, policy)
    assert tokens == {number: alone(device, prompt, num)
                      for number, (prompt, num) in enumerate(asked)}
    assert len({tuple(found) for found in tokens.values()}) == len(asked)
    assert any(plan.chunks and len(plan.decode_ids) > 1 for plan in plans)
    assert max(plan.num_tokens for plan in plans) <= STEP


def test_preempted_sequences_are_computed_again_to_the_same_tokens(device: LlamaDevice) -> None:
    asked = requests()
    tokens, plans = together(device, asked, 24)
    assert any(plan.preempted for plan in plans)
    assert tokens == {number: alone(device, prompt, num)
                      for number, (prompt, num) in enumerate(asked)}


def test_more_rows_than_a_batch_holds(device: LlamaDevice) -> None:
    prompt = [token for tokens, _ in requests() for token in tokens][:3 * STEP + 5]
    (logits,) = device.run([Row(token, position, 2, position == len(prompt) - 1)
                            for position, token in enumerate(prompt)])
    device.forget(2)
    assert int(np.argmax(logits)) == alone(device, prompt, 1)[0]


def test_texts_come_back(device: LlamaDevice) -> None:
    tokens = device.tokens("the water é".encode())
    assert b"".join(device.piece(token) for token in tokens).strip() == "the water é".encode()
    assert device.is_end(2)
    assert not device.is_end(5)
    assert device.conversation([("user", "hello")]).endswith(b"user: hello\nassistant:")


def test_what_is_no_model_is_one_clear_error(tiny_gguf_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_gguf_file.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot load it"):
        LlamaDevice(broken, 256, 1, 16, 1)
    with pytest.raises(InputError, match="no such file"):
        LlamaDevice(tmp_path / "absent.gguf", 256, 1, 16, 1)
