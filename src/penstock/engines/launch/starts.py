"""The command lines of a fleet's replicas, machine by machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from urllib.parse import urlsplit

from penstock.catalog.catalog import Catalog
from penstock.core.loopback import is_loopback
from penstock.engines.launch import sglang, vllm
from penstock.engines.launch.group import Group, launch_of, notes_of
from penstock.engines.launch.kinds import KINDS, check_more, engine_of_group, with_more
from penstock.engines.launch.placing import Placed, placed
from penstock.engines.launch.statements import Statements
from penstock.engines.launch.values import CommandLine, Key, Nodes, Setting
from penstock.fleet.values import Fleet
from penstock.fleet.values_disaggregation import BOOTSTRAP_PORT
from penstock.policy.route.roles import BOTH, PREFILL

LEADER = "$LEADER_ADDRESS"
"""Address of a replica's first machine, where no endpoint says it: a variable of the shell."""

_DEVICES = MappingProxyType({"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "HIP_VISIBLE_DEVICES",
                             "intel": "ZE_AFFINITY_MASK"})
DEVICE_VARIABLES = frozenset(_DEVICES.values())
_ON_LOOPBACK = frozenset({"sglang", "tensorrt-llm"})
"""Engines that listen on the loopback alone unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Start:
    """The command line of a replica on one of its machines. Rank 0 answers requests on
    ``port``."""

    placed: Placed
    rank: int
    engine: str
    version: str
    vendor: str
    image: str
    model: str
    port: int
    line: CommandLine
    options_file: str

    @property
    def machine(self) -> str:
        """The name of the machine."""
        return self.placed.machines[self.rank]

    @property
    def name(self) -> str:
        """A name for the process: group, replica, and the rank of its machine."""
        rank = f"-{self.rank}" if len(self.placed.machines) > 1 else ""
        return f"replica-{self.placed.number}-{self.placed.replica}{rank}"


def starts(fleet: Fleet, catalog: Catalog, said: Statements, fleet_file: str, *,
           everywhere: bool = False) -> list[Start]:
    """Return the command lines of all replicas. With ``everywhere`` engines answer on every address
    of their machine, or container. Raises InputError for an engine without command lines, and for
    what an engine's version does not know."""
    for number in range(len(fleet.replicas)):
        engine_of_group(fleet, number)
    groups = [Group(fleet, number, catalog, said, fleet_file)
              for number in range(len(fleet.replicas))]
    return [start for one in placed(fleet)
            for start in _of_replica(groups[one.number], one, everywhere=everywhere)]


def notes(fleet: Fleet, catalog: Catalog, said: Statements, fleet_file: str) -> list[str]:
    """Return what the command lines leave out, with the groups that each note is of."""
    found: dict[str, list[str]] = {}
    for number in range(len(fleet.replicas)):
        for text in notes_of(Group(fleet, number, catalog, said, fleet_file)):
            found.setdefault(text, []).append(f"replicas[{number}]")
    return [f"{', '.join(places)}: {text}" for text, places in found.items()] + _apart(fleet)


def _apart(fleet: Fleet) -> list[str]:
    """Return what vLLM's replicas with roles lack that are on several machines."""
    found = [one for one in placed(fleet) if fleet.replicas[one.number].role != BOTH
             and one.url is None and engine_of_group(fleet, one.number) == vllm.NAME]
    if len({name for one in found for name in one.machines}) < 2:
        return []
    return ["replicas with roles are on several machines: set VLLM_NIXL_SIDE_CHANNEL_HOST of each "
            "to the address of its machine"]


def _of_replica(group: Group, one: Placed, *, everywhere: bool) -> Sequence[Start]:
    kind, found, num = KINDS[group.engine], [], len(one.machines)
    address, port = _address(group, one, kind.port, everywhere=everywhere)
    for rank in range(num):
        nodes = None if num == 1 else Nodes(
            num, str(rank), _leader(one), rank == 0,
            f"{group.replicas.parallelism.num_accelerators} accelerators on {num} machines")
        start = Start(one, rank, group.engine, group.defaults().version,
                      group.replicas.accelerator.vendor, "", "", port,
                      CommandLine((), ()), "")
        start = replace(start, options_file=f"{start.name}.yaml")
        more = {**(address if rank == 0 else {}), **_side_channel(
            group, one, start.name if everywhere and num == 1 else None)}
        launch = launch_of(group, more, nodes=nodes, serial=one.serial,
                           options_file=start.options_file)
        line = _with_stated(group, kind.command_line(launch), start.version)
        line = replace(line, environment={**line.environment, **_devices(group, one)})
        found.append(replace(start, image=kind.image.format(version=start.version), line=line,
                             model=str(launch.model.value)))
    return found


def _with_stated(group: Group, line: CommandLine, version: str) -> CommandLine:
    """Return the command line with the arguments that the file states."""
    created = group.replicas.kubernetes and group.replicas.kubernetes.create
    if not created or not created.arguments:
        return line
    path = ("replicas", group.number, "kubernetes", "create", "arguments")
    check_more(group.engine, version, created.arguments, f"{group.place}.kubernetes.create."
                                                         "arguments")
    return with_more(line, created.arguments, group.said.reason(*path)
                     or "stated by the section kubernetes")


def _address(group: Group, one: Placed, usual: int, *,
             everywhere: bool) -> tuple[dict[Key, Setting], int]:
    """Return host and port as far as they are to be stated, and the port."""
    settings: dict[Key, Setting] = {}
    if group.engine == "sglang":
        settings["metrics"] = Setting(True, "`penstock serve` reads the engine's metrics")
    if one.url is None:
        port = usual + one.order
        if one.order:
            settings["port"] = Setting(port, f"replica {one.order + 1} on {one.machines[0]}")
    else:
        parts = urlsplit(one.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        reason = group.said.reason("replicas", one.number, "endpoints", one.replica)
        if reason is not None or port != usual:
            settings["port"] = Setting(port, reason or "the replica's endpoint")
    host = urlsplit(one.url).hostname if one.url else None
    if group.engine in _ON_LOOPBACK and (everywhere or (host and not is_loopback(host))):
        settings["host"] = Setting("0.0.0.0", "a container's loopback is its own" if everywhere
                                   else f"its endpoint is {one.url}")
    return settings, port


def _side_channel(group: Group, one: Placed, name: str | None) -> dict[Key, Setting]:
    """Return where other engines reach a replica with a role to fetch KV caches: a port that no
    other replica of the machine has. Ranks may take the ports behind it, one each. ``name`` is that
    of the replica's container, None without one."""
    is_vllm = group.engine == vllm.NAME
    if group.replicas.role == BOTH or not (is_vllm or (
            group.engine == sglang.NAME and group.replicas.role == PREFILL)):
        return {}
    found: dict[Key, Setting] = {}
    if not is_vllm and one.url is not None:  # which the gateway must know
        if group.replicas.bootstrap_ports:
            found["side_port"] = Setting(
                group.replicas.bootstrap_ports[one.replica], group.said.reason(
                    "replicas", one.number, "bootstrap_ports", one.replica)
                or "the file's bootstrap_ports")
    elif one.devices[0]:
        found["side_port"] = Setting((vllm.SIDE_PORT if is_vllm else BOOTSTRAP_PORT)
                                     + one.devices[0],
                                     f"replica {one.order + 1} on {one.machines[0]}")
    host = name or (urlsplit(one.url).hostname if one.url else None)
    if is_vllm and host is not None and not is_loopback(host):
        found["side_host"] = Setting(host, "others fetch KV caches from there")
    return found


def _leader(one: Placed) -> str:
    host = urlsplit(one.url).hostname if one.url else None
    return LEADER if host is None or is_loopback(host) else host


def _devices(group: Group, one: Placed) -> dict[str, Setting]:
    name = _DEVICES.get(group.replicas.accelerator.vendor)
    if not one.shares or name is None:
        return {}
    return {name: Setting(",".join(map(str, one.devices)),
                          f"other replicas are on {one.machines[0]}")}
