"""The reference page of multiplexing policies names every setting."""

from dataclasses import fields
from pathlib import Path

import pytest

from penstock.policy.multiplex.build import USUAL_QUANTUM_S
from penstock.policy.multiplex.penstock import MultiplexOptions
from penstock.registry.policies import MULTIPLEXERS

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "multiplexing.md"


@pytest.mark.parametrize("setting", sorted(
    {key for name in MULTIPLEXERS.names() for key in MULTIPLEXERS.entry(name).settings}))
def test_every_setting_is_described(setting: str) -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    assert any(f"`{setting}`" in row for row in rows)


def test_defaults_of_numbers_are_those_of_the_code() -> None:
    rows = PAGE.read_text().splitlines()
    defaults = {field.name: field.default for field in fields(MultiplexOptions)
                if not isinstance(field.default, bool)}
    for name, default in {**defaults, "quantum_s": USUAL_QUANTUM_S}.items():
        row, = (row for row in rows if row.startswith("|") and f"| `{name}` |" in row)
        assert row.endswith(f"| {default:g} |")
