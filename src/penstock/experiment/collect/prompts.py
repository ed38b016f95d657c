"""The prompts to collect answers to, with references where there are any."""

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from penstock.core.errors import InputError, kind_of

_MAX_BYTES = 1 << 30
_Found = tuple[str, str | None]


class Prompt(NamedTuple):
    """A prompt, by its place in the file; ``reference`` is an answer known to be right."""

    prompt_id: int
    text: str
    reference: str | None = None


def read_prompts(path: Path) -> tuple[tuple[Prompt, ...], str]:
    """The prompts of a file, and a digest by which the file is known again.

    ``.jsonl``: objects with ``prompt`` and perhaps ``reference``; ``.csv``: these columns;
    ``.txt``: a prompt per line. Raises InputError.
    """
    readers: Mapping[str, Callable[[str], Iterator[_Found]]] = {
        ".jsonl": _of_json_lines, ".csv": _of_csv, ".txt": _of_text}
    if path.suffix not in readers:
        raise InputError(f"{path}: expected a name that ends in {', '.join(readers)}")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: larger than {_MAX_BYTES >> 20} MiB")
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    try:
        found = tuple(Prompt(number, prompt, reference) for number, (prompt, reference)
                      in enumerate(readers[path.suffix](text)))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if not found:
        raise InputError(f"{path}: no prompts")
    return found, hashlib.sha256(content).hexdigest()


def _of_text(text: str) -> Iterator[_Found]:
    for line in text.splitlines():
        if line.strip():
            yield line, None


def _of_json_lines(text: str) -> Iterator[_Found]:
    import orjson

    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InputError(f"line {number}: is not JSON ({error})") from None
        if not isinstance(found, dict):
            raise InputError(f"line {number}: {kind_of(found)}; expected an object with "
                             "prompt")
        yield _pair(found, f"line {number}")


def _of_csv(text: str) -> Iterator[_Found]:
    csv.field_size_limit(1 << 24)
    reader = csv.DictReader(text.splitlines(keepends=True))
    if "prompt" not in (reader.fieldnames or ()):
        raise InputError("no column 'prompt'; expected prompt and perhaps reference")
    try:
        for row in reader:
            yield _pair(row, f"row {reader.line_num}")
    except csv.Error as error:
        raise InputError(f"row {reader.line_num}: {error}") from None


def _pair(found: Mapping[str, Any], where: str) -> _Found:
    prompt, reference = found.get("prompt"), found.get("reference")
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f"{where}: prompt is {kind_of(prompt)}; expected a text")
    if reference is not None and not isinstance(reference, str | int | float):
        raise InputError(f"{where}: reference is {kind_of(reference)}; expected a text")
    return prompt, None if reference in (None, "") else str(reference)
