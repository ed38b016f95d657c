"""Tables of a step's parts: time, work, physical bound, and where each number is from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.report.model import wording
from penstock.report.model.table import Block, Column, Note, Row, cells, strong, table

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

_WORTH_TELLING = 5e-4


def step_blocks(document: Mapping[str, Any]) -> Iterator[Block]:
    """Yield the tables of a step, of the document that ``catalog explain --json`` prints."""
    by_operation = document["by_operation"]
    columns = [Column("operation"), Column("time"), Column("share")]
    if by_operation:
        columns += [Column("memory", rank=1), Column("FLOP", rank=1), Column("FLOP/B", rank=2),
                    Column("bound"), Column("reached"), Column("binds", left=True)]
    parts = document["parts"]
    rows = [_row(part, document["total_s"])[:len(columns)] for part in parts]
    yield table(_title(document), columns, rows, total=_total(document)[:len(columns)],
                notes=_notes(document))
    sources = (f"step time: {_kind(document['step_time'])}", f"source: {document['source']}")
    if by_operation:
        yield table("Where the times are from",
                    (Column("rates, or rows of a table", prose=True), Column("fixed"),
                     Column("operations", prose=True, left=True)), list(_sources(parts)),
                    notes=("fixed: starts of kernels and messages, time per sequence", *sources))
    else:
        yield Note(sources)
    if document["passes"] is not None:
        yield Note((_passes(document["passes"], document["total_s"]),))


def _title(document: Mapping[str, Any]) -> str:
    step, spread = document["step"], document["parallelism"]
    degrees = ", ".join(f"{name} {degree}" for name, degree in spread.items() if degree > 1)
    doing = []
    if step["prefill_tokens"]:
        behind = f" behind {step['past_tokens']:,}" if step["past_tokens"] else ""
        doing.append(f"{step['prefill_tokens']:,} prompt tokens{behind}")
    if step["decodes"]:
        doing.append(f"{step['decodes']:,} decodes at {step['context_tokens']:,} tokens")
    chips = document["accelerator"] + (f" ({degrees})" if degrees else "")
    return (f"{document['model']} on {chips}, {document['precision']}, "
            f"KV {document['kv_precision']}: {' and '.join(doing)}")


def _row(part: Mapping[str, Any], total_s: float) -> Row:
    sent = part["sent_bytes"]
    return cells((
        part["name"], wording.seconds(part["seconds"]), _share(part["seconds"] / total_s),
        f"{_amount(sent, 'B')} sent" if sent else _amount(part["bytes"], "B"),
        _amount(part["flops"], ""), _intensity(part["intensity"]),
        wording.seconds(part["bound_s"] or None), _share(part["bound_share"]),
        part["binds"] or wording.ABSENT))


def _total(document: Mapping[str, Any]) -> Row:
    total_s, bound_s = document["total_s"], document["bound_s"]
    parts = document["parts"]
    return tuple(strong(text) for text in (
        "step", wording.seconds(total_s), "100 %",
        _amount(sum(part["bytes"] for part in parts), "B"),
        _amount(sum(part["flops"] for part in parts), ""), wording.ABSENT,
        wording.seconds(bound_s), _share(bound_s / total_s if bound_s else None), ""))


def _notes(document: Mapping[str, Any]) -> Iterator[str]:
    low, high = wording.seconds(document["low_s"]), wording.seconds(document["high_s"])
    beyond = "; beyond what was measured" if document["extrapolated"] else ""
    yield f"95 % of such steps last {low} to {high}, by the stated error{beyond}."
    if document["by_operation"]:
        yield ("Of one accelerator, all stages of a pipeline summed. Bound: bytes or FLOP at the "
               "datasheet's peaks. Reached: the bound over the operation's time alone.")
    else:
        yield "This kind of step time tells no operations apart, only the parts of its formula."
    rounded = document["simulated_s"] / document["total_s"] - 1.0
    if abs(rounded) >= _WORTH_TELLING:
        yield (f"The simulator's clock has rates of attention in whole picoseconds: "
               f"{wording.seconds(document['simulated_s'])} ({rounded:+.2%}).")
    if document["compact_s"] is not None:
        off = document["compact_s"] / document["total_s"] - 1.0
        yield (f"Without exact: true a fleet takes the compact form, "
               f"{wording.seconds(document['compact_s'])} ({off:+.1%}).")


def _passes(passes: Mapping[str, Any], total_s: float) -> str:
    apart_s = passes["prefill_s"] + passes["decode_s"]
    more = apart_s - total_s
    return (f"One pass computes all tokens in {wording.seconds(total_s)}. A pass of the prompts "
            f"({wording.seconds(passes['prefill_s'])}) and one of the decodes "
            f"({wording.seconds(passes['decode_s'])}) would take {wording.seconds(apart_s)}: "
            f"{wording.seconds(abs(more))} {'more' if more >= 0 else 'less'} "
            f"({more / total_s:+.0%}).")


def _sources(parts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Yield each rate or place in a table, with the fixed time and the names of its operations."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        found.setdefault(_rates(part), []).append(part)
    for source, own in found.items():
        fixed_s = sum(part["fixed_s"] for part in own)
        yield (source, wording.seconds(fixed_s or None), ", ".join(part["name"] for part in own))


def _rates(part: Mapping[str, Any]) -> str:
    said = []
    for key, share, unit in (("bytes_per_s", "bytes_per_s_share", "B/s"),
                             ("flops_per_s", "flops_per_s_share", "FLOP/s")):
        if part[key] is not None:
            said.append(f"{_amount(part[key], unit)} ({_share(part[share])} of peak)")
    return ", ".join(said) or part["source"]


def _kind(spec: Any) -> str:
    """Return a step time as a fleet file states it."""
    if not isinstance(spec, Mapping):
        return str(spec)
    return ", ".join(f"{key} {value}" for key, value in spec.items() if value != "")


def _share(share: float | None) -> str:
    return wording.ABSENT if share is None else f"{100.0 * share:.1f} %"


def _intensity(value: float | None) -> str:
    return wording.rate(value or None, "")


def _amount(value: float, unit: str) -> str:
    if not value:
        return wording.ABSENT
    scale, prefix = next(((scale, prefix) for scale, prefix in _PREFIXES if value >= scale),
                         (1.0, ""))
    return wording.rate(value / scale, f"{prefix}{unit}")
