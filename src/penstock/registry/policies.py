"""The policies that can be chosen, with their settings. A new policy is one entry here."""

from collections.abc import Mapping

from penstock.core.settings import (
    LARGEST,
    Flag,
    Number,
    Setting,
    Settings,
    Shares,
    Steps,
    Table,
    Text,
    Word,
    Words,
)
from penstock.policy.schedule.options import PRESETS
from penstock.registry.axis import Axis, Entry

MIN_CHANCE = Number(0, 0.95)
"""Upper bound: with few observations no higher chance can be promised, and rejected requests teach
nothing."""

SCHEDULES = Axis("scheduling policy", "penstock.schedule", {
    **{name: Entry("penstock.policy.schedule.parts:preset_parts", base=name) for name in PRESETS},
})

_PLAIN: Mapping[str, Settings] = {
    "least_loaded": {}, "round_robin": {}, "random": {}, "shortest_queue": {},
    "fewest_waiting": {}, "two_choices": {}, "free_kv": {},
    "prefix_aware": {"imbalance": Number(1, 1000), "slack_tokens": Number(0, LARGEST)},
    "least_added_time": {"wait_weight": Number(0, 1000), "patience": Number(0, 1000)},
    "consistent_hash": {"load_factor": Number(1.01, 1000)},
    "predictive": {"target": Word(("e2e", "ttft")), "sample": Number(0, 1000, whole=True)},
}
BLIND, BY_SNAPSHOT = "blind", "by_snapshot"
"""Traits of a router: its choice depends on no replica's state; on nothing but the snapshots of the
candidates and on the number of earlier requests. A random router draws as many numbers for any
state."""

_TRAITS = {**dict.fromkeys(("round_robin", "random"), (BLIND,)),
           **dict.fromkeys(("least_loaded", "shortest_queue", "fewest_waiting", "two_choices",
                            "free_kv", "consistent_hash"), (BY_SNAPSHOT,))}
_DISPATCHER: Mapping[str, Setting] = {"dispatcher": Word(tuple(_PLAIN))}
_MODEL_FIRST: Mapping[str, Settings] = {
    "fixed_model": {"model": Text()}, "fixed_mix": {"shares": Shares()}, "best_route": {},
    "routellm": {"share": Number(0, 1), "threshold": Number(-1, 1)},
    "avengers": {"alpha": Number(0, 1)},
    "omnirouter": {"floor": Number(0, 1), "step": Number(0, 100)},
    "dual_pool": {}, "qlm": {},
}
ROUTERS = Axis("routing policy", "penstock.route", {
    **{name: Entry("penstock.policy.route.build:PLAIN", settings, traits=_TRAITS.get(name, ()))
       for name, settings in _PLAIN.items()},
    **{name: Entry("penstock.policy.route.build:MODEL_FIRST", {**settings, **_DISPATCHER})
       for name, settings in _MODEL_FIRST.items()},
    "joint": Entry("penstock.policy.route.build:joint", {
        "answer_value": Number(0, LARGEST), "second_value": Number(0, LARGEST),
        "late_share": Number(0, 1), "min_chance": MIN_CHANCE,
        "relax": Words(("chance", "quality")), "caution": Number(0, 100), "affinity": Flag()}),
    "routebalance": Entry("penstock.published.routebalance.router:routebalance", {
        "preset": Word(("balance", "latency", "price", "relevance", "code")),
        "norm": Word(("raw", "minmax", "scaled")),
        "filter": Word(("none", "slos_serve", "polyserve", "qlm", "cdf")),
        "latency": Number(0, 1), "cost": Number(0, 1), "quality": Number(0, 1),
        "balance": Number(0, 1)}),
    "sglang-cache-aware": Entry("penstock.published.routers.sglang:sglang_cache_aware", {
        "cache_threshold": Number(0, 1), "balance_abs": Number(0, LARGEST),
        "balance_rel": Number(1, 1000)}),
    "dynamo-kv": Entry("penstock.published.routers.dynamo:dynamo_kv", {
        "overlap_credit": Number(0, 1000), "decay": Number(0, 1000), "prefill": Number(0, 1000),
        "requests": Number(0, LARGEST), "temperature": Number(0, 1000),
        "ttl_s": Number(0, LARGEST)}),
    "llm-d": Entry("penstock.published.routers.llm_d:llm_d", {
        "queue": Number(0, 1000), "kv": Number(0, 1000), "prefix": Number(0, 1000)}),
})

ADMISSIONS = Axis("admit policy", "penstock.admit", {
    "all": Entry("penstock.policy.admit.build:admit_all"),
    "feasible": Entry("penstock.policy.admit.build:feasible", {"min_chance": MIN_CHANCE})})

_SECONDS = Number(0, LARGEST)
_WVA: Settings = {"window_s": _SECONDS, "tolerance": Number(0, 1), "retention_s": _SECONDS}
_POD_METRICS = ("num_running", "num_waiting", "ongoing", "kv_used_share")
_GAUGES = ("gauges_only",)
_BOUNDED = ("gauges_only", "bounded")
_BOUNDS: Settings = {"min_replicas": Number(0, LARGEST, whole=True),
                     "max_replicas": Number(1, LARGEST, whole=True)}
_RATES = Table({"kind": Word(("Pods", "Percent")), "value": Number(1, LARGEST, whole=True),
                "period_s": Number(1, 1800)}, ("kind", "value", "period_s"))
_SELECT = Word(("Max", "Min", "Disabled"))
_BEHAVIOUR: Settings = {
    "tolerance": Number(0, 1), "up_tolerance": Number(0, LARGEST),
    "down_tolerance": Number(0, LARGEST), "up_window_s": _SECONDS, "down_window_s": _SECONDS,
    "up_policies": _RATES, "down_policies": _RATES, "up_select": _SELECT, "down_select": _SELECT}
_METRICS = Table({
    "metric": Word(_POD_METRICS), "target": Number(1e-6, LARGEST),
    "of": Word(("pods", "sum", "mean", "max", "min")), "type": Word(("AverageValue", "Value")),
    "activation": Number(0, LARGEST)}, ("metric", "target"))
SCALERS = Axis("scale policy", "penstock.scale", {
    **{name: Entry("penstock.policy.scale.build:static", traits=_GAUGES)
       for name in ("none", "static")},
    "schedule": Entry("penstock.policy.scale.build:schedule", {
        "steps": Steps(), "repeat_s": _SECONDS, "period_s": Number(1, LARGEST)}, traits=_GAUGES,
        required=("steps",)),
    "penstock": Entry("penstock.policy.scale.penstock:penstock", {
        "margin": Number(0.1, 10), "least_margin": Number(0.1, 10), "most_margin": Number(0.1, 10),
        "adapt_s": Number(1, LARGEST), "stay_s": _SECONDS, "idle_s": _SECONDS,
        "miss_share": Number(0, 1)},
        traits=_GAUGES),
    "hpa": Entry("penstock.published.autoscalers.hpa:hpa", {
        "metric": Word(_POD_METRICS), "target": Number(1e-6, LARGEST), "metrics": _METRICS,
        **_BEHAVIOUR, **_BOUNDS}, traits=_BOUNDED, required=(("target", "metrics"),)),
    "keda": Entry("penstock.published.autoscalers.keda:keda", {
        "triggers": Words(("queue", "running", "saturation")), "queue": Number(1e-6, LARGEST),
        "running": Number(1e-6, LARGEST), "saturation": Number(1e-6, LARGEST),
        "metrics": _METRICS, "cooldown_s": _SECONDS, "polling_s": _SECONDS,
        "fallback_failures": Number(0, LARGEST, whole=True),
        "fallback_replicas": Number(0, LARGEST, whole=True),
        "fallback": Word(("static", "currentReplicas", "currentReplicasIfHigher",
                          "currentReplicasIfLower")), **_BEHAVIOUR, **_BOUNDS}, traits=_BOUNDED),
    "kpa": Entry("penstock.published.autoscalers.kpa:kpa", {
        "target": Number(1e-6, LARGEST), "stable_window_s": Number(6, 3600),
        "panic_window_share": Number(0.01, 1), "panic_threshold": Number(1.1, 10),
        "max_up_rate": Number(1.1, LARGEST), "max_down_rate": Number(1.1, LARGEST),
        "activation": Number(1, 1000, whole=True), "down_delay_s": _SECONDS,
        "zero_grace_s": _SECONDS, **_BOUNDS}, traits=_BOUNDED, required=("target",)),
    "ray": Entry("penstock.published.autoscalers.ray_serve:ray", {
        "target_ongoing_requests": Number(1e-6, LARGEST), "upscale_delay_s": _SECONDS,
        "downscale_delay_s": _SECONDS, "downscale_to_zero_delay_s": _SECONDS,
        "upscaling_factor": Number(1e-6, 1000), "downscaling_factor": Number(1e-6, 1000),
        "look_back_period_s": Number(1, LARGEST), "metrics_interval_s": Number(1, LARGEST),
        **_BOUNDS}, traits=_BOUNDED),
    "llm-d-slo": Entry("penstock.published.autoscalers.llm_d_slo:llm_d_slo"),
    "inferno": Entry("penstock.published.autoscalers.inferno:inferno", {
        "tuner": Word(("ekf", "sliding-window", "none")), "alpha_ms": Number(1e-6, LARGEST),
        "beta_ms": Number(1e-9, LARGEST), "gamma_ms": Number(1e-12, LARGEST),
        "max_batch": Number(1, 20_000, whole=True), "max_queue": Number(0, 500_000, whole=True),
        "warm_up_cycles": Number(0, 1000, whole=True), "partial": Flag()}),
    "aibrix-apa": Entry("penstock.published.autoscalers.aibrix:apa", {
        "metric": Word(_POD_METRICS), "target": Number(1e-6, LARGEST),
        "up_tolerance": Number(0, 1), "down_tolerance": Number(0, 1),
        "max_up_rate": Number(1, LARGEST), "max_down_rate": Number(1, LARGEST),
        "up_cooldown_s": _SECONDS, "down_cooldown_s": _SECONDS,
        "observe_window_s": Number(1, LARGEST), "as_published": Flag(), **_BOUNDS},
        traits=_BOUNDED, required=("target",)),
    "wva-percent": Entry("penstock.published.autoscalers.wva_percent:wva_percent", {
        "kv_threshold": Number(0, 1), "queue_threshold": Number(0, LARGEST),
        "kv_spare": Number(0, 1), "queue_spare": Number(0, LARGEST), **_WVA}),
    "wva-tokens": Entry("penstock.published.autoscalers.wva_tokens:wva_tokens", {
        "kv_threshold": Number(0.01, 1), "queue_threshold": Number(1, LARGEST),
        "scale_up_threshold": Number(0.01, 10), "scale_down_boundary": Number(0.01, 10), **_WVA}),
    "block": Entry("penstock.published.autoscalers.block:block", {
        "slo_s": Number(0, LARGEST), "signal": Word(("predicted", "serving_time", "ttft")),
        "counts_starting": Flag()}),
    "llm-d-tokens": Entry("penstock.published.autoscalers.llm_d_tokens:llm_d_tokens", {
        "backlog_s": Number(1e-3, LARGEST), "kv_target": Number(0.01, 1),
        "peak_prefill_per_s": Number(1, LARGEST), "slo_share": Number(0.01, 1),
        "overshoot_guard": Flag(), "up_window_s": _SECONDS, "down_window_s": _SECONDS,
        "up_period_s": _SECONDS, "down_period_s": _SECONDS, "tolerance": Number(0, 1),
        "cooldown_s": _SECONDS, "polling_s": _SECONDS}),
    "dynamo": Entry("penstock.published.autoscalers.dynamo.planner:dynamo", {
        "optimization_target": Word(("throughput", "latency", "sla")),
        "enable_throughput_scaling": Flag(), "enable_load_scaling": Flag(),
        "throughput_adjustment_interval_s": Number(1, LARGEST),
        "load_adjustment_interval_s": Number(1, LARGEST),
        "load_scaling_down_sensitivity": Number(0, 1), "ttft_s": Number(1e-3, LARGEST),
        "itl_s": Number(1e-3, LARGEST), "load_predictor": Word(("kalman", "arima", "constant")),
        "load_predictor_log1p": Flag(), "kalman_q_level": Number(1e-12, LARGEST),
        "kalman_q_trend": Number(1e-12, LARGEST), "kalman_r": Number(1e-9, LARGEST),
        "max_gpu_budget": Number(1, LARGEST, whole=True), **_BOUNDS}, traits=("bounded",)),
})
"""``none`` runs no scaling loop at all; ``static`` runs the loop and changes nothing. A policy with
the trait ``gauges_only`` needs no counters of engines; with the trait ``bounded``, min_replicas and
max_replicas narrow the bounds of every group."""

SCALER_FILES = "penstock.published.autoscalers.files.read:scaler_of_file"
"""The function that reads an autoscaler's own file, imported only where a file is named."""

_IN_TURN: Settings = {"shed": Flag(), "cost_aware": Flag()}
_SINCERE: Settings = {
    "sla_s": Number(0, LARGEST), "deviations": Number(0, 100), "overwrite": Flag(),
    "charge_resident": Flag(), "select_by": Word(("room", "sla")),
    "completion_s": Number(0, LARGEST), "least_timer_s": Number(0, LARGEST),
    "poll_s": Number(0.001, LARGEST), "stay_s": Number(0, LARGEST),
    "max_batch": Number(1, LARGEST, whole=True)}
MULTIPLEXERS = Axis("multiplexing policy", "penstock.multiplex", {
    "penstock": Entry("penstock.policy.multiplex.build:value_rate", {
        "max_batches": Number(1, 1000, whole=True), "horizon_s": Number(0, LARGEST),
        "margin": Number(0, 100), "shed": Flag(), "prefetch": Flag()}),
    **{name: Entry("penstock.policy.multiplex.build:ORDERS", _IN_TURN)
       for name in ("longest-queue", "edf")},
    "round-robin": Entry("penstock.policy.multiplex.build:ORDERS",
                         {**_IN_TURN, "quantum_s": Number(0, LARGEST)}),
    "first-come": Entry("penstock.policy.multiplex.build:ORDERS", _IN_TURN),
    **{name: Entry("penstock.published.sincere.policy:FACTORIES", _SINCERE,
                   traits=("static", "one_device"))
       for name in ("sincere-best-batch", "sincere-best-batch-timer", "sincere-select-batch-timer",
                    "sincere-best-batch-partial-timer", "sincere-best-batch-partial",
                    "sincere-select-batch")},
})

PLACERS = Axis("placer", "penstock.place", {
    "penstock": Entry("penstock.policy.place.build:FACTORIES"),
    "balanced": Entry("penstock.policy.place.build:FACTORIES"),
    "exact": Entry("penstock.plan.place.exact:exact_placer", {"time_limit_s": Number(0, 3600)}),
    "maveriq": Entry("penstock.published.maveriq.placer:maveriq_placer", {
        "strategy": Word(("none", "llf", "packing", "hybrid")), "threshold": Number(0, 1),
        "as_published": Flag()}),
})
