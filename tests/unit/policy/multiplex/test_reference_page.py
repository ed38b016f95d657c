"""The reference page of residency policies names every setting."""

from dataclasses import fields
from pathlib import Path

import pytest

from penstock.policy.multiplex.build import ResidencySettings
from penstock.policy.multiplex.penstock import ResidencyOptions
from penstock.policy.multiplex.settings import RESIDENCIES

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "residency.md"


@pytest.mark.parametrize("setting", sorted({key for one in RESIDENCIES.values() for key in one}))
def test_every_setting_is_described(setting: str) -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    assert any(f"`{setting}`" in row for row in rows)


def test_defaults_of_numbers_are_those_of_the_code() -> None:
    rows = PAGE.read_text().splitlines()
    for options in (ResidencyOptions, ResidencySettings):
        for field in fields(options):
            if isinstance(field.default, int | float) and not isinstance(field.default, bool):
                row, = (row for row in rows if row.startswith("|") and f"| `{field.name}` |" in row)
                assert row.endswith(f"| {field.default:g} |")
