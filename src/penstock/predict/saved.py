"""Learnt models as files: one ``.npz`` of arrays, with the rest as JSON in one of them.

Nothing in a file is ever executed: arrays of objects are refused.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError

Arrays = Mapping[str, NDArray[Any]]
Found = TypeVar("Found")


def save_arrays(path: Path, head: Mapping[str, Any], arrays: Arrays) -> None:
    """Write arrays and what is said of them."""
    text = np.frombuffer(json.dumps(head).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, head=text, **dict(arrays))


def load_arrays(path: Path, form: str, what: str, expected: str,
                make: Callable[[Mapping[str, Any], Arrays], Found]) -> Found:
    """Return the object that ``make`` builds from a file of format ``form``.

    Raises InputError for a file that cannot be read, is no ``what`` or of another format, and for
    whatever ``make`` stumbles over.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        head = json.loads(arrays.pop("head").tobytes().decode())
        if not isinstance(head, dict) or head.get("format") != form:
            raise InputError(f"{path}: is of another format; expected {form}")
        return make(head, arrays)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (BadZipFile, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: is not {what} ({type(error).__name__}: "
                         f"{str(error)[:80]}); expected {expected}") from error
