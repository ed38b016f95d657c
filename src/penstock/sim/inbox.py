"""Requests that have arrived at an engine, but which its scheduler has not read yet."""

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from penstock.core.intake import Intake
from penstock.core.request import Request
from penstock.core.units import to_ps
from penstock.sim.kernel import NEVER_PS

if TYPE_CHECKING:  # whole numbers of 64 bits in native code, which multiplies others slowly
    from mypy_extensions import i64


def is_too_long(num_steps: int, duration_ps: int, growth_ps: int) -> bool:
    """Return whether times of such a run of steps might not fit into 64 bits."""
    steps = float(num_steps)
    return steps * (float(duration_ps) + steps * float(growth_ps)) >= NEVER_PS


def steps_until(gap_ps: int, duration_ps: int, growth_ps: int, most: int) -> int:
    """Return the fewest steps, at most ``most``, whose durations d, d+g, d+2g, ... sum to
    ``gap_ps``. The run of ``most`` steps must not be too long."""
    if gap_ps <= duration_ps or most <= 1:
        return 1
    gap: i64 = gap_ps
    duration: i64 = duration_ps
    growth: i64 = growth_ps
    low: i64 = 1
    high: i64 = min(most, gap_ps // duration_ps + 1)
    while low < high:
        middle = low + high >> 1
        if middle * duration + (middle * (middle - 1) >> 1) * growth >= gap:
            high = middle
        else:
            low = middle + 1
    return low


class Inbox:
    """Requests in order of the time at which the scheduler could see them."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._waiting: list[tuple[int, int, Request]] = []
        self._num_added = 0
        self._free_ps = 0
        self._steps = 0  # of decodes since the scheduler could last read
        self.prompt_tokens = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def ready_ps(self) -> int:
        """When the first request is ready to be read, NEVER_PS without any."""
        return self._waiting[0][0] if self._waiting else NEVER_PS

    def add(self, request: Request, now_ps: int) -> None:
        """Add a request at its arrival."""
        ready_ps = (max(now_ps, self._free_ps)
                    + to_ps(self._intake.delay_s(request.prompt_tokens)))
        self._free_ps = ready_ps
        heappush(self._waiting, (ready_ps, self._num_added, request))
        self._num_added += 1
        self.prompt_tokens += request.prompt_tokens

    def requests(self) -> list[Request]:
        """Return the requests, in order."""
        return [entry[2] for entry in sorted(self._waiting, key=lambda entry: entry[:2])]

    def empty(self) -> list[Request]:
        """Take out all requests."""
        found = self.requests()
        self._waiting.clear()
        self.prompt_tokens = self._free_ps = self._steps = 0
        return found

    def read(self, until_ps: int) -> list[Request]:
        """Take out the requests that were ready by ``until_ps``."""
        found: list[Request] = []
        while self._waiting and self._waiting[0][0] <= until_ps:
            request = heappop(self._waiting)[2]
            self.prompt_tokens -= request.prompt_tokens
            found.append(request)
        return found

    def after_steps(self, num_steps: int, with_prompts: bool, last_start_ps: int,
                    end_ps: int) -> list[Request]:
        """Take out the requests that the scheduler reads after ``num_steps`` steps, the last of
        which ran from ``last_start_ps`` to ``end_ps``."""
        self._steps = 0 if with_prompts else (self._steps + num_steps) % self._intake.every_steps
        if self._steps:
            return []
        return self.read(last_start_ps if self._intake.plans_ahead else end_ps)

    def when_idle(self, now_ps: int) -> list[Request]:
        """Take out the requests that an idle scheduler reads now."""
        self._steps = 0
        return self.read(now_ps)

    def steps_to_read(self, start_ps: int, duration_ps: int, growth_ps: int, with_prompts: bool,
                      most: int) -> int:
        """Return the number of steps of a run after which the scheduler reads the first request,
        at most ``most``."""
        if not self._waiting:
            return most
        gap_ps = self._waiting[0][0] - start_ps
        steps = 0 if gap_ps <= 0 else steps_until(gap_ps, duration_ps, growth_ps, most)
        steps = steps + 1 if self._intake.plans_ahead else max(1, steps)
        if not with_prompts:
            steps += -(self._steps + steps) % self._intake.every_steps
        return min(most, steps)
