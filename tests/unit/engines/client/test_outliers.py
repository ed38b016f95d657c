"""Who is left alone for doing much worse than its peers, and who is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engines.client.outliers import (
    FIRST_EJECTION_S,
    HALF_LIFE_S,
    MOST_EJECTION_S,
    Outcomes,
    ejection_s,
    outliers,
)


def track(num=50, num_failed=0, latency_s=0.2):
    found = Outcomes()
    for i in range(num):
        found.add(0.0, failed=i < num_failed, latency_s=latency_s)
    return found


def test_one_of_two_that_fails_is_told_by_its_failures() -> None:
    found = outliers([track(), track(num_failed=20)], 0)
    assert list(found) == [1]
    assert found[1] == "fails 40% of its requests, its peers 0%"


def test_one_of_two_that_is_slow_is_not_for_who_knows_which_is_odd() -> None:
    assert outliers([track(), track(latency_s=9.0)], 0) == {}
    found = outliers([track(), track(), track(latency_s=9.0)], 0)
    assert found == {2: "takes 9.00 s to its first byte, its peers 0.20 s"}


@pytest.mark.parametrize("tracks", [
    [track()], [], [track(), track(num=3, num_failed=3)],
    [track(num_failed=25), track(num_failed=25)],
    [track(latency_s=0.01), track(latency_s=0.01), track(latency_s=0.2)]])
def test_alone_too_few_all_bad_or_hardly_slower_is_no_outlier(tracks) -> None:
    assert outliers(tracks, 0) == {}


def test_the_worst_go_first_and_never_more_than_half() -> None:
    tracks = [track(), track(), track(), track(num_failed=20), track(num_failed=50)]
    assert list(outliers(tracks, 0)) == [4, 3]
    assert list(outliers(tracks, 1)) == [4, 3]
    assert list(outliers([*tracks[:3], tracks[4]], 2)) == [4 - 1]
    assert outliers([*tracks[:2], tracks[4]], 3) == {}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.floats(0.001, 100.0)),
                max_size=9), st.integers(0, 9))
def test_half_of_all_is_the_most_whatever_is_seen(seen, num_ejected) -> None:
    tracks = [track(num, min(num, bad), latency_s) for num, bad, latency_s in seen]
    found = outliers(tracks, num_ejected)
    assert not found or len(found) + num_ejected <= (len(tracks) + num_ejected) / 2


def test_what_is_old_counts_less_and_clocks_that_go_back_do_no_harm() -> None:
    one = track(num=8, num_failed=8)
    one.add(HALF_LIFE_S, failed=False, latency_s=1.0)
    assert one.num == pytest.approx(5.0)
    assert one.failed_share() == pytest.approx(0.8)
    one.add(0.0, failed=False, latency_s=1.0)
    assert one.num == pytest.approx(6.0)


def test_ejections_grow_to_a_bound() -> None:
    assert [ejection_s(n) for n in (0, 1, 2)] == [FIRST_EJECTION_S * 2**n for n in range(3)]
    assert ejection_s(10_000) == MOST_EJECTION_S
