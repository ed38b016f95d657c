import pytest
from rich.console import Console

from penstock.report.model.comparison import comparison_blocks
from penstock.report.model.wording import ABSENT
from penstock.report.terminal.blocks import drawn

PACED = {"ttft_s": 2.0, "itl_s": 0.05, "e2e_s": None, "itl": "paced", "percentile": 99.0}
BATCH = {"ttft_s": None, "itl_s": None, "e2e_s": 60.0, "itl": "paced", "percentile": 99.0}


def figure(mean, difference=0.0, half_width=0.5, num_known=3):
    def entry(value):
        return {"mean": value if num_known else None,
                "half_width": half_width if num_known > 1 else None, "num_known": num_known,
                "num_seeds": 3}

    return {**entry(mean), "difference": entry(difference)}


def policy(label, **changed):
    figures = {"attainment": figure(0.9), "goodput_requests_per_s": figure(4.5),
               "cost_per_met_request": figure(0.001)}
    for name in ("chat", "jobs"):
        figures[f"{name}.attainment"] = figure(0.95, -0.0123, 0.004)
        for q in ("p50", "p99"):
            figures |= {f"{name}.ttft_s.{q}": figure(2.5, -0.12, 0.03),
                        f"{name}.itl_p99_s.{q}": figure(0.08, 0.002, 0.001),
                        f"{name}.e2e_s.{q}": figure(9.0, 3.0, 1.5),
                        f"{name}.late_token_share.{q}": figure(0.02, 0.015, 0.002)}
    return {"label": label, "figures": {**figures, **changed},
            "runs": [{"classes": {"chat": {"slo": PACED}, "jobs": {"slo": BATCH}}}]}


def printed(policies, width=120, seeds=(0, 1, 2)):
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(*drawn(comparison_blocks({"seeds": seeds, "policies": policies})))
    return captured.get()


TWO = [policy("penstock"), policy("sarathi:chunk_tokens=256")]


def test_every_class_has_its_latencies_and_marks():
    text = printed(TWO)
    for phrase in ("mean of 3 seeds", "chat: TTFT ≤ 2 s, ITL ≤ 50 ms paced for 99 % of requests",
                   "jobs: e2e ≤ 60 s", "TTFT p50", "late tokens p99", "ITL p99 p99", "e2e p50",
                   "▲ 2.5 s", "▲ 2 %", "80 ms", "ITL paced: token n"):
        assert phrase in text
    assert "▲ 9 s" not in text


def test_sessions_are_compared_as_a_whole():
    figures = {f"sessions.{name}": figure(value, -20.0) for name, value in (
        ("attainment", 0.875), ("time_mean_s", 250.0), ("time_s.p50", 200.0),
        ("time_s.p99", 1000.0))}
    text = printed([policy("sarathi", **figures), policy("plas", **figures)])
    for phrase in ("Sessions, from the first arrival", "mean less sarathi's", "87.50 %", "250 s",
                   "1,000 s", "-20 s ± 500 ms"):
        assert phrase in text
    assert "Sessions" not in printed(TWO)


def test_a_mean_itl_is_compared_by_its_tpot():
    mean = {**BATCH, "itl_s": 0.05, "itl": "mean"}
    tpot = {f"jobs.tpot_s.{q}": figure(0.07, 0.004, 0.001) for q in ("p50", "p99")}
    both = [{**policy(label, **tpot), "runs": [{"classes": {"jobs": {"slo": mean}}}]}
            for label in ("penstock", "sarathi")]
    text = printed(both)
    for phrase in ("TPOT ≤ 50 ms", "TPOT p99", "▲ 70 ms", "+4 ms ± 1 ms"):
        assert phrase in text


def test_differences_come_with_their_interval():
    text = printed(TWO)
    assert "Differences to penstock: mean of 3 paired seeds ± half of its 95 % interval" in text
    for phrase in ("-1.23 ± 0.40 pt", "-120 ms ± 30 ms", "+1.50 ± 0.20 pt", "+2 ms ± 1 ms",
                   "+3 s ± 1.5 s"):
        assert phrase in text
    assert "Differences" not in printed(TWO[:1])


def test_seeds_without_a_value_are_counted():
    some = policy("a", cost_per_met_request=figure(0.001, num_known=2))
    none = policy("b", cost_per_met_request=figure(0.001, num_known=0))
    text = printed([some, none])
    assert "$0.00100 (2 of 3)" in text
    assert f"{ABSENT} (0 of 3)" in text


@pytest.mark.parametrize("width", [80, 120])
def test_attainment_and_p99s_stand_at_every_width(width):
    long = policy("niyama:predicted_output_tokens=150:chunk_tokens=256")
    text = printed([policy("penstock"), long], width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "predicted_output_tokens=150" in text
    joined = " ".join(text.split())
    for heading in ("attainment", "TTFT", "p99", "e2e"):
        assert heading in joined


def test_one_seed_has_no_interval():
    one = policy("b")
    for entry in one["figures"].values():
        for part in (entry, entry["difference"]):
            part |= {"half_width": None, "num_known": 1, "num_seeds": 1}
    text = printed([policy("a"), one], seeds=(0,))
    assert "one seed, so without an interval" in text
    assert "-1.23 pt" in text
