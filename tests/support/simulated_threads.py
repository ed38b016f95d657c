"""Threads in simulated time: one thread runs at a time, and each waits for the loop to resume it.

A thread of the product is a real thread here, but it only runs while a callback of the
``SimulatedLoop`` waits for it. It gives the baton back where it sleeps, waits, or ends. So every
schedule is the same for the same seed.
"""

import threading
from _thread import allocate_lock
from collections import deque
from contextlib import suppress
from queue import Empty
from typing import ClassVar

from support.simulated_loop import PROCESS

_MOST_START_S = 0.002


class ThreadKilledError(BaseException):
    """The process of this thread was killed."""


class _Carrier:
    """A real thread that runs simulated ones, one after another."""

    idle: ClassVar[list] = []
    own = threading.local()

    def __init__(self):
        self._go, self._back = allocate_lock(), allocate_lock()
        self._go.acquire()
        self._back.acquire()
        self.work = None
        self.killed = False
        threading.Thread(target=self._run, daemon=True, name="carrier").start()

    def _run(self):
        self.own.carrier = self
        while True:
            self._go.acquire()
            with suppress(ThreadKilledError):
                self.work()
            self.work = None
            self._back.release()

    def resume(self):
        """Let the thread run until it pauses or ends."""
        self._go.release()
        self._back.acquire()

    def pause(self):
        """Give the baton back, in the thread."""
        if not self.killed:
            self._back.release()
            self._go.acquire()
        if self.killed:
            raise ThreadKilledError


class SimulatedThreads:
    """The threads of one simulated loop. ``most_start_s`` bounds the drawn delay of a start."""

    def __init__(self, loop):
        self._loop = loop
        loop.in_threads = self.call

    def call(self, func, *args):
        """Run a function in a thread; the future of its result."""
        done = self._loop.create_future()

        def work():
            try:
                result = func(*args)
            except Exception as error:
                self._loop.call_soon_threadsafe(_finish, done.set_exception, done, error)
            else:
                self._loop.call_soon_threadsafe(_finish, done.set_result, done, result)

        SimulatedThread(self, work).start()
        return done

    def sleep(self, seconds):
        """``time.sleep`` of simulated threads."""
        self.current().wait(seconds)

    def current(self):
        """The simulated thread that runs; an error on the event loop."""
        carrier = getattr(_Carrier.own, "carrier", None)
        assert carrier is not None, "the event loop may not block"
        return carrier.thread

    def thread(self, target=None, name="", daemon=False):
        """Takes the place of ``threading.Thread``."""
        return SimulatedThread(self, target)

    @property
    def loop(self):
        """The loop that the threads share their time with."""
        return self._loop


class SimulatedThread:
    """One thread of a simulated process."""

    def __init__(self, threads, work):
        self._threads = threads
        self._work = work
        self._carrier = None
        self._joining = []
        self._timer = None
        self._process = PROCESS.get()
        self._started = self._ended = False

    def start(self):
        """Begin after a drawn delay."""
        self._started = True
        if self._process is not None:
            self._process.threads.append(self)
        loop = self._threads.loop
        loop.call_later(loop.random.choice((0.0, loop.random.random() * _MOST_START_S)),
                        self._begin)

    def is_alive(self):
        return self._started and not self._ended

    def join(self, timeout=None):
        """Wait in another thread until this one ends."""
        if not self._ended:
            waiting = self._threads.current()
            self._joining.append(waiting)
            waiting.wait(timeout)
            self._joining.remove(waiting)

    def wait(self, seconds=None):
        """Pause until ``wake``, or so many seconds."""
        if seconds is not None:
            self._timer = self._threads.loop.call_later(seconds, self._go_on)
        self._carrier.pause()

    def wake(self, delay_s=0.0):
        """End the thread's ``wait``."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._threads.loop.call_later(delay_s, self._go_on,
                                                    context=self._process.context)

    def kill(self):
        """Unwind the thread."""
        if self._carrier is not None and not self._ended:
            self._carrier.killed = True
            self._carrier.resume()
        self._ended = True

    def _begin(self):
        if self._ended:
            return
        self._carrier = _Carrier.idle.pop() if _Carrier.idle else _Carrier()
        self._carrier.thread, self._carrier.killed = self, False
        context = self._process.context.copy()
        self._carrier.work = lambda: context.run(self._whole)
        self._go_on()

    def _go_on(self):
        self._timer = None
        if not self._ended:
            self._carrier.resume()
        if self._ended and self._carrier is not None:
            self._carrier = None

    def _whole(self):
        try:
            self._work()
        finally:
            self._ended = True
            _Carrier.idle.append(self._carrier)
            if self in self._process.threads:
                self._process.threads.remove(self)
            if not self._carrier.killed:
                for waiting in self._joining:
                    waiting.wake()


class SimulatedQueue:
    """Takes the place of ``queue.SimpleQueue`` between a loop and one simulated thread."""

    def __init__(self, threads):
        self._threads = threads
        self._items = deque()
        self._waiting = None
        self._empty_s, self._num_empty = 0.0, 0

    def put(self, item):
        self._items.append(item)
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.wake(self._threads.loop.random.choice((0.0, 0.0, 0.0001, 0.003)))

    def get_nowait(self):
        if not self._items:
            self._pass_time()
            raise Empty
        return self._items.popleft()

    def _pass_time(self):
        """A thread that asks again and again takes time, however little."""
        now_s = self._threads.loop.time()
        self._num_empty = self._num_empty + 1 if now_s == self._empty_s else 0
        self._empty_s = now_s
        if self._num_empty > 3:
            self._threads.sleep(1e-6)

    def get(self, timeout=None):
        if not self._items:
            self._waiting = self._threads.current()
            self._waiting.wait(timeout)
            self._waiting = None
        return self.get_nowait()


def _finish(give, done, value):
    if not done.done():
        give(value)
