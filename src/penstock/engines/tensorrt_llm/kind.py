"""TensorRT-LLM (``trtllm-serve``) as an engine: OpenAI's API, its metrics, and its way to share a
request."""

from functools import partial

from penstock.engines.client.connectors import TENSORRT_LLM
from penstock.engines.engine import Engine, look_at_openai

_METRICS = "/prometheus/metrics"
"""Path of the metrics: ``/metrics`` has each step's statistics, for one reader alone."""


def engine() -> Engine:
    """Return the engine TensorRT-LLM."""
    return Engine(look=partial(look_at_openai, metrics=_METRICS), connector=TENSORRT_LLM)
