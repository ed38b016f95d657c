"""The verbs of deployments by name: each takes a document and returns one.

The command line, the HTTP API and its client share this table, so that they cannot differ.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from penstock.fleet.request_deployments import (
    DeployOrder,
    InferOrder,
    NoOrder,
    Order,
    ProfileOrder,
    RegisterOrder,
    RemoveOrder,
    RestartOrder,
)
from penstock.fleet.requests import read_request
from penstock.serving.deployments.controller import Controller
from penstock.serving.deployments.deployments import RefusedError, State
from penstock.serving.deployments.documents import (
    deployment_document,
    device_document,
    event_document,
    reply_document,
)
from penstock.serving.deployments.orders import intent_of, request_of


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb. Over HTTP it has ``method`` and ``path``, in which ``{name}`` is the deployment.

    ``begun`` is the HTTP status of an answer that is sent before the work is done.
    """

    name: str
    method: str
    path: str
    summary: str
    order: type[Order] = NoOrder
    begun: int = 200


_ONE = "/v1/deployments/{name}"
VERBS: Mapping[str, Verb] = MappingProxyType({verb.name: verb for verb in (
    Verb("list", "GET", "/v1/deployments", "All deployments"),
    Verb("register", "POST", "/v1/deployments", "Register a model under a name", RegisterOrder),
    Verb("show", "GET", _ONE, "One deployment"),
    Verb("events", "GET", f"{_ONE}/events", "The states that a deployment came into"),
    Verb("profile", "POST", f"{_ONE}/profile", "Measure its model, or take a profile over",
         ProfileOrder, 202),
    Verb("deploy", "POST", f"{_ONE}/deploy", "Choose a configuration, reserve memory and start",
         DeployOrder, 202),
    Verb("infer", "POST", f"{_ONE}/infer", "Ask it, at the tail or the head of its queue",
         InferOrder),
    Verb("restart", "POST", f"{_ONE}/restart", "Start an unhealthy engine again at once",
         RestartOrder, 202),
    Verb("remove", "POST", f"{_ONE}/remove", "Stop its engine and give its memory back",
         RemoveOrder, 202),
    Verb("devices", "GET", "/v1/devices", "The accelerators, and what is held on them"),
)})


class Deployments(Protocol):
    """Deployments in this process or over HTTP."""

    async def call(self, verb: str, name: str, order: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one of ``VERBS``. ``name`` is empty for a verb that needs no
        deployment.

        Raises InputError and RefusedError.
        """
        ...


class LocalDeployments:
    """The deployments of a controller in this process."""

    def __init__(self, control: Controller) -> None:
        self._control = control
        self._calls: Mapping[str, Callable[[str, Any], Awaitable[dict[str, Any]]]] = {
            "list": self._list, "register": self._register, "show": self._show,
            "events": self._events, "profile": self._profile, "deploy": self._deploy,
            "infer": self._infer, "restart": self._restart, "remove": self._remove,
            "devices": self._devices}

    async def call(self, verb: str, name: str, order: Mapping[str, Any]) -> dict[str, Any]:
        return await self._calls[verb](name, read_request(VERBS[verb].order, order))

    def _document(self, name: str) -> dict[str, Any]:
        return deployment_document(self._control.show(name), self._control.load(name),
                                   self._control.seen(name))

    async def _done(self, name: str) -> dict[str, Any]:
        """Wait for the operation and return the deployment. Raises RefusedError where it failed."""
        one = await self._control.settled(name)
        document = self._document(name)
        if one.state in (State.FAILED, State.UNHEALTHY):
            raise RefusedError("engine", f"{name}: {one.reason}", document)
        return document

    async def _list(self, _: str, __: Order) -> dict[str, Any]:
        return {"deployments": [self._document(one.name) for one in self._control.deployments()]}

    async def _show(self, name: str, _: Order) -> dict[str, Any]:
        return self._document(name)

    async def _events(self, name: str, _: Order) -> dict[str, Any]:
        return {"events": [event_document(event) for event in self._control.events(name)]}

    async def _devices(self, _: str, __: Order) -> dict[str, Any]:
        return {"devices": [device_document(device) for device in self._control.devices()]}

    async def _register(self, _: str, order: RegisterOrder) -> dict[str, Any]:
        one = self._control.register(order.name, order.model, order.engine, order.options)
        return self._document(one.name)

    async def _profile(self, name: str, order: ProfileOrder) -> dict[str, Any]:
        await self._control.profile(name, order.model_dump(exclude={"wait"}))
        return await self._done(name) if order.wait else self._document(name)

    async def _deploy(self, name: str, order: DeployOrder) -> dict[str, Any]:
        _, decision = await self._control.deploy(name, intent_of(order), dry_run=order.dry_run)
        document = await self._done(name) if order.wait and not order.dry_run \
            else self._document(name)
        return {"dry_run": order.dry_run, "decision": dict(decision.document),
                "deployment": document}

    async def _infer(self, name: str, order: InferOrder) -> dict[str, Any]:
        begun_s = time.monotonic()
        reply = await self._control.infer(name, request_of(order), head=order.head)
        return reply_document(name, reply, time.monotonic() - begun_s)

    async def _restart(self, name: str, order: RestartOrder) -> dict[str, Any]:
        await self._control.restart(name)
        return await self._done(name) if order.wait else self._document(name)

    async def _remove(self, name: str, order: RemoveOrder) -> dict[str, Any]:
        await self._control.remove(name, cancel=order.cancel)
        if order.wait:
            await self._control.settled(name)
        return self._document(name)
