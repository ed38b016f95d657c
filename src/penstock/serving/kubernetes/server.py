"""HTTP of the controller: health, readiness and metrics."""

from collections.abc import Callable

from aiohttp import web

from penstock.engines.http import json_response
from penstock.serving.application import Part, make_application
from penstock.serving.callers import Address
from penstock.serving.kubernetes.controller import Controller
from penstock.serving.kubernetes.metrics import ControllerMetrics, ShownFleet, ShownGroup

_TEXT = {"description": "as text", "content": {"text/plain": {"schema": {"type": "string"}}}}


def make_app(controller: Controller, metrics: ControllerMetrics, host: str,
             on_bug: Callable[[str], None]) -> web.Application:
    """Return the application. A controller that does not lead is ready, too: it takes over."""
    metrics.show(lambda: shown(controller), controller.election.leads.is_set)

    async def healthy(_: web.Request) -> web.Response:
        return json_response({"status": "ok"})

    async def ready(_: web.Request) -> web.Response:
        if controller.store.is_whole:
            return json_response({"status": "ok", "leads": controller.election.leads.is_set()})
        missing = sorted(kind.plural for kind in controller.store.unknown)
        return json_response({"status": "not ready", "missing": missing}, 503)

    async def text(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(),
                            content_type="text/plain", charset="utf-8")

    routes = [("GET", "/healthz", healthy), ("GET", "/readyz", ready), ("GET", "/metrics", text)]
    part = Part(routes, _described, 1024)
    return make_application(Address("Penstock controller", host), [part], on_bug)


def _described() -> dict[str, dict[str, object]]:
    return {"paths": {
        "/healthz": {"get": {"summary": "Whether the process works",
                             "responses": {"200": {"description": "the process works"}}}},
        "/readyz": {"get": {"summary": "Whether the cluster's objects are known", "responses": {
            "200": {"description": "they are known"}, "503": {"description": "not yet"}}}},
        "/metrics": {"get": {"summary": "Prometheus metrics", "responses": {"200": _TEXT}}}}}


def shown(controller: Controller) -> list[ShownFleet]:
    """Return the Fleets as metrics show them."""
    found = []
    for ref, one in controller.fleets.items():
        if one.run is None:
            continue
        run, targets = one.run, one.run.targets()
        groups = []
        for state in one.states:
            group = run.values.replicas[state.number]
            workload = state.workload
            groups.append(ShownGroup(
                ref, state.options.key(state.number), group.model.name, group.accelerator.name,
                state.ref.name if workload is None else workload.ref.name,
                targets.get(state.number), 0 if workload is None else workload.replicas))
        status = one.fleet.status
        found.append(ShownFleet(
            ref, groups, float(status.get("costPerHour") or 0.0), run.attainment(),
            run.loop is not None and run.loop.problem is not None))
    return found
