"""Configuration of NVIDIA Dynamo's planner, mode ``agg``.

Source: ai-dynamo/dynamo components/src/dynamo/planner/config/planner_config.py and defaults.py for
names and defaults.
"""

from typing import Any

from penstock.published.autoscalers.files.fields import Fields
from penstock.published.autoscalers.files.values import FileScaler

FORMS = ("optimization_target", "enable_load_scaling", "enable_throughput_scaling",
         "throughput_adjustment_interval", "load_predictor")
"""Keys that tell the planner's configuration from other files."""

_UNUSED = ("pre_deployment_sweeping_mode", "environment", "namespace", "backend", "log_dir",
           "decode_engine_num_gpu", "prefill_engine_num_gpu", "profile_results_dir",
           "prophet_window_size", "metric_pulling_prometheus_endpoint",
           "metric_reporting_prometheus_port", "throughput_metrics_source", "model_name",
           "global_planner_namespace", "report_interval_hours", "report_output_dir",
           "live_dashboard_port")
_FIXED = {"max_num_fpm_samples": 64, "fpm_sample_bucket_size": 16, "load_min_observations": 5,
          "kalman_min_points": 5, "load_metric_samples": 10}
"""Settings of which Penstock's law has the default alone."""


def read_dynamo(document: Fields) -> FileScaler:
    """Return the policy of a planner's configuration. Raises InputError."""
    document.unused(*_UNUSED)
    mode = document.word("mode", ("agg", "disagg", "prefill", "decode"), "disagg")
    if mode != "agg":
        raise document.error("mode" if document.has("mode") else None,
                             f"mode {mode!r} is not supported; expected mode: agg")
    if document.flag("no_operation", default=False):
        raise document.error("no_operation", "is not supported; expected false")
    document.refuse("load_predictor_warmup_trace", "is not supported; leave it out")
    for key, value in _FIXED.items():
        if document.whole(key, value) != value:
            raise document.error(key, f"is not supported; expected {value}, the default")
    settings, predictor = _loops(document), _predictor(document)
    if settings.get("enable_throughput_scaling"):  # the fast loop forecasts nothing
        settings |= predictor
    least = document.whole("min_endpoint", 1, low=1)
    budget = document.number("max_gpu_budget", 8.0, low=-1.0)
    if budget > 0.0:
        settings["max_gpu_budget"] = int(budget)
    document.end()
    return FileScaler("dynamo", settings, least, None)


def _loops(document: Fields) -> dict[str, Any]:
    target = document.word("optimization_target", ("throughput", "latency", "sla"), "throughput")
    slow_s = document.number("throughput_adjustment_interval", 180.0, low=1.0)
    fast_s = document.number("load_adjustment_interval", 5.0, low=1.0)
    sensitivity = document.number("load_scaling_down_sensitivity", 80.0, high=100.0)
    slow = document.flag("enable_throughput_scaling", default=True)
    fast = document.flag("enable_load_scaling", default=False)
    ttft_ms, itl_ms = (document.number(key, default, low=1.0)
                       for key, default in (("ttft", 500.0), ("itl", 50.0)))
    found: dict[str, Any] = {
        "optimization_target": target, "throughput_adjustment_interval_s": slow_s,
        "load_adjustment_interval_s": fast_s, "load_scaling_down_sensitivity": sensitivity / 100.0}
    if target != "sla":
        # Dynamo turns the slow loop off and the fast loop on, whatever the file has.
        return found
    if not slow and not fast:
        raise document.error(None, "expected enable_throughput_scaling or enable_load_scaling")
    if slow and fast and fast_s >= slow_s:
        raise document.error("load_adjustment_interval",
                             f"expected less than throughput_adjustment_interval, {slow_s:g}")
    return found | {"enable_throughput_scaling": slow, "enable_load_scaling": fast,
                    "ttft_s": ttft_ms / 1000.0, "itl_s": itl_ms / 1000.0}


def _predictor(document: Fields) -> dict[str, Any]:
    return {"load_predictor": document.word("load_predictor", ("arima", "kalman", "constant"),
                                            "arima"),
            "load_predictor_log1p": document.flag("load_predictor_log1p", default=False),
            "kalman_q_level": document.number("kalman_q_level", 1.0, low=1e-12),
            "kalman_q_trend": document.number("kalman_q_trend", 0.1, low=1e-12),
            "kalman_r": document.number("kalman_r", 10.0, low=1e-9)}
