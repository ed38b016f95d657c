"""SGLang as an engine: OpenAI's API, its routing key, and its way to share a request.

A request for an adapter names ``model:adapter``. By the adapter's name alone SGLang answers with
the model itself, without an error (srt/entrypoints/openai/serving_base.py in the wheel of 0.5.23).
"""

from penstock.engines.client.connectors import SGLANG
from penstock.engines.client.dialects import OpenAiDialect
from penstock.engines.engine import Engine


def engine() -> Engine:
    """Return the engine SGLang."""
    return Engine(OpenAiDialect(tells_class=False, leaves_out="lora_path"), connector=SGLANG,
                  session_header="X-SMG-Routing-Key", prefixes_adapters=True)
