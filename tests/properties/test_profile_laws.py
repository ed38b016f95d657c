"""What holds of every profile: sweeps find the edge, intervals hold the median, rows come back."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from penstock.engines.emulated.profiled import VirtualClock
from penstock.perf.profiles.folder import read_profile, write_profile
from penstock.perf.profiles.points import KINDS, OUTCOMES, Measurement, ModelConfiguration
from penstock.perf.profiles.stability import median_interval
from penstock.perf.profiles.summary import PointSummary, summaries, summary
from penstock.perf.profiling.protocol import batch_times
from penstock.profile.measure import Effort, OutOfTimeError
from penstock.profile.sweep import sweep
from support.scaled_examples import examples
from support.scripted_profiling import WHOLE, ScriptedEngine, point, profiler

POSITIVE = st.floats(1e-6, 1e9)
MAYBE = st.none() | st.floats(0.0, 1e15)
NAMES = st.text(min_size=1, max_size=20)
CONFIGURATIONS = st.builds(
    ModelConfiguration, NAMES, st.lists(st.integers(1, 200), max_size=4).map(tuple),
    st.sampled_from(["fp32", "bf16", "int4"]), st.sampled_from(["fp32", "int8"]),
    st.integers(1, 64))
COUNTS = st.none() | st.integers(0, 1 << 40)
MEASUREMENTS = st.builds(
    Measurement, st.sampled_from(KINDS), CONFIGURATIONS, COUNTS, COUNTS, COUNTS,
    st.integers(0, 1000), st.booleans(), st.sampled_from(OUTCOMES), st.text(max_size=30), MAYBE,
    MAYBE, MAYBE, COUNTS, MAYBE, MAYBE, MAYBE, MAYBE, COUNTS, st.sampled_from(["", "cold"]), MAYBE,
    op=NAMES | st.just(""), started_s=MAYBE, session=st.integers(0, 9))


@given(st.integers(0, 5000), st.integers(1, 4096),
       st.lists(st.integers(1, 5000), max_size=6, unique=True).map(sorted))
def test_a_sweep_finds_the_edge(most: int, largest: int, sizes: list[int]) -> None:
    tried: dict[int, str] = {}

    def measure(size: int) -> PointSummary:
        assert size not in tried, "nothing is measured twice"
        fits = size <= most
        tried[size] = "ok" if fits else "out_of_memory"
        return summary([Measurement("batch", WHOLE, size, 1, 1, seconds=1.0 if fits else None,
                                    outcome="ok" if fits else "out_of_memory")])

    fits, beyond = sweep(measure, largest, sizes)
    assert all(1 <= size <= largest for size in tried)
    assert fits == max((size for size, outcome in tried.items() if outcome == "ok"), default=0)
    if beyond is None:
        assert "out_of_memory" not in tried.values()
    else:
        assert fits <= most < beyond
        assert beyond - fits <= max(1, 0.05 * fits)
    assert len(tried) <= 30 + len(sizes)


@given(st.lists(POSITIVE, min_size=1, max_size=60), st.floats(0.5, 0.99))
def test_an_interval_is_between_values_and_holds_the_median(values: list[float], coverage: float
                                                            ) -> None:
    found = median_interval(values, coverage)
    assert found.low in values
    assert found.high in values
    assert found.low <= found.median <= found.high
    assert found.coverage >= coverage or (found.low, found.high) == (min(values), max(values))
    assert median_interval([2.0 * value for value in values], coverage).low == 2.0 * found.low
    narrower = median_interval(values, coverage / 2)
    assert narrower.high - narrower.low <= found.high - found.low


@examples(60)
@given(st.lists(MEASUREMENTS, max_size=6))
def test_rows_come_back_from_disk(rows: list[Measurement]) -> None:
    with TemporaryDirectory() as folder:
        write_profile(Path(folder), {"kind": "model"}, rows)
        assert read_profile(folder).measurements == tuple(rows)


@given(st.lists(MEASUREMENTS, max_size=8), st.integers(2, 3))
def test_every_counted_row_belongs_to_one_point(rows: list[Measurement], copies: int) -> None:
    again = [replace(row, repeat=number) for row in rows for number in range(copies)]
    points = summaries(again)
    counted = [row for row in again if not row.warm_up]
    assert sum(found.num_repeats for found in points) == len(counted)
    assert len({found.example.key for found in points}) == len(points)


@given(st.integers(1, 5), st.integers(1, 8), st.randoms(use_true_random=False),
       st.integers(0, 3))
def test_times_of_a_batch_fit_together(batch: int, output_tokens: int, rng, pieces: int) -> None:
    """Requests begin in any order, with steps that give nobody a token before and between."""
    begins = sorted(rng.randrange(4) for _ in range(batch))
    given_out = [0] * batch
    steps, now_s = [], 0.0
    for _ in range(pieces):
        now_s += rng.random() + 0.01
        steps.append((now_s, []))
    step = 0
    while min(given_out) < output_tokens:
        now_s += rng.random() + 0.01
        got = [number for number in range(batch)
               if begins[number] <= step and given_out[number] < output_tokens]
        for number in got:
            given_out[number] += 1
        steps.append((now_s, got))
        step += 1
    times = batch_times(steps, batch, output_tokens)
    assert times.end_s == now_s
    assert 0.0 < times.first_token_s <= times.end_s
    assert abs(times.first_token_s + sum(times.step_s) - times.end_s) < 1e-9
    assert times.num_prefill_steps + len(times.step_s) == len(steps)
    assert times.num_prefill_steps > pieces


@examples(30)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True), st.integers(1, 60),
       st.floats(1.0, 40.0), st.integers(1, 3))
def test_sessions_of_any_budget_end_in_the_profile_of_one(batches: list[int], most: int,
                                                          budget_s: float, passes: int) -> None:
    def run(folder: Path, limit_s: float | None) -> dict[str, tuple[str, int]]:
        for _ in range(200):
            engine = ScriptedEngine(VirtualClock(), most)
            measuring = profiler(folder, engine, Effort(budget_s=limit_s, passes=passes,
                                                        num_warm_ups=1))
            try:
                measuring.measure_all([[point(batch) for batch in batches]])
                break
            except OutOfTimeError:
                continue
        profile = read_profile(folder)
        return {found.example.key: (found.outcome, found.num_repeats)
                for found in summaries(profile.measurements)}

    with TemporaryDirectory() as folder:
        at_once = run(Path(folder) / "one", None)
        assert run(Path(folder) / "many", budget_s) == at_once
        assert len(at_once) == len(batches)
