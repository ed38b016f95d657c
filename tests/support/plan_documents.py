"""A small made-up plan document, of the form that docs/reference/plan-json.md describes."""

from copy import deepcopy


def slo(**targets):
    return {"ttft_s": None, "itl_s": None, "e2e_s": None, "itl": "paced", "percentile": 99.0,
            **targets}


def candidate(demand, variant, accelerator, cost, alone, ttft_s, **changes):
    return {"demand": demand, "variant": variant, "accelerator": accelerator, "tensor": 1,
            "pipeline": 1, "precision": "bf16", "kv_precision": "bf16", "kv_tokens": 10_000,
            "cost_per_hour": cost, "power_w": 300.0, "rate_per_s": 3.0, "bound_per_s": 4.0,
            "believed_per_s": 2.5, "corrected": True, "num_replicas": alone,
            "estimated_replicas": alone, "cost_alone_per_hour": alone * cost,
            "binding": "chat ttft", "classes": [
                {"name": "chat", "ttft_p50_s": 0.1, "ttft_p99_s": ttft_s, "itl_p50_s": 0.01,
                 "itl_p99_s": 0.05}], **changes}


DOCUMENT = {
    "name": "demo", "version": "0.1.0", "seed": 7, "holds": True, "served_in_full": False,
    "unserved": ["big", "huge"],
    "replicas": [{"model": "small", "accelerator": "l4", "count": 2,
                  "parallelism": {"tensor": 2, "pipeline": 1}, "precision": "fp8"}],
    "cost_per_hour": 4.25, "cost_per_million_tokens": 0.15, "power_w": 1300.0,
    "optimum": {"method": "exact", "objective": 4.25, "bound": 4.24, "gap": 0.00235,
                "switching_cost": 0.0,
                "levels": [{"name": "cost", "objective": 4.25, "bound": 4.24, "gap": 0.00235}]},
    "cards": [{"accelerator": "l4", "count": 6, "used": 4, "price_per_hour": 0.5},
              {"accelerator": "h100", "count": None, "used": 1, "price_per_hour": 2.25}],
    "demands": [
        {"name": "small", "model": "small", "priority": 1, "rate_per_s": 8.0, "served_share": 1.0,
         "replicas": {"l4-tp2-fp8": 2}, "cost_per_hour": 2.0, "cost_per_million_tokens": 0.1,
         "power_w": 600.0, "headroom": 0.1875, "bound_share": 0.625, "meets": True,
         "num_seeds": 2, "classes": [
             {"name": "chat", "slo": slo(ttft_s=2.0, itl_s=0.05), "attainment": 0.998,
              "worst_seed": 0.9951,
              "simulated": {"ttft_p50_s": 0.2, "ttft_p99_s": 1.0, "itl_p99_s": 0.1},
              "predicted": {"ttft_p50_s": 0.3, "ttft_p99_s": 2.5, "itl_p99_s": 0.05}}]},
        {"name": "big", "model": "big", "priority": 2, "rate_per_s": 2.0, "served_share": 0.3429,
         "replicas": {"h100-bf16": 1}, "cost_per_hour": 2.25, "cost_per_million_tokens": 0.7,
         "power_w": 700.0, "headroom": None, "meets": True, "num_seeds": 2, "classes": [
             {"name": "chat", "slo": slo(ttft_s=2.0), "attainment": 0.995, "worst_seed": 0.992,
              "simulated": {"ttft_p50_s": 0.2, "ttft_p99_s": 1.9, "itl_p99_s": 0.1},
              "predicted": {"ttft_p50_s": None, "ttft_p99_s": None, "itl_p99_s": None}}]},
        {"name": "huge", "model": "huge", "priority": 3, "rate_per_s": 1.0, "served_share": 0.0,
         "replicas": {}, "cost_per_hour": 0, "cost_per_million_tokens": None, "power_w": 0,
         "headroom": None, "meets": None, "num_seeds": 0,
         "classes": [{"name": "batch", "slo": slo(e2e_s=300.0)}]}],
    "changes": [{"demand": "small", "variant": "h100-bf16", "before": 3, "after": 0,
                 "action": "stop", "num_replicas": 3},
                {"demand": "small", "variant": "l4-tp2-fp8", "before": 0, "after": 2,
                 "action": "start", "num_replicas": 2}],
    "candidates": [
        candidate("small", "l4-tp2-fp8", "l4", 1.0, 4, 1.5, tensor=2),
        candidate("small", "h100-bf16", "h100", 2.25, 1, 0.5),
        candidate("big", "h100-bf16", "h100", 2.25, 3, 0.9),
        candidate("big", "l4-tp4-bf16", "l4", 2.0, 9, None, tensor=4, corrected=False)],
    "not_considered": [
        {"demand": "small", "variant": "l4-bf16", "reason": "h100-bf16 carries more"},
        {"demand": "small", "variant": "l4-fp8", "reason": "h100-bf16 carries more"},
        {"demand": "huge", "variant": "l4-bf16", "reason": "model does not fit: lacks 44 GiB"},
        {"demand": "huge", "variant": "h100-bf16", "reason": "model does not fit: lacks 4 GiB"}],
    "trials": [
        {"round": 0, "demand": "small", "replicas": {"l4-tp2-fp8": 1}, "share": 1.0,
         "meets": False, "attainment": {"chat": 0.9}},
        {"round": 1, "demand": "big", "replicas": {"h100-bf16": 1}, "share": 0.3429,
         "meets": True, "attainment": {"chat": 0.992, "batch": 1.0}}],
    "explanations": [{"demand": "huge", "text": "2 more h100 would serve it in full"}],
    "moves": [],
    "shadow_prices": [{"resource": "l4", "available": 4, "used": 4, "dual_per_hour": 1.2345,
                       "one_more_saves_per_hour": 0.83, "step": 1.0, "serves_per_s": {}}],
    "pareto": [
        {"cost_per_hour": 4.25, "ttft_p99_s": 1.9, "power_w": 1300.0, "chosen": True,
         "label": "small: 2 x l4-tp2-fp8; big: 1 x h100-bf16",
         "replicas": {"small": {"l4-tp2-fp8": 2}, "big": {"h100-bf16": 1}}},
        {"cost_per_hour": 8.0, "ttft_p99_s": 0.5, "power_w": 1400.0, "chosen": False,
         "label": "small: 1 x h100-bf16; big: 1 x h100-bf16",
         "replicas": {"small": {"h100-bf16": 1}, "big": {"h100-bf16": 1}}}],
    "plan_point": {"cost_per_hour": 4.25, "ttft_p99_s": 1.9, "power_w": 1300.0, "chosen": True,
                   "label": "small: 2 x l4-tp2-fp8; big: 1 x h100-bf16", "on_front": True,
                   "replicas": {"small": {"l4-tp2-fp8": 2}, "big": {"h100-bf16": 1}}},
    "timing": {"solver_s": 0.012},
}


def plan_document(**changes):
    """A fresh copy with top-level keys changed."""
    return deepcopy(DOCUMENT) | changes


def renamed(value, name):
    """The document with every text in it replaced, keys that are names included."""
    if isinstance(value, dict):
        return {name if key in ("l4-tp2-fp8", "h100-bf16", "chat", "batch") else key:
                renamed(inner, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, name) for inner in value]
    return name if isinstance(value, str) else value


def with_numbers(value, number):
    """The document with every float in it replaced."""
    if isinstance(value, dict):
        return {key: with_numbers(inner, number) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_numbers(inner, number) for inner in value]
    return number if isinstance(value, float) else value
