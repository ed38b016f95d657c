"""Messages of gRPC services that are declared here, field by field, with the published numbers.

Packages that have them exist for Envoy alone, and the one with a gRPC server overwrites modules of
OpenTelemetry (ADR 19).
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

_TYPES: Mapping[str, int] = {"double": 1, "int64": 3, "int32": 5, "bool": 8, "string": 9,
                             "bytes": 12, "uint32": 13}
_MESSAGE, _ONE, _MANY = 11, 1, 3
STRUCT = "google.protobuf.Struct"


class Field(NamedTuple):
    """A field: its number, and its type, which is a plain one, ``STRUCT`` or another message's
    name. ``many`` makes a list; ``keyed`` a mapping from texts; ``one_of`` names the group of which
    one field is set."""

    number: int
    type: str
    many: bool = False
    keyed: bool = False
    one_of: str = ""


Message = Mapping[str, Field]
"""Fields of a message by their name."""


def declared(package: str, messages: Mapping[str, Message]) -> SimpleNamespace:
    """Return the classes of messages by their name. Needs the extra ``kubernetes``."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name=f"penstock/{package}.proto", package=package, syntax="proto3",
        dependency=[struct_pb2.DESCRIPTOR.name])
    for name, fields in messages.items():
        _declare(file.message_type.add(name=name), package, fields)
    pool.Add(file)
    return SimpleNamespace(**{name: message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages})


def _declare(message: Any, package: str, fields: Message) -> None:
    groups = [*dict.fromkeys(field.one_of for field in fields.values() if field.one_of)]
    for group in groups:
        message.oneof_decl.add(name=group)
    for name, field in fields.items():
        made = message.field.add(name=name, number=field.number,
                                 label=_MANY if field.many or field.keyed else _ONE)
        if field.one_of:
            made.oneof_index = groups.index(field.one_of)
        if not field.keyed:
            _type(made, package, field.type)
            continue
        entry = message.nested_type.add(name=_entry(name))
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=_TYPES["string"], label=_ONE)
        _type(entry.field.add(name="value", number=2, label=_ONE), package, field.type)
        made.type, made.type_name = _MESSAGE, f".{package}.{message.name}.{entry.name}"


def _type(made: Any, package: str, name: str) -> None:
    if name in _TYPES:
        made.type = _TYPES[name]
    else:
        made.type, made.type_name = _MESSAGE, f".{name if name == STRUCT else f'{package}.{name}'}"


def _entry(name: str) -> str:
    """Return the name that protobuf demands for the entries of a mapping."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Entry"
