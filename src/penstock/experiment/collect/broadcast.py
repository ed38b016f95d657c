"""Sends every prompt to one replica of each model and keeps what came of it (aiohttp)."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from penstock.core.errors import InputError
from penstock.engines.client.answer import REFUSED, UNREACHABLE, Answer
from penstock.engines.client.client import CHAT, COMPLETIONS, EngineClient, streamed
from penstock.engines.client.state import EngineState, InFlight
from penstock.experiment.collect.grade import METRICS
from penstock.experiment.collect.judge import Judge
from penstock.experiment.collect.log import CollectLog
from penstock.experiment.collect.prompts import Prompt
from penstock.predict.length import HistoryLengths

_SAMPLE_S = 0.05
_PAUSE_S = 1.0
_ATTEMPTS = 3
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """How prompts are asked. ``metric`` names a reference metric, None leaves quality open."""

    max_tokens: int = 512
    concurrency: int = 8
    chat: bool = True
    temperature: float = 0.0
    metric: str | None = None


@dataclass(slots=True)
class Replica:
    """One engine, what is known of its load, and the integral of its KV use over time."""

    name: str
    state: EngineState
    client: EngineClient
    kv_seconds: float = 0.0
    sampled_at_s: float = field(default=float("nan"))

    def sample(self, now_s: float) -> float:
        """Extend the integral to now by the present share of the KV cache in use; returns it."""
        seen = self.state.snapshot(now_s)
        if self.sampled_at_s == self.sampled_at_s:  # not the first
            share = min(seen.kv_used_tokens / max(seen.kv_total_tokens, 1), 1.0)
            self.kv_seconds += share * (now_s - self.sampled_at_s)
        self.sampled_at_s = now_s
        return self.kv_seconds

    def features(self, now_s: float) -> dict[str, float]:
        """The state as a router would see it, before a request is added."""
        seen = self.state.snapshot(now_s)
        return {"num_running": float(seen.num_running), "num_waiting": float(seen.num_waiting),
                "pending_prefill_tokens": float(seen.queued_prompt_tokens),
                "pending_decode_tokens": seen.pending_output_tokens,
                "kv_use": min(seen.kv_used_tokens / max(seen.kv_total_tokens, 1), 1.0)}


class Collector:
    """Broadcasts prompts and logs a row per prompt and model.

    ``clock`` is monotonic and orders what happens, ``wall`` dates rows. What the log has already is
    not asked again.
    """

    def __init__(self, replicas: Mapping[str, Sequence[Replica]], log: CollectLog,
                 options: CollectOptions, judge: Judge | None, clock: Callable[[], float],
                 wall: Callable[[], float]) -> None:
        self._replicas = replicas
        self._log = log
        self._options = options
        self._judge = judge
        self._clock, self._wall = clock, wall
        self._lengths = HistoryLengths(min(256.0, float(options.max_tokens)))
        self._turns = {model: count() for model in replicas}
        self._numbers = count()
        for row in log.rows.values():
            self._learn(row)

    async def run(self, prompts: Iterable[Prompt],
                  on_row: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        """Ask all that is not in the log yet, ``concurrency`` prompts at a time."""
        waiting = iter(prompts)
        sampler = asyncio.create_task(self._sample())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._options.concurrency):
                    group.create_task(self._work(waiting, on_row))
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            sampler.cancel()

    async def _work(self, waiting: Iterable[Prompt],
                    on_row: Callable[[dict[str, Any]], None]) -> None:
        for prompt in waiting:
            missing = [model for model in self._replicas
                       if (prompt.prompt_id, model) not in self._log.rows]
            for row in await asyncio.gather(*(self._row(prompt, model) for model in missing)):
                self._log.add(row)
                self._learn(row)
                on_row(row)

    async def _sample(self) -> None:
        while True:
            for replicas in self._replicas.values():
                for replica in replicas:
                    replica.sample(self._clock())
            await asyncio.sleep(_SAMPLE_S)

    def _learn(self, row: Mapping[str, Any]) -> None:
        if row["output_tokens"] is not None:
            self._lengths.observe(row["model"], row["output_tokens"])

    async def _row(self, prompt: Prompt, model: str) -> dict[str, Any]:
        for attempt in range(_ATTEMPTS):
            row, answer = await self._ask(prompt, model)
            if answer.outcome not in (REFUSED, UNREACHABLE):
                break
            if attempt + 1 < _ATTEMPTS:
                await asyncio.sleep(_PAUSE_S * 2**attempt)
        if answer.finished:
            row |= await self._quality(prompt, answer.text)
        return row

    async def _ask(self, prompt: Prompt, model: str) -> tuple[dict[str, Any], Answer]:
        replica = self._next(model)
        state, number = replica.state, next(self._numbers)
        expected = self._lengths.mean(model)
        asked_at_s, begun_s = self._wall(), self._clock()
        row: dict[str, Any] = {
            "prompt_id": prompt.prompt_id, "prompt": prompt.text, "reference": prompt.reference,
            "model": model, "replica": replica.name, "asked_at_s": asked_at_s,
            "max_tokens": self._options.max_tokens, "predicted_output_tokens": expected,
            **replica.features(begun_s)}
        kv_before = replica.sample(begun_s)
        one = InFlight(-(-len(prompt.text.encode()) // _BYTES_PER_TOKEN), expected)
        state.begin(number, one)
        try:
            answer = await replica.client.ask(*self._body(prompt, state))
        finally:
            # The ledger hears of tokens at the end only; the engine's metrics tell of the middle.
            ended_s = self._clock()
            kv_after = replica.sample(ended_s)
            state.end(number)
        return row | _measured(answer) | {
            "mean_kv_use": (kv_after - kv_before) / max(ended_s - begun_s, 1e-9)}, answer

    def _next(self, model: str) -> Replica:
        """The model's replicas in turn, those that are well first."""
        replicas = self._replicas[model]
        turn = next(self._turns[model])
        order = [replicas[(turn + place) % len(replicas)] for place in range(len(replicas))]
        now_s = self._clock()
        return next((one for one in order if one.state.unavailable(now_s) is None), order[0])

    def _body(self, prompt: Prompt, state: EngineState) -> tuple[dict[str, Any], str]:
        options = self._options
        body: dict[str, Any] = {"model": state.facts.served_as or state.facts.model,
                                "max_tokens": options.max_tokens,
                                "temperature": options.temperature}
        if options.chat:
            return streamed({**body, "messages": [{"role": "user", "content": prompt.text}]}), CHAT
        return streamed({**body, "prompt": prompt.text}), COMPLETIONS

    async def _quality(self, prompt: Prompt, answer: str) -> dict[str, Any]:
        metric = self._options.metric
        if metric is not None and prompt.reference is not None:
            return {"quality": METRICS[metric](answer, prompt.reference), "quality_source": metric}
        if self._judge is None:
            return {}
        verdict = await self._judge.judge(prompt.text, answer, prompt.reference)
        if verdict.quality is None:
            return {"quality_source": f"judge failed: {verdict.reason}"}
        return {"quality": verdict.quality, "quality_source": f"judge {self._judge.model}"}


def _measured(answer: Answer) -> dict[str, Any]:
    """Return the measurements of an answer; times and tokens of unfinished answers stay empty."""
    row: dict[str, Any] = {"outcome": answer.outcome, "reason": answer.reason,
                           "finish_reason": answer.finish_reason, "answer": answer.text,
                           "prompt_tokens": answer.prompt_tokens, "output_tokens": None}
    if not answer.finished:
        return row
    times_s = answer.token_times_s()
    row["output_tokens"] = answer.num_tokens
    row["e2e_s"] = answer.ended_s - answer.sent_s
    if len(times_s) and answer.streamed:
        row["ttft_s"] = float(times_s[0]) - answer.sent_s
        row["e2e_s"] = float(times_s[-1]) - answer.sent_s
        if len(times_s) > 1:
            row["tpot_s"] = float(times_s[-1] - times_s[0]) / (len(times_s) - 1)
    return row


def check_metric(metric: str | None, prompts: Sequence[Prompt], where: str) -> None:
    """Raises InputError for a metric that is not known, or has nothing to compare with."""
    from penstock.core.errors import nearest

    if metric is None:
        return
    if metric not in METRICS:
        raise InputError(f"--metric {metric!r} is unknown{nearest(metric, METRICS)}")
    if not any(prompt.reference is not None for prompt in prompts):
        raise InputError(f"{where}: no prompt has a reference; --metric {metric} compares answers "
                         "with one")
