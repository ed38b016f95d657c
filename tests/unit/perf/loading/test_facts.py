"""Published facts of a server that swaps models."""

import pytest

from penstock.core.errors import InputError
from penstock.perf.loading.facts import (
    compute_penalty,
    confidential_terms,
    published_serving,
    published_serving_names,
)


def test_facts_are_whole() -> None:
    for name in published_serving_names():
        facts = published_serving(name)
        assert set(facts.models) == {"gemma-7b", "granite-7b", "llama3-8b"}
        assert set(facts.by_strategy) == {"partial", "other"}
        assert "285e5b7" in facts.source
        for model in facts.models.values():
            assert 20e9 < model.size_bytes < 40e9
            assert model.load.mean_s > model.profile_load.mean_s > model.profile_unload.mean_s
            # Measured in service, but for a little noise, within what the profile saw of its size.
            assert model.batch.seconds(32) == pytest.approx(model.profile_batch_s[32], rel=0.25)
            assert 60 < model.largest_batch < 256
        assert facts.page_cache_bytes < sum(one.size_bytes for one in facts.models.values())


def test_a_run_begins_with_what_earlier_ones_left() -> None:
    facts = published_serving("sincere-h100")
    memory = facts.memory()
    assert memory.cached_bytes == facts.page_cache_bytes
    assert tuple(memory.in_page_cache()) == facts.read_before[1:], "no room for the one before"
    assert facts.memory().read("gemma-7b", facts.models["gemma-7b"].size_bytes).disk_bytes == 0


def test_confidential_loads_are_slower_in_every_term() -> None:
    plain, confidential = map(published_serving, ("sincere-h100", "sincere-h100-confidential"))
    assert plain.loading.confidential is None
    assert confidential.loading.confidential == confidential_terms()
    for cached in (0, 10**10):
        assert (confidential.loading.seconds(3 * 10**10, cached)
                > 1.5 * plain.loading.seconds(3 * 10**10, cached))


def test_small_batches_pay_for_confidential_mode() -> None:
    penalty = compute_penalty()
    assert penalty.profile_s[1] > 0.4
    assert abs(penalty.intercept_s + 64 * penalty.per_request_s) < 0.1


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'sincere-h100'"):
        published_serving("sincere-h10")
