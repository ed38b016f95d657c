"""SGLang as an engine: OpenAI's API, and its way to share a request."""

from penstock.engines.client.connectors import SGLANG
from penstock.engines.engine import Engine


def engine() -> Engine:
    """Return the engine SGLang."""
    return Engine(connector=SGLANG)
