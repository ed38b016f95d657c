"""Engines that misbehave in every way, and a gateway before them."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from aiohttp import web

from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import NO_KEYS, NO_TRACING, running
from support.small_fleet import FLEET

TOKENS = [b'data: {"choices":[{"index":0,"text":"t%d"}]}\n\n' % n for n in range(5)]
END = (b'data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\n'
       b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'
       b"data: [DONE]\n\n")
WHOLE = {"choices": [{"index": 0, "text": "t0t1t2t3t4", "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 3, "completion_tokens": 5}}


async def begun(request):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


async def well(request):
    if not (await request.json()).get("stream"):
        return web.json_response(WHOLE)
    response = await begun(request)
    for token in TOKENS:
        await response.write(token)
    await response.write(END)
    return response


async def killed(request):
    """The process dies after two tokens: the connection is reset."""
    response = await begun(request)
    await response.write(TOKENS[0] + TOKENS[1])
    await asyncio.sleep(0.005)
    request.transport.abort()
    return response


async def killed_at_once(request):
    request.transport.abort()
    await asyncio.sleep(1.0)
    return web.Response()


async def hangs(request):
    await asyncio.sleep(600)


async def hangs_in_the_middle(request):
    response = await begun(request)
    await response.write(TOKENS[0])
    await asyncio.sleep(600)
    return response


async def half_closed(request):
    """A stream that ends in good order, but long before its answer does."""
    response = await begun(request)
    await response.write(TOKENS[0] + TOKENS[1][:20])
    await asyncio.sleep(0.005)
    return response


async def lingers(request):
    """A whole answer whose connection stays open after its last word."""
    response = await begun(request)
    await response.write(b"".join(TOKENS) + END)
    await asyncio.sleep(600)
    return response


async def garbage(request):
    return web.Response(body=b"\x00\xff<html>" * 50, content_type="text/html")


async def garbage_in_the_middle(request):
    response = await begun(request)
    await response.write(TOKENS[0])
    await asyncio.sleep(0.005)
    await response.write(b"data: {not json\n\n")
    return response


async def an_error_in_the_middle(request):
    response = await begun(request)
    await response.write(TOKENS[0])
    await asyncio.sleep(0.005)
    await response.write(b'data: {"error": {"message": "out of memory", "code": 500}}\n\n')
    return response


async def no_list_of_choices(request):
    response = await begun(request)
    await response.write(b'data: {"choices": [3]}\n\n')
    return response


async def too_many(request):
    return web.json_response({"error": {"message": "busy"}}, status=429,
                             headers={"Retry-After": "7"})


async def internal(request):
    return web.Response(status=500, text="boom")


async def unavailable(request):
    return web.Response(status=503)


BEFORE_THE_FIRST_BYTE = (killed_at_once, hangs, garbage, no_list_of_choices, too_many, internal,
                         unavailable)
IN_THE_MIDDLE = (killed, hangs_in_the_middle, half_closed, garbage_in_the_middle,
                 an_error_in_the_middle)


@asynccontextmanager
async def engine(handler, health=200):
    """The URL of a server that answers completions as ``handler`` does."""
    async def healthy(_):
        return web.Response(status=health)

    app = web.Application()
    app.router.add_get("/health", healthy)
    app.router.add_post("/v1/completions", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def fleet_of(urls, **overrides):
    return parse_fleet(FLEET, overrides={
        "accelerators": [{"name": "a100-80gb", "count": 64}],
        "replicas": [{"count": len(urls), "endpoints": list(urls)}], **overrides})


@asynccontextmanager
async def gateway(urls, limits=None, notes=None, reload=None, tracing=NO_TRACING, access=NO_KEYS,
                  **overrides):
    """(URL, engines) of a gateway before engines at these URLs."""
    limits = limits or Limits(connect_s=1.0, silence_s=0.3)
    note = [].append if notes is None else notes.append
    async with running(fleet_of(urls, **overrides), LeastLoaded(), "127.0.0.1", 0, limits=limits,
                       reload=reload, tracing=tracing, access=access, on_bug=note) as found:
        yield found


def before(handlers, work, **settings):
    """What ``work`` makes of a session with a gateway before engines that behave like that."""
    async def run():
        async with AsyncExitStack() as stack:
            urls = [await stack.enter_async_context(engine(one)) for one in handlers]
            url, engines = await stack.enter_async_context(gateway(urls, **settings))
            session = await stack.enter_async_context(aiohttp.ClientSession(url))
            return await asyncio.wait_for(work(session, engines), 60)

    return asyncio.run(run())
