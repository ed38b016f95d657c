"""A server that answers while a test, which knows no event loop, asks it."""

import asyncio
import threading
from contextlib import contextmanager


@contextmanager
def in_a_thread(server):
    """The URL of a server, an async context manager that gives it, in a thread of its own."""
    ready, stop, url = threading.Event(), None, ""

    async def run():
        nonlocal stop, url
        stop = asyncio.Event()
        async with server as url:
            ready.set()
            await stop.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()
