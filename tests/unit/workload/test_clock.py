import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.workload.clock import UNITS, clock_of, numbers_of, seconds_of, unit_of
from penstock.workload.columns import RowFaultError

MOMENT = 1_700_000_000  # 2023-11-14 22:13:20 UTC


@pytest.mark.parametrize(("first", "unit"), [
    (f"{MOMENT}", "s"), (f"{MOMENT}.25", "s"), (MOMENT * 10**3, "ms"), (f"{MOMENT}000000", "us"),
    (MOMENT * 10**9, "ns"), ("1e9", "s"), ("4.09e9", "s"),
])
def test_times_since_1970_are_told_by_their_size(first, unit):
    clock = clock_of("ts", first, sure=False)
    assert (clock.unit, clock.since_1970) == (unit, True)
    assert "since 1970 (first row: 20" in clock.assumed


@pytest.mark.parametrize("first", ["0", "12.5", "9.9e8", "5e9", "9.9e11", "nan", "inf", "x", "",
                                   "9" * 400, None, True])
def test_other_times_are_seconds_and_said_to_be(first):
    clock = clock_of("ts", first, sure=False)
    assert (clock.unit, clock.since_1970, clock.first) == ("s", False, 0)
    assert clock.assumed.startswith("'ts' is taken as seconds; state another unit as the clock: s")
    assert clock_of("ts", first, usual="ms").assumed == ""


@pytest.mark.parametrize("first", ["2023-11-14T22:13:20Z", "2023-11-14 22:13:20.5",
                                   "2023-11-14T22:13:20.123456+02:00", "2023-11-14"])
def test_dates_are_told_by_their_form(first):
    clock = clock_of("when", first, sure=False)
    assert (clock.unit, clock.since_1970) == ("iso", True)
    assert clock.assumed == "'when' holds dates; the first request arrives at 0 s"
    assert clock_of("TIMESTAMP", first, usual="iso").assumed == ""


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("first", ["0", f"{MOMENT}", f"{MOMENT}000", "2023-11-14"])
def test_a_stated_unit_wins_in_silence(unit, first):
    clock = clock_of("timestamp_us", first, stated=unit, usual="ms", sure=False)
    assert (clock.unit, clock.assumed) == (unit, "")


def test_a_name_states_a_unit_that_times_must_not_contradict():
    assert clock_of("offset_ms", "1500", sure=False).unit == "ms"
    assert clock_of("offset_ms", "1500", sure=False).assumed == ""
    assert clock_of("created_ms", f"{MOMENT}000", sure=False).unit == "ms"
    with pytest.raises(RowFaultError, match="expected milliseconds; if these are seconds, divide"):
        clock_of("created_ms", f"{MOMENT}", sure=False)


def test_seconds_count_from_the_first_moment_exactly():
    texts = [f"{MOMENT}000000007", f"{MOMENT}000000001", f"{MOMENT}500000001"]
    clock = clock_of("ts", texts[0])
    assert seconds_of(numbers_of(texts, clock, 0), clock).tolist() == [6e-9, 0.0, 0.5]
    mixed = [f"{MOMENT}", f"{MOMENT}.5", "1.7e9"]
    clock = clock_of("ts", mixed[0])
    assert seconds_of(numbers_of(mixed, clock, 0), clock).tolist() == [0.0, 0.5, 0.0]


def test_times_that_do_not_count_from_1970_are_only_scaled():
    clock = clock_of("ts", "500", stated="ms")
    assert seconds_of(numbers_of(["500", "250.5"], clock, 0), clock).tolist() == [0.5, 0.2505]
    assert seconds_of(np.zeros(0), clock).tolist() == []


def test_a_time_that_does_not_parse_is_named():
    clock = clock_of("ts", f"{MOMENT}")
    with pytest.raises(RowFaultError, match="ts is 'oops'; expected a number") as caught:
        numbers_of([f"{MOMENT}", "oops"], clock, 10)
    assert caught.value.row == 11


def test_an_unknown_unit_is_refused():
    assert unit_of("us") == "us"
    with pytest.raises(InputError, match="unknown clock 'sec'; expected one of: iso, ms, ns, s, u"):
        unit_of("sec")
