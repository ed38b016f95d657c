"""A workload as the requests that a live system would see."""

from collections.abc import Iterator, Mapping
from itertools import chain, pairwise, repeat

from penstock.core.errors import InputError, nearest
from penstock.core.request import AUTO, NO_FORECASTS, NO_NEEDS, Request
from penstock.core.slo import ServiceClass
from penstock.workload.workload import Workload

_BLOCK_ROWS = 1 << 14


def requests(workload: Workload, classes: Mapping[str, ServiceClass]) -> Iterator[Request]:
    """The workload's requests in order of arrival, numbered from 0, made as they are asked for.

    Raises InputError at once when ``classes`` lacks one of the workload's service classes.
    """
    for name in workload.service_classes:
        if name not in classes:
            raise InputError(f"traffic has the service class {name!r}, which is not defined"
                             f"{nearest(name, classes)}")
    by_index = [classes[name] for name in workload.service_classes]
    starts = range(0, len(workload), _BLOCK_ROWS)
    return chain.from_iterable(_block(workload, by_index, start) for start in starts)


def _block(workload: Workload, classes: list[ServiceClass], start: int) -> Iterator[Request]:
    # Python numbers, in blocks: a numpy scalar per field would cost several times as much.
    rows = slice(start, min(start + _BLOCK_ROWS, len(workload)))
    models = ["" if name == AUTO else name for name in workload.models]
    answers = workload.answers
    fields = zip(
        range(rows.start, rows.stop),
        workload.arrival_s[rows].tolist(),
        workload.prompt_tokens[rows].tolist(),
        workload.max_tokens[rows].tolist(),
        map(classes.__getitem__, workload.class_index[rows].tolist()),
        map(models.__getitem__, workload.model_index[rows].tolist()),
        map(workload.tenants.__getitem__, workload.tenant_index[rows].tolist()),
        _hashes(workload, rows),
        repeat(workload.hash_block_tokens), repeat(NO_NEEDS),
        repeat(NO_FORECASTS) if answers is None else answers.forecasts(rows), repeat(""),
        strict=False,
    )
    return map(Request._make, fields)


def _hashes(workload: Workload, rows: slice) -> Iterator[tuple[int, ...]]:
    if not workload.hash_block_tokens:
        return repeat(())
    offsets = workload.hash_offsets[rows.start:rows.stop + 1]
    values = workload.hash_values[offsets[0]:offsets[-1]].tolist()
    bounds = (offsets - offsets[0]).tolist()
    return (tuple(values[low:high])
            for low, high in pairwise(bounds))
