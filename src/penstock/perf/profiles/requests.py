"""Single requests of a benchmark as rows: from a run's table, and from vLLM's own benchmark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InputError, kind_of, quote
from penstock.metrics.table import STATUSES, RequestTable
from penstock.perf.profiles.imported import Imported, numbered
from penstock.perf.profiles.points import Measurement, ModelConfiguration

_FINISHED = STATUSES.index("finished")
_ARRAYS = ("input_lens", "output_lens", "ttfts", "itls")


def request_measurements(table: RequestTable, configuration: ModelConfiguration,
                         concurrency: int | None, source: str, shape: str = ""
                         ) -> list[Measurement]:
    """A row per request of a table. ``batch`` is the concurrency where it was held constant.

    Those that did not finish failed, and have no times.
    """
    found = []
    for row in range(len(table.arrival_s)):
        finished = table.status[row] == _FINISHED
        first_s = float(table.first_token_s[row] - table.arrival_s[row])
        end_s = float(table.last_token_s[row] - table.arrival_s[row])
        gap_s = float(table.itl_mean_s[row])
        found.append(Measurement(
            "request", configuration, concurrency, int(table.prompt_tokens[row]),
            int(table.output_tokens[row]), outcome="ok" if finished else "failed",
            reason="" if finished else STATUSES[table.status[row]],
            seconds=end_s if finished and np.isfinite(end_s) else None,
            first_token_s=first_s if finished and np.isfinite(first_s) else None,
            decode_step_s=gap_s if finished and np.isfinite(gap_s) else None, shape=shape,
            source=f"{source}: request {int(table.request_id[row])}"))
    return found


def read_vllm_bench(path: Path) -> Imported:
    """The JSON of ``vllm bench serve --save-result --save-detailed``.

    Raises InputError for other files, and for one without the single requests' times.
    """
    document = _document(path)
    if "ttfts" not in document:
        expected = "run it with --save-detailed" if "completed" in document else \
            "expected the result of `vllm bench serve`"
        raise InputError(f"{path}: holds no times of single requests; {expected}")
    prompts, outputs, firsts, gaps = (_array(document, name, path) for name in _ARRAYS)
    errors = _array(document, "errors", path) if "errors" in document else [""] * len(firsts)
    for name, values in zip((*_ARRAYS, "errors"), (prompts, outputs, firsts, gaps, errors),
                            strict=True):
        if len(values) != len(firsts):
            raise InputError(f"{path}: {name}: {len(values)} entries; expected {len(firsts)}, as "
                             "many as ttfts")
    concurrency = document.get("max_concurrency")
    configuration = ModelConfiguration(str(document.get("model_id") or path.stem), (), "unknown",
                                  "unknown")
    found = []
    for number, error in enumerate(errors):
        where = f"{path}: request {number}"
        first_s = _number(firsts[number], f"{where}: ttfts")
        if not isinstance(gaps[number], list):
            raise InputError(f"{where}: itls: found {quote(gaps[number])}; expected a list")
        steps = [_number(one, f"{where}: itls") for one in gaps[number]]
        prompt, output = (_whole(values[number], f"{where}: {name}") for name, values in
                          (("input_lens", prompts), ("output_lens", outputs)))
        ok = not error
        found.append(Measurement(
            "request", configuration, concurrency if isinstance(concurrency, int) else None,
            prompt, output, outcome="ok" if ok else "failed",
            reason="" if ok else str(error).splitlines()[0][:200],
            seconds=first_s + sum(steps) if ok else None, first_token_s=first_s if ok else None,
            decode_step_s=float(np.median(steps)) if ok and steps else None, source=where))
    subject = {"engine": str(document.get("endpoint_type") or document.get("backend") or "vllm"),
               "request_rate": document.get("request_rate"), "date": document.get("date")}
    return Imported(numbered(found), subject,
                    ("times are those that the benchmark's client saw",))


def _document(path: Path) -> Mapping[str, Any]:
    import orjson

    try:
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: found {kind_of(document)}; expected an object")
    return document


def _array(document: Mapping[str, Any], name: str, path: Path) -> Sequence[Any]:
    found = document.get(name)
    if not isinstance(found, list):
        raise InputError(f"{path}: {name}: found {quote(found)}; expected a list")
    return found


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InputError(f"{where}: found {quote(value)}; expected a number of at least 0")
    return float(value)


def _whole(value: Any, where: str) -> int:
    number = _number(value, where)
    if number != int(number):
        raise InputError(f"{where}: found {quote(value)}; expected a whole number")
    return int(number)
