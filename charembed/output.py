"""Receives word embeddings; hands them on to a file: Parquet, written as they come, or NumPy's .npz."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from charembed.corpus import SourceText
from charembed.embedder import CharEmbedder, WordEmbeddings
from charembed.errors import CharEmbedError, import_extra
from charembed.paths import user_path

ROWS_PER_GROUP = 4096
MAX_NPZ_WORD = 1000


@dataclass
class Rows:
    """Some rows of the output, by column."""

    sources: list[str]
    numbers: list[int]
    words: list[str]
    spans: NDArray[np.int64]
    """Shape: (words, 2)"""
    vectors: NDArray[np.float32]
    """Shape: (words, embedding_dim)"""

    @classmethod
    def of(cls, held: list[tuple[SourceText, WordEmbeddings]]) -> Rows:
        """The words of some texts."""
        return cls(
            sources=[text.source for text, found in held for _ in found.words],
            numbers=[text.number for text, found in held for _ in found.words],
            words=[word for _, found in held for word in found.words],
            spans=np.array([span for _, found in held for span in found.spans], dtype=np.int64),
            vectors=np.concatenate([found.vectors for _, found in held]),
        )


@dataclass
class Counts:
    """What was written."""

    texts: int = 0
    words: int = 0


def write_embeddings(embedder: CharEmbedder, texts: Iterable[SourceText], path: str | os.PathLike[str]) -> Counts:
    """Embed texts and write one row a word.

    The columns are `source` (file or data set), `number` (line or record there, from 1), `word`, `start` and `end`
    (characters of that line or record, from 0, one past the last) and `vector`.

    Args:
        embedder: what makes the vectors.
        texts: read once.
        path: a file that ends in .parquet (written as the vectors come) or .npz (held in memory until the end; `source`
            is then an index into the further array `sources`). It appears when all is written; until then there is
            nothing.

    Raises:
        CharEmbedError: another ending, texts without words, or a word too long for .npz.
        MissingExtraError: Parquet without pyarrow.
        OSError: the file cannot be written.
    """
    target = user_path(path)
    if target.suffix not in _WRITERS:
        raise CharEmbedError(f"output {target} must end in {' or '.join(_WRITERS)}")
    if not target.parent.is_dir():
        raise CharEmbedError(f"output {target}: there is no folder {target.parent}")
    if target.is_dir():
        raise CharEmbedError(f"output {target} is a folder: name a file")
    counts = Counts()
    read: deque[SourceText] = deque()  # texts whose vectors are still to come

    def reading() -> Iterator[str]:
        for text in texts:
            read.append(text)
            yield text.text

    def embedded() -> Iterator[tuple[SourceText, WordEmbeddings]]:
        with tqdm(unit=" words", disable=None, dynamic_ncols=True) as bar:
            for found in embedder.iter_embed(reading()):
                counts.texts += 1
                counts.words += len(found)
                bar.update(len(found))
                yield read.popleft(), found
        if not counts.words:
            raise CharEmbedError("there are no words in the texts to embed")

    with _written_aside(target) as aside:
        _WRITERS[target.suffix](_row_groups(embedded()), aside)
    return counts


@contextlib.contextmanager
def _written_aside(target: Path) -> Iterator[Path]:
    """A path to write to, renamed to the target at the end and removed after an error."""
    target = target.resolve()
    aside = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield aside
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def _write_parquet(groups: Iterable[Rows], path: Path) -> None:
    arrow = import_extra("pyarrow", extra="parquet", purpose="writing Parquet")
    parquet = import_extra("pyarrow.parquet", extra="parquet", purpose="writing Parquet")
    with contextlib.ExitStack() as stack:
        writer = None
        for rows in groups:
            width = rows.vectors.shape[1]
            table = arrow.table(
                {
                    "source": arrow.array(rows.sources).dictionary_encode(),
                    "number": arrow.array(rows.numbers, arrow.int64()),
                    "word": arrow.array([word.encode("utf-8", "replace").decode() for word in rows.words]),
                    "start": rows.spans[:, 0],
                    "end": rows.spans[:, 1],
                    "vector": arrow.FixedSizeListArray.from_arrays(arrow.array(rows.vectors.ravel()), width),
                }
            )
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(path, table.schema))
            writer.write_table(table)


def _write_npz(groups: Iterable[Rows], path: Path) -> None:
    held = []
    for rows in groups:
        longest = max(map(len, rows.words))
        if longest > MAX_NPZ_WORD:  # NumPy stores every string as wide as the longest
            raise CharEmbedError(
                f"a word has {longest:,} characters, .npz holds words of up to {MAX_NPZ_WORD:,}: write .parquet"
            )
        held.append(rows)
    sources, source = np.unique([name for rows in held for name in rows.sources], return_inverse=True)
    spans = np.concatenate([rows.spans for rows in held])
    arrays: dict[str, Any] = {
        "source": source,
        "sources": sources,
        "number": np.array([number for rows in held for number in rows.numbers], dtype=np.int64),
        "word": np.array([word for rows in held for word in rows.words]),
        "start": spans[:, 0],
        "end": spans[:, 1],
        "vector": np.concatenate([rows.vectors for rows in held]),
    }
    np.savez(path, **arrays)


_WRITERS: dict[str, Callable[[Iterable[Rows], Path], None]] = {".parquet": _write_parquet, ".npz": _write_npz}


def _row_groups(embedded: Iterable[tuple[SourceText, WordEmbeddings]]) -> Iterator[Rows]:
    """Some thousand words at a time."""
    held: list[tuple[SourceText, WordEmbeddings]] = []
    count = 0
    for text, found in embedded:
        if found.words:
            held.append((text, found))
            count += len(found)
        if count >= ROWS_PER_GROUP:
            yield Rows.of(held)
            held, count = [], 0
    if held:
        yield Rows.of(held)
