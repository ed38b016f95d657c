"""Options of a request, from its headers, body, alias, tenant or the fleet.

The first of these places that states an option counts:

1. a header, ``X-Penstock-...``;
2. the object ``penstock`` of the body, which is removed before the body goes to an engine;
3. the alias that the request names as its model;
4. the defaults of the tenant whose key the request has;
5. the fleet: its first service class, and no other option.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from penstock.core.errors import InputError, nearest, one_of, quote
from penstock.fleet.declared import checked
from penstock.fleet.values_gateway import NO_REQUEST_PARAMETERS, RequestParameters
from penstock.serving.errors import ServiceError

BODY_FIELD = "penstock"
_PREFIX = "x-penstock-"
_LONGEST_TEXT = 200
_EXACT = 2**53  # whole numbers that a float tells apart


@dataclass(frozen=True, slots=True)
class Kind:
    """An option: its header, and the function that reads a value.

    ``read`` gets a header's text or a body's JSON value. It raises InputError that says what was
    expected and found.
    """

    header: str
    read: Callable[[Any], Any]


def _field(name: str) -> Callable[[Any], Any]:
    """Reads a value as the fleet file reads the default of a tenant."""
    def read(value: object) -> Any:
        return checked(f"gateway.tenants.defaults.{name}", _plain(value))

    return read


def _plain(value: object) -> object:
    """The number or the switch that a header's text says; any other value as it is."""
    if not isinstance(value, str):
        return value
    if (word := value.strip().lower()) in _SWITCHES:
        return _SWITCHES[word]
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if abs(number) < _EXACT and number.is_integer() else number


def _switch(value: object) -> Any:
    """A switch has two more words, which are numbers elsewhere."""
    return _confidential({"1": "true", "0": "false"}.get(value.strip(), value)
                         if isinstance(value, str) else value)


def _text(expected: str) -> Callable[[Any], Any]:
    def read(value: object) -> str:
        if not isinstance(value, str) or not value.isprintable() \
                or not 0 < len(value) <= _LONGEST_TEXT:
            raise InputError(f"expected {expected}, found {quote(value)}")
        return value

    return read


_SWITCHES = {"true": True, "false": False}
_confidential = _field("confidential")
KINDS: Mapping[str, Kind] = {
    "service_class": Kind("X-Penstock-Class", _text("a service class")),
    "deadline_s": Kind("X-Penstock-Deadline-S", _field("deadline_s")),
    "min_quality": Kind("X-Penstock-Min-Quality", _field("min_quality")),
    "max_cost": Kind("X-Penstock-Max-Cost", _field("max_cost")),
    "confidential": Kind("X-Penstock-Confidential", _switch),
    "session": Kind("X-Penstock-Session",
                    _text(f"a printable text of 1 to {_LONGEST_TEXT} characters")),
}
"""Options by their name in the body."""

_BY_HEADER = {kind.header.lower(): name for name, kind in KINDS.items()}
# aliases and tenants set them, too
_SHARED = tuple(field.name for field in fields(RequestParameters))


class Found:
    """Options by name, each with its place for error messages."""

    __slots__ = ("places", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.places: dict[str, str] = {}

    def get(self, name: str) -> Any:
        """Return an option's value, None where no place states it."""
        return self.values.get(name)

    def add(self, name: str, value: object, place: str) -> None:
        """Add an option of the request, unless a place of higher rank has stated it. Raises
        ServiceError."""
        try:
            read = KINDS[name].read(value)
        except InputError as error:
            raise ServiceError(400, f"{place}: {error}", "invalid_value", place) from None
        if name not in self.values:
            self.values[name], self.places[name] = read, place


def read_request_parameters(headers: Mapping[str, str], body: dict[str, Any],
                            alias: RequestParameters,
                            tenant: RequestParameters) -> Found:
    """Return all options. Removes ``penstock`` from the ``body``. Raises ServiceError."""
    found = Found()
    _from_headers(headers, found)
    if BODY_FIELD in body:
        _from_body(body.pop(BODY_FIELD), found)
    for parameters, place in ((alias, "the alias"), (tenant, "the tenant's defaults")):
        if parameters is not NO_REQUEST_PARAMETERS and parameters != NO_REQUEST_PARAMETERS:
            for name in _SHARED:
                value = getattr(parameters, name)
                if value is not None and name not in found.values:
                    found.values[name], found.places[name] = value, place
    return found


def _from_headers(headers: Mapping[str, str], found: Found) -> None:
    for header, value in headers.items():
        if header[:11].lower() != _PREFIX:
            continue
        name = _BY_HEADER.get(header.lower())
        if name is None:
            hint = nearest(header[:60], [kind.header for kind in KINDS.values()])
            raise ServiceError(400, f"{header[:60]}: unknown header{hint}", "unknown_header",
                               header[:60])
        place = KINDS[name].header
        if name in found.values:
            raise ServiceError(400, f"{place}: appears twice", "invalid_value", place)
        found.add(name, value, place)


def _from_body(section: object, found: Found) -> None:
    if section is None:
        return
    if not isinstance(section, dict):
        raise ServiceError(400, f"{BODY_FIELD}: expected an object, found {quote(section)}"
                           f"{one_of(KINDS).replace('expected one of', 'its fields')}",
                           "invalid_value", BODY_FIELD)
    for name, value in section.items():
        place = f"{BODY_FIELD}.{name[:60]}"
        if name not in KINDS:
            raise ServiceError(400, f"{place}: unknown field{nearest(name[:60], KINDS)}",
                               "unknown_field", place)
        if value is not None:
            found.add(name, value, place)
