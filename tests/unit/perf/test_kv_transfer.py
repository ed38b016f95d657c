"""Times of moving a prompt's KV cache."""

import pytest

from penstock.catalog import load_catalog
from penstock.core.hardware import Parallelism
from penstock.perf.kv_transfer import KvTransfer, sent_bytes_per_token

MEASURED = {1024: 0.00150, 8192: 0.00884, 32768: 0.03165}
"""Qwen3-8B on 8 x 200 Gbit/s with vLLM: seconds by prompt tokens (kvcache-ai/Mooncake at 3b5a59413,
docs/source/performance)."""


@pytest.mark.parametrize("tokens", MEASURED)
def test_measured_transfers_lie_on_one_line(tokens):
    model = load_catalog().model("qwen3-8b")
    num_bytes = tokens * sent_bytes_per_token(model, Parallelism(8), "bf16")
    assert KvTransfer(154e9, 0.00057).seconds(num_bytes) == pytest.approx(MEASURED[tokens],
                                                                          rel=0.05)


def test_bytes_of_a_token():
    catalog = load_catalog()
    assert sent_bytes_per_token(catalog.model("qwen3-8b"), Parallelism(8), "bf16") == 147_456
    # 4 heads of keys and values on 8 ranks: each rank sends its copy
    assert sent_bytes_per_token(catalog.model("qwen3-235b-a22b"), Parallelism(8),
                                "bf16") == 385_024
    assert sent_bytes_per_token(catalog.model("deepseek-v3"), Parallelism(8), "bf16") == 70_272


def test_layers_hide_behind_the_prefill():
    whole = KvTransfer(1e9, 0.0)
    layered = KvTransfer(1e9, 0.0, by_layer=True)
    assert whole.exposed_s(1e8, 10.0, 10) == pytest.approx(0.1)
    assert layered.exposed_s(1e8, 10.0, 10) == pytest.approx(0.01)  # the last layer
    assert layered.exposed_s(1e8, 0.05, 10) == pytest.approx(0.1 - 0.045)
    assert layered.exposed_s(1e8, 0.0, 10) == pytest.approx(0.1)
