"""What engines are asked for: their names for models and adapters."""

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.engines.client.state import EngineFacts, EngineState
from penstock.engines.engine import name_in_requests
from penstock.fleet.values_adapters import Adapter


@pytest.mark.parametrize(("kind", "served_as", "adapter", "expected"), [
    ("vllm", None, None, "llama"), ("vllm", "l", None, "l"), ("sglang", "l", None, "l"),
    ("vllm", "l", Adapter("sql", served_as="s"), "s"),
    ("sglang", None, Adapter("sql"), "llama:sql"),
    ("sglang", "l", Adapter("sql", served_as="s"), "l:s")])
def test_the_name_of_a_model_or_an_adapter(kind, served_as, adapter, expected) -> None:
    facts = EngineFacts(0, "http://127.0.0.1:1", "llama", None, 1000, 1.0, kind, served_as)
    assert name_in_requests(EngineState(facts), adapter) == expected
