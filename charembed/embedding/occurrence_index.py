"""An index of the words of many texts by their vectors, on disk, that finds the nearest ones quickly.

The vectors are projected to their principal components and kept in a graph of nearest neighbors (HNSW, by USearch),
which is memory-mapped: a search reads a small part of it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.engine import Vectors
from charembed.embedding.index_files import (
    FILES,
    METADATA,
    PROJECTION,
    VECTORS,
    IndexMetadata,
    Occurrence,
    OccurrenceTable,
    OccurrenceWriter,
    readable_errors,
)
from charembed.embedding.neighbors import Neighbor
from charembed.embedding.reduction import words_to_fit
from charembed.embedding.word_embeddings import WordEmbeddings
from charembed.errors import CharEmbedError, import_extra
from charembed.projection import Projection
from charembed.text.corpus import Corpus
from charembed.util.files import atomic_folder, check_contains_only, check_utf8
from charembed.util.reading import read_file

_DIM = 128
"""Dimensions of the indexed vectors."""
_BATCH = 4096
"""Words that are added to the graph at a time."""
_MAX_SEARCHED = 20_000
"""Occurrences that are looked at, at most, to find enough other words."""

_MAX_COMPARED = 20_000
"""Occurrences up to which a search compares all, which takes milliseconds and misses none."""

Progress = Callable[[int, int], None]
"""Is given the number of characters that are indexed, and that of the texts."""


class OccurrenceIndex:
    """The words of some texts, which can be searched by vector."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: an index that `build_index` has written.

        Raises:
            CharEmbedError: the folder is not an index, or is damaged.
            MissingExtraError: USearch is not installed.
        """
        usearch = _usearch()
        metadata = self._metadata = IndexMetadata.load(folder)
        self._folder = folder
        with readable_errors(folder):
            for name, state in metadata.files.items():
                state.check(folder / name)
            self._projection = Projection.from_bytes(read_file(folder / PROJECTION), str(folder / PROJECTION))
            self._graph: Any = usearch.Index.restore(folder / VECTORS, view=True)
            self.occurrences = OccurrenceTable(folder, metadata)
        if not metadata.occurrences == len(self.occurrences) == len(self._graph):
            raise CharEmbedError(f"the files of the index {folder} do not agree: remove it to build it again")

    def neighbors(self, vector: Vectors, word: str, count: int) -> list[Neighbor]:
        """Return the words nearest to a vector, each at its nearest occurrence.

        Args:
            vector: vector of a word in its context. Shape: (embedding_dim,)
            word: the word, which is left out in any case.
            count: maximum number of words to return.

        Returns:
            The neighbors, the most similar first. Similarities are those of the projected vectors.

        Raises:
            CharEmbedError: the files of the index have changed since they were opened.
        """
        self._metadata.check_sizes(self._folder)
        query = self._projection(vector[None])[0]
        size, searched = len(self.occurrences), 0
        nearest: dict[str, tuple[int, float]] = {}
        # Most of the nearest may be the word itself, or one other word: look further until there are enough.
        while len(nearest) < count and searched < min(size, _MAX_SEARCHED):
            searched = min(size, max(8 * count, 8 * searched))
            matches = self._graph.search(query, searched, threads=1, exact=size <= _MAX_COMPARED)
            for other, number, distance in zip(
                self.occurrences.words_at(matches.keys), matches.keys, matches.distances, strict=True
            ):
                if other.casefold() != word.casefold() and len(nearest) < count:
                    nearest.setdefault(other, (int(number), 1.0 - float(distance)))
        return [_neighbor(self.occurrences.at(number), similarity) for number, similarity in nearest.values()]

    def vectors(self, numbers: Sequence[int]) -> Vectors:
        """Return the projected vectors of some occurrences. Shape: (occurrences, dim)

        Raises:
            CharEmbedError: the files of the index have changed since they were opened.
        """
        self._metadata.check_sizes(self._folder)
        vectors: Vectors = np.asarray(self._graph.get(np.asarray(numbers, np.uint64)), np.float32)
        return vectors


def _neighbor(occurrence: Occurrence, similarity: float) -> Neighbor:
    return Neighbor(occurrence.word, similarity, occurrence.text, (occurrence.start, occurrence.end))


def _describe_index(embedder: CharEmbedder, corpus: Corpus) -> IndexMetadata:
    """Return what an index of a corpus is built from.

    Raises:
        CharEmbedError: a source is a pipe, or cannot be read.
    """
    digests = corpus.digests()
    if None in digests:
        raise CharEmbedError("an index reads its texts several times, which is impossible with a pipe: name a file")
    return IndexMetadata(embedder.pretrained.digest(), [f"{corpus.text_column} {digest}" for digest in digests])


def open_index(
    embedder: CharEmbedder, corpus: Corpus, folder: Path, progress: Progress | None = None
) -> OccurrenceIndex:
    """Return the index of a corpus in a folder, which is built if it is missing. Of equal texts, it has one.

    Args:
        embedder: computes the vectors.
        corpus: the texts.
        folder: folder of the index.
        progress: is told how far the index is built.

    Raises:
        CharEmbedError: the folder has an index of other texts or of another model, or something else, or its name is
            not UTF-8; the texts have no words; a source cannot be read.
        MissingExtraError: USearch is not installed.
        OSError: the folder cannot be written.
    """
    check_utf8(folder, "so that USearch could not open the index")
    expected = _describe_index(embedder, corpus)
    if (folder / METADATA).exists():
        if not IndexMetadata.load(folder).is_of_same(expected):
            raise CharEmbedError(
                f"the index {folder} is one of other texts or of another model: name another folder, or remove it"
            )
    else:
        _build(embedder, corpus, folder, expected, progress)
    return OccurrenceIndex(folder)


def _build(
    embedder: CharEmbedder, corpus: Corpus, folder: Path, metadata: IndexMetadata, progress: Progress | None
) -> None:
    usearch = _usearch()
    check_contains_only(folder, FILES)
    total = sum(len(text.text) for text in corpus.texts())
    bar = tqdm(total=total, desc="index", unit=" characters", unit_scale=True, disable=None)

    def embed() -> Iterator[tuple[str, WordEmbeddings]]:
        done = 0
        for text, embedded in _embedded(embedder, _different(text.text for text in corpus.texts())):
            yield text, embedded
            bar.update(len(text))
            done += len(text)
            if progress is not None:
                progress(done, total)

    with atomic_folder(folder) as new, bar:
        texts = embed()
        # The projection is fitted to the first words, which are kept, so that they are embedded once.
        first: list[tuple[str, WordEmbeddings]] = []
        words, enough = 0, words_to_fit(embedder.embedding_dim, _DIM)
        while words < enough and (item := next(texts, None)) is not None:
            first.append(item)
            words += len(item[1])
        dim = min(_DIM, embedder.embedding_dim - 1, words - 1)
        if dim < 1:
            few = "there is only one word" if words else "there are no words"
            raise CharEmbedError(f"{few} to index in {', '.join(map(str, corpus.sources))}")
        projection = Projection.fit(np.concatenate([embedded.vectors for _, embedded in first]), dim)
        graph = usearch.Index(
            ndim=dim, metric="cos", dtype="f16", connectivity=16, expansion_add=48, expansion_search=128
        )
        with OccurrenceWriter(new) as writer:
            pending: list[Vectors] = []
            for text, embedded in itertools.chain(first, texts):
                writer.add(text, embedded)
                pending.append(embedded.vectors)
                if sum(map(len, pending)) >= _BATCH:
                    _add(graph, projection, pending)
            _add(graph, projection, pending)
        graph.save(new / VECTORS)
        (new / PROJECTION).write_bytes(projection.to_bytes())
        metadata.save(new, writer.occurrences)


def _different(texts: Iterable[str]) -> Iterator[str]:
    """Yield each text once: equal vectors add nothing, and many of them would cut the graph into pieces."""
    seen: set[bytes] = set()
    for text in texts:
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        if digest not in seen:
            seen.add(digest)
            yield text


def _embedded(embedder: CharEmbedder, texts: Iterable[str]) -> Iterator[tuple[str, WordEmbeddings]]:
    """Yield each text with its words, reading ahead as `iter_embed` does."""
    waiting: deque[str] = deque()

    def remember() -> Iterator[str]:
        for text in texts:
            waiting.append(text)
            yield text

    for embedded in embedder.iter_embed(remember()):
        yield waiting.popleft(), embedded


def _add(graph: Any, projection: Projection, pending: list[Vectors]) -> None:
    """Add vectors to the graph, numbered in their order, and drop them from the list."""
    if any(map(len, pending)):
        vectors = projection(np.concatenate(pending))
        first = len(graph)
        graph.add(np.arange(first, first + len(vectors), dtype=np.uint64), vectors, threads=0)
    pending.clear()


def _usearch() -> Any:
    # ONNX Runtime 1.32 crashes when it is loaded after USearch 2.26, and works when it is loaded before.
    if importlib.util.find_spec("onnxruntime") is not None:
        importlib.import_module("onnxruntime")
    return import_extra("usearch.index", extra="explore", purpose="an index of words")
