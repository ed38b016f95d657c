"""One axis of choice: names, where each name's implementation is, and the settings it accepts."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError, nearest
from penstock.core.settings import Settings

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True, slots=True)
class PlugIn:
    """The object that a plug-in's entry point refers to.

    ``factory`` makes the implementation; docs/howto/write-a-plugin.md has the arguments for each
    axis. ``settings`` are the settings that users may give. ``base`` is for scheduling policies
    only: the built-in policy that supplies the settings and parts that the plug-in leaves out.
    ``traits`` say where the implementation may be used: a multiplexing policy may be ``static`` (no
    continuous batching) and for ``one_device``; an engine may ``serve``, ``multiplex`` and
    ``profile``.
    """

    factory: Callable[..., Any]
    settings: Settings = field(default_factory=dict)
    base: str = ""
    traits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A name's implementation: ``target`` is ``module:attribute``, imported only when it is loaded.

    Where the attribute is a mapping, it has the implementation under its name. ``plug_in`` is the
    distribution of the entry, empty for a built-in one. ``base`` and ``traits`` are as in
    ``PlugIn``. ``required`` settings have no default; of a tuple of settings, one is required.
    """

    target: str
    settings: Settings = field(default_factory=dict)
    base: str = ""
    traits: tuple[str, ...] = ()
    plug_in: str = ""
    required: tuple[str | tuple[str, ...], ...] = ()


class Axis:
    """Everything that can be chosen in one place of the system.

    ``kind`` is the word for an implementation in messages, such as ``routing policy``; ``group`` is
    the entry-point group of its plug-ins. Reading the metadata of installed packages costs about 45
    ms, so it happens only for listings and for names that are not built in.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, Entry]) -> None:
        self.kind = kind
        self.group = group
        self._built_in = built_in

    def names(self) -> tuple[str, ...]:
        """Return the built-in names."""
        return tuple(self._built_in)

    def all_names(self) -> tuple[str, ...]:
        """Return the built-in names, then those of plug-ins."""
        return tuple(dict.fromkeys((*self._built_in, *sorted(_plug_ins(self.group)))))

    def knows(self, name: str) -> bool:
        """Whether a name is built in or of a plug-in."""
        return name in self._built_in or name in _plug_ins(self.group)

    def entry(self, name: str) -> Entry:
        """Return the entry of that name.

        Raises InputError with the nearest name for an unknown one, and for a plug-in that cannot be
        imported.
        """
        if name in self._built_in:
            return self._built_in[name]
        found = _plug_ins(self.group).get(name)
        if found is None:
            raise InputError(f"unknown {self.kind} {name[:60]!r}{self.nearest(name)}")
        made = self._plug_in(found)
        return Entry(found.value, made.settings, made.base, made.traits, plug_in=_origin(found))

    def load(self, name: str) -> Any:
        """Return the implementation of that name: a built-in entry's target, or a plug-in's
        factory."""
        if name not in self._built_in and self.entry(name).plug_in:
            return self._plug_in(_plug_ins(self.group)[name]).factory
        module, _, attribute = self.entry(name).target.partition(":")
        found = getattr(import_module(module), attribute)
        return found[name] if isinstance(found, Mapping) else found

    def nearest(self, name: str) -> str:
        """Return the hint for an unknown name, which includes plug-ins' names."""
        return nearest(name[:60], self.all_names())

    def _plug_in(self, found: "EntryPoint") -> PlugIn:
        where = f"{self.kind} {found.name!r} of plug-in {_origin(found)}"
        try:
            made = found.load()
        except Exception as error:  # a plug-in's own code runs here
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"{where}: {found.value} cannot be imported "
                             f"({' '.join(reason.split())})") from error
        if not isinstance(made, PlugIn):
            raise InputError(f"{where}: {found.value} is of type {type(made).__name__}; expected a "
                             "penstock.registry.PlugIn")
        return made


def _plug_ins(group: str) -> Mapping[str, "EntryPoint"]:
    return _entry_points(group, tuple(sys.path))


@cache
def _entry_points(group: str, _path: tuple[str, ...]) -> Mapping[str, "EntryPoint"]:
    """Return the entry points of a group by name; ``_path`` is the search path of packages."""
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise InputError(f"plug-ins {_origin(other)} and {_origin(point)} both bring "
                             f"{point.name!r} in {group}; expected one of them to be installed")
    return found


def _origin(point: "EntryPoint") -> str:
    return point.dist.name if point.dist is not None else point.module
