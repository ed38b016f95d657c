"""Spending as plain data."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from penstock.core.money import to_money
from penstock.serving.errors import ServiceError
from penstock.serving.tenants.budgets import day_of
from penstock.serving.tenants.gate import TenantGate
from penstock.serving.tenants.quota import Spending

if TYPE_CHECKING:
    from penstock.serving.tenants.store import Spent


async def spending_document(gate: TenantGate, tenant: str | None) -> dict[str, Any]:
    """Return the spending of one tenant or of all, each in the present period of its budget (the
    month where it has none), and by model with a ledger. Raises ServiceError."""
    seen = gate.redacted_spending() if tenant is None else gate.spending()
    figures = {one.tenant: one for one in seen if tenant is None or one.tenant == tenant}
    rows: dict[str, Sequence[Spent]] = {}
    if gate.ledger is not None:
        from penstock.serving.tenants.store import StoreError

        try:
            rows = await gate.ledger.ask(lambda store: {
                name: store.report(day_of(one.period.start_s), name)
                for name, one in figures.items()})
        except StoreError as error:
            raise ServiceError(503, "the ledger cannot be read now", "ledger_unavailable",
                               headers={"Retry-After": "1"}) from error
    return {"tenants": [
        _one(figure, None if tenant is None and figure.has_confidential else rows.get(name))
        for name, figure in sorted(figures.items())]}


def _one(figure: Spending, rows: "Sequence[Spent] | None") -> dict[str, Any]:
    budget, period = figure.budget, figure.period
    return {
        "tenant": figure.tenant, "num_in_flight": figure.num_in_flight,
        "period": {"start": _moment(period.start_s), "end": _moment(period.end_s)},
        "spent": to_money(figure.spent_nanos),
        "num_disputed": None if rows is None else sum(row.num_disputed for row in rows),
        "budget": None if budget is None else {
            "amount": budget.amount, "reserved": budget.reserved,
            "left": max(0.0, budget.amount - budget.spent - budget.reserved)},
        "models": None if rows is None else [
            {"model": row.model, "num_requests": row.num_requests,
             "prompt_tokens": row.prompt_tokens, "output_tokens": row.output_tokens,
             "spent": to_money(row.charged_nanos)} for row in rows]}


def _moment(at_s: float | None) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat()
