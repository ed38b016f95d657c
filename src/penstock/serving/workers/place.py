"""Place of one worker process among those of a server."""

from dataclasses import dataclass
from pathlib import Path

import orjson

from penstock.serving.adapters.claims import WorkerClaims
from penstock.serving.workers.load_board import LoadBoard


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """A worker's number, and the folder that the processes of one server share. Only their user can
    open the folder."""

    number: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.number}:{self.folder}"

    @classmethod
    def of(cls, text: str) -> "WorkerPlace":
        """Return the place of its text."""
        number, _, folder = text.partition(":")
        return cls(int(number), Path(folder))

    @property
    def num_workers(self) -> int:
        """The number of workers with this one."""
        return int((self.folder / "workers").read_text())

    @property
    def socket(self) -> Path:
        """Socket on which this worker answers the keeper."""
        return self.folder / f"{self.number}.sock"

    @property
    def keeper(self) -> Path:
        """Socket on which the keeper answers workers."""
        return keeper_socket(self.folder)

    def board(self) -> LoadBoard:
        """Open the board of this worker and the others."""
        return LoadBoard(self.folder / "load", self.num_workers)

    def claims(self) -> WorkerClaims:
        """Return the claims of this worker beside those of the others."""
        return WorkerClaims(self.folder / "adapters")

    def drained(self) -> frozenset[str]:
        """Return the URLs of the engines that are being drained."""
        try:
            return frozenset(orjson.loads((self.folder / "drained").read_bytes()))
        except FileNotFoundError:
            return frozenset()


def keeper_socket(folder: Path) -> Path:
    """Return the path of a keeper's socket."""
    return folder / "keeper.sock"
