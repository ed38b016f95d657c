"""What the gateway does now, as plain data: engines, waiting requests, classes, spending."""

from typing import Any

from penstock.core.money import to_money
from penstock.engine.live.state import NEVER_S, EngineState
from penstock.gateway.engines import Engines
from penstock.gateway.tally import Tally
from penstock.gateway.tenants.desk import Spending
from penstock.gateway.tenants.front import Front
from penstock.gateway.turns import Turns
from penstock.gateway.waiting import WaitingRoom


def status_document(engines: Engines, room: WaitingRoom, tally: Tally, front: Front,
                    turns: Turns | None, now_s: float) -> dict[str, Any]:
    """The document of /v1/penstock/status."""
    pools = {} if turns is None else {"pools": turns.document()}
    return {**pools, "engines": [_engine(one, now_s) for one in engines],
            "num_in_flight": room.num_in_flight, "num_waiting": room.num_waiting,
            **tally.document(now_s), "tenants": [_spending(one) for one in front.spending()]}


def _engine(engine: EngineState, now_s: float) -> dict[str, Any]:
    seen = engine.snapshot(now_s)
    return {"url": engine.facts.url, "model": engine.facts.model, "kind": engine.kind,
            "unavailable": engine.unavailable(now_s), "draining": engine.draining,
            "seen_s_ago": None if engine.observed_at_s == NEVER_S
            else now_s - engine.observed_at_s,
            "num_in_flight": len(engine.in_flight), "num_running": seen.num_running,
            "num_waiting": seen.num_waiting, "kv_used_share": seen.kv_used_tokens
            / seen.kv_total_tokens, "pending_output_tokens": seen.pending_output_tokens,
            "num_served": engine.num_served, "num_failed": engine.num_failed,
            "speed_share": seen.speed / engine.facts.speed}


def _spending(one: Spending) -> dict[str, Any]:
    return {"tenant": one.tenant, "num_in_flight": one.num_in_flight,
            "spent": to_money(one.spent_nanos),
            "budget": None if one.budget is None else one.budget.amount,
            "refused": dict(one.refused)}
