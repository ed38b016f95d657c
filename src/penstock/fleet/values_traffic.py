"""Where the requests of a traffic entry come from, before any file is read."""

from dataclasses import dataclass

from penstock.workload.column_map import AS_KNOWN, ColumnMap
from penstock.workload.lengths import LengthDistribution


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A recorded trace: its rows in order or shuffled, and whether its own times are kept.

    ``scale`` multiplies the rate of the trace's own times, if stated. ``format`` is ``auto`` or a
    name in ``registry.sources.TRACES``. ``columns`` are the file's other names of columns, and the
    unit of its clock.
    """

    path: str
    format: str = "auto"
    own_times: bool = True
    scale: float | None = None
    shuffle: bool = False
    columns: ColumnMap = AS_KNOWN


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """A set of many clients' traffic in a folder, from ``from_s`` of its files on."""

    folder: str
    name: str
    from_s: float = 0.0


@dataclass(frozen=True, slots=True)
class AgentSessions:
    """Sessions of agents, drawn by a profile of ``workload.agents`` with every length times
    ``token_scale``. Without ``mean_turns`` or ``human_share`` the profile's count."""

    profile: str
    sessions_per_s: float
    num_sessions: int
    token_scale: float = 1.0
    mean_turns: float | None = None
    human_share: float | None = None
    reasoning_share: float = 0.0


Lengths = TraceFile | ClientFiles | AgentSessions | LengthDistribution | str
