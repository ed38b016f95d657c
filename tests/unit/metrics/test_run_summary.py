"""The declared keys of summary.json."""

import re
from dataclasses import is_dataclass
from typing import get_args

from penstock.metrics.record import Form, keys
from penstock.metrics.run_summary import RunSummary


def every_key(kind) -> set[str]:
    """Names of a record's keys and of all records within."""
    if not is_dataclass(kind):
        return set().union(*map(every_key, get_args(kind)))
    found = set()
    for key in keys(kind):
        own = set() if key.form is Form.FLAT else {key.name}
        found |= every_key(key.kind) | own | ({key.former} if key.former else set())
    return found


def test_every_key_is_described(repository) -> None:
    text = (repository / "docs/reference/metrics.md").read_text()
    described = set(re.findall(r"[`.](\w+)(?=[`.])", text))
    assert every_key(RunSummary) - described == set()
