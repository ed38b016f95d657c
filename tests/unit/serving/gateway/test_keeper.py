"""A keeper of workers as one of them asks it."""

import asyncio

import pytest

from penstock.serving.application import make_application
from penstock.serving.callers import Address
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.keeper import Keeper, keeper_part
from penstock.serving.workers.place import WorkerPlace
from penstock.serving.workers.private import Client, privately_listening
from penstock.serving.workers.workers import Workers


def asked(folder, question, *, keeps=True):
    """The answer of a keeper none of whose workers serves, or of none."""
    place = WorkerPlace(0, folder)

    async def work():
        async with Client() as client:
            workers = Workers(lambda _: [], folder, 1, client, print)
            app = make_application(Address("workers"), [keeper_part(workers)], print)
            if not keeps:
                return await question(Keeper(client, place))
            async with privately_listening(app, place.keeper):
                return await question(Keeper(client, place))

    return asyncio.run(work())


QUESTIONS = {"status": Keeper.status, "drain": lambda keeper: keeper.drain(b"{}")}


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_error_of_the_keeper_is_an_error_of_the_worker(tmp_path, name):
    with pytest.raises(ServiceError) as found:
        asked(tmp_path, QUESTIONS[name])
    assert (found.value.status, found.value.code) == (503, "no_worker")


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_keeper_that_is_gone_is_told(tmp_path, name):
    with pytest.raises(ServiceError) as found:
        asked(tmp_path, QUESTIONS[name], keeps=False)
    assert (found.value.status, found.value.code) == (503, "no_keeper")


def test_what_no_worker_has_is_none_and_metrics_are_of_all(tmp_path):
    assert asked(tmp_path, lambda keeper: keeper.decision("dec-none")) is None
    assert asked(tmp_path, Keeper.metrics) == b""
