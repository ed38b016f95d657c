"""The engines whose command lines Penstock writes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from penstock.catalog.engines import since
from penstock.core.errors import InputError, nearest
from penstock.engines.launch import sglang, tensorrt_llm, vllm
from penstock.engines.launch.values import Argument, CommandLine, Launch
from penstock.fleet.stock import base_engine
from penstock.fleet.values import Fleet


class Kind(NamedTuple):
    """An engine: the function that makes its command lines, the image of a version, its own port,
    and words of arguments that are gone, with the first version without each."""

    command_line: Callable[[Launch], CommandLine]
    image: str
    port: int
    gone: Mapping[str, str]


KINDS: Mapping[str, Kind] = MappingProxyType({
    one.NAME: Kind(one.command_line, one.IMAGE, one.PORT, MappingProxyType(one.GONE))
    for one in (vllm, sglang, tensorrt_llm)})


def with_more(line: CommandLine, words: tuple[str, ...], reason: str) -> CommandLine:
    """Return a command line with further words of arguments, which replace those of the same
    flags."""
    flags = {_flag(word) for word in words if word.startswith("-")}
    kept = tuple(one for one in line.arguments if not one.flag or _flag(one.flag) not in flags)
    return replace(line, arguments=(*kept, *(Argument(word, None, reason) for word in words)))


def _flag(word: str) -> str:
    """Return a flag in one spelling: a switch and its opposite are the same."""
    return word.partition("=")[0].replace("_", "-").replace("--no-", "--")


def check_more(engine: str, version: str, words: tuple[str, ...], field: str) -> None:
    """Raises InputError, which names the ``field``, for words that an engine's version no longer
    knows."""
    for word in words:
        for gone, first in KINDS[engine].gone.items():
            if (word.partition("=")[0] == gone or (gone[0] != "-" and gone in word)) and \
                    since(version, first):
                raise InputError(f"{field}: {engine} {version} no longer has {gone}; expected "
                                 f"{engine} before {first}, or arguments without it")


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
        expected = nearest(name, KINDS) if name else f"; expected one of {', '.join(KINDS)}"
        raise InputError(f"{field}: {name or 'no engine'!r} has no command line{expected}")
    return name
