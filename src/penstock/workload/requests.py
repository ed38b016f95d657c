"""A workload as the requests that a live system would see."""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain, pairwise, repeat

from penstock.core.errors import InputError, nearest
from penstock.core.prefix_domain import hashes_in
from penstock.core.request import AUTO, CONFIDENTIAL, NO_FORECASTS, NO_NEEDS, Needs, Request
from penstock.core.slo import ServiceClass
from penstock.workload.workload import Workload

_BLOCK_ROWS = 1 << 11


def requests(workload: Workload, classes: Mapping[str, ServiceClass],
             confidential_tenants: Collection[str] = (),
             prefix_domain: Callable[[str], str] = lambda _: "", first: int = 0
             ) -> Iterator[Request]:
    """The workload's requests in order of arrival, numbered from ``first``, made as they are asked
    for.

    They are confidential where their class or their tenant is. ``prefix_domain`` names the tenants
    that share prefix caches with a tenant. Raises InputError at once when
    ``classes`` lacks one of the workload's service classes.
    """
    for name in workload.service_classes:
        if name not in classes:
            raise InputError(f"traffic has the service class {name!r}, which is not defined"
                             f"{nearest(name, classes)}")
    by_index = [classes[name] for name in workload.service_classes]
    starts = range(0, len(workload), _BLOCK_ROWS)
    barred = [name in confidential_tenants for name in workload.tenants]
    domains = [prefix_domain(name) for name in workload.tenants]
    if len(set(domains)) < 2:  # everybody shares, so the hashes may stay as they are
        domains = []
    return chain.from_iterable(_block(workload, by_index, barred, domains, start, first)
                               for start in starts)


def _block(workload: Workload, classes: list[ServiceClass], barred: list[bool],
           domains: list[str], start: int, first: int) -> Iterator[Request]:
    # Python numbers, in blocks: a numpy scalar per field would cost several times as much.
    rows = slice(start, min(start + _BLOCK_ROWS, len(workload)))
    models = ["" if name == AUTO else name for name in workload.models]
    answers = workload.answers
    fields = zip(
        range(first + rows.start, first + rows.stop),
        workload.arrival_s[rows].tolist(),
        workload.prompt_tokens[rows].tolist(),
        workload.max_tokens[rows].tolist(),
        map(classes.__getitem__, workload.class_index[rows].tolist()),
        map(models.__getitem__, workload.model_index[rows].tolist()),
        map(workload.tenants.__getitem__, workload.tenant_index[rows].tolist()),
        _hashes(workload, domains, rows),
        repeat(workload.hash_block_tokens), _needs(workload, classes, barred, rows),
        repeat(NO_FORECASTS) if answers is None else answers.forecasts(rows),
        _sessions(workload, rows), repeat(0), repeat(False), repeat(False),
        _adapters(workload, rows),
        strict=False,
    )
    # A third of the time of ``Request._make``, which is interpreted.
    return map(tuple.__new__, repeat(Request), fields)


def _adapters(workload: Workload, rows: slice) -> Iterator[str]:
    if workload.adapter_index is None:
        return repeat("")
    return map(workload.adapters.__getitem__, workload.adapter_index[rows].tolist())


def _sessions(workload: Workload, rows: slice) -> Iterator[str]:
    """The names of sessions, as clients state them in a header."""
    if workload.tasks is None:
        return repeat("")
    return ("" if task < 0 else str(task) for task in workload.tasks[rows].tolist())


def _needs(workload: Workload, classes: list[ServiceClass], barred: list[bool],
           rows: slice) -> Iterator[Needs]:
    if not any(barred) and not any(one.confidential for one in classes):
        return repeat(NO_NEEDS)
    return (CONFIDENTIAL if classes[c].confidential or barred[t] else NO_NEEDS
            for c, t in zip(workload.class_index[rows].tolist(),
                            workload.tenant_index[rows].tolist(), strict=True))


def _hashes(workload: Workload, domains: list[str], rows: slice) -> Iterator[tuple[int, ...]]:
    if not workload.hash_block_tokens:
        return repeat(())
    offsets = workload.hash_offsets[rows.start:rows.stop + 1]
    values = workload.hash_values[offsets[0]:offsets[-1]].tolist()
    bounds = (offsets - offsets[0]).tolist()
    found = (tuple(values[low:high])
             for low, high in pairwise(bounds))
    if workload.adapter_index is not None:  # each adapter computes keys and values of its own
        adapters = workload.adapters
        shared = domains or [""] * len(workload.tenants)
        return map(hashes_in, (f"{shared[t]}\0{adapters[a]}" if adapters[a] else shared[t]
                               for t, a in zip(workload.tenant_index[rows].tolist(),
                                               workload.adapter_index[rows].tolist(),
                                               strict=True)), found)
    if not domains:
        return found
    return map(hashes_in, map(domains.__getitem__, workload.tenant_index[rows].tolist()), found)
