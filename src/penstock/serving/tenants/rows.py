"""Records as rows of the ledger's tables."""

from typing import Any

from penstock.serving.tenants.budgets import day_of
from penstock.serving.tenants.records import Opening, Progress, Settlement

CHARGE_COLUMNS = ("decision_id", "tenant", "model", "day", "at_s", "prompt_tokens",
                  "output_tokens", "charged_nanos", "resolved", "disputed", "gateway")
"""Order of the values of a charge's row."""


def amounts(one: Any) -> list[int]:
    """Return what a settlement, or a row of a charge, adds to the sums."""
    return [1, one.prompt_tokens, one.output_tokens, one.charged_nanos, int(one.disputed)]


def open_row(one: Opening, gateway: str) -> dict[str, Any]:
    """Return the row of a request in progress."""
    return {"decision_id": one.decision_id, "gateway": gateway, "tenant": one.tenant,
            "model": one.model, "opened_s": one.at_s, "reserved_nanos": one.reserved_nanos,
            "prompt_tokens": one.prompt_tokens, "output_tokens": one.output_tokens,
            "charged_nanos": one.charged_nanos}


def advance(one: Progress) -> dict[str, Any]:
    """Return the parameters of an update of an open row."""
    return {"name": one.decision_id, "new_model": one.model, "new_prompt_tokens": one.prompt_tokens,
            "new_output_tokens": one.output_tokens, "new_charged_nanos": one.charged_nanos}


def charge_row(one: Settlement, gateway: str, resolved: int, disputed: int) -> tuple[Any, ...]:
    """Return the row of a charge, with booleans as the database has them."""
    return (one.decision_id, one.tenant, one.model, day_of(one.at_s), one.at_s, one.prompt_tokens,
            one.output_tokens, one.charged_nanos, resolved, disputed, gateway)
