"""Forecasts of a request's answer on every model, and hashes of its prompt's beginning, for the
router."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import NamedTuple

from penstock.core.forecast import Forecast
from penstock.core.prefix_domain import hashes_in
from penstock.core.request import NO_FORECASTS, Request
from penstock.policy.route.budget_price import markup
from penstock.predict.length import HistoryLengths
from penstock.predict.prompts.forecaster import PromptForecaster
from penstock.serving.gateway.ask import Ask
from penstock.serving.gateway.prompt import Part
from penstock.serving.tenants.budgets import BudgetState

BLOCK_BYTES = 1024
_BYTES_PER_TOKEN = 4
_MOST_TEXT = 64 * 1024  # of a prompt, read for forecasts and for prefix hashes


class ExactPrefix(NamedTuple):
    """The number of a prompt's tokens, and the hashes of its blocks of ``block_tokens``."""

    num_tokens: int
    hashes: tuple[int, ...]
    block_tokens: int


class Forecasts:
    """Makes forecasts with a forecaster, or learns answer lengths without one.

    A forecaster runs in a thread of its own, one request at a time. So the event loop continues
    during the search for neighbours, and no call reads what another changes. ``qualities`` by model
    replace those of models for which the forecaster has seen no graded answer.
    """

    def __init__(self, forecaster: PromptForecaster | None = None,
                 qualities: Mapping[str, float] | None = None) -> None:
        self._forecaster = forecaster
        self._qualities = dict(qualities or {})
        self._lengths = HistoryLengths()
        self._thread = ThreadPoolExecutor(1, "forecasts") if forecaster is not None else None
        self._closed = False

    async def request(self, number: int, arrival_s: float, ask: Ask,
                      prefix_domain: str = "", exact: ExactPrefix | None = None) -> Request:
        """Return the request as routers see it: with the tokens of its ``exact`` prefix, else with
        estimates by its text and hashes of it in its own ``prefix_domain``."""
        text = prompt_text(ask.prompt_parts)
        forecasts = NO_FORECASTS
        if self._forecaster is not None:
            forecasts = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._forecaster.forecast, text)
            if self._qualities:
                forecasts = {**forecasts, **{
                    model: forecasts[model]._replace(quality=quality, quality_sd=0.0)
                    for model, quality in self._qualities.items()}}
        found = exact or ExactPrefix(ask.prompt_tokens, hashes_in(prefix_domain, opening(text)),
                                     BLOCK_BYTES // _BYTES_PER_TOKEN)
        return Request(number, arrival_s, found.num_tokens, ask.max_tokens, ask.service_class,
                       ask.model or "", ask.tenant, found.hashes, found.block_tokens, ask.needs,
                       forecasts, ask.session, hashes_are_exact=exact is not None)

    def expected_tokens(self, request: Request, model: str) -> float:
        """Return the expected output tokens on a model."""
        forecast: Forecast | None = request.forecasts.get(model)
        mean = (self._lengths.mean(request.service_class.name) if forecast is None
                else forecast.output_tokens)
        return min(mean, float(request.max_tokens))

    def ended(self, ask: Ask, model: str, output_tokens: int) -> None:
        """Learn from an answer that ended by itself, not at its limit."""
        self._lengths.observe(ask.service_class.name, output_tokens)
        if self._forecaster is not None and self._thread is not None and not self._closed \
                and model in self._forecaster.models:
            self._thread.submit(self._forecaster.observe, prompt_text(ask.prompt_parts),
                                model, output_tokens)

    def close(self) -> None:
        """Stop the thread. Later answers are not learned from."""
        self._closed = True
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)


def prompt_text(parts: Iterable[Part]) -> str:
    """Return the text of a prompt's parts, up to the length that is read."""
    found: list[str] = []
    left = _MOST_TEXT
    for part in parts:
        if left <= 0:
            break
        if isinstance(part, str):
            found.append(part[:left])
            left -= len(part) + 1
    return "\n".join(found)[:_MOST_TEXT]


def opening(text: str) -> tuple[int, ...]:
    """Return hashes of the text's full blocks. Each hash covers all text before its end."""
    content = text.encode(errors="replace")
    if len(content) < BLOCK_BYTES:
        return ()
    found: list[int] = []
    so_far = blake2b(digest_size=8)
    for start in range(0, len(content) - BLOCK_BYTES + 1, BLOCK_BYTES):
        so_far.update(content[start:start + BLOCK_BYTES])
        found.append(int.from_bytes(so_far.copy().digest(), "big"))
    return tuple(found)


class BudgetPrices:
    """Present markups of the tenants' budgets, for routers that are created before the gateway."""

    def __init__(self) -> None:
        self.state_of: Callable[[str], BudgetState | None] = lambda _: None

    def markup(self, tenant: str) -> float:
        """Return the tenant's markup on prices, 0 without a budget or with a budget for all
        time."""
        state = self.state_of(tenant)
        if state is None or state.amount <= 0.0 or state.period_end_s is None:
            return 0.0
        spent = (state.spent + state.reserved) / state.amount
        return markup(spent, state.period_elapsed_share)
