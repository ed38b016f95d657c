"""An asyncio event loop with simulated time, whose order of work is drawn from a seed.

Nothing sleeps: where no callback is ready, the time jumps to the next timer. Timers of one instant
fire in a drawn order, and so do the steps of tasks that are ready together. Other callbacks keep
the order in which they were added, which asyncio promises. Callbacks belong to the process (a
``SimulatedProcess``) in whose context they were added, so a process can be killed or frozen at any
instant.
"""

import asyncio
import heapq
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context

START_S = 1000.0
_MOST_ROUNDS = 200_000  # in one schedule; a livelock would go on forever
_STEPS = ("TaskStepMethWrapper", "TaskWakeupMethWrapper")
PROCESS = ContextVar("PROCESS", default=None)


class DeadlockError(Exception):
    """Nothing is ready, and no timer runs."""


class LivelockError(Exception):
    """Callbacks add callbacks without end."""


class SimulatedProcess:
    """One process of the simulated machines: its callbacks, tasks, threads and connections.

    A dead process does nothing more. What falls due in a frozen process happens when it thaws.
    """

    def __init__(self, name, pid):
        self.name = name
        self.pid = pid
        self.dead = self.frozen = False
        self.held = []     # callbacks that fell due while it was frozen
        self.tasks = []
        self.threads = []
        self.resources = []  # what the operating system closes at the end of the process
        self.context = copy_context()
        self.context.run(PROCESS.set, self)

    def __repr__(self):
        return self.name


class SimulatedLoop(asyncio.BaseEventLoop):
    """``random`` draws the order of work; ``in_threads`` runs a function in a simulated thread."""

    def __init__(self, random, *, shuffled=True):
        super().__init__()
        self.random = random
        self.in_threads = None
        self.troubles = []  # what asyncio reports to the exception handler
        self.num_rounds = 0
        self._now_s = START_S
        self._shuffled = shuffled
        self._any_stopped = False
        self.set_task_factory(_make_task)
        self.set_exception_handler(lambda _, context: self.troubles.append(context))

    def time(self):
        return self._now_s

    # -- processes ------------------------------------------------------------------------------

    def spawn(self, process, work):
        """Run a coroutine as a task of a process."""
        return self.create_task(work, context=process.context.copy())

    def kill(self, process):
        """End a process at once: nothing of it runs again, and its connections break."""
        process.dead = self._any_stopped = True
        process.held.clear()
        for thread in process.threads:
            thread.kill()
        for resource in process.resources:
            resource.process_died()

    def freeze(self, process):
        """Stop a process until it thaws."""
        process.frozen = self._any_stopped = True

    def thaw(self, process):
        """Let a frozen process go on."""
        process.frozen = False
        self._ready.extend(process.held)
        process.held.clear()

    def bury(self, process):
        """Unwind the tasks of a dead process. The loop must not run any more."""
        for task, context in process.tasks:
            task._log_destroy_pending = False
            for _ in range(100):  # a coroutine may wait again while it unwinds
                with suppress(BaseException):
                    context.run(task.get_coro().close)
                    break
        process.tasks.clear()

    # -- one iteration --------------------------------------------------------------------------

    def _run_once(self):
        self.num_rounds += 1
        if self.num_rounds > _MOST_ROUNDS:
            raise LivelockError(f"at {self._now_s}")
        ready, timers = self._ready, self._scheduled
        if not ready:
            while timers and timers[0]._cancelled:
                heapq.heappop(timers)._scheduled = False
            if timers:
                self._now_s = max(self._now_s, timers[0]._when)
            elif not self._stopping:
                raise DeadlockError(f"at {self._now_s}")
        due = []
        while timers and timers[0]._when <= self._now_s:
            handle = heapq.heappop(timers)
            handle._scheduled = False
            if not handle._cancelled:
                due.append(handle)
        if len(due) > 1 and self._shuffled:
            self.random.shuffle(due)
        ready.extend(due)
        batch = list(ready)
        ready.clear()
        for handle in self._drawn_order(batch):
            if not handle._cancelled and (not self._any_stopped or self._may_run(handle)):
                handle._run()

    def _may_run(self, handle):
        process = handle._context.get(PROCESS)
        if process is None or not (process.dead or process.frozen):
            return True
        if not process.dead:
            process.held.append(handle)
        return False

    def _drawn_order(self, batch):
        """Steps of tasks in any order, between other callbacks in theirs."""
        if len(batch) < 2 or not self._shuffled:
            return batch
        steps, others = [], []
        for handle in batch:
            kind = type(handle._callback).__name__
            (steps if kind in _STEPS or _is_wakeup(handle._callback) else others).append(handle)
        if not steps or (len(steps) == 1 and not others):
            return batch
        self.random.shuffle(steps)
        if not others:
            return steps
        places = sorted(self.random.randint(0, len(others)) for _ in steps)
        found, taken = [], 0
        for place, step in zip(places, steps, strict=True):
            found += others[taken:place]
            found.append(step)
            taken = place
        return found + others[taken:]

    # -- what asyncio asks of a loop ------------------------------------------------------------

    def run_in_executor(self, executor, func, *args):
        return self.in_threads(func, *args)

    def _write_to_self(self):
        pass

    def _process_events(self, event_list):
        pass


def _is_wakeup(callback):
    return isinstance(getattr(callback, "__self__", None), asyncio.Task)


def _make_task(loop, coro, context=None, **more):
    context = copy_context() if context is None else context
    task = asyncio.Task(coro, loop=loop, context=context, **more)
    process = context.get(PROCESS)
    if process is not None:
        tasks = process.tasks
        tasks.append((task, context))
        if len(tasks) > 200:
            tasks[:] = [one for one in tasks if not one[0].done()]
    return task


def in_context_of(process):
    """The context of what a process is called back with; None outside of processes."""
    return Context() if process is None else process.context
