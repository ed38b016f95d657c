"""Write a software bill of materials (CycloneDX 1.6, JSON) of the packages in this environment.

    python .ci/sbom.py OUT [LOCK]

With LOCK, every package of this lock file that applies here must be in the list, in its version.
"""

import json
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "penstock"


def installed() -> dict[str, Distribution]:
    """Return every installed package by its canonical name."""
    return {canonicalize_name(one.name): one for one in distributions()}


def purl(one: Distribution) -> str:
    """Return the package URL of a package of PyPI."""
    return f"pkg:pypi/{canonicalize_name(one.name)}@{one.version}"


def component(one: Distribution, kind: str = "library") -> dict[str, object]:
    """Return a package as a component."""
    found: dict[str, object] = {"type": kind, "bom-ref": purl(one), "name": one.name,
                                "version": one.version, "purl": purl(one)}
    if expression := one.metadata.get("License-Expression"):
        found["licenses"] = [{"expression": expression}]
    elif names := [line.rpartition(" :: ")[2] for line in one.metadata.get_all("Classifier") or ()
                   if line.startswith("License :: ")]:
        found["licenses"] = [{"license": {"name": name}} for name in names]
    return found


def needs(one: Distribution, known: dict[str, Distribution]) -> list[str]:
    """Return the package URLs of what a package needs here, without extras."""
    wanted = [Requirement(line) for line in one.requires or ()]
    names = {canonicalize_name(each.name) for each in wanted
             if each.marker is None or each.marker.evaluate({"extra": ""})}
    return sorted(purl(known[name]) for name in names & known.keys())


def bill(known: dict[str, Distribution]) -> dict[str, object]:
    """Return the document, which is the same for the same packages."""
    parts = [one for name, one in sorted(known.items()) if name != ROOT]
    serial = uuid5(NAMESPACE_URL, " ".join(map(purl, known.values())))
    return {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
            "serialNumber": f"urn:uuid:{serial}",
            "metadata": {"component": component(known[ROOT], "application")}
            if ROOT in known else {},
            "components": [component(one) for one in parts],
            "dependencies": [{"ref": purl(one), "dependsOn": needs(one, known)}
                             for one in known.values()]}


def locked(text: str) -> list[Requirement]:
    """Return the requirements of a lock file that apply here."""
    lines = re.sub(r"\\\n", " ", text).splitlines()
    found = [Requirement(line.partition(" --hash")[0]) for line in lines
             if line.strip() and not line.startswith("#")]
    return [one for one in found if one.marker is None or one.marker.evaluate()]


def main(out: str, lock: str | None = None) -> int:
    """Write the bill to ``out``; return 1 where it lacks a package of ``lock``."""
    known = dict(sorted(installed().items()))
    Path(out).write_text(json.dumps(bill(known), indent=1) + "\n")
    wanted = [] if lock is None else locked(Path(lock).read_text())
    missing = [str(one) for one in wanted if (name := canonicalize_name(one.name)) not in known
               or not one.specifier.contains(known[name].version)]
    sys.stdout.write(f"{out}: {len(known)} packages, {len(wanted)} of them locked\n")
    if missing:
        sys.stdout.write(f"not installed as {lock} says: {', '.join(missing)}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
