"""A gateway before models that take turns on one device, and a client of it."""

import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import running
from support.small_fleet import FLEET

ENGINE = str(Path(__file__).resolve().parent / "small_engine.py")
MODELS = ("llama-3-8b", "llama-2-7b", "mistral-7b")


def fleet_of(engines, models=MODELS, adapters=(), **pool):
    """A fleet whose models take turns on one device that holds one of them; the first has the
    adapters."""
    first = {"adapters": list(adapters)} if adapters else {}
    lora = {"lora": {"max_loras": 2}} if adapters else {}
    return parse_fleet(FLEET, overrides={
        "models": [{"name": name, **(first if name == models[0] else {})} for name in models],
        "traffic": [{"model": "auto", "mix": {"chat": 1.0}, "rate_per_s": 1,
                     "lengths": {"prompt": {"fixed": 4}, "output": {"fixed": 4}}}],
        "replicas": None,
        "multiplexing": [{"name": "gpu", "memory_gib": 20, "policy": "first-come", **pool,
                          "models": [
            {"model": name, "size_gib": 15, "batch": {"fixed_s": 0.1, "per_request_s": 0.01},
             "load_s": 1, **({} if engine is None else {"engine": engine}),
             **(lora if name == models[0] else {})}
            for name, engine in zip(models, engines, strict=True)]}]})


def process():
    return {"kind": "process", "command": [sys.executable, ENGINE, "{model}", "{port}"]}


@asynccontextmanager
async def gateway(fleet, folder, notes=None):
    async with running(fleet, LeastLoaded(), "127.0.0.1", 0, limits=Limits(),
                       engines_folder=folder / "engines",
                       on_bug=(notes if notes is not None else []).append) as (url, _), \
            aiohttp.ClientSession(url) as client:
        yield client


def another(client):
    """A client of the same gateway, for the caller to close."""
    return aiohttp.ClientSession(client._base_url)


async def ask(client, model, prompt="hello", **more):
    async with client.post("/v1/completions", json={"model": model, "prompt": prompt,
                                                    **more}) as answer:
        return answer.status, await answer.json(), answer.headers


async def text(client, model):
    status, document, _ = await ask(client, model)
    assert status == 200, document
    return document["choices"][0]["text"]


async def read(client, path):
    async with client.get(path) as answer:
        return await answer.json()
