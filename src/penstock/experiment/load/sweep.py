"""The same load at several rates, or at several numbers of requests under way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal

from penstock.engines.client.client import EngineClient, client_session
from penstock.experiment.load.bench import BenchRun, Progress, Target, bench, probed_server
from penstock.experiment.load.plan import LoadPlan
from penstock.metrics.record import document

Variable = Literal["rate_per_s", "concurrency"]


async def sweep(target: Target, plan_at: Callable[[float], LoadPlan], levels: Sequence[float],
                on_progress: Progress = lambda _: None, stop: asyncio.Event | None = None
                ) -> AsyncIterator[tuple[float, BenchRun]]:
    """Each level with the run of its plan, in order, one after the other.

    The server is asked once what it accepts. Every level has its own prompts, so that none finds
    another's in a cache. ``stop`` ends the level under way, and no other follows.
    """
    async with client_session() as session:
        probed = await probed_server(
            EngineClient(session, target.url, target.patience, target.api_key), target,
            plan_at(levels[0]))
    for place, level in enumerate(levels):
        yield level, await bench(target, plan_at(level), probed, on_progress, place, stop)
        if stop is not None and stop.is_set():
            return


def level_row(variable: Variable, level: float, run: BenchRun) -> dict[str, Any]:
    """The figures of one level in a row."""
    overall, measured = run.summary.overall, run.measured
    window_s = run.summary.window_s
    return {
        variable: level, "meets_slo": overall.meets_slo, "attainment": overall.attainment,
        "sent": overall.received, "finished": overall.finished, "window_s": window_s,
        "finished_per_s": overall.finished / window_s if window_s > 0 else None,
        "goodput_requests_per_s": overall.goodput_requests_per_s,
        "output_tokens_per_s": overall.output_tokens_per_s,
        **{f"{name}_{q}_s": overall.latency.of(f"{name}_s").at(q)
           for name in ("ttft", "tpot", "e2e") for q in ("p50", "p99")},
        "lateness_p99_s": measured.generator.lateness_s.p99,
        "failed": document(measured.outcomes.failed),
    }
