"""How uncertain and how heterogeneous replicas are.

The same request goes again and again to every replica, then different ones of its length, then
those in shuffled orders.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from penstock import __version__
from penstock.core.slo import Slo
from penstock.engines.beside import beside
from penstock.engines.client.client import EngineClient, client_session
from penstock.engines.client.metrics_text import read_load
from penstock.experiment.load.bench import Target, with_model
from penstock.experiment.load.plan import LoadOptions, option_plan
from penstock.experiment.load.prompts import Prompts
from penstock.experiment.load.template import Probed, probe
from penstock.metrics.definitions import request_latencies
from penstock.metrics.variance import between_groups, spread

MEASURES = {"output_tokens": "output length, tokens", "ttft_s": "TTFT", "tpot_s": "TPOT",
            "e2e_s": "e2e", "kv_used_share": "KV memory in use, most seen"}
FACTORS = ("replica", "request", "round")
_POLL_S = 0.02
_NO_TARGETS = Slo()


@dataclass(frozen=True, slots=True)
class VarianceOptions:
    """How much is sent: ``repeats`` of one request, ``num_requests`` of one length, and those in
    ``shuffles`` orders; each of it to every replica."""

    repeats: int = 20
    num_requests: int = 20
    shuffles: int = 3
    prompt_tokens: int = 256
    max_tokens: int = 256
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """One request; NaN where a measure is not known."""

    experiment: str
    replica: int
    request: int
    round: int
    outcome: str
    output_tokens: float
    ttft_s: float
    tpot_s: float
    e2e_s: float
    kv_used_share: float

    def row(self) -> dict[str, Any]:
        """As a row of figures, None for what is not known."""
        return {key: None if value != value else value for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class _Sent:
    experiment: str
    replica: int
    request: int
    round: int


async def measure_variance(targets: Sequence[Target], options: VarianceOptions,
                           on_progress: Callable[[int], None] = lambda _: None
                           ) -> tuple[list[Observation], dict[str, Any]]:
    """All observations, and the document that sums them up.

    One request is under way at a time, so that none waits for another, and replicas take turns, so
    that what drifts does not look like a difference between them. Raises InputError for a replica
    that cannot be reached or takes no request.
    """
    async with client_session() as session:
        clients = [EngineClient(session, one.url, one.patience, one.api_key) for one in targets]
        probed = [await _probed(client, target)
                  for client, target in zip(clients, targets, strict=True)]
        plan = option_plan(LoadOptions(
            1.0, 2 * options.num_requests + 1, prompt=str(options.prompt_tokens),
            output=str(options.max_tokens), seed=options.seed))
        prompts = [Prompts(plan.workload, options.seed, one.manner.form, one.scale)
                   for one in probed]
        found: list[Observation] = []
        for number, sent in enumerate(schedule(len(targets), options)):
            found.append(await _observe(clients[sent.replica], probed[sent.replica],
                                        prompts[sent.replica].prompt(sent.request), sent, options))
            on_progress(number + 1)
    return found, variance_document([target.url for target in targets], options, found,
                                    [note for one in probed for note in one.notes])


async def _probed(client: EngineClient, target: Target) -> Probed:
    manner = target.manner
    if manner.model is None:
        manner = await with_model(client, manner)
    return await probe(client, manner)


def schedule(num_replicas: int, options: VarianceOptions) -> list[_Sent]:
    """Return the requests in sending order. Shuffled orders have fresh requests, so that no order
    finds the requests of an earlier order in a cache."""
    rng = np.random.default_rng(options.seed)
    num = options.num_requests
    replicas = range(num_replicas)
    found = [_Sent("repeated", replica, 0, again) for again in range(options.repeats)
             for replica in replicas]
    found += [_Sent("same_length", replica, request, 0) for request in range(1, num + 1)
              for replica in replicas]
    for again in range(options.shuffles):
        found += [_Sent("shuffled", replica, num + 1 + int(request), again)
                  for request in rng.permutation(num) for replica in replicas]
    return found


async def _observe(client: EngineClient, probed: Probed, prompt: str | list[int], sent: _Sent,
                   options: VarianceOptions) -> Observation:
    most: list[float] = []
    async with beside(_watch(client, most)):
        answer = await client.ask(probed.manner.body(prompt, options.max_tokens),
                                  probed.manner.path)
    latencies = request_latencies(_NO_TARGETS, answer.sent_s, np.nan, answer.token_times_s(),
                                  answer.finished)
    known = answer.finished
    return Observation(
        sent.experiment, sent.replica, sent.request, sent.round, answer.outcome,
        float(answer.num_tokens) if known else np.nan, latencies.ttft_s if known else np.nan,
        latencies.tpot_s if known and answer.streamed else np.nan,
        latencies.e2e_s if known else np.nan, max(most, default=np.nan))


async def _watch(client: EngineClient, most: list[float]) -> None:
    """Note the share of KV memory in use again and again, where the server tells."""
    while (text := await client.metrics()) is not None:
        share = read_load(text).kv_used_share
        if share is None:
            return
        most.append(share)
        await asyncio.sleep(_POLL_S)


def variance_document(urls: Sequence[str], options: VarianceOptions,
                      found: Sequence[Observation], notes: Sequence[str]) -> dict[str, Any]:
    """Per experiment and measure: its spread, and which part of its variance lies between replicas,
    between requests and between rounds."""
    experiments: dict[str, Any] = {}
    for name in dict.fromkeys(one.experiment for one in found):
        rows = [one for one in found if one.experiment == name]
        experiments[name] = {
            "sent": len(rows), "finished": sum(one.outcome == "finished" for one in rows),
            "measures": {measure: _measure(rows, measure) for measure in MEASURES}}
    return {"urls": list(urls), "version": __version__, "engine": "live", "seed": options.seed,
            "options": asdict(options), "notes": list(dict.fromkeys(notes)),
            "experiments": experiments}


def _measure(rows: Sequence[Observation], measure: str) -> dict[str, Any]:
    values = np.array([getattr(one, measure) for one in rows], dtype=np.float64)
    shares = {}
    for factor in FACTORS:
        decomposed = between_groups(values, [getattr(one, factor) for one in rows])
        shares[factor] = None if decomposed is None else asdict(decomposed)
    by_replica = {str(replica): asdict(spread(values[[one.replica == replica for one in rows]]))
                  for replica in dict.fromkeys(one.replica for one in rows)}
    return {**asdict(spread(values)), "by_replica": by_replica, "between": shares}
