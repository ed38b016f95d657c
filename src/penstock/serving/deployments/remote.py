"""Deployments that a server has: the same verbs over HTTP (aiohttp)."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from penstock.core.errors import InputError
from penstock.engines.client.client import client_session
from penstock.serving.deployments.cluster import SERVER
from penstock.serving.deployments.deployments import RefusedError
from penstock.serving.deployments.opening import Opening, opened
from penstock.serving.deployments.store import InUseError
from penstock.serving.deployments.verbs import VERBS, Deployments, LocalDeployments


class RemoteDeployments:
    """The deployments behind a base URL (see ``engines.client.address.base_url``)."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def call(self, verb: str, name: str, order: Mapping[str, Any]) -> dict[str, Any]:
        asked = VERBS[verb]
        body = orjson.dumps(dict(order)) if asked.method == "POST" else None
        headers = {"Content-Type": "application/json"} if body is not None else {}
        url = self._url + asked.path.replace("{name}", _path_part(name))
        try:
            async with self._session.request(
                    asked.method, url, data=body, headers=headers,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0)) as response:
                answer = orjson.loads(await response.read())
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise InputError(f"{self._url}: does not answer ({error or type(error).__name__})"
                             ) from error
        except orjson.JSONDecodeError as error:
            raise InputError(f"{url}: answered something else than JSON") from error
        if status < 300 and isinstance(answer, dict):
            return answer
        raise _error(url, status, answer)


def _path_part(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="") or "-"


def _error(url: str, status: int, answer: Any) -> Exception:
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return InputError(f"{url}: status {status}, and no word of Penstock's")
    if error.get("code") in ("input", "unknown"):
        return InputError(error["message"])
    if error.get("code") == "bug":
        return RuntimeError(error["message"])
    details = error.get("details")
    return RefusedError(str(error.get("code")), error["message"],
                        details if isinstance(details, dict) else None)


@asynccontextmanager
async def deployments_in(folder: Path, patience_s: float = 10.0,
                         on_bug: Callable[[str], None] = lambda _: None
                         ) -> AsyncIterator[Deployments]:
    """The deployments of a folder: in this process, or those of the server that has the folder.

    Raises InputError where there are none, or another command has them for longer than
    ``patience_s``.
    """
    server = folder / SERVER
    opening = Opening(patience_s=0.0 if server.exists() else patience_s)
    try:
        async with opened(folder, opening, on_bug) as control:
            yield LocalDeployments(control)
        return
    except InUseError:
        pass
    try:
        url = str(json.loads(server.read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder}: another command is at work there; try again when it has "
                         "ended") from None
    async with client_session() as session:
        yield RemoteDeployments(session, url)
