"""Fleets that are planned in a moment, for tests of what plans them."""

from typing import Any

from penstock.fleet.load import parse_fleet
from penstock.fleet.values import Fleet
from penstock.plan.assign.solve import solve
from penstock.plan.document import plan_document
from penstock.plan.plan import FleetPlan, plan_fleet

CHAT = {"name": "chat", "slo": {"ttft_s": 2, "itl_s": 0.05}}
BATCH = {"name": "batch", "priority": 3, "slo": {"e2e_s": 300}}


def traffic(**changes: Any) -> dict[str, Any]:
    """One entry: 40 requests at 5/s, most of them chat."""
    return {"mix": {"chat": 0.6, "batch": 0.4}, "rate_per_s": 5, "num_requests": 40,
            "lengths": lengths(400, 40), **changes}


def lengths(prompt: int, output: int) -> dict[str, Any]:
    """The same for every request."""
    return {"prompt": {"fixed": prompt}, "output": {"fixed": output}}


PRICES = {"a100-80gb": 4.10, "h100-80gb": 8.20}  # the others' are the catalog's


def cards(**counts: int | None) -> list[dict[str, Any]]:
    """Accelerators by their names with ``_`` for ``-``; ``None`` is as many as needed."""
    return [{"name": name} | ({} if count is None else {"count": count})
            | ({"price_per_hour": PRICES[name]} if name in PRICES else {})
            for name, count in ((key.replace("_", "-"), count) for key, count in counts.items())]


def fleet(*entries: dict[str, Any], **sections: Any) -> Fleet:
    """Llama 3 8B on at most four A100s as ideal engines, unless ``sections`` say otherwise."""
    import yaml

    ideal = {} if "engine" in sections else {"policies": {"schedule": "penstock"}}

    document = {"name": "small", "accelerators": cards(a100_80gb=4),
                "models": [{"name": "llama-3-8b"}], "service_classes": [CHAT, BATCH],
                "traffic": list(entries or (traffic(),)), **ideal, **sections}
    return parse_fleet(yaml.safe_dump(document, sort_keys=False))


def planned(*entries: dict[str, Any], **sections: Any) -> FleetPlan:
    """The plan of such a fleet."""
    return plan_fleet(fleet(*entries, **sections), solve)


def document_of(plan: FleetPlan) -> dict[str, Any]:
    """What plan.json would say, without how long it took."""
    document = plan_document(plan)
    del document["timing"]
    return document


TWO_MODELS = [{"name": "llama-3-8b"}, {"name": "qwen2.5-7b"}]
