"""Present state of the gateway as plain data: engines, queues, classes, spending."""

from math import ceil
from typing import Any

from penstock.core.attestation import attestation_violation
from penstock.core.disclosure import Disclosure
from penstock.core.money import to_money
from penstock.engines.client.state import NEVER_S, EngineState
from penstock.serving.adapters.adapters import Adapters
from penstock.serving.gateway.admission_queue import AdmissionQueue
from penstock.serving.gateway.confidential import ConfidentialCounts, any_confidential
from penstock.serving.gateway.engines import Engines
from penstock.serving.gateway.model_pools import ModelPools
from penstock.serving.tenants.gate import TenantGate
from penstock.serving.tenants.quota import Spending


def status_document(engines: Engines, admission: AdmissionQueue,
                    confidential: ConfidentialCounts, gate: TenantGate,
                    model_pools: ModelPools | None, adapters: Adapters,
                    now_s: float, wall_s: float) -> dict[str, Any]:
    """Return the document of /v1/penstock/status, but for the tally. Counts that may include
    confidential requests are padded, and only the section ``confidential`` is about those
    requests."""
    everywhere = [*engines, *(() if model_pools is None else model_pools.attestation_status)]
    pad = confidential.disclosure.count if any_confidential(everywhere) else int
    pools = {} if model_pools is None else {"pools": model_pools.document(confidential.disclosure)}
    return {**pools,
            "engines": [_engine(one, confidential.disclosure, now_s, wall_s)
                        | _adapters(one, adapters) | drafts_document(one) for one in engines],
            "num_in_flight": pad(admission.num_in_flight),
            "num_waiting": pad(admission.num_waiting),
            "confidential": confidential.document(),
            "tenants": [_spending(one) for one in gate.redacted_spending()]}


def _engine(engine: EngineState, disclosure: Disclosure, now_s: float,
            wall_s: float) -> dict[str, Any]:
    seen = engine.snapshot(now_s)
    figures = {"num_in_flight": len(engine.in_flight), "num_running": seen.num_running,
               "num_waiting": seen.num_waiting, "num_served": engine.num_served,
               "num_failed": engine.num_failed, "num_disputed": engine.num_disputed,
               "pending_output_tokens": seen.pending_output_tokens}
    kv_used_share = seen.kv_used_tokens / seen.kv_total_tokens
    found = attestation_violation(engine.confidentiality, wall_s)
    if engine.facts.confidential:
        figures = {name: disclosure.count(number) for name, number in figures.items()}
        kv_used_share = ceil(kv_used_share * 20) / 20
    return {"url": engine.facts.url, "model": engine.facts.model, "kind": engine.kind,
            "unavailable": engine.unavailable(now_s), "draining": engine.draining,
            "seen_s_ago": None if engine.observed_at_s == NEVER_S
            else now_s - engine.observed_at_s,
            **figures, "kv_used_share": kv_used_share,
            "confidential": None if found is None else str(found),
            "speed_share": seen.speed / engine.facts.speed}


def _adapters(engine: EngineState, adapters: Adapters) -> dict[str, Any]:
    """Return the adapters of an engine, unless they tell of confidential requests."""
    if engine.facts.lora is None or engine.facts.confidential:
        return {}
    return {"adapters": adapters.loaded(engine)}


def drafts_document(engine: EngineState) -> dict[str, Any]:
    """Return the acceptance of an engine's latest drafts, as a fleet file states it, beside the
    tokens of a turn that the present file gives."""
    found = engine.drafts.acceptance()
    if found is None or engine.facts.confidential:
        return {}
    return {"speculation": {
        "acceptance": list(found.rates), "low": list(found.low), "high": list(found.high),
        "tokens_per_turn": found.tokens_per_turn(found.depth),
        "stated_tokens_per_turn": engine.facts.drafted_tokens}}


def _spending(one: Spending) -> dict[str, Any]:
    return {"tenant": one.tenant, "num_in_flight": one.num_in_flight,
            "spent": to_money(one.spent_nanos),
            "budget": None if one.budget is None else one.budget.amount,
            "refused": dict(one.refused)}
