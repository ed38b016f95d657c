"""Replicas that Penstock starts: their addresses reach the gateway."""

import asyncio

import pytest

from penstock.serving.deployments import supervision
from penstock.serving.deployments.started import Started


class Group:
    """Replicas with these addresses, one of which changes whenever the test says so."""

    def __init__(self) -> None:
        self.url = "http://127.0.0.1:1"

    async def look_after(self) -> None:
        await asyncio.sleep(0)

    def instances(self) -> dict[int, str]:
        return {0: self.url}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(supervision, "_LOOK_S", 0.01)


def test_an_address_that_changes_between_two_looks_is_noticed_once(quick) -> None:
    """A replica that hangs is restarted in the background, long after a look has asked for it."""
    async def run():
        group, changes = Group(), []
        looking = asyncio.create_task(Started([], [group]).run(lambda: changes.append(group.url)))
        await asyncio.sleep(0.05)
        group.url = "http://127.0.0.1:2"
        await asyncio.sleep(0.1)
        looking.cancel()
        return changes

    assert asyncio.run(run()) == ["http://127.0.0.1:2"]
