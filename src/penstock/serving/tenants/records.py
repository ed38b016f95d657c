"""Records of a request for the ledger: opening, progress, and end."""

from typing import NamedTuple


class Opening(NamedTuple):
    """A request is in progress and may cost up to ``reserved_nanos``.

    The other fields are the tokens delivered so far and their cost, which is charged if no further
    record follows.
    """

    decision_id: str
    tenant: str
    at_s: float
    reserved_nanos: int
    model: str
    prompt_tokens: int
    output_tokens: int
    charged_nanos: int


class Progress(NamedTuple):
    """Progress of an open request."""

    decision_id: str
    model: str
    prompt_tokens: int
    output_tokens: int
    charged_nanos: int


class Settlement(NamedTuple):
    """The final tokens and cost of a request.

    ``opened`` says whether an Opening was recorded, ``disputed`` whether the engine's count of
    tokens was not believed, ``keyed`` whether the request has an idempotency key.
    """

    decision_id: str
    tenant: str
    model: str
    at_s: float
    prompt_tokens: int
    output_tokens: int
    charged_nanos: int
    opened: bool = False
    disputed: bool = False
    keyed: bool = False

    @property
    def delivered(self) -> bool:
        """Whether anything was delivered: a failed request leaves no row."""
        return bool(self.prompt_tokens or self.output_tokens or self.charged_nanos)


Record = Opening | Progress | Settlement


class Batch:
    """Records of one transaction, reduced to the latest of each request."""

    def __init__(self) -> None:
        self.openings: dict[str, Opening] = {}
        self.progresses: dict[str, Progress] = {}
        self.settlements: dict[str, Settlement] = {}

    def add(self, record: Record) -> None:
        """Add a record. The first of two settlements of a request counts."""
        name = record.decision_id
        if isinstance(record, Settlement):
            self.settlements.setdefault(name, record)
            self.progresses.pop(name, None)
            self.openings.pop(name, None)
        elif name in self.settlements:
            return
        elif isinstance(record, Opening):
            self.openings[name] = record
        else:
            self.progresses[name] = record

    def __bool__(self) -> bool:
        return bool(self.openings or self.progresses or self.settlements)
