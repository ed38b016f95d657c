"""Diagnostics without any byte of a request: a request may hold keys, prompts and other secrets."""

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError

_SAID_EACH_S = 60.0
_PR_SET_DUMPABLE = 4
_LOGGERS = ("aiohttp.client", "aiohttp.internal", "aiohttp.server", "aiohttp.web",
            "aiohttp.websocket", "asyncio")


def trace_of(error: BaseException) -> str:
    """Return the trace of an error and of its causes: code lines and error types, no messages.

    A message may repeat what a client or an engine sent.
    """
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        stack = traceback.StackSummary.extract(traceback.walk_tb(cause.__traceback__))
        lines[:0] = [*stack.format(), f"{type(cause).__qualname__}\n"]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "Traceback (most recent call last):\n" + "".join(lines).rstrip("\n")


class DiscreetFilter(logging.Filter):
    """Replaces the text of a library's record by the place in the library and the error's trace.

    Messages, arguments and error texts of HTTP libraries repeat bytes of requests. One record of a
    place is printed each minute, with the number of records since. ``clock`` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._counts: dict[tuple[str, int, str], int] = {}
        self._silent_until_s: dict[tuple[str, int, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be printed."""
        error = record.exc_info[1] if record.exc_info else None
        kind = "" if error is None else type(error).__qualname__
        place = (record.filename, record.lineno, kind)
        self._counts[place] = number = self._counts.get(place, 0) + 1
        now_s = self._clock()
        if now_s < self._silent_until_s.get(place, now_s):
            return False
        del self._counts[place]
        self._silent_until_s[place] = now_s + _SAID_EACH_S
        what = "malformed HTTP was answered 400" if isinstance(error, HttpProcessingError) else \
            f"{record.name}: {record.filename} line {record.lineno}"
        trace = "" if error is None or isinstance(error, HttpProcessingError) else \
            f"\n{trace_of(error)}"
        record.msg, record.args = "%s (times: %d)%s", (what, number, trace)
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def keep_secrets() -> None:
    """Keep bytes of requests out of what libraries log in this process, and out of core dumps;
    called once by a command that serves, within its event loop."""
    _refuse_core_dumps()
    discreet = DiscreetFilter()
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(discreet)
    asyncio.get_running_loop().set_exception_handler(_log_loop_error)


def _refuse_core_dumps() -> None:
    with suppress(ImportError, OSError, ValueError, AttributeError):  # not every system has these
        import ctypes
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # The limit does not hold where a program takes the dumps (core_pattern, see core(5)).
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _log_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    logging.getLogger("asyncio").error("an error outside of requests", exc_info=error)
