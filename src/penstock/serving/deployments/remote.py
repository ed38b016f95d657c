"""Deployments of a server: the same verbs over HTTP (aiohttp)."""

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
from penstock.serving.deployments.opening import OpenOptions, opened
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
            raise InputError(f"{url}: the answer is not JSON") from error
        if status < 300 and isinstance(answer, dict):
            return answer
        raise _error(url, status, answer)


def _path_part(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="") or "-"


def _error(url: str, status: int, answer: Any) -> Exception:
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return InputError(f"{url}: status {status} without an error of Penstock; expected a "
                          "Penstock server")
    if error.get("code") in ("input", "unknown"):
        return InputError(error["message"])
    if error.get("code") == "bug":
        return RuntimeError(error["message"])
    details = error.get("details")
    return RefusedError(str(error.get("code")), error["message"],
                        details if isinstance(details, dict) else None)


@asynccontextmanager
async def deployments_in(folder: Path, lock_timeout_s: float = 10.0,
                         on_bug: Callable[[str], None] = lambda _: None
                         ) -> AsyncIterator[Deployments]:
    """Yield the deployments of a folder: opened in this process, or through the server that has the
    folder open.

    Raises InputError where there are none, or where another command keeps the folder open for
    longer than ``lock_timeout_s``.
    """
    server = folder / SERVER
    opening = OpenOptions(lock_timeout_s=0.0 if server.exists() else lock_timeout_s)
    try:
        async with opened(folder, opening, on_bug) as control:
            yield LocalDeployments(control)
        return
    except InUseError:
        pass
    try:
        url = str(json.loads(server.read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder}: another command has this folder open; try again when it has "
                         "ended") from None
    async with client_session() as session:
        yield RemoteDeployments(session, url)
