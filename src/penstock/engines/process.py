"""Child processes of Penstock: started so that none is lost, identified, and ended with all
descendants (POSIX).

A child first waits at a gate. Its id is recorded, then the gate opens and the child becomes the
command. If Penstock dies before, the gate closes and the child ends. So every running engine is
recorded. Each child has its own session: a signal to the group reaches all its descendants.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from penstock.core.errors import InputError

_GATE = 'read -r go && [ "$go" = go ] && exec "$@" </dev/null'
_LOOK_S = 0.02
_KILLED_S = 30.0  # only a process that waits for a device outlives SIGKILL
_TAIL_BYTES = 4096


class Gated:
    """A child that waits at its gate. ``open`` lets it become the command, ``shut`` ends it."""

    def __init__(self, process: "subprocess.Popen[bytes]", gate: int) -> None:
        self.process = process
        self._gate = gate

    @property
    def pid(self) -> int:
        """Id of the process and of its process group."""
        return self.process.pid

    def open(self) -> None:
        """Open the gate: the child runs the command."""
        try:
            os.write(self._gate, b"go\n")
        except BrokenPipeError:
            pass  # the child was killed, which its supervisor will notice
        finally:
            os.close(self._gate)
            # The child may outlive this process. From here on it is identified by its id, not by
            # this object.
            self.process.returncode = 0

    def shut(self) -> None:
        """Close the gate: the child ends."""
        os.close(self._gate)
        self.process.wait()


def begin(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes],
          folder: Path) -> Gated:
    """Start a child that will become ``command``, with all its output in ``log``.

    Raises InputError on an unsupported platform, and for a missing program.
    """
    if os.name != "posix":
        raise InputError("engines are started as process groups, which needs Linux or macOS")
    inner, outer = os.pipe()
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _GATE, "penstock", *command], env=dict(environment), cwd=folder,
            stdin=inner, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:
        os.close(outer)
        raise InputError(f"{command[0]}: cannot be started ({error.strerror})") from error
    finally:
        os.close(inner)
    return Gated(process, outer)


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return this process' environment with a child's ``own`` variables, without keys that engines
    must not get."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**kept, **own}


def started_mark(pid: int) -> str:
    """Return the operating system's start time of a process, empty without a process or for a
    zombie. Id and start time identify a process until the next boot."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else _asked_mark(pid)
    except (OSError, ProcessLookupError):
        return ""
    fields = text.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return ""
    return f"{_boot()} {fields[19]}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "boot"


def _asked_mark(pid: int) -> str:
    """Return the start time of a process by ``ps``, where there is no /proc (macOS)."""
    done = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True,
                          text=True, check=False)
    state, _, began = done.stdout.strip().partition(" ")
    gone = done.returncode != 0 or state.startswith("Z")
    return "" if gone else f"{_boot()} {' '.join(began.split())}"


def is_same(pid: int, mark: str) -> bool:
    """Whether the process with this id and start time still runs."""
    if mark:
        _reap(pid)
    return bool(mark) and started_mark(pid) == mark


async def end(pid: int, mark: str, grace_s: float) -> None:
    """End a child process with its whole group: SIGTERM, then SIGKILL after ``grace_s``.

    Descendants of a child that has died end, too: they may hold an accelerator's memory. A later
    process with the same id is not touched.
    """
    if not mark or started_mark(pid) not in ("", mark) or not mark.startswith(_boot()):
        return
    if _signal(pid, signal.SIGTERM):
        await _gone(pid, mark, grace_s)
        _signal(pid, signal.SIGKILL)
        await _gone(pid, mark, _KILLED_S)


async def _gone(pid: int, mark: str, grace_s: float) -> None:
    waited_s = 0.0
    while waited_s < grace_s and (is_same(pid, mark) or _has_members(pid)):
        await asyncio.sleep(_LOOK_S)
        waited_s += _LOOK_S


def _has_members(group: int) -> bool:
    """Whether any process of a group still runs; zombies do not count."""
    if not Path("/proc/self/stat").exists():
        return _signal(group, 0)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in ("Z", "X"):
            return True
    return False


def free_port(num: int = 1) -> int:
    """Return the first of ``num`` loopback ports in a row that are free now."""
    while True:
        with ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for more in range(1, num):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + more))
            except (OSError, OverflowError):  # taken, or beyond the last port
                continue
            return port


def last_words(log: Path, since_bytes: int = 0) -> str:
    """Return the last line of a process' log, as the end of a sentence. The process began to write
    at ``since_bytes``; text before that is of earlier processes."""
    try:
        with log.open("rb") as file:
            file.seek(max(since_bytes, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    quoted = "".join(c if c.isprintable() else "?" for c in last)[:200]
    return f"; its log ends: {quoted} ({log})" if quoted else f" ({log})"


def _signal(group: int, number: int) -> bool:
    """Send a signal to a group. Returns whether the group exists."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _reap(pid: int) -> None:
    """Reap a child that has ended. A process that another process started is not a child."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
