"""Columns in a temporary file, for rows that are seldom needed."""

import mmap
import tempfile
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_ALIGNED_BYTES: Final = 8


def columns_in_file(columns: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return columns of the same values, shapes (rows,), whose memory the system may take back.

    The file is in the folder for temporary files. It has no name, and ends with the columns.
    """
    starts = []
    with tempfile.TemporaryFile() as file:
        for column in columns:
            starts.append(file.tell())
            file.write(np.ascontiguousarray(column).tobytes())
            file.write(bytes(-file.tell() % _ALIGNED_BYTES or _ALIGNED_BYTES))
        file.flush()
        memory = mmap.mmap(file.fileno(), 0)
    return [np.frombuffer(memory, column.dtype, len(column), start)
            for column, start in zip(columns, starts, strict=True)]
