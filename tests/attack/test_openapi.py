"""Schemathesis over the whole OpenAPI document of a gateway with keys, by everybody: no request is
answered by a server error. `benchmarks/attack_openapi.py` is the long form of this."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from contextlib import asynccontextmanager

from hypothesis import HealthCheck, given
from schemathesis import GenerationMode
from schemathesis.openapi import from_url

from support.gateway_with_keys import home
from support.scaled_examples import unit_examples
from support.server_in_thread import in_a_thread

WHO = ("nobody", "shop", "admin")
NO_ENGINE_CAN = 501  # of the emulated engine, for embeddings


@asynccontextmanager
async def gateway():
    """The URL of a gateway with keys, and the keys by identity."""
    with TemporaryDirectory() as folder:
        async with home(Path(folder)) as here:
            keys = {who: dict(here.sessions[who].headers) for who in WHO}
            yield here.url, keys


@pytest.fixture(scope="module")
def api():
    with in_a_thread(gateway()) as (url, keys):
        yield from_url(f"{url}/openapi.json"), keys


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("who", WHO)
def test_no_operation_answers_with_a_server_error(api, who, mode) -> None:
    document, keys = api
    statuses: dict[int, int] = {}

    def one(operation):
        @unit_examples(3, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case):
            if isinstance(case.body, dict) and isinstance(case.body.get("max_tokens"), int):
                case.body["max_tokens"] = min(case.body["max_tokens"], 50)
            answer = case.call(headers=keys[who], timeout=20)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code < 500 or answer.status_code == NO_ENGINE_CAN, answer.text

        ask()

    num_operations = 0
    for path in document:
        for operation in document[path].values():
            if mode == GenerationMode.NEGATIVE and operation.method.upper() == "GET":
                continue
            one(operation)
            num_operations += 1
    assert num_operations >= 9
    assert who != "nobody" or set(statuses) <= {200, 400, 401, 404, 405}
