"""The gateway's description, and that the gateway keeps to it whatever it is asked."""

from contextlib import asynccontextmanager

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from hypothesis import HealthCheck, given
from schemathesis import GenerationMode
from schemathesis import checks as told
from schemathesis.openapi import from_url

from penstock.core.slo import ServiceClass
from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.ask import Offer
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.openapi import openapi
from penstock.serving.gateway.running import running
from support.scaled_examples import unit_examples
from support.server_in_thread import in_a_thread
from support.small_fleet import FLEET

BUGS: list[str] = []


@asynccontextmanager
async def gateway():
    """The URL of a gateway before an emulated engine."""
    async with emulated_cluster(parse_fleet(FLEET), EmulatorOptions(speed=5000.0)) as found:
        fleet = parse_fleet(FLEET, overrides={
            "accelerators": [{"name": "h100-80gb", "count": 4, "confidential": True}],
            "replicas": [{"count": 1, "endpoints": [found.replicas[0].url]}]})
        async with running(fleet, LeastLoaded(), "127.0.0.1", 0, limits=Limits(),
                           on_bug=BUGS.append) as (url, _):
            yield url


CHECKS = [told.not_a_server_error, told.status_code_conformance,
          told.content_type_conformance,
          told.response_headers_conformance, told.response_schema_conformance]
ASKING = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings",
          "/v1/penstock/decisions/{id}", "/v1/penstock/engines/drain"]
READING = ["/v1/models", "/v1/penstock/spend", "/v1/penstock/status", "/metrics", "/health",
           "/openapi.json"]
CASES = [*((path, GenerationMode.POSITIVE) for path in (*ASKING, *READING)),
         *((path, GenerationMode.NEGATIVE) for path in ASKING)]


@pytest.fixture(scope="module")
def api():
    with in_a_thread(gateway()) as url:
        yield from_url(f"{url}/openapi.json")


@pytest.mark.parametrize(("path", "mode"), CASES)
def test_whatever_is_asked_gets_an_answer_that_is_described(api, path, mode) -> None:
    """Bodies and headers by the page and against it: no answer but those that the page tells of,
    each of the shape that it tells, and never a bug."""
    (operation,) = api[path].values()

    @unit_examples(25, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case):
        if isinstance(case.body, dict) and isinstance(case.body.get("max_tokens"), int):
            case.body["max_tokens"] = min(case.body["max_tokens"], 50)
        response = case.call()
        case.validate_response(response, checks=CHECKS)

    ask()
    assert BUGS == []


def test_every_path_is_asked(api) -> None:
    assert sorted(api) == sorted([*ASKING, *READING])


def test_the_page_names_what_the_fleet_has() -> None:
    page = openapi(Offer({"chat": ServiceClass("chat")}, {"m": 10}))
    operation = page["paths"]["/v1/completions"]["post"]
    header = next(one for one in operation["parameters"] if one["name"] == "X-Penstock-Class")
    assert header["schema"]["enum"] == ["chat"]
    assert orjson.dumps(page)
