"""Inferno's static and dynamic data: two ConfigMaps of a cluster, or a folder of the same files.

Source: the walkthrough of llm-inferno/control-loop. Static data are accelerators, models, service
classes and options; dynamic data are the counts of accelerators.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from penstock.core.errors import InputError, nearest
from penstock.published.inferno.fields import Fields
from penstock.published.inferno.read import FILES, read_json
from penstock.serving.kubernetes.api import CONFIG_MAP, Cluster

STATIC, DYNAMIC = "inferno-static-data", "inferno-dynamic-data"
_DYNAMIC_PARTS = ("capacityData",)
_STATIC_PARTS = tuple(part for part in FILES if part not in (*_DYNAMIC_PARTS, "serverData"))


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bundle as parsed JSON. ``where`` names its file in errors."""

    where: str
    document: Any

    def fields(self) -> Fields:
        """Return its fields. Raises InputError where it is no object."""
        return Fields(self.document, self.where)


Parts = Mapping[str, Part]
"""Parts of a bundle by the names that they have in one, such as modelData."""


class Data(Protocol):
    """Place of the data."""

    async def static(self) -> Parts:
        """Read accelerators, models, service classes and options. Raises InputError."""

    async def dynamic(self) -> Parts:
        """Read the counts of accelerators. Raises InputError."""


class FolderData:
    """Files of a folder, in which a pod may have the ConfigMaps mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def static(self) -> Parts:
        """Read the static files."""
        return self._read(_STATIC_PARTS)

    async def dynamic(self) -> Parts:
        """Read the counts of accelerators."""
        return self._read(_DYNAMIC_PARTS)

    def _read(self, parts: Iterable[str]) -> Parts:
        if not self._folder.is_dir():
            raise InputError(f"{self._folder}: no such folder; expected Inferno's data files")
        found = sorted(path.name for path in self._folder.glob("*.json"))
        read = {}
        for part in parts:
            name = FILES[part][0]
            _check_there(str(self._folder), name, found)
            path = self._folder / name
            read[part] = Part(str(path), read_json(path))
        return read


class ConfigMapData:
    """ConfigMaps of a namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    async def static(self) -> Parts:
        """Read the ConfigMap of static data."""
        return await self._read(STATIC, _STATIC_PARTS)

    async def dynamic(self) -> Parts:
        """Read the ConfigMap of dynamic data."""
        return await self._read(DYNAMIC, _DYNAMIC_PARTS)

    async def _read(self, name: str, parts: Iterable[str]) -> Parts:
        where = f"ConfigMap {self._namespace}/{name}"
        document = await self._cluster.get(CONFIG_MAP, self._namespace, name)
        if document is None:
            files = ", ".join(FILES[part][0] for part in parts)
            raise InputError(f"{where}: there is none; expected one with the keys {files}")
        texts = document.get("data") or {}
        read = {}
        for part in parts:
            key = FILES[part][0]
            _check_there(where, key, texts)
            read[part] = Part(f"{where}: {key}", _parsed(f"{where}: {key}", texts[key]))
        return read


def _check_there(where: str, name: str, found: Iterable[str]) -> None:
    names = [*found]
    if name not in names:
        raise InputError(f"{where}: {name!r} is missing; found "
                         f"{', '.join(sorted(names)) or 'nothing'}{_meant(name, names)}")


def _meant(name: str, found: list[str]) -> str:
    """Return the question whether a file with another name is the missing one."""
    hint = nearest(name, [one for one in found if one not in {file for file, _ in FILES.values()}])
    return hint if "did you mean" in hint else ""


def _parsed(where: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{where}: is not JSON ({error}); expected an object") from error
