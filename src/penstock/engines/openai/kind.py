"""Any server of OpenAI's API, such as SGLang, and engines that tell what they are by metrics."""

from penstock.engines.engine import Engine


def engine() -> Engine:
    """An engine that Penstock calls and watches, and nothing else."""
    return Engine()
