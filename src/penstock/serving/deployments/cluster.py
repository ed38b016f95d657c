"""Cluster to deploy on: a folder of state, and the fleet file that the folder was created with."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Accelerator
from penstock.fleet.load import load_fleet
from penstock.fleet.values import Fleet, ModelChoice
from penstock.policy.place.values import Device

FLEET, STATE, SERVER = "fleet.yaml", "deployments.db", "server.json"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The folder of deployments, and its fleet: models, and the accelerators of the fleet's first
    kind.

    ``train`` is a folder with measurements of whole models from which estimates are learned, or
    None.
    """

    folder: Path
    fleet: Fleet
    train: Path | None = None

    @property
    def accelerator(self) -> Accelerator:
        """Accelerator of all deployments, at the fleet's price."""
        pool = self.fleet.accelerators[0]
        return replace(pool.accelerator, price_per_hour=pool.price_per_hour)

    @property
    def state_file(self) -> Path:
        """File of the deployments' state."""
        return self.folder / STATE

    def devices(self) -> list[Device]:
        """The accelerators, node by node. Those of one node share a fast link."""
        pool = self.fleet.accelerators[0]
        per_node = self.accelerator.max_per_node
        return [Device(number, f"node-{number // per_node}", self.accelerator.memory_bytes,
                       link_group="node") for number in range(pool.count or 0)]

    def ordinal(self, device_id: int) -> int:
        """The number of a device within its node."""
        return device_id % self.accelerator.max_per_node

    def model(self, name: str) -> ModelChoice:
        """A model of the fleet. Raises InputError with the nearest name."""
        choices = {choice.spec.name: choice for choice in self.fleet.models}
        if name not in choices:
            raise InputError(f"model: {name[:60]!r} is not in the fleet"
                             f"{nearest(name[:60], choices)}")
        return choices[name]

    def run_folder(self, name: str) -> Path:
        """Folder of a deployment's engine."""
        return _made(self.folder / "engines" / name)

    def profile_folder(self, name: str) -> Path:
        """Folder of a deployment's profile."""
        _made(self.folder / "profiles")
        return self.folder / "profiles" / name

    def log_file(self, name: str) -> Path:
        """Log file of a deployment's engine."""
        return _made(self.folder / "logs") / f"{name}.log"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def create_cluster(folder: Path, fleet_file: Path, train: Path | None = None) -> Cluster:
    """Create the folder of a cluster for a fleet file. Raises InputError where the folder has
    deployments already, and where the fleet states no number of accelerators or several kinds."""
    from penstock.fleet.write import to_yaml

    fleet = load_fleet(fleet_file, to_plan=True)
    if (folder / FLEET).exists():
        raise InputError(f"{folder}: holds deployments already; expected a new folder")
    if len(fleet.accelerators) != 1 or not fleet.accelerators[0].count:
        raise InputError(f"{fleet_file}: accelerators: expected one kind, with its count")
    if train is not None and not train.is_dir():
        raise InputError(f"--train {train}: no such folder")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if train is not None:
            (folder / "train").symlink_to(train.resolve())
        partial = folder / f".partial-{FLEET}"
        partial.write_text(to_yaml(fleet), encoding="utf-8")
        partial.replace(folder / FLEET)  # last: a folder with this file is complete
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    return open_cluster(folder)


def announce(folder: Path, url: str) -> None:
    """Record the URL of a folder's deployments for later commands."""
    partial = folder / f".partial-{SERVER}"
    partial.write_text(json.dumps({"url": url, "pid": os.getpid()}), encoding="utf-8")
    partial.replace(folder / SERVER)


def open_cluster(folder: Path) -> Cluster:
    """Open the cluster of a folder. Raises InputError where there is none."""
    if not (folder / FLEET).is_file():
        raise InputError(f"{folder}: found no deployments; penstock deployments init "
                         "creates such a folder")
    train = folder / "train"
    return Cluster(folder.resolve(), load_fleet(folder / FLEET, to_plan=True),
                train.resolve() if train.exists() else None)
