"""Admission of one request: its idempotency key first, then the limits and budget of its tenant."""

from aiohttp import web

from penstock.engines.http_body import JsonBody
from penstock.fleet.values_gateway import Tenant
from penstock.serving.gateway.answers import DECISION_HEADER
from penstock.serving.tenants.answer_store import KeptAnswer
from penstock.serving.tenants.gate import TenantGate
from penstock.serving.tenants.idempotency import KEY_HEADER, REPLAYED_HEADER
from penstock.serving.tenants.lease import Lease


async def admitted(gate: TenantGate, tenant: Tenant, http: web.Request, content: bytes,
                   body: JsonBody, decision_id: str) -> Lease | web.Response:
    """Return the lease of an admitted request, or the kept answer to the same request. ``body`` is
    the parsed ``content``. Raises ServiceError."""
    keys = gate.idempotency
    kept = await keys.begin(tenant.name, http.headers.getall(KEY_HEADER, []), http.path, content,
                            decision_id)
    if isinstance(kept, KeptAnswer):
        return web.Response(body=kept.body, content_type=kept.content_type, headers={
            DECISION_HEADER: kept.decision_id, REPLAYED_HEADER: "true"})
    try:
        return await gate.admit(tenant, body, http.headers, decision_id, http.path, kept)
    except BaseException:
        if kept is not None:
            keys.claims.release(kept.claim)
        raise
