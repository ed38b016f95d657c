"""Field types of sections, of the fleet file and of requests: strict numbers, names, described
fields."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic.fields import FieldInfo

# Tags of a union's branches appear in pydantic's error locations and are removed from Penstock's.
NAME_TAG, SETTINGS_TAG, FILE_TAG, LIST_TAG = "<name>", "<settings>", "<file>", "<list>"
TAGS = (NAME_TAG, SETTINGS_TAG, FILE_TAG, LIST_TAG)

MOST = 1_000_000_000
"""Bound of counts and seconds: far above any real fleet, far below numeric overflow."""

Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrZero = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[float, Field(gt=0, le=MOST, allow_inf_nan=False)]
# 10^9 bytes per second. The least, 100 kB per second, keeps the time of any load finite.
GbPerS = Annotated[float, Field(ge=0.0001, le=MOST, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
ShareOrZero = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Correlation = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
# A share such as 0.99 would be read as 0.99 %.
Percentile = Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
Words = Annotated[str, Field(max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*"
                                                    r"[^\s\x00-\x1f\x7f])?$")]
IsoDate = Annotated[str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?$")]
FilePath = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
ColumnName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Endpoint = Annotated[str, Field(max_length=2048, pattern=r"^https?://[^\s/?#\x00-\x1f\x7f]+"
                                                         r"(/[^\s?#\x00-\x1f\x7f]*)?$")]
KvEndpoint = Annotated[str, Field(max_length=2048, pattern=r"^tcp://(\*|\[[0-9A-Fa-f:.]+\]|"
                                                           r"[A-Za-z0-9._-]+):[1-9][0-9]{0,4}$")]


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 64.0 is as whole as 64."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)


class Section(BaseModel):
    """A mapping of the fleet file or of a request: no unknown keys, no conversion between types."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True,
                              hide_input_in_errors=True)

    def given(self) -> dict[str, Any]:
        """Return the section's stated values; cheaper than ``model_dump``."""
        return {key: value for key, value in self if value is not None}


def described(description: str, *examples: Any, default: Any = None) -> Any:
    """Declare a field with its documentation. ``...`` as default makes it required."""
    return Field(default, description=description, examples=list(examples))


def again(section: type[BaseModel], name: str, default: Any = None, *, left_out: str = "") -> Any:
    """A field that another section declares: its description, examples and range. Only the default
    may differ; ``left_out`` says what a missing value means."""
    found = section.model_fields[name]
    text = found.description or ""
    if left_out:
        text = f"{text.rstrip('.')}; left out, {left_out}."
    return Field(default, description=text, examples=found.examples, **dict(limits_of(found)))


LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
"""Bounds of a number, by their name in a declaration, in words."""


def limits_of(found: FieldInfo) -> Iterator[tuple[str, Any]]:
    """The demands of a declaration on a number, which stand beside the field or within its
    annotation."""
    demands = [*found.metadata]
    for part in (found.annotation, *get_args(found.annotation)):
        for inner in getattr(part, "__metadata__", ()):
            demands += getattr(inner, "metadata", [])
    for demand in demands:
        for name in (*LIMITS, "allow_inf_nan"):
            if getattr(demand, name, None) is not None:
                yield name, getattr(demand, name)


class Named(Section):
    """A named implementation, with its settings beside the name."""

    model_config = ConfigDict(extra="allow")

    name: Name = described("Which implementation.", "least_loaded", default=...)

    __pydantic_extra__: dict[str, Any]


def _branch(value: Any) -> str:
    return NAME_TAG if isinstance(value, str) else SETTINGS_TAG


NAME_OR_SETTINGS = Discriminator(_branch)
AsName = Annotated[Name, Tag(NAME_TAG)]
NamedChoice = Annotated[AsName | Annotated[Named, Tag(SETTINGS_TAG)], NAME_OR_SETTINGS]
