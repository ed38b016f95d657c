"""One train phase from fleet file to ``rows.parquet``."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.engines.beside import beside
from penstock.engines.client.client import ClientTimeouts, EngineClient, client_session
from penstock.engines.client.of_fleet import facts_of
from penstock.engines.client.state import EngineState
from penstock.engines.client.watch import Watcher
from penstock.experiment.collect.broadcast import CollectOptions, Collector, Replica
from penstock.experiment.collect.judge import Judge
from penstock.experiment.collect.log import CollectLog, open_log
from penstock.experiment.collect.prompts import Prompt
from penstock.experiment.collect.rows import write_rows
from penstock.fleet.values import Fleet

_WATCH_S = 0.2


@dataclass(frozen=True, slots=True)
class JudgeAt:
    """The judge: a server, its model, and the key to ask it with."""

    url: str
    model: str
    api_key: str | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """Sources of a collection: a fleet's engines (all models, or some), prompts, the judge.

    ``digest`` is the prompt file's, ``api_key`` that of the engines.
    """

    fleet: Fleet
    prompts: Sequence[Prompt]
    digest: str
    models: Sequence[str] = ()
    judge: JudgeAt | None = None
    api_key: str | None = None
    patience: ClientTimeouts = field(default_factory=ClientTimeouts)


def collect(sources: Sources, options: CollectOptions, folder: Path,
            on_row: Callable[[int, Mapping[str, Any]], None] = lambda _done, _row: None,
            ) -> list[dict[str, Any]]:
    """Collect into ``folder``, or go on with what is there, and write ``rows.parquet``.

    Returns the counts by model (see ``counts``). Raises InputError for a model without an endpoint,
    engines that do not answer and a folder of another run.
    """
    engines = engines_of(sources.fleet, sources.models)
    head = {"fleet": sources.fleet.name, "prompts": sources.digest, "models": list(engines),
            "judge": None if sources.judge is None else sources.judge.model,
            **{name: value for name, value in asdict(options).items() if name != "concurrency"}}
    log = open_log(folder, head)
    try:
        asyncio.run(_collect(sources, options, engines, log, on_row))
    finally:
        log.close()
    partial = folder / ".partial-rows.parquet"
    write_rows([log.rows[key] for key in sorted(log.rows)], partial)
    partial.replace(folder / "rows.parquet")
    return counts(log.rows, list(engines))


def engines_of(fleet: Fleet, models: Sequence[str]) -> dict[str, list[EngineState]]:
    """Engines by model, of all models that have one or of those named. Raises InputError."""
    found: dict[str, list[EngineState]] = {}
    for facts in facts_of(fleet):
        found.setdefault(facts.model, []).append(EngineState(facts))
    if not found:
        raise InputError(f"fleet {fleet.name}: replicas: none has endpoints, so there is no engine "
                         "to ask; expected for example endpoints: [http://127.0.0.1:8001]")
    for model in models:
        if model not in found:
            raise InputError(f"model {model!r} has no endpoint in the fleet{nearest(model, found)}")
    return {model: states for model, states in found.items() if not models or model in models}


async def _collect(sources: Sources, options: CollectOptions,
                   engines: Mapping[str, Sequence[EngineState]], log: CollectLog,
                   on_row: Callable[[int, Mapping[str, Any]], None]) -> None:
    async with client_session() as session:
        watcher = Watcher([state for states in engines.values() for state in states], session,
                          time.monotonic, _WATCH_S)
        await watcher.look()
        for model, states in engines.items():
            if not any(state.healthy for state in states):
                raise InputError(f"{states[0].facts.url}: no engine of {model} answers; is it "
                                 "started?")
        replicas = {model: [_replica(state, sources, session) for state in states]
                    for model, states in engines.items()}
        judge = None
        if sources.judge is not None:
            asked = EngineClient(session, sources.judge.url, sources.patience,
                                 sources.judge.api_key)
            judge = Judge(asked.ask, sources.judge.model)
        async with beside(watcher.run()):
            collector = Collector(replicas, log, options, judge, time.monotonic, time.time)
            await collector.run(sources.prompts, lambda row: on_row(len(log.rows), row))


def _replica(state: EngineState, sources: Sources, session: Any) -> Replica:
    client = EngineClient(session, state.facts.url, sources.patience, sources.api_key)
    return Replica(f"replica-{state.facts.replica_id}", state, client)


def counts(rows: Mapping[Any, Mapping[str, Any]], models: Sequence[str]) -> list[dict[str, Any]]:
    """By model: rows, finished, failed, judged, judge failures, mean quality and output tokens."""
    found = []
    for model in models:
        held = [row for row in rows.values() if row["model"] == model]
        finished = [row for row in held if row["outcome"] == "finished"]
        judged = [row["quality"] for row in finished if row.get("quality") is not None]
        unjudged = [row for row in finished
                    if str(row.get("quality_source") or "").startswith("judge failed")]
        tokens = [row["output_tokens"] for row in finished]
        found.append({"model": model, "rows": len(held), "finished": len(finished),
                      "failed": len(held) - len(finished), "judged": len(judged),
                      "judge_failures": len(unjudged),
                      "mean_quality": sum(judged) / len(judged) if judged else None,
                      "mean_output_tokens": sum(tokens) / len(tokens) if tokens else None})
    return found
