"""Ray Serve's ``autoscaling_config``: by itself, of an LLM's ``deployment_config``, or of the one
deployment in a Serve file that scales.

Source: ray-project/ray python/ray/serve/config.py, class AutoscalingConfig.
"""

from typing import Any

from penstock.published.autoscalers.files.fields import Fields
from penstock.published.autoscalers.files.values import FileScaler

FORMS = ("autoscaling_config", "deployment_config", "applications")
"""Keys of which a file of Ray Serve has one."""

_MOST_AUTO = 100
"""Default of ``max_replicas`` beside ``num_replicas: auto``."""

_SECONDS = ("upscale_delay_s", "downscale_delay_s", "downscale_to_zero_delay_s",
            "look_back_period_s", "metrics_interval_s")
_FACTORS = ("upscaling_factor", "downscaling_factor")


def read_ray(document: Fields) -> FileScaler:
    """Return the policy of Ray Serve. Raises InputError."""
    found = [(section, where.raw("num_replicas") == "auto") for where in _places(document)
             if (section := where.section("autoscaling_config")) is not None]
    if len(found) != 1:
        raise document.error(None, f"expected one autoscaling_config, found {len(found)}")
    [(config, auto)] = found
    return _policy(config, _MOST_AUTO if auto else 1)


def _places(document: Fields) -> list[Fields]:
    """Return the mappings that may have an ``autoscaling_config``."""
    if not document.has("applications"):
        own = document.section("deployment_config")
        return [document] if own is None else [own]
    places = []
    for application in document.rows("applications"):
        places += application.rows("deployments")
        arguments = application.section("args")
        for model in [] if arguments is None else arguments.rows("llm_configs"):
            own = model.section("deployment_config")
            places += [] if own is None else [own]
    return places


def _policy(config: Fields, default_most: int) -> FileScaler:
    config.refuse("initial_replicas",
                  "is not supported; replicas[].count of the fleet file states the number")
    config.refuse("policy", "is not supported; expected Ray's default policy")
    config.word("aggregation_function", ("mean",), "mean")
    least = config.whole("min_replicas", 1)
    most = config.whole("max_replicas", default_most, low=1)
    if least > most:
        raise config.error("min_replicas", f"{least} is more than max_replicas, {most}")
    settings: dict[str, Any] = {}
    if config.has("target_ongoing_requests"):
        settings["target_ongoing_requests"] = config.number("target_ongoing_requests", low=1e-6)
    for key in _SECONDS:
        if config.has(key):
            settings[key] = config.number(key, low=1.0 if key in _SECONDS[3:] else 0.0)
    for key in _FACTORS:
        if config.has(key):
            settings[key] = config.number(key, low=1e-6, high=1000.0)
    config.end()
    return FileScaler("ray", settings, least, most)
