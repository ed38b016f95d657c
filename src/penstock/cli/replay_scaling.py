"""``penstock lab replay`` of recorded scaling decisions, also against another policy."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.cli.choices import scale_choice
from penstock.cli.exits import MISSED, OK
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.fleet.values import Fleet
    from penstock.journal.scaling_replay import ScalingReplay
    from penstock.policy.scale.protocol import Scaler


def replay_scaling(journal: Path, fleet_file: Path | None, other: str | None, *,
                   as_json: bool) -> int:
    """Ask the recorded policy again, which must decide the same, or the policy ``other``."""
    import typer

    from penstock.cli.console import print_json
    from penstock.fleet.scaler import scaler_named
    from penstock.journal.scaling import read_scaling
    from penstock.journal.scaling_replay import replay_scaling as replay

    path = fleet_file or beside(journal)
    fleet = _fleet(path, other)

    def make(header: dict[str, Any]) -> "Scaler":
        policy = fleet.policies.scale
        name, settings = (policy.name, policy.options) if other is not None else (
            header["policy"], header["settings"])
        return scaler_named(name, settings, fleet, header["seed"])

    try:
        found = replay(read_scaling(journal), make)
    except (KeyError, ValueError) as error:
        raise InputError(f"{journal}: does not fit the fleet of {path}: {error}") from error
    if as_json:
        print_json(asdict(found))
    else:
        typer.echo(_sentence(found, other))
    return OK if other is not None or not found.num_different else MISSED


def is_scaling(journal: Path) -> bool:
    """Whether a file is a record of scaling decisions."""
    try:
        with journal.open("rb") as file:
            return file.read(40).startswith(b'{"record":"scaling"')
    except OSError:
        return False


def beside(journal: Path) -> Path:
    """Return the fleet file of a run's folder, or the file whose engines' folder has the record."""
    folder = journal.resolve().parent
    found = folder / "fleet.yaml"
    return found if found.exists() or folder.suffix != ".engines" else folder.with_suffix(".yaml")


def _fleet(path: Path, other: str | None) -> "Fleet":
    from penstock.fleet.load import load_fleet

    if other is None:
        return load_fleet(path)
    choice = scale_choice(other)
    try:
        return load_fleet(path, overrides={"policies.scale": choice})
    except InputError as error:
        raise InputError(f"--scale {other}: {error}") from None


def _sentence(found: "ScalingReplay", other: str | None) -> str:
    if other is None:
        first = "" if found.first is None else (
            f"; at {found.first.at_s:,.1f} s the record has {found.first.recorded}, "
            f"the scaler {found.first.decided} ({found.first.reason})")
        return (f"{found.num_decisions:,} decisions, "
                + (f"{found.num_different:,} differ{first}" if found.num_different
                   else "all the same"))
    return (f"{other} decides otherwise in {found.num_different:,} of {found.num_decisions:,} "
            f"moments: {found.mean_decided:.2f} replicas on average in place of "
            f"{found.mean_recorded:.2f}, with the fleet as the recorded decisions left it")
