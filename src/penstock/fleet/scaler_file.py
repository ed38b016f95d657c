"""The scale policy of an autoscaler's own file, in place of the file's name."""

from typing import Any

from penstock.core.errors import InputError
from penstock.fleet.document import FleetDocument
from penstock.fleet.document_scaling import ScalerFileSection
from penstock.fleet.fields import Named
from penstock.fleet.files import FileFinder
from penstock.fleet.problems import PlacedError
from penstock.registry.make import read_scaler_file

_PATH = ("policies", "scale", "file")


def with_scaler_of_file(document: FleetDocument, files: FileFinder) -> FleetDocument:
    """Return the document with the policy that the file of `policies.scale` states, where a file
    is named. Raises PlacedError with the problem of the file."""
    choice = document.policies.scale
    if not isinstance(choice, ScalerFileSection):
        return document
    found = Named(**_read(files.find(choice.file, _PATH)))
    policies = document.policies.model_copy(update={"scale": found})
    return document.model_copy(update={"policies": policies})


def stated_scaler(document: FleetDocument) -> str | Named:
    """Return the scale policy of a document whose file of a scaler has been read."""
    choice = document.policies.scale
    assert not isinstance(choice, ScalerFileSection), "with_scaler_of_file has replaced it"
    return choice


def _read(path: str) -> dict[str, Any]:
    try:
        return read_scaler_file(path)
    except InputError as error:
        raise PlacedError(_PATH, str(error)) from None
