"""What a request brings to the router: its text, its opening, forecasts and budgets."""

import asyncio
import threading

import numpy as np
import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.forecast import Forecast
from penstock.core.request import NO_FORECASTS
from penstock.core.slo import ServiceClass
from penstock.fleet.load import parse_fleet
from penstock.predict.prompts.store import save_forecaster
from penstock.serving.gateway.ask import ANYBODY, Offer, read_ask
from penstock.serving.gateway.forecasts import (
    BLOCK_BYTES,
    BudgetPrices,
    Forecasts,
    opening,
    prompt_text,
)
from penstock.serving.tenants.budgets import BudgetState
from support.small_fleet import FLEET
from support.untrained import forecaster_of, untrained_hashed

OFFER = Offer({"chat": ServiceClass("chat")}, {"small": 10_000, "large": 40_000}, {})


class Foreteller:
    """Stands for a forecaster: expects as many tokens as the prompt has characters."""

    models = ("small", "large")

    def __init__(self) -> None:
        self.observed: list[tuple[str, str, int]] = []
        self.threads: set[str] = set()
        self.seen = threading.Event()

    def forecast(self, text: str) -> dict[str, Forecast]:
        self.threads.add(threading.current_thread().name)
        return {model: Forecast(float(len(text)), 2.0 * len(text), 0.5) for model in self.models}

    def observe(self, text: str, model: str, output_tokens: int) -> None:
        self.observed.append((text, model, output_tokens))
        self.seen.set()


def ask_of(prompt: str, **fields):
    return read_ask(orjson.dumps({"prompt": prompt, "max_tokens": 64, **fields}), {}, OFFER,
                    ANYBODY)


def test_a_request_has_what_was_asked_and_its_opening() -> None:
    text = "a" * (2 * BLOCK_BYTES + 5)
    found = asyncio.run(Forecasts().request(7, 1.5, ask_of(text, model="small")))
    assert (found.request_id, found.arrival_s, found.model, found.max_tokens) == (
        7, 1.5, "small", 64)
    assert found.prefix_hashes == opening(text)
    assert len(found.prefix_hashes) == 2
    assert found.hash_block_tokens * len(found.prefix_hashes) <= found.prompt_tokens
    assert found.forecasts is NO_FORECASTS


def test_any_model_is_no_model() -> None:
    assert asyncio.run(Forecasts().request(0, 0.0, ask_of("hello", model="auto"))).model == ""


def test_without_a_forecaster_lengths_are_those_of_the_class() -> None:
    forecasts, ask = Forecasts(), ask_of("hello")
    request = asyncio.run(forecasts.request(0, 0.0, ask))
    assert forecasts.expected_tokens(request, "small") == 64.0  # 256, but no more than asked for
    for _ in range(200):
        forecasts.ended(ask, "small", 20)
    assert forecasts.expected_tokens(request, "small") == pytest.approx(20.0, rel=0.5)
    forecasts.close()


def test_a_forecaster_works_in_its_own_thread_and_learns() -> None:
    foreteller = Foreteller()
    forecasts = Forecasts(foreteller)  # type: ignore[arg-type]
    ask = ask_of("hello")
    request = asyncio.run(forecasts.request(0, 0.0, ask))
    assert request.forecasts["large"].output_tokens == 5.0
    assert forecasts.expected_tokens(request, "large") == 5.0
    forecasts.ended(ask, "elsewhere", 9)
    forecasts.ended(ask, "small", 12)
    assert foreteller.seen.wait(10.0)
    forecasts.close()
    assert foreteller.observed == [("hello", "small", 12)]
    assert foreteller.threads != {threading.current_thread().name}


def test_token_ids_are_no_text() -> None:
    assert prompt_text(["one", [1, 2], "two"]) == "one\ntwo"


def test_no_more_text_is_looked_at_than_is_needed() -> None:
    assert len(prompt_text(["x" * 10**6])) == 64 * 1024


def test_openings_agree_as_far_as_the_texts_do() -> None:
    shared = "s" * (2 * BLOCK_BYTES)
    one, other = (opening(shared + end * BLOCK_BYTES) for end in "ab")
    assert one[:2] == other[:2] == opening(shared)
    assert one[2] != other[2]
    # A hash covers all before its block: the same block elsewhere is another.
    assert opening("t" * BLOCK_BYTES + "s" * BLOCK_BYTES)[1] != one[1]
    assert opening("s" * (BLOCK_BYTES - 1)) == ()
    assert len(opening("\ud800" * BLOCK_BYTES)) == 1  # half a surrogate pair: JSON can hold it


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_a_longer_text_begins_as_it_did(text: str, more: str) -> None:
    first = opening(text)
    assert opening(text + more)[:len(first)] == first
    assert len(first) == len(text.encode(errors="replace")) // BLOCK_BYTES


def test_money_has_its_price_by_the_state_of_the_budget() -> None:
    states = {"ahead": BudgetState(10.0, 5.0, 1.0, 0.5, 0.0, 86_400.0),
              "behind": BudgetState(10.0, 1.0, 0.0, 0.5, 0.0, 86_400.0),
              "for good": BudgetState(10.0, 9.0, 0.0, 0.0, 0.0, None),
              "nothing": BudgetState(0.0, 0.0, 0.0, 0.5, 0.0, 86_400.0)}
    prices = BudgetPrices()
    assert prices.markup("ahead") == 0.0  # nobody has said anything yet
    prices.state_of = states.get
    assert prices.markup("ahead") == pytest.approx(1.0)  # 60 % gone after half of the time
    assert [prices.markup(name) for name in ("behind", "for good", "nothing", "unknown")] == [
        0.0] * 4


def test_a_forecaster_that_saw_no_judged_answer_leaves_the_fleets_quality(tmp_path) -> None:
    pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
    from penstock.serving.gateway.server import forecasts_of

    forecaster = forecaster_of(untrained_hashed(np.random.default_rng(0)),
                               ["llama-3-8b", "qwen2.5-14b"])
    for _ in range(5):
        forecaster.observe("hello", "llama-3-8b", 20)
        forecaster.observe("hello", "qwen2.5-14b", 30, quality=0.9)
    save_forecaster(forecaster, tmp_path / "lengths.npz")
    fleet = parse_fleet(FLEET, overrides={
        "models": [{"name": "llama-3-8b", "quality": 0.8}, {"name": "qwen2.5-14b", "quality": 0.7}],
        "replicas": [{"model": "llama-3-8b", "count": 1}],
        "traffic[0].model": "llama-3-8b",
        "gateway.forecasts": str(tmp_path / "lengths.npz")})
    forecasts = forecasts_of(fleet)
    found = asyncio.run(forecasts.request(0, 0.0, ask_of("hello"))).forecasts
    forecasts.close()
    assert (found["llama-3-8b"].quality, found["llama-3-8b"].quality_sd) == (0.8, 0.0)
    assert found["qwen2.5-14b"].quality > 0.7
