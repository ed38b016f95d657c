"""The sample bundles of a data folder and what was already computed of them."""

import re
from pathlib import Path

from penstock.published.inferno.candidates import Candidates, find_candidates
from penstock.published.inferno.change import scale_capacity
from penstock.published.inferno.read import read_bundle
from penstock.published.inferno.values import System

# Records are named after the sample's schema: v1_small_..., or old_small_... in the MILP file.
NAME = re.compile(r"(?P<schema>v1|v2|old|new)_(?P<size>[a-z]+)(?:_cap(?P<percent>\d+))?(?:_|$)")
SCHEMAS = {"v1": "sample_v1", "v2": "sample_v2", "old": "sample_v1", "new": "sample_v2"}


class Samples:
    """Reads each bundle once and finds its candidates once."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._systems: dict[str, System | None] = {}
        self._candidates: dict[str, Candidates] = {}

    def system(self, record: str) -> tuple[str, System] | None:
        """The sample that a record's name begins with, its devices scaled as the name says; None
        when the name says nothing or the folder is not there."""
        named = NAME.match(record)
        if named is None:
            return None
        sample = f"{SCHEMAS[named['schema']]}/{named['size']}"
        if sample not in self._systems:
            folder = self._data / sample
            self._systems[sample] = read_bundle(folder) if folder.is_dir() else None
        system = self._systems[sample]
        if system is None:
            return None
        factor = int(named["percent"]) / 100.0 if named["percent"] else 1.0
        return sample, scale_capacity(system, factor)

    def candidates(self, sample: str, system: System) -> Candidates:
        """Candidates of a sample as it stands in its files; devices do not matter to them."""
        if sample not in self._candidates:
            self._candidates[sample] = find_candidates(system)
        return self._candidates[sample]
