"""Command lines of stock engines in a pod, from a group's variant."""

from collections.abc import Mapping
from typing import NamedTuple

from penstock.catalog.catalog import load_catalog
from penstock.engines.launch import vllm
from penstock.engines.launch.group import Group, launch_of
from penstock.engines.launch.kinds import KINDS, check_more, engine_of_group, with_more
from penstock.engines.launch.statements import Statements
from penstock.engines.launch.values import Key, Nodes, Setting
from penstock.fleet.values import Fleet
from penstock.fleet.values_kubernetes import Created
from penstock.fleet.write import yaml_text
from penstock.policy.route.roles import BOTH

LEADER, WORKER = "$(LWS_LEADER_ADDRESS)", "$(LWS_WORKER_INDEX)"
"""Environment variables that a LeaderWorkerSet gives its pods, in the form that a pod's arguments
take."""

POD_ADDRESS = "POD_ADDRESS"
"""Environment variable with the address of a pod, which Penstock states."""

COUNTED_ON = Statements(counted_on="counted on by the fleet, whatever the image's version does")
"""An image's version may be another than the fleet's, so a pod states every value that its fleet
counts on."""

_OPTIONS_FILE = "/tmp/penstock-options.yaml"
_WITH_OPTIONS = f'printf %s "$1" > {_OPTIONS_FILE} && shift && exec "$@"'


class PodCommand(NamedTuple):
    """Words of a command line in a pod, and the environment that these need."""

    words: list[str]
    environment: Mapping[str, str]


def engine_command(fleet: Fleet, number: int, *, worker: bool = False) -> PodCommand:
    """Return the command of a group's engine: in the pod that answers requests, or in another pod
    of the same replica. Raises InputError for an engine without a command line, and for arguments
    that its stated version no longer has."""
    kubernetes = fleet.replicas[number].kubernetes
    assert kubernetes is not None, "the caller has looked"
    assert kubernetes.create is not None, "the caller has looked"
    created, engine = kubernetes.create, engine_of_group(fleet, number)
    group = Group(fleet, number, load_catalog(), COUNTED_ON)
    reason = "the pod's port"
    more: dict[Key, Setting] = {"host": Setting("0.0.0.0", reason),
                                "port": Setting(created.port, reason),
                                "metrics": Setting(True, "the fleet reads the engine's metrics")}
    if engine == vllm.NAME and fleet.replicas[number].role != BOTH:
        more["side_host"] = Setting(f"$({POD_ADDRESS})", "others fetch KV caches from there")
    launch = launch_of(group, more, nodes=_pod(created, worker=worker), options_file=_OPTIONS_FILE)
    if group.options.version is not None:  # else the image may have any
        check_more(engine, launch.version, created.arguments,
                   f"replicas[{number}].kubernetes.create.arguments")
    line = with_more(KINDS[engine].command_line(launch), created.arguments, "stated")
    words = line.argv
    if line.options:
        words = ["sh", "-c", _WITH_OPTIONS, "sh", yaml_text(line.options_document()), *words]
    return PodCommand(words, {name: str(found.value) for name, found in line.environment.items()})


def _pod(created: Created, *, worker: bool) -> Nodes | None:
    """Return by what the pods of one replica find each other."""
    if created.pods == 1:
        return None
    return Nodes(created.pods, WORKER, LEADER, not worker, "the LeaderWorkerSet's pod")
