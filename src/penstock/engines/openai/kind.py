"""Any server with OpenAI's API, and engines recognised by their metrics."""

from penstock.engines.client.connectors import NIXL
from penstock.engines.engine import Engine


def engine() -> Engine:
    """Return an engine that Penstock only calls and observes."""
    return Engine(connector=NIXL)
