"""One run of load on a live endpoint, and what it came to."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from penstock import __version__
from penstock.core.errors import InputError, one_of
from penstock.engines.client.answer import Answer
from penstock.engines.client.client import ClientTimeouts, EngineClient, client_session
from penstock.experiment.load.drive import Send, closed_loop, linked_loop, open_loop
from penstock.experiment.load.outcomes import Outcomes
from penstock.experiment.load.plan import LoadPlan
from penstock.experiment.load.prompts import GivenPrompts, Prompts
from penstock.experiment.load.template import (
    CLASS_HEADER,
    SESSION_HEADER,
    Probed,
    RequestTemplate,
    probe,
)
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.run_summary import Measured, Origin, RunSummary
from penstock.metrics.summary import Usage, summarise
from penstock.metrics.table import RequestTable
from penstock.workload.workload import Workload

_SEEDS_APART = 1_000_003
_LEAD_S = 0.05  # between the decision to start and the first arrival
Progress = Callable[[int], None]
_MANNER, _PATIENCE = RequestTemplate(), ClientTimeouts()


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask, and how patiently.

    ``api_key``, ``tenant_keys`` (which replaces it for tenants that it names) and the values of
    ``headers`` are in no result.
    """

    url: str
    manner: RequestTemplate = _MANNER
    patience: ClientTimeouts = _PATIENCE
    api_key: str | None = field(default=None, repr=False)
    shared_prompt_tokens: int = 0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tenant_keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    def headers_of(self, service_class: str | None, tenant: str, session: str = ""
                   ) -> dict[str, str]:
        """The headers of one request."""
        found = dict(self.headers)
        if session:
            found[SESSION_HEADER] = session
        if service_class is not None:
            found[CLASS_HEADER] = service_class
        if tenant in self.tenant_keys:
            found["Authorization"] = f"Bearer {self.tenant_keys[tenant]}"
        return found


@dataclass(frozen=True, slots=True)
class BenchRun:
    """The requests of one run, and its summary in the form that simulations have.

    ``sent_s`` is when each row's request really left, on the table's clock; ``failures`` how and
    why each failed, empty for those that did not.
    """

    table: RequestTable
    summary: RunSummary
    sent_s: FloatColumn
    failures: tuple[str, ...]

    @property
    def measured(self) -> Measured:
        """How requests were put and how they ended."""
        assert self.summary.measured is not None, "finished_run states it"
        return self.summary.measured

    @property
    def meets(self) -> bool:
        """Whether no class misses its objective."""
        return self.summary.overall.meets_slo is not False


async def bench(target: Target, plan: LoadPlan, probed: Probed | None = None,
                on_progress: Progress = lambda _: None, prompt_round: int = 0,
                stop: asyncio.Event | None = None) -> BenchRun:
    """Send the plan's requests and wait for all answers.

    Prompts of different ``prompt_round`` differ. ``probed`` is what is known of the server already;
    otherwise it is asked. Raises InputError when it cannot be reached before the run begins; what
    goes wrong later is a result. ``stop`` ends the run early: what is under way then is unfinished.
    Raises KeyboardInterrupt when that comes before the first request.
    """
    async with client_session() as session:
        client = EngineClient(session, target.url, target.patience, target.api_key)
        if probed is None:
            probed = await probed_server(client, target, plan)
        began = datetime.now(UTC).isoformat(timespec="milliseconds")
        start_s = time.monotonic() + _LEAD_S
        outcomes = Outcomes(plan.workload, {one.name: one for one in plan.classes}, start_s)
        prompts = _prompts(target, plan, probed, prompt_round)
        run = _Run(client, target, plan, probed.manner, prompts, outcomes, start_s,
                   f"{plan.seed}-{prompt_round}", on_progress)
        interrupted = await _until_stopped(run.drive(), stop)
    if not len(outcomes):
        raise KeyboardInterrupt
    load = {"began": began, **_load(target, plan, probed)}
    if interrupted:
        load["notes"].append("the run was interrupted; what was under way is unfinished")
    return finished_run(plan, outcomes, load)


def _prompts(target: Target, plan: LoadPlan, probed: Probed,
             prompt_round: int) -> Prompts | GivenPrompts:
    if plan.conversations:
        return GivenPrompts(plan.conversations, chat=probed.manner.api == "chat")
    return Prompts(plan.workload, plan.seed + prompt_round * _SEEDS_APART, probed.manner.form,
                   probed.scale, target.shared_prompt_tokens)


async def _until_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event | None) -> bool:
    """Do ``work``; whether ``stop`` came first, which ends it."""
    driving = asyncio.create_task(work)
    if stop is None:
        await driving
        return False
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((driving, stopping), return_when=asyncio.FIRST_COMPLETED)
    interrupted = not driving.done()
    stopping.cancel()
    driving.cancel()
    with suppress(asyncio.CancelledError):
        await driving
    return interrupted


async def probed_server(client: EngineClient, target: Target, plan: LoadPlan) -> Probed:
    """Probe the server with a few short requests. Raises InputError."""
    manner = target.manner
    name = plan.workload.models[0]
    if manner.model is None and not name:
        manner = await with_model(client, manner)
    tenant = plan.workload.tenants[plan.workload.tenant_index[0]]
    class_name = plan.classes[0].name if plan.names_class else None
    return await probe(client, manner, name, target.headers_of(class_name, tenant))


async def with_model(client: EngineClient, manner: RequestTemplate) -> RequestTemplate:
    """The manner with the model that the server offers, where it offers one only."""
    names = [card.name for card in await client.models()]
    if len(names) != 1:
        raise InputError(f"{client.base_url}: offers {len(names)} models; say which by --model"
                         f"{one_of(names)}")
    return replace(manner, model=names[0])


@dataclass(frozen=True, slots=True)
class _Run:
    """One run under way. ``name`` begins the names of its sessions, so that those of another run
    are others."""

    client: EngineClient
    target: Target
    plan: LoadPlan
    manner: RequestTemplate
    prompts: Prompts | GivenPrompts
    outcomes: Outcomes
    start_s: float
    name: str
    on_progress: Progress

    async def drive(self) -> None:
        """Send all requests and wait for their answers."""
        plan, clock, start_s = self.plan, time.monotonic, self.start_s
        workload = plan.workload
        if plan.concurrency is not None:
            until_s = float("inf") if plan.duration_s is None else start_s + plan.duration_s
            await closed_loop(self._ready, self._take, plan.concurrency, plan.num_requests, until_s,
                              clock)
        elif workload.links is not None:
            await linked_loop(self._ready, self._take, workload.arrival_s.tolist(), workload.links,
                              start_s, clock)
        else:
            await open_loop(self._ready, self._take, workload.arrival_s.tolist(), start_s, clock)

    def _ready(self, number: int) -> Send:
        workload, manner, client = self.plan.workload, self.manner, self.client
        row = number % len(workload)
        name = workload.service_classes[workload.class_index[row]] if self.plan.names_class \
            else None
        body = manner.body(self.prompts.prompt(number), int(workload.output_tokens[row]),
                           _model_of(workload, row), name)
        task = -1 if workload.tasks is None else int(workload.tasks[row])
        headers = self.target.headers_of(name, workload.tenants[workload.tenant_index[row]],
                                         "" if task < 0 else f"{self.name}-{task}")
        return lambda answer: client.ask(body, manner.path, headers, answer)

    def _take(self, number: int, due_s: float, answer: Answer) -> None:
        self.outcomes.take(number, due_s, answer)
        self.on_progress(len(self.outcomes))


def _model_of(workload: Workload, row: int) -> str:
    """Return the name that the request asks for: its adapter's, or else its model's."""
    adapter = "" if workload.adapter_index is None \
        else workload.adapters[workload.adapter_index[row]]
    return adapter or workload.models[workload.model_index[row]]


def _load(target: Target, plan: LoadPlan, probed: Probed) -> dict[str, Any]:
    """How the requests were put: all that a repetition needs, but the key."""
    manner, patience = probed.manner, target.patience
    return {
        "url": target.url, "loop": "open" if plan.concurrency is None else "closed",
        **plan.stated, "api": manner.api, "model": manner.model,
        "prompts": "given" if plan.conversations else manner.form,
        "shared_prompt_tokens": target.shared_prompt_tokens, "stream": manner.stream,
        "headers": sorted(target.headers), "exact_outputs": manner.exact,
        "extra": dict(manner.extra),
        "tokens_per_word": probed.scale.per_word, "overhead_tokens": probed.scale.overhead,
        "timeouts_s": {"connect": patience.connect_s, "first_token": patience.first_token_s,
                       "total": patience.total_s},
        "notes": list(probed.notes)}


def finished_run(plan: LoadPlan, outcomes: Outcomes, load: Mapping[str, Any],
                 gaps_known: bool = True) -> BenchRun:
    """The run's table and summary; ``load`` is what the summary says of how it was put.

    Without ``gaps_known`` only the mean of each request's gaps is, not their tail.
    """
    table = outcomes.table()
    if not gaps_known:
        unknown = np.full(len(table), np.nan)
        table = replace(table, itl_p99_s=unknown, itl_max_s=unknown)
    summary = replace(
        summarise(plan.counted(table), plan.classes, Usage(np.zeros(0), plan.cost_per_hour)),
        origin=Origin(name=plan.name, version=__version__, engine="live", seed=plan.seed),
        refusals=outcomes.refusals(), fleet=plan.fleet_document,
        measured=Measured(outcomes=outcomes.counts(), generator=outcomes.generator(),
                          load=dict(load)))
    return BenchRun(table, summary, outcomes.sent_s(), outcomes.failures())
