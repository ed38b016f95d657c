"""Where a gateway runs, and whether another gateway of the same place is alive."""

import os
import socket
from pathlib import Path
from typing import NamedTuple
from uuid import getnode

_OWN_QUIET_S = 10.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


class Identity(NamedTuple):
    """The process of a gateway. Process ids are comparable among gateways of one ``place`` only: a
    machine since its last boot, and a namespace of process ids, since containers may share a host
    name. Of another place, only the age of the last sign tells whether a gateway is alive."""

    place: str
    pid: int

    def alive(self, pid: int, quiet_s: float) -> bool:
        """Whether a gateway of the same place still runs that gave its last sign ``quiet_s``
        ago."""
        if pid == self.pid:
            # another gateway of this process, or of an earlier process with this id
            return quiet_s < _OWN_QUIET_S
        if os.name != "posix":
            return True  # this platform cannot tell
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except (OSError, OverflowError):
            return True  # a process of another user
        return True


def own_identity(boot_id: Path = _BOOT_ID, pid_namespace: Path = _PID_NAMESPACE) -> Identity:
    """Return the identity of this process. Systems without these files of Linux have no namespaces
    of process ids, and the hardware's address tells machines of one name apart."""
    try:
        place = f"{boot_id.read_text().strip()} {pid_namespace.readlink()}"
    except OSError:
        place = f"{getnode():x}"
    return Identity(f"{socket.gethostname()[:64]} {place}"[:200], os.getpid())
