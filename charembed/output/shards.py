"""Receives rows of words and vectors; hands them on as one file: Parquet, Arrow or NumPy's .npz."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charembed.errors import import_extra
from charembed.util.files import atomic_file

Format = Literal["parquet", "arrow", "npz"]
LONGEST_NPZ_WORD = 100
"""NumPy stores all strings of an array as wide as the longest one."""


@dataclass
class Rows:
    """Some rows of the output, by column: one a word."""

    sources: list[str]
    """File or data set."""
    numbers: list[int]
    """Line or record there, from 1."""
    words: list[str]
    spans: NDArray[np.int64]
    """Characters of that line or record. Shape: (words, 2)"""
    vectors: NDArray[Any]
    """float32 or float16. Shape: (words, dim)"""

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, which: slice) -> Rows:
        columns = (self.sources, self.numbers, self.words, self.spans, self.vectors)
        return Rows(*(column[which] for column in columns))  # type: ignore[arg-type]

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """All rows of some, in order."""
        return cls(
            [source for part in parts for source in part.sources],
            [number for part in parts for number in part.numbers],
            [word for part in parts for word in part.words],
            np.concatenate([part.spans for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )


def check_format(kind: Format) -> None:
    """Whether files of a format can be written here.

    Raises:
        MissingExtraError: Parquet or Arrow without pyarrow.
    """
    if kind != "npz":
        import_extra("pyarrow", extra="parquet", purpose=f"writing {kind}")


def write_shard(rows: Rows, path: Path, kind: Format) -> None:
    """Write a file, whole or not at all.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    with atomic_file(path) as aside:
        _WRITERS[kind](rows, aside)


def _write_parquet(rows: Rows, path: Path) -> None:
    parquet = import_extra("pyarrow.parquet", extra="parquet", purpose="writing Parquet")
    parquet.write_table(_table(rows), path, row_group_size=4096)


def _write_arrow(rows: Rows, path: Path) -> None:
    arrow = import_extra("pyarrow", extra="parquet", purpose="writing Arrow")
    table = _table(rows)
    with arrow.OSFile(os.fspath(path), "wb") as file, arrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=4096)


def _table(rows: Rows) -> Any:
    arrow = import_extra("pyarrow", extra="parquet", purpose="writing Parquet and Arrow")
    return arrow.table(
        {
            "source": arrow.array(rows.sources, arrow.string()),
            "number": arrow.array(rows.numbers, arrow.int64()),
            "word": arrow.array([_storable(word) for word in rows.words], arrow.string()),
            "start": rows.spans[:, 0],
            "end": rows.spans[:, 1],
            "vector": arrow.FixedSizeListArray.from_arrays(arrow.array(rows.vectors.ravel()), rows.vectors.shape[1]),
        }
    )


def _storable(word: str) -> str:
    """Without lone surrogates, which no encoding of text can hold."""
    return word.encode("utf-8", "replace").decode()


def _write_npz(rows: Rows, path: Path) -> None:
    numbers = {source: number for number, source in enumerate(dict.fromkeys(rows.sources))}
    with path.open("wb") as file:  # a name of its own would be given the ending .npz
        np.savez(
            file,
            source=np.array([numbers[source] for source in rows.sources]),
            sources=np.array(list(numbers)),
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
