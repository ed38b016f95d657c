"""Traffic that is drawn anew, block by block, whenever it is asked for, and never held whole."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from penstock.workload.merge import merged_blocks
from penstock.workload.mixing import check_names, drawable, source_blocks
from penstock.workload.select import part_of
from penstock.workload.source import TrafficSource
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Drawn:
    """Requests of drawable sources, in order of arrival, without holding them.

    ``num_requests`` and the last arrival at ``duration_s`` are those of one earlier pass. ``most``
    requests up to ``until_s`` are drawn; None sets no such bound.
    """

    sources: tuple[TrafficSource, ...]
    seed: int
    num_requests: int
    duration_s: float
    models: tuple[str, ...]
    service_classes: tuple[str, ...]
    tenants: tuple[str, ...]
    most: int | None = None
    until_s: float | None = None

    def __len__(self) -> int:
        return self.num_requests

    def blocks(self) -> Iterator[Workload]:
        """Draw the requests, each time the same."""
        return _blocks(self.sources, self.seed, self.most, self.until_s)


def drawn(sources: Sequence[TrafficSource], seed: int, *, most: int | None = None,
          until_s: float | None = None, check: Callable[[Workload, int], None]) -> Drawn | None:
    """Return the traffic of drawable sources, None where none arrives.

    Draws everything once. ``check`` gets each block with the number of its first request. Raises
    InputError as ``generate`` does.
    """
    assert all(drawable(source) for source in sources), "the sources are drawable"
    check_names(sources)
    num, last = 0, None
    for block in _blocks(sources, seed, most, until_s):
        check(block, num)
        num, last = num + len(block), block
    if last is None:
        return None
    return Drawn(tuple(sources), seed, num, last.duration_s, last.models, last.service_classes,
                 last.tenants, most, until_s)


def _blocks(sources: Sequence[TrafficSource], seed: int, most: int | None, until_s: float | None
            ) -> Iterator[Workload]:
    streams = [source_blocks(source, seed) for source in sources]
    left = most
    for block in streams[0] if len(streams) == 1 else merged_blocks(streams):
        end = len(block) if left is None else min(left, len(block))
        if until_s is not None:
            end = min(end, int(block.arrival_s.searchsorted(until_s, "right")))
        if end:
            yield block if end == len(block) else part_of(block, slice(0, end))
        if end < len(block) or end == left:
            return
        left = None if left is None else left - end
