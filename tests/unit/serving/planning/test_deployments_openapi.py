"""The description of the REST API of deployments, and that the server keeps to it."""

import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from hypothesis import HealthCheck, given
from schemathesis import GenerationMode
from schemathesis import checks as told
from schemathesis.openapi import from_url

from penstock.engines.http import listening
from penstock.serving.deployments.verbs import VERBS, LocalDeployments
from penstock.serving.planning.deployments import make_app
from support.scaled_examples import unit_examples
from support.server_in_thread import in_a_thread
from support.simulated_deployments import World, running

BUGS: list[str] = []
CHECKS = [told.not_a_server_error, told.status_code_conformance, told.content_type_conformance,
          told.response_schema_conformance]
OPERATIONS = [(verb.path, verb.method) for verb in VERBS.values()]
CASES = [*((path, method, GenerationMode.POSITIVE) for path, method in OPERATIONS),
         *((path, method, GenerationMode.NEGATIVE) for path, method in OPERATIONS
           if method == "POST")]


@asynccontextmanager
async def server():
    """The URL of a server with deployments that run and that do not."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        async with world.open() as control:
            control.register("a", "llama-2-7b", "sim", {})
            await running(control, "0")
            app = make_app(LocalDeployments(control), on_bug=BUGS.append)
            async with listening(app, "127.0.0.1", 0, 1.0) as url:
                yield url
        BUGS.extend(world.bugs)


@pytest.fixture(scope="module")
def api():
    with in_a_thread(server()) as url:
        yield from_url(f"{url}/openapi.json")


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_whatever_is_asked_gets_an_answer_that_is_described(api, path, method, mode):
    operation = api[path][method]

    @unit_examples(20, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case):
        if case.path_parameters and len(str(case.path_parameters.get("name"))) % 2:
            case.path_parameters["name"] = "a0"[len(case.path_parameters["name"]) // 2 % 2]
        response = case.call()
        case.validate_response(response, checks=CHECKS)

    ask()
    assert BUGS == []


def test_every_path_is_asked(api):
    assert sorted(api) == sorted({"/openapi.json", *(path for path, _ in OPERATIONS)})
