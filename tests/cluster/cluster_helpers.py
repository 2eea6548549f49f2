"""Read and compare the rows of output folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as pq
from helpers import assert_same_vectors


def read_rows(folder: Path) -> pyarrow.Table:
    """Return the rows of all files, in order."""
    return pyarrow.concat_tables(pq.read_table(path) for path in sorted(folder.glob("part-*")))


def assert_same_rows(rows: pyarrow.Table, expected: pyarrow.Table) -> None:
    """Fail unless two tables of vectors have the same rows in the same order."""
    for name in ("source", "number", "word", "start", "end"):
        assert rows[name].to_pylist() == expected[name].to_pylist(), name
    vectors, expected_vectors = (np.array(table["vector"].to_pylist(), np.float32) for table in (rows, expected))
    assert_same_vectors(vectors, expected_vectors, expected["word"].to_pylist())
