"""Frozen values that are made too often for a named tuple."""

from dataclasses import fields
from typing import Any, ClassVar, Self


class Value:
    """Base of values of which a simulation makes millions.

    Native code makes such an object in a seventh of the time of a named tuple. A subclass assigns
    its fields in ``__init__``, each of them final, and names them in ``__match_args__`` in the
    order of the parameters.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {name: getattr(self, name) for name in self.__match_args__}

    def replace(self, **changes: Any) -> Self:
        """Return the same value with other fields."""
        return type(self)(**{**self.as_dict(), **changes})

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, Value) and type(other) is type(self)
                and other.as_dict() == self.as_dict())

    def __hash__(self) -> int:
        return hash(tuple(self.as_dict().values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), tuple(self.as_dict().values())


def made_again(value: Any) -> tuple[Any, ...]:
    """Return the class and the fields of a frozen dataclass, for its ``__reduce__``.

    Compiled dataclasses need it, since pickle sets the fields of native objects one by one, which
    frozen ones refuse.
    """
    return type(value), tuple(getattr(value, one.name) for one in fields(value) if one.init)


def plain_fields(value: Any) -> list[Any]:
    """Return the fields of a value or of a named tuple, for JSON, which knows only plain ones."""
    return list(value.as_dict().values() if isinstance(value, Value) else value)
