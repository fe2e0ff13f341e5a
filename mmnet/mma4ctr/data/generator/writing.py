"""Files of text, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from mmnet.files import write_atomic


def write_csv(path: Path, table: pa.Table, *, delimiter: str = ",", header: bool = True) -> None:
    """Writes a table without any quotes."""
    options = pa.csv.WriteOptions(
        include_header=header, delimiter=delimiter, quoting_style="none", quoting_header="none"
    )
    write_atomic(path, lambda beside: pa.csv.write_csv(table, beside, options))


def write_lines(path: Path, lines: pa.StringArray) -> None:
    """Write an array of lines, each of which ends in a line break, as raw bytes."""
    _, offsets, data = lines.buffers()
    last = np.frombuffer(offsets, np.int32)[len(lines)]
    write_atomic(path, data.to_pybytes()[:last])


def joined(lists: pa.ListArray, separator: str) -> pa.Array:
    """Format each list as text with separators."""
    words = lists.values.cast(pa.string())
    return pc.binary_join(pa.ListArray.from_arrays(lists.offsets, words), separator)


def matrix(values: np.ndarray) -> pa.ListArray:
    """Format each row of a matrix as a list."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))
