"""SGLang as an engine: OpenAI's API, its routing key, and its way to share a request."""

from penstock.engines.client.connectors import SGLANG
from penstock.engines.engine import Engine


def engine() -> Engine:
    """Return the engine SGLang."""
    return Engine(connector=SGLANG, session_header="X-SMG-Routing-Key")
