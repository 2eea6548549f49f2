"""Receives word embeddings; hands them on to a file: Parquet, written as they come, or NumPy's .npz."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from charembed.embedder import CharEmbedder, WordEmbeddings
from charembed.errors import CharEmbedError, import_extra

ROWS_PER_GROUP = 4096


@dataclass
class Counts:
    """What was written."""

    texts: int = 0
    words: int = 0


def write_embeddings(embedder: CharEmbedder, texts: Iterable[str], path: str | os.PathLike[str]) -> Counts:
    """Embed texts and write one row a word: text (its number from 0), word, start, end, vector.

    Args:
        embedder: what makes the vectors.
        texts: read once.
        path: a file that ends in .parquet (written as the vectors come) or .npz (held in memory until the end; arrays
            `text`, `word`, `start`, `end` and `vector`). It appears when all is written; until then there is nothing.

    Raises:
        CharEmbedError: another ending, or texts without words.
        MissingExtraError: Parquet without pyarrow.
        OSError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix not in _WRITERS:
        raise CharEmbedError(f"output {target} must end in {' or '.join(_WRITERS)}")
    if not target.parent.is_dir():
        raise CharEmbedError(f"output {target}: there is no folder {target.parent}")
    counts = Counts()

    def counted() -> Iterator[WordEmbeddings]:
        with tqdm(unit=" words", disable=None, dynamic_ncols=True) as bar:
            for found in embedder.iter_embed(texts):
                counts.texts += 1
                counts.words += len(found)
                bar.update(len(found))
                yield found
        if not counts.words:
            raise CharEmbedError("there are no words in the texts to embed")

    with _written_aside(target) as aside:
        _WRITERS[target.suffix](_row_groups(counted()), aside)
    return counts


@contextlib.contextmanager
def _written_aside(target: Path) -> Iterator[Path]:
    """A path to write to, renamed to the target at the end and removed after an error."""
    aside = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield aside
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


Columns = dict[str, NDArray[Any]]


def _write_parquet(groups: Iterable[Columns], path: Path) -> None:
    arrow = import_extra("pyarrow", extra="parquet", purpose="writing Parquet")
    parquet = import_extra("pyarrow.parquet", extra="parquet", purpose="writing Parquet")
    with contextlib.ExitStack() as stack:
        writer = None
        for group in groups:
            vectors = group["vector"]
            flat = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), vectors.shape[1])
            table = arrow.table({name: arrow.array(column) for name, column in group.items() if name != "vector"})
            table = table.append_column("vector", flat)
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(path, table.schema))
            writer.write_table(table)


def _write_npz(groups: Iterable[Columns], path: Path) -> None:
    held = list(groups)
    arrays: dict[str, Any] = {name: np.concatenate([group[name] for group in held]) for name in held[0]}
    np.savez(path, **arrays)


_WRITERS: dict[str, Callable[[Iterable[Columns], Path], None]] = {".parquet": _write_parquet, ".npz": _write_npz}


def _row_groups(embeddings: Iterable[WordEmbeddings]) -> Iterator[Columns]:
    """Columns of some thousand words at a time."""
    held: list[tuple[int, WordEmbeddings]] = []
    rows = 0
    for number, found in enumerate(embeddings):
        held.append((number, found))
        rows += len(found)
        if rows >= ROWS_PER_GROUP:
            yield _columns(held)
            held, rows = [], 0
    if rows:
        yield _columns(held)


def _columns(held: list[tuple[int, WordEmbeddings]]) -> Columns:
    spans = np.array([span for _, found in held for span in found.spans], dtype=np.int64)
    return {
        "text": np.repeat([number for number, _ in held], [len(found) for _, found in held]),
        "word": np.array([word for _, found in held for word in found.words]),
        "start": spans[:, 0],
        "end": spans[:, 1],
        "vector": np.concatenate([found.vectors for _, found in held]),
    }
