"""Diagnostics say where something went wrong, and nothing of what was asked."""

import logging
import subprocess
import sys

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from aiohttp.http_exceptions import BadStatusLine

from penstock.engines.discreet_log import DiscreetFilter, trace_of

SECRET = "sk-canary-4711"


def raised(error, cause=None):
    try:
        if cause is None:
            raise error
        try:
            raise cause
        except type(cause):
            raise error  # noqa: B904  (as code does that fails while it handles an error)
    except type(error) as found:
        return found


def record_of(error, line=7):
    return logging.LogRecord("aiohttp.server", logging.ERROR, "/x/web.py", line, "of %s", (SECRET,),
                             (type(error), error, error.__traceback__))


def test_a_trace_has_the_code_and_the_kinds_of_all_errors_but_no_message() -> None:
    text = trace_of(raised(KeyError(SECRET), cause=ValueError(SECRET)))
    assert SECRET not in text
    lines = text.splitlines()
    assert lines[-1] == "KeyError"
    assert "ValueError" in lines
    assert any("raise cause" in line for line in lines)


def test_a_record_says_its_place_and_what_was_not_said_is_counted() -> None:
    now_s = 0.0
    discreet = DiscreetFilter(lambda: now_s)
    first = record_of(raised(ValueError(SECRET)))
    assert discreet.filter(first)
    text = logging.Formatter().format(first)
    assert SECRET not in text
    assert text.startswith("aiohttp.server: web.py line 7 (times: 1)\nTraceback")
    assert not discreet.filter(record_of(raised(ValueError(SECRET))))
    assert discreet.filter(record_of(raised(ValueError(SECRET)), line=8)), "another place"
    assert discreet.filter(record_of(raised(TypeError(SECRET)))), "another error"
    now_s = 61.0
    last = record_of(raised(ValueError(SECRET)))
    assert discreet.filter(last)
    assert "(times: 2)" in last.getMessage()


def test_of_malformed_http_no_trace_is_said() -> None:
    record = record_of(raised(BadStatusLine(SECRET)))
    assert DiscreetFilter().filter(record)
    assert logging.Formatter().format(record) == "malformed HTTP was answered 400 (times: 1)"


@pytest.mark.skipif(sys.platform != "linux", reason="core dumps are another matter elsewhere")
def test_a_process_that_keeps_secrets_says_none_and_leaves_no_core_dump() -> None:
    """In a process of its own, since its settings cannot be taken back."""
    script = """
import asyncio, ctypes, resource
from penstock.engines.discreet_log import keep_secrets
async def work():
    keep_secrets()
    asyncio.get_running_loop().call_soon(int, "sk-canary-4711")
    await asyncio.sleep(0)
asyncio.run(work())
print(*resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                           check=True)
    assert found.stdout.split() == ["0", "0", "0"]
    assert "ValueError" in found.stderr
    assert SECRET not in found.stderr
