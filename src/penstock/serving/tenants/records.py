"""Records of a request for the ledger: opening, progress, and end."""

from typing import NamedTuple


class Opening(NamedTuple):
    """A request is under way and may come to cost ``reserved_nanos``.

    The rest is what has been delivered so far, which is charged if nothing more is ever heard.
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
    """An open request has come this far."""

    decision_id: str
    model: str
    prompt_tokens: int
    output_tokens: int
    charged_nanos: int


class Settlement(NamedTuple):
    """So much was delivered, and this is what it costs: the last word on a request.

    ``opened`` says whether the ledger was told of its opening.
    """

    decision_id: str
    tenant: str
    model: str
    at_s: float
    prompt_tokens: int
    output_tokens: int
    charged_nanos: int
    opened: bool = False


Record = Opening | Progress | Settlement


class Batch:
    """Records that are written in one transaction, no more of each request than is needed."""

    def __init__(self) -> None:
        self.openings: dict[str, Opening] = {}
        self.progresses: dict[str, Progress] = {}
        self.settlements: dict[str, Settlement] = {}

    def add(self, record: Record) -> None:
        """One more; of two settlements of a request the first counts."""
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
