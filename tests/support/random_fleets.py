"""Random fleet files over the whole catalog, by seed, with little traffic each."""

import json
from typing import Any

import numpy as np

from penstock.catalog.catalog import load_catalog
from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.plan.demands import demands_of
from penstock.plan.estimate import FAILED, estimate
from penstock.plan.variants import LeftOut, variants_of

_CATALOG = load_catalog()
MODELS = tuple(sorted(_CATALOG.models))
ACCELERATORS = tuple(sorted(_CATALOG.accelerators))
UNPRICED = {name: {"price_per_hour": 10.0} for name, one in _CATALOG.accelerators.items()
            if one.price_per_hour is None}
TRACES = ("azure-2023-code", "azure-2023-conv", "mooncake-conversation", "mooncake-synthetic",
          "sharegpt-8k")
PRECISIONS = ("bf16", "fp16", "fp32", "fp8", "int8", "fp4", "int4")
SCHEDULES = ("penstock", "niyama", "sarathi", "edf", "srpf", "fcfs", "orca")
ROUTES = ("least_loaded", "round_robin", "random", "shortest_queue", "fewest_waiting",
          "two_choices", "free_kv", "prefix_aware", "predictive", "least_added_time")
TTFT_S = (0.05, 0.2, 0.5, 1.0, 2.0, 6.0, 30.0)
ITL_S = (0.01, 0.02, 0.03, 0.05, 0.1, 0.25)
E2E_S = (1.0, 10.0, 60.0, 300.0, 1800.0)
RATES_PER_S = (0.01, 0.2, 1.0, 5.0, 10.0, 50.0, 300.0)
ARRIVALS: tuple[Any, ...] = (
    "poisson", "constant", {"name": "gamma", "gap_cv": 3.0},
    {"name": "bursty", "on_s": 2.0, "off_s": 5.0},
    {"name": "ramp", "start": 0.2, "end": 2.0, "over_s": 20.0},
    {"name": "square", "low": 0.5, "high": 2.0, "low_s": 5.0, "high_s": 3.0},
    {"name": "hourly", "rates": [1.0, 3.0, 2.0], "hour_s": 5.0},
    {"name": "diurnal", "peak_to_mean": 1.6, "period_s": 30.0})


class _Draw:
    """Choices by chance."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def one(self, values: Any) -> Any:
        return values[int(self._rng.integers(len(values)))]

    def some(self, values: Any, most: int) -> list[Any]:
        """From one to ``most`` different values."""
        number = int(self._rng.integers(1, most + 1))
        return [values[i] for i in self._rng.permutation(len(values))[:number]]

    def chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)


def random_document(seed: int, *, small: bool = False,
                    num_requests: int | None = None) -> dict[str, Any]:
    """A fleet file that loads or is refused.

    Half of all fleets are ordinary: paced classes of usual targets under Penstock's schedule. The
    others take settings from everywhere. A ``small`` one has a single model, one kind of
    accelerator and few requests, so that its plan takes a fraction of a second. ``num_requests``
    stands for the number drawn.
    """
    draw = _Draw(seed)
    ordinary = draw.chance(0.5)
    most_requests = 12 if small else 40
    models = draw.some(MODELS, 1 if small else 2)
    classes = [_service_class(draw, name, ordinary=ordinary)
               for name in draw.some(("chat", "code", "batch"), 3)]
    document: dict[str, Any] = {
        "name": f"random-{seed}",
        "accelerators": [{"name": name} | UNPRICED.get(name, {})
                         | ({"count": draw.one((1, 4, 8, 64))} if draw.chance(0.4) else {})
                         for name in draw.some(ACCELERATORS, 1 if small else 3)],
        "models": [{"name": name, "precisions": draw.some(PRECISIONS, 1 if small else 2)}
                   | ({} if draw.chance(0.05) else {"max_context_tokens": 262_144})
                   for name in models],
        "service_classes": classes,
        "traffic": [_traffic(draw, model, classes, most_requests)
                    | ({} if num_requests is None else {"num_requests": num_requests})
                    for model in models],
        "policies": {"schedule": "penstock" if ordinary else draw.one(SCHEDULES),
                     "route": draw.one(ROUTES)},
        "plan": {"pooling": draw.one(("model", "class")), "mixed": draw.chance(0.6)},
        "run": {"seed": int(draw.one(range(100)))}}
    if draw.chance(0.3):
        document["plan"]["kv_precisions"] = draw.some(("bf16", "fp8"), 2)
    if draw.chance(0.2):
        document["plan"]["step_tokens"] = draw.some((128, 512, 2048, 8192), 2)
    if small or draw.chance(0.2):
        document["plan"]["tensor"] = draw.some((1, 2, 4), 2)
    if draw.chance(0.1):
        document["plan"]["max_cost_per_hour"] = draw.one((2.0, 20.0))
    if draw.chance(0.3):
        document["engine"] = draw.one((
            {"block_tokens": 64}, {"max_num_seqs": 4}, {"prefix_caching": True},
            {"kv_tokens": 20_000}, {"memory_fraction": 0.5}, {"max_num_seqs": 2}))
    if draw.chance(0.1):
        document["run"]["step_time_noise"] = 0.1
    if draw.chance(0.15):
        document["replicas"] = [{"model": models[0], "count": draw.one((1, 3))}]
    return document


def random_text(seed: int, *, small: bool = False, num_requests: int | None = None) -> str:
    """The same as a file's text; JSON is YAML."""
    return json.dumps(random_document(seed, small=small, num_requests=num_requests), indent=1)


def failed_estimates(text: str) -> list[str]:
    """Why estimates of a fleet's variants failed. Nothing is simulated."""
    try:
        fleet = parse_fleet(text)
        demands = demands_of(fleet, (fleet_workload(fleet, 0),))
        found = [estimate(fleet, demand, variant) for demand in demands
                 for variant in variants_of(fleet, demand.model, demand.longest_tokens)[0]]
    except InputError:
        return []
    return [e.reason for e in found if isinstance(e, LeftOut) and e.reason.startswith(FAILED)]


def _service_class(draw: _Draw, name: str, *, ordinary: bool) -> dict[str, Any]:
    if ordinary:
        return {"name": name, "priority": draw.one((1, 2, 3)), "slo": {
            "ttft_s": draw.one((0.5, 1.0, 2.0)), "itl_s": draw.one((0.02, 0.03, 0.05))}}
    targets = {key: draw.one(values)
               for key, values in (("ttft_s", TTFT_S), ("itl_s", ITL_S), ("e2e_s", E2E_S))
               if draw.chance(0.6)} or {"ttft_s": 2.0}
    return {"name": name, "priority": draw.one((1, 2, 3)),
            "slo": {**targets, "itl": draw.one(("paced", "strict", "mean")),
                    "percentile": draw.one((50, 90, 99, 100))}}


def _traffic(draw: _Draw, model: str, classes: list[dict[str, Any]],
             most_requests: int) -> dict[str, Any]:
    names = [c["name"] for c in classes]
    entry: dict[str, Any] = {
        "model": model,
        "mix": {name: 1.0 / len(names) for name in names},
        "arrivals": draw.one(ARRIVALS), "rate_per_s": draw.one(RATES_PER_S),
        "num_requests": draw.one((1, 2, most_requests // 4, most_requests, most_requests))}
    if draw.chance(0.7):
        entry["trace"] = draw.one(TRACES)
    else:
        entry["lengths"] = {"prompt": {"fixed": draw.one((1, 30, 500, 6000))},
                            "output": {"fixed": draw.one((1, 2, 60, 300))}}
    return entry
