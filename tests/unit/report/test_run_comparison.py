from io import StringIO

from rich.console import Console

from penstock.report.model.run_comparison import run_comparison_blocks
from penstock.report.model.wording import ABSENT
from penstock.report.terminal.blocks import drawn


def figure(values, difference=None):
    return {"values": values, "differences": [None, difference]}


def test_differences_clear_of_nought_are_marked() -> None:
    up = {"mean": 0.01, "low": 0.005, "high": 0.02}
    even = {"mean": -0.01, "low": -0.02, "high": 0.02}
    latency = {f"{key}_s.{q}": figure([0.1, 0.11], up) for key in ("ttft", "tpot", "e2e")
               for q in ("p50", "p99")}
    document = {"runs": ["a", "b"], "same_requests": [True, False], "classes": {"chat": {
        "num_requests": [10, 20], "goodput_requests_per_s": {"values": [1.0, None]},
        "attainment": figure([0.98, 0.97], even), **latency, "e2e_s.p99": figure([1.0, None])}}}
    console = Console(width=140, file=StringIO())
    console.print(*drawn(run_comparison_blocks(document)))
    text = " ".join(console.file.getvalue().split())
    assert "chat: 10, 20 requests" in text
    assert "attainment 98.00 % 97.00 % -1.00 pt (-2.00 pt to +2.00 pt) TTFT" in text.replace(
        f"goodput 1 /s {ABSENT} ", "")
    assert "TTFT p50 100 ms 110 ms +10 ms (+5 ms to +20 ms) *" in text
    assert f"e2e p99 1 s {ABSENT}" in text
    assert "over different requests" in text
