"""Repeats until a median has settled, within a budget of time and a share of the machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from penstock.core.errors import InputError
from penstock.core.units import ceil_div
from penstock.perf.profiles.points import Measurement, ModelConfiguration, Outcome
from penstock.perf.profiles.stability import median_interval
from penstock.perf.profiles.summary import PointSummary, summary
from penstock.perf.profiling.counters import Gpus
from penstock.perf.profiling.machine import load_average, release_memory
from penstock.perf.profiling.protocol import BatchTimes, OutOfMemoryError, ProfiledEngine, Room
from penstock.profile.points import Point, room_for
from penstock.profile.record import Record

_LONGEST_REASON = 300
OnRow = Callable[[Measurement, float], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """How well and how long to measure.

    A point's repeats are enough when there are ``min_repeats`` and the interval of their median is
    at most ``tolerance`` wide to either side, relative to it; or when there are ``max_repeats``.
    ``passes`` spreads the least number over as many rounds through all configurations, there and
    back, so that what drifts is not mistaken for a difference between them.
    ``budget_s`` is the time for all points together. The engine works for at most ``share`` of the
    time and pauses for the rest.
    """

    tolerance: float = 0.05
    min_repeats: int = 5
    max_repeats: int = 30
    num_warm_ups: int = 2
    budget_s: float | None = None
    share: float = 1.0
    passes: int = 1

    def of_pass(self, number: int) -> "Effort":
        """Return the precision that is enough at the end of a pass, counted from 0."""
        if number >= self.passes - 1:
            return self
        least = ceil_div(self.min_repeats * (number + 1), self.passes)
        return replace(self, min_repeats=least, max_repeats=least)

    def is_enough(self, seconds: Sequence[float]) -> bool:
        """Whether the repeats have settled, or nobody wants more of them."""
        if len(seconds) < self.min_repeats:
            return False
        return (len(seconds) >= self.max_repeats
                or median_interval(seconds).relative_half_width <= self.tolerance)


@dataclass(frozen=True, slots=True)
class Clocks:
    """Seconds that only grow (for budget and pauses), how to wait, the CPU's seconds of this
    process, and the time of day as Unix seconds."""

    now: Callable[[], float]
    sleep: Callable[[float], None]
    cpu: Callable[[], float]
    wall: Callable[[], float]


class OutOfTimeError(Exception):
    """The budget is spent."""


class Profiler:
    """Measures points on an engine and records every repeat."""

    def __init__(self, engine: ProfiledEngine, record: Record, effort: Effort, clocks: Clocks,
                 gpus: Gpus, on_row: OnRow = lambda _row, _done: None) -> None:
        """``on_row`` hears of every row, and which share of the work was done before it."""
        self.engine = engine
        self.record = record
        self.effort = effort
        self.clocks = clocks
        self._gpus = gpus
        self.on_row = on_row
        self._done = 0.0
        self._started_s = clocks.now()
        self._loaded: tuple[ModelConfiguration, Room] | None = None
        self._loaded_bytes: float | None = None
        self._refused: dict[tuple[ModelConfiguration, Room], tuple[Outcome, str]] = {}

    # -- time -----------------------------------------------------------------------------------

    @property
    def left_s(self) -> float:
        """Seconds that are left of the budget."""
        budget_s = self.effort.budget_s
        return float("inf") if budget_s is None else \
            budget_s - (self.clocks.now() - self._started_s)

    def check_time(self) -> None:
        """Raise OutOfTimeError when the budget is spent."""
        if self.left_s <= 0.0:
            raise OutOfTimeError

    def pause(self, busy_s: float) -> None:
        """Leave the machine to others for their share of the time."""
        if self.effort.share < 1.0 and busy_s > 0.0:
            self.clocks.sleep(busy_s * (1.0 / self.effort.share - 1.0))

    # -- points ---------------------------------------------------------------------------------

    def measure_all(self, groups: Sequence[Sequence[Point]], kv_tokens: int | None = None) -> None:
        """Measure groups of points, each of one configuration, for whose points the engine gets
        room (or as many tokens as stated). What is left of the budget is divided among those that
        are to come. Raises OutOfTimeError."""
        to_come = all_points = self.effort.passes * sum(map(len, groups))
        for number in range(self.effort.passes):
            effort = self.effort.of_pass(number)
            for points in groups if number % 2 == 0 else reversed(groups):
                room = room_for(points, kv_tokens)
                for point in points:
                    self._done = 1.0 - to_come / all_points
                    self.measure(point, room, self.left_s / to_come, effort)
                    to_come -= 1

    def measure(self, point: Point, room: Room, allowance_s: float = float("inf"),
                effort: Effort | None = None) -> PointSummary:
        """Measure one point, or go on with it, for as long as allowed once it has the least number
        of repeats. ``effort`` is another one than for all. Raises OutOfTimeError before or while it
        has not enough."""
        effort = effort or self.effort
        repeats = self.record.repeats(point.key)
        if _is_done(repeats, effort):
            return summary(repeats)
        self.check_time()
        if self.record.is_deadly(point.key):
            killed = Measurement("batch", point.configuration, point.batch, point.prompt_tokens,
                                 point.output_tokens, outcome="killed", session=self.record.session,
                                 reason="the process ended twice while this ran, perhaps for want "
                                        "of memory", started_s=self.clocks.wall())
            self._add([killed])
            return summary([killed])
        self.record.begin(point.key)
        found: list[Measurement] = []
        try:
            self._repeat(point, room, repeats, found, allowance_s, effort)
        finally:
            self._add(found)
        return summary([*repeats, *(one for one in found if not one.warm_up)])

    def _repeat(self, point: Point, room: Room, repeats: list[Measurement],
                found: list[Measurement], allowance_s: float, effort: Effort) -> None:
        """Fill ``found`` with warm-ups and repeats."""
        started_s = self.clocks.now()
        problem = self.load(point.configuration, room)
        if problem is not None:
            found.append(self._row(point, len(repeats), warm_up=False, outcome=problem[0],
                                   reason=problem[1]))
            return
        seconds = [one.seconds for one in repeats if one.seconds is not None]
        for number in range(-effort.num_warm_ups, effort.max_repeats):
            one = self._run(point, len(repeats) + max(0, number), warm_up=number < 0)
            found.append(one)
            self.on_row(one, self._done)
            if one.outcome != "ok":
                if one.warm_up:  # it failed all the same
                    found.append(self._row(point, len(repeats), warm_up=False,
                                           outcome=one.outcome, reason=one.reason))
                self.unload()
                return
            if one.warm_up or one.seconds is None:
                continue
            seconds.append(one.seconds)
            if effort.is_enough(seconds):
                return
            if len(seconds) >= effort.min_repeats and \
                    self.clocks.now() - started_s > allowance_s:
                return
            self.check_time()

    def _run(self, point: Point, repeat: int, *, warm_up: bool) -> Measurement:
        engine, clocks = self.engine, self.clocks
        started_s, cpu_s = clocks.now(), clocks.cpu()
        times: BatchTimes | None = None
        outcome: Outcome = "ok"
        reason = ""
        try:
            times = engine.run(point.batch, point.prompt_tokens, point.output_tokens)
        except (OutOfMemoryError, MemoryError) as error:
            outcome, reason = "out_of_memory", str(error) or "no memory"
        except InputError:
            raise
        except Exception as error:  # a fault of the engine is a result of its profile
            outcome, reason = "failed", f"{type(error).__name__}: {error}"
        cpu_s = clocks.cpu() - cpu_s
        row = self._row(point, repeat, warm_up=warm_up, outcome=outcome, reason=reason,
                        times=times, cpu_s=cpu_s)
        self.pause(clocks.now() - started_s)
        return row

    def _row(self, point: Point, repeat: int, *, warm_up: bool, outcome: Outcome, reason: str,
             times: BatchTimes | None = None, cpu_s: float | None = None) -> Measurement:
        gpu = self._gpus.read()
        memory = self.engine.memory()
        load = load_average()
        return Measurement(
            "batch", point.configuration, point.batch, point.prompt_tokens, point.output_tokens,
            repeat=repeat, warm_up=warm_up, outcome=outcome, reason=one_line(reason),
            seconds=None if times is None else times.end_s,
            first_token_s=None if times is None else times.first_token_s,
            decode_step_s=None if times is None else times.decode_step_s,
            num_prefill_steps=None if times is None else times.num_prefill_steps, cpu_s=cpu_s,
            memory_loaded_bytes=self._loaded_bytes, memory_bytes=memory.held_bytes,
            memory_peak_bytes=memory.peak_bytes, kv_tokens=memory.kv_tokens,
            gpu_utilization=gpu.utilization,
            gpu_power_w=gpu.power_w, gpu_clock_mhz=gpu.clock_mhz,
            gpu_temperature_c=gpu.temperature_c, load_average=load[0] if load else None,
            started_s=self.clocks.wall(), session=self.record.session)

    def _add(self, found: Sequence[Measurement]) -> None:
        self.record.add(found)

    # -- the engine -----------------------------------------------------------------------------

    def load(self, configuration: ModelConfiguration, room: Room) -> tuple[Outcome, str] | None:
        """Have the engine hold this configuration; how and why it could not, if so."""
        if self._loaded == (configuration, room):
            return None
        if (configuration, room) in self._refused:
            return self._refused[configuration, room]
        self.unload()
        started_s = self.clocks.now()
        problem: tuple[Outcome, str] | None = None
        try:
            self.engine.prepare(configuration)
            self.engine.load(configuration, room)
        except (OutOfMemoryError, MemoryError) as error:
            problem = "out_of_memory", str(error) or "no memory"
        except InputError:
            raise
        except Exception as error:
            problem = "failed", f"loading: {type(error).__name__}: {error}"
        self.pause(self.clocks.now() - started_s)
        if problem is not None:
            self._refused[configuration, room] = problem
            self.unload()
            return problem
        release_memory()
        self._loaded = configuration, room
        self._loaded_bytes = self.engine.memory().held_bytes
        return None

    def unload(self) -> None:
        """Have the engine hold nothing."""
        self._loaded, self._loaded_bytes = None, None
        self.engine.unload()
        release_memory()


def _is_done(repeats: Sequence[Measurement], effort: Effort) -> bool:
    if any(one.outcome != "ok" for one in repeats):
        return True
    return effort.is_enough([one.seconds for one in repeats if one.seconds is not None])


def one_line(text: str) -> str:
    """An engine's message as a cell shows it."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON - 3]}..."
