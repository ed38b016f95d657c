"""The engines whose command lines Penstock writes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from penstock.core.errors import InputError, nearest
from penstock.engines.launch import sglang, tensorrt_llm, vllm
from penstock.engines.launch.values import CommandLine, Launch
from penstock.fleet.stock import base_engine
from penstock.fleet.values import Fleet


class Kind(NamedTuple):
    """An engine: what makes its command lines, the image of a version, and its own port."""

    command_line: Callable[[Launch], CommandLine]
    image: str
    port: int


KINDS: Mapping[str, Kind] = MappingProxyType({
    one.NAME: Kind(one.command_line, one.IMAGE, one.PORT)
    for one in (vllm, sglang, tensorrt_llm)})


def engine_of_group(fleet: Fleet, number: int) -> str:
    """Return the engine of a group. Raises InputError where the file names none that has a command
    line."""
    group = fleet.replicas[number]
    return check_engine(group.engine if group.engine != "auto"
                        else fleet.engine_of(group).name or "", f"replicas[{number}].engine")


def check_engine(name: str, field: str) -> str:
    """Return an engine's name without Penstock's scheduler. Raises InputError, which names the
    ``field``, for an engine without a command line."""
    name = base_engine(name)
    if name not in KINDS:
        raise InputError(f"{field}: {name or 'no engine'!r} has no command line"
                         f"{nearest(name, KINDS) if name else ''}; expected one of "
                         f"{', '.join(KINDS)}")
    return name
