"""No version that Penstock admits or locks has a flaw that is known, and the lock has hashes."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
ADVISORIES = yaml.safe_load((REPOSITORY / ".ci" / "advisories.yaml").read_text())
LOCK = (REPOSITORY / "requirements-dev.lock").read_text()


def script():
    spec = importlib.util.spec_from_file_location("sbom", REPOSITORY / ".ci" / "sbom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SBOM = script()


def requirements():
    project = PROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values(),
             *PROJECT["dependency-groups"].values()]
    return [Requirement(one) for found in lists for one in found if isinstance(one, str)]


def floor(requirement):
    (found,) = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
    return found


def test_no_floor_admits_a_known_flaw():
    for requirement in requirements():
        for flaw in ADVISORIES:
            if flaw["package"] == canonicalize_name(requirement.name):
                assert floor(requirement) >= Version(flaw["fixed"]), f"{requirement}: {flaw['id']}"


def test_no_locked_version_has_a_known_flaw():
    locked = {canonicalize_name(one.name): Version(str(one.specifier).removeprefix("=="))
              for one in SBOM.locked(LOCK)}
    assert {"aiohttp", "orjson", "urllib3"} <= set(locked)
    for flaw in ADVISORIES:
        assert locked.get(flaw["package"], Version(flaw["fixed"])) >= Version(flaw["fixed"]), flaw


def test_advisories_are_well_formed():
    assert len({flaw["id"] for flaw in ADVISORIES}) == len(ADVISORIES)
    for flaw in ADVISORIES:
        assert set(flaw) == {"package", "id", "fixed", "what", "source"}
        assert flaw["package"] == canonicalize_name(flaw["package"])
        assert re.fullmatch(r"CVE-\d{4}-\d+|GHSA(-\w{4}){3}", flaw["id"])
        assert flaw["source"].startswith("https://")
        Version(flaw["fixed"])


def test_every_locked_package_has_hashes():
    entries = re.sub(r"\\\n", " ", LOCK).splitlines()
    for entry in (line for line in entries if line and not line.startswith("#")):
        assert re.search(r" --hash=sha256:[0-9a-f]{64}", entry), entry[:60]


def test_the_bill_of_materials_is_cyclonedx_and_whole(tmp_path):
    file = tmp_path / "sbom.json"
    assert SBOM.main(str(file)) == 0
    bill = json.loads(file.read_text())
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", bill["serialNumber"])
    refs = [one["bom-ref"] for one in bill["components"]]
    assert len(set(refs)) == len(refs)
    for one in bill["components"]:
        assert one["type"] == "library"
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@\S+", one["purl"])
        assert one["name"]
        assert one["version"]
    own = [bill["metadata"]["component"]["bom-ref"]] if bill["metadata"] else []
    known = {*refs, *own}
    assert {one["ref"] for one in bill["dependencies"]} == known
    assert all(set(one["dependsOn"]) <= known for one in bill["dependencies"])
    names = {canonicalize_name(one["name"]) for one in bill["components"]}
    assert {canonicalize_name(Requirement(one).name)
            for one in PROJECT["project"]["dependencies"]} - {"uvloop"} <= names


@pytest.mark.parametrize(("line", "status"), [
    ("orjson>=3", 0), ("orjson==0.0.1", 1), ("no-such-package==1", 1),
    ("no-such-package==1; sys_platform == 'none'", 0)])
def test_a_bill_that_lacks_a_locked_package_fails(tmp_path, line, status, capsys):
    lock = tmp_path / "some.lock"
    lock.write_text(f"# a comment\n{line} \\\n    --hash=sha256:00\n")
    assert SBOM.main(str(tmp_path / "sbom.json"), str(lock)) == status
