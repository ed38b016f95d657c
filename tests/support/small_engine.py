"""An engine of OpenAI's API as a program: python small_engine.py MODEL PORT [LOAD_S].

It answers with its model's name and its own process id. A prompt of "die" ends it before it answers
(in the middle of a stream), "fail" makes it answer 500.
"""

import asyncio
import os
import sys
import time

from aiohttp import web

MODEL, PORT = sys.argv[1], int(sys.argv[2])


async def health(_):
    return web.Response()


async def models(_):
    return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


async def answer(request):
    body = await request.json()
    prompt = body.get("prompt") or body["messages"][-1]["content"]
    if body.get("stream"):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"index": 0, "text": "a", "finish_reason": '
                             b'null}]}\n\n')
        await asyncio.sleep(0.1)
    if prompt == "die":
        os._exit(1)
    if prompt == "fail":
        return web.json_response({"error": {"message": "out of memory"}}, status=500)
    return web.json_response({
        "object": "text_completion", "model": MODEL,
        "choices": [{"index": 0, "text": f"{MODEL} {os.getpid()}", "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})


time.sleep(float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
app = web.Application()
app.router.add_get("/health", health)
app.router.add_get("/v1/models", models)
app.router.add_post("/v1/completions", answer)
app.router.add_post("/v1/chat/completions", answer)
web.run_app(app, host="127.0.0.1", port=PORT, print=None, handle_signals=True)
