"""The next event of many sources."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.sim.kernel import NEVER_PS, Arrivals, EventSource, Kernel, Observer, Tournament

dues = st.integers(0, 5) | st.just(NEVER_PS)


@given(moves=st.integers(1, 9).flatmap(
    lambda size: st.tuples(st.just(size), st.lists(st.tuples(st.integers(0, size - 1), dues)))))
def test_the_earliest_wins_and_of_equals_the_lowest_number(moves):
    size, steps = moves
    tournament, due_ps = Tournament(size), [NEVER_PS] * size
    for number, at_ps in steps:
        tournament.move(number, at_ps)
        due_ps[number] = at_ps
        least = min(due_ps)
        assert tournament.due_ps == least
        assert tournament.number == due_ps.index(least)


def test_nothing_is_due_without_contestants():
    assert Tournament(0).due_ps == NEVER_PS


class Source(EventSource):
    """Is due at given times, and writes them down."""

    def __init__(self, number, times_ps, log):
        super().__init__(number)
        self.times_ps = list(times_ps)
        self.log = log
        self.due_ps = self.times_ps[0]

    def commit(self, now_ps):
        self.log.append(("commit", now_ps, self.number))
        self.times_ps.pop(0)
        self.due_ps = NEVER_PS

    def plan(self, now_ps):
        self.log.append(("plan", now_ps, self.number))
        self.due_ps = self.times_ps[0] if self.times_ps else NEVER_PS

    def stop(self, now_ps):
        self.log.append(("stop", now_ps, self.number))


class Instants(Observer):
    def __init__(self):
        self.seen_ps = []

    def on_instant(self, now_ps):
        self.seen_ps.append(now_ps)


def test_all_that_ends_at_an_instant_ends_before_anything_is_planned():
    log, instants = [], Instants()
    sources = [Source(0, [3, 5], log), Source(1, [2], log), Source(2, [3, 9], log)]
    Kernel(sources, Arrivals()).run(instants, until_ps=8)
    assert log == [
        ("commit", 2, 1), ("plan", 2, 1),
        ("commit", 3, 0), ("commit", 3, 2), ("plan", 3, 0), ("plan", 3, 2),
        ("commit", 5, 0), ("plan", 5, 0),
        ("stop", 8, 0), ("stop", 8, 1), ("stop", 8, 2)]
    assert instants.seen_ps == [2, 3, 5]


def test_a_source_that_gives_up_its_event_is_passed_over():
    log = []
    first, second = Source(0, [3], log), Source(1, [4], log)
    kernel = Kernel([first, second], Arrivals())
    first.due_ps = NEVER_PS
    kernel.run()
    assert log[:2] == [("commit", 4, 1), ("plan", 4, 1)]
