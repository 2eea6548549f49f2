"""Write rows of words and vectors to a file in Parquet, Arrow or NumPy's npz format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charembed.errors import import_extra
from charembed.util.files import atomic_file

Format = Literal["parquet", "arrow", "npz"]
ROW_BYTES = 100
"""Approximate size of a row without its vector, in bytes."""
LONGEST_NPZ_WORD = 100
"""Number of characters to which words in npz files are cut: NumPy stores all strings of an array as wide as the
longest one."""
REPEATED_COLUMNS = ["source", "number", "word", "start", "end"]
"""Columns in which Parquet looks for repeated values, to write each once. In vectors it would find none, slowly."""


@dataclass
class Rows:
    """Rows of the output, one per word, stored by column."""

    sources: list[str]
    """File or data set of each word."""
    numbers: list[int]
    """Line or record in the source, from 1."""
    words: list[str]
    """The words."""
    spans: NDArray[np.int64]
    """Offsets of each word's first character and of one past its last, in the line or record. Shape: (words, 2)"""
    vectors: NDArray[Any]
    """The vectors, float32 or float16. Shape: (words, dim)"""

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, rows: slice) -> Rows:
        columns = (self.sources, self.numbers, self.words, self.spans, self.vectors)
        return Rows(*(column[rows] for column in columns))  # type: ignore[arg-type]

    @property
    def bytes_per_row(self) -> int:
        """Approximate size of one row in a file, in bytes."""
        return int(self.vectors.shape[1]) * self.vectors.itemsize + ROW_BYTES

    @classmethod
    def concatenate(cls, parts: Sequence[Rows]) -> Rows:
        """Return the rows of all parts, in order."""
        return cls(
            [source for part in parts for source in part.sources],
            [number for part in parts for number in part.numbers],
            [word for part in parts for word in part.words],
            np.concatenate([part.spans for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )


def check_format(kind: Format) -> None:
    """Check that files of a format can be written with the installed packages.

    Raises:
        MissingExtraError: the format is Parquet or Arrow and pyarrow is not installed.
    """
    if kind != "npz":
        import_extra("pyarrow", extra="parquet", purpose=f"writing {kind}")


def write_shard(rows: Rows, path: Path, kind: Format) -> None:
    """Write a file atomically.

    Raises:
        OSError: the file cannot be written; an incomplete file is removed.
    """
    with atomic_file(path) as temporary:
        _WRITERS[kind](rows, temporary)


def _write_parquet(rows: Rows, path: Path) -> None:
    parquet = import_extra("pyarrow.parquet", extra="parquet", purpose="writing Parquet")
    with path.open("wb") as file:  # a file, because PyArrow opens no name that is not UTF-8
        parquet.write_table(rows_table(rows), file, row_group_size=4096, use_dictionary=REPEATED_COLUMNS)


def _write_arrow(rows: Rows, path: Path) -> None:
    arrow = import_extra("pyarrow", extra="parquet", purpose="writing Arrow")
    table = rows_table(rows)
    # A file, because PyArrow opens no name that is not UTF-8.
    with path.open("wb") as file, arrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=4096)


def rows_table(rows: Rows) -> Any:
    """Return rows as a table of PyArrow.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    arrow = import_extra("pyarrow", extra="parquet", purpose="writing Parquet and Arrow")
    return arrow.table(
        {
            "source": arrow.array(rows.sources, arrow.string()),
            "number": arrow.array(rows.numbers, arrow.int64()),
            "word": arrow.array([_encodable(word) for word in rows.words], arrow.string()),
            "start": rows.spans[:, 0],
            "end": rows.spans[:, 1],
            "vector": arrow.FixedSizeListArray.from_arrays(arrow.array(rows.vectors.ravel()), rows.vectors.shape[1]),
        }
    )


def _encodable(word: str) -> str:
    """Return the word with lone surrogates, which UTF-8 cannot encode, replaced by question marks."""
    return word.encode("utf-8", "replace").decode()


def _write_npz(rows: Rows, path: Path) -> None:
    source_numbers = {source: number for number, source in enumerate(dict.fromkeys(rows.sources))}
    with path.open("wb") as file:  # a file, because NumPy would add .npz to the temporary name
        np.savez(
            file,
            source=np.array([source_numbers[source] for source in rows.sources]),
            sources=np.array(list(source_numbers)),
            number=np.array(rows.numbers, dtype=np.int64),
            word=np.array([word[:LONGEST_NPZ_WORD] for word in rows.words]),
            start=rows.spans[:, 0],
            end=rows.spans[:, 1],
            vector=rows.vectors,
        )


_WRITERS: dict[Format, Callable[[Rows, Path], None]] = {
    "parquet": _write_parquet,
    "arrow": _write_arrow,
    "npz": _write_npz,
}
