"""Fleets of a command line: read with its changes, and checked for what the command needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.fleet.values import Fleet


def ledger_file(fleet_file: Path) -> Path:
    """The ledger that belongs to a fleet file where no other is named."""
    return fleet_file.resolve().with_suffix(".ledger.db")


def ledger_url(path: Path) -> str:
    """The URL of a ledger in a file."""
    return f"sqlite:///{path}"


def read_fleet(path: Path, settings: Sequence[str] | None = None, data_dir: Path | None = None,
               seed: int | None = None, more: dict[str, Any] | None = None, *,
               to_plan: bool = False) -> "Fleet":
    """The fleet file with the command line's changes; ``to_plan`` as for ``load_fleet``. Says how
    the clocks of its traces are read where nobody states it. Raises InputError."""
    from penstock.cli.trace_columns import note_clocks
    from penstock.fleet.load import load_fleet

    fleet = load_fleet(path, overrides_of(settings, data_dir, seed, more), data_dir,
                       to_plan=to_plan)
    note_clocks(fleet)
    return fleet


def overrides_of(settings: Sequence[str] | None = None, data_dir: Path | None = None,
                 seed: int | None = None, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """The command line's changes to a fleet file. Raises InputError, also for a ``data_dir`` that
    is not there."""
    from penstock.fleet.settings import parse_settings

    overrides = {**parse_settings(settings or ()), **(more or {})}
    if seed is not None:
        overrides["run.seed"] = seed
    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f"--data {data_dir}: no such folder")
    return overrides


def seed_range(fleet: "Fleet", num_seeds: int) -> range:
    """The seeds of a command that runs several."""
    return range(fleet.run.seed, fleet.run.seed + num_seeds)


def with_replicas(fleet: "Fleet", count: int | None) -> "Fleet":
    """The fleet with replicas: its own, or ``count`` of its only group.

    Raises InputError when it states none and no number is given, when it has several groups to
    give the number to, and when the fleet has too few accelerators.
    """
    from dataclasses import replace

    if count is None:
        if not fleet.replicas and not fleet.multiplexing:
            raise InputError(f"fleet {fleet.name} states no replicas; state them, give "
                             "--replicas N, or find their number with `penstock run`")
        return fleet
    if count == 0 and not fleet.scales:
        raise InputError("--replicas 0: expected at least 1")
    if fleet.multiplexing and not fleet.replicas:
        raise InputError(f"--replicas {count}: models of fleet {fleet.name} take turns on devices; "
                         "set their number with --set multiplexing[0].count=N")
    groups = fleet.replicas or fleet.sizing.kinds()
    if len(groups) > 1:
        raise InputError(f"--replicas {count}: the fleet has {len(groups)} groups of replicas; set "
                         "each one's number with --set replicas[0].count=N")
    group = replace(groups[0], count=count)
    available = fleet.pool(group.accelerator.name).count
    shared = sum(pool.count for pool in fleet.multiplexing if pool.accelerator is group.accelerator)
    if available is not None and group.num_accelerators + shared > available:
        beside = f" beside {shared} of multiplexing" if shared else ""
        raise InputError(f"--replicas {count} need {group.num_accelerators} "
                         f"{group.accelerator.name}{beside}; the fleet has {available}")
    return replace(fleet, replicas=(group,))


def fixed(fleet: "Fleet", count: int | None) -> "Fleet":
    """The fleet with the replicas that it states, or ``count``, of which no policy changes the
    number."""
    if fleet.scales:
        from penstock.cli.console import note

        if count is not None:
            fleet = with_replicas(fleet, count)
        note(f"policies.scale: {fleet.policies.scale.name} is left out: the answer is for the "
             "stated number of replicas")
    return fleet.unscaled()


def check_journal(fleet: "Fleet", *, journal: bool) -> None:
    """Raises InputError where a journal is asked for and nothing would keep one."""
    if journal and fleet.multiplexing and not fleet.replicas:
        raise InputError("--journal: devices that models take turns on keep none")


def refuse_multiplexing(fleet: "Fleet", command: str, instead: str) -> None:
    """Raises InputError for a fleet whose models take turns, before a ``command`` answers for
    replicas that it does not state."""
    if fleet.multiplexing:
        raise InputError(f"models of fleet {fleet.name} take turns on devices (multiplexing), of "
                         f"which {command} knows nothing; expected {instead}")


def note_kind(fleet: "Fleet", count: int | None) -> None:
    """Say of what kind the ``count`` replicas of ``--replicas`` are where the file does not.

    It is the first accelerator, while a plan would choose among all.
    """
    if count is None or fleet.replicas or fleet.sizing.stated or len(fleet.accelerators) < 2:
        return
    from penstock.cli.console import note

    note(f"--replicas {count}: of {fleet.accelerators[0].accelerator.name}, the first accelerator "
         "of the file; `penstock plan` chooses the cheapest kind")
