"""Field types of the fleet file's sections: strict numbers, names, described fields."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

# Tags of a union's branches appear in pydantic's error locations and are removed from Penstock's.
NAME_TAG, SETTINGS_TAG = "<name>", "<settings>"

MOST = 1_000_000_000
"""Bound of counts and seconds: far above any real fleet, far below numeric overflow."""

Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrZero = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[float, Field(gt=0, le=MOST, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
ShareOrZero = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Correlation = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
# A share such as 0.99 would be read as 0.99 %.
Percentile = Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
FilePath = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
Endpoint = Annotated[str, Field(max_length=2048, pattern=r"^https?://[^\s/?#\x00-\x1f\x7f]+"
                                                         r"(/[^\s?#\x00-\x1f\x7f]*)?$")]


class Section(BaseModel):
    """A mapping of the fleet file: no unknown keys, no conversion between types."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True,
                              hide_input_in_errors=True)

    def given(self) -> dict[str, Any]:
        """Return the section's stated values; cheaper than ``model_dump``."""
        return {key: value for key, value in self if value is not None}


def described(description: str, *examples: Any, default: Any = None) -> Any:
    """Declare a field with its documentation. ``...`` as default makes it required."""
    return Field(default, description=description, examples=list(examples))


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
