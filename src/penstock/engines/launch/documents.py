"""Command lines as plain data: a JSON document, and the services of Docker Compose."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from penstock.core.errors import InputError
from penstock.engines.launch.starts import DEVICE_VARIABLES, LEADER, Start
from penstock.fleet.write import yaml_text


def json_document(starts: Sequence[Start], notes: Sequence[str]) -> dict[str, Any]:
    """Return all command lines with the reason of every argument."""
    return {"notes": list(notes), "commands": [_command(start) for start in starts]}


def _command(start: Start) -> dict[str, Any]:
    one, line = start.placed, start.line
    return {
        "name": start.name, "group": one.number, "replica": one.replica, "rank": start.rank,
        "machine": start.machine, "machines": len(one.machines), "devices": list(one.devices),
        "engine": start.engine, "version": start.version, "image": start.image,
        "model": start.model, "port": start.port, "argv": line.argv,
        "arguments": [argument._asdict() for argument in line.arguments],
        "environment": {name: found._asdict() for name, found in line.environment.items()},
        "options_file": start.options_file if line.options else None,
        "options": [{"keys": list(option.keys), "value": option.value, "reason": option.reason}
                    for option in line.options]}


def compose_document(starts: Sequence[Start]) -> dict[str, Any]:
    """Return the services of Docker Compose, one for each machine of each replica. Where there are
    several machines, each is a profile: ``docker compose --profile MACHINE up``.

    Files of options are Compose's configs with their content, which Compose has since 2.23.1.
    Raises InputError for accelerators for which no image is known.
    """
    for start in starts:
        check_image(start)
    machines = Counter(start.machine for start in starts)
    services = {start.name: _service(start, alone=len(machines) == 1) for start in starts}
    configs = {start.name: {"content": _escaped(yaml_text(start.line.options_document()))}
               for start in starts if start.line.options}
    return {"services": services, **({"configs": configs} if configs else {})}


def _service(start: Start, *, alone: bool) -> dict[str, Any]:
    program, line, one = start.line.program, start.line, start.placed
    words = [word for argument in line.arguments for word in argument.words]
    found: dict[str, Any] = {
        "image": start.image, "entrypoint": list(program), "command": list(map(_escaped, words)),
        "ipc": "host",  # ranks exchange tensors through shared memory
        "volumes": ["~/.cache/huggingface:/root/.cache/huggingface"],
        "deploy": {"resources": {"reservations": {"devices": [
            {"driver": "nvidia", "device_ids": [str(device) for device in one.devices],
             "capabilities": ["gpu"]}]}}}}
    stated = {name: str(setting.value) for name, setting in line.environment.items()
              if name not in DEVICE_VARIABLES}
    if stated:
        found["environment"] = stated
    if len(one.machines) > 1:
        found["network_mode"] = "host"
    else:
        found["ports"] = [f"{start.port}:{start.port}"]
    if line.options:
        found["working_dir"] = "/tmp"
        found["configs"] = [{"source": start.name, "target": f"/tmp/{start.options_file}"}]
    return found if alone else {**found, "profiles": [start.machine]}


def check_image(start: Start) -> None:
    """Raises InputError where no image of the engine for the accelerator is known."""
    if start.vendor != "nvidia":
        raise InputError(f"replicas[{start.placed.number}]: penstock knows no image of "
                         f"{start.engine} for {start.vendor}; expected kubernetes.create.image, or "
                         "--format shell")


def _escaped(word: str) -> str:
    """Return a text in which Compose replaces nothing but the address of a replica's first
    machine."""
    return word.replace("$", "$$").replace(LEADER.replace("$", "$$"), f"${{{LEADER[1:]}:?}}")
