"""What ``penstock fit loading`` prints of a fit."""

from types import SimpleNamespace

from penstock.cli.fit_loading import _terms
from penstock.perf.loading.facts import published_serving


def test_the_size_of_the_page_cache_lies_in_the_range_beside_it() -> None:
    fit = SimpleNamespace(model=published_serving("sincere-h100").loading,
                          page_cache_bytes=43_460_000_000,
                          page_cache_range=(41_700_000_000, 43_460_000_000))
    shown = dict(_terms(fit))["page cache"]  # type: ignore[arg-type]
    size, low, high = (float(word.strip("()")) for word in shown.split() if word[-1] not in "Bo")
    assert low <= size <= high
