"""llm-d's episode: published and recomputed."""

import pytest

from penstock.published.autoscalers import run
from penstock.published.figures import Options
from penstock.published.reproduce import reproduce


@pytest.mark.long
def test_the_published_figures_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "OTHERS", ())
    found = reproduce("llm-d-slo", None, Options())
    assert found.agrees, [one for one in found.figures if not one.agrees]
    by_name = {one.name: one.ours for one in found.figures}
    assert 0.918 <= by_name["llm-d-slo: requests within both objectives"] <= 0.998
    assert 5.63 <= by_name["llm-d-slo: mean replicas"] <= 6.23
    assert by_name["penstock: requests within both objectives"] >= 0.995
    assert by_name["penstock: mean replicas"] <= 5.93
    assert {row["target"] for row in found.rows["penstock.csv"]} <= set(range(3, 9))
