"""Choose the part of a corpus that is held out for validation."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charembed.errors import CharEmbedError
from charembed.text.vocab import Ids

Bounds = NDArray[np.int64]
"""Pairs of offsets into a stream of characters: the first one, and one past the last. Shape: (segments, 2)"""


class DocumentIndex:
    """The bounds of documents that follow each other in a stream, and a digest of each to recognize repeated ones.

    It takes 16 bytes per document.
    """

    def __init__(self) -> None:
        self._ends = array("q")
        self._digests = array("Q")

    def add(self, content: bytes, length: int) -> None:
        """Add the next document.

        Args:
            content: bytes that are the same for equal documents.
            length: number of characters in the stream.
        """
        self._ends.append((self._ends[-1] if self._ends else 0) + length)
        # 64 bits: two different documents are taken for equal once in billions of documents, which does no harm.
        self._digests.append(int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()))

    def __len__(self) -> int:
        return len(self._ends)

    def bounds(self) -> Bounds:
        """Return the bounds of the documents. Shape: (documents, 2)"""
        ends = np.frombuffer(self._ends, dtype=np.int64) if self._ends else np.empty(0, dtype=np.int64)
        return np.stack([np.concatenate([[0], ends[:-1]])[: len(ends)], ends], axis=1)

    def is_unique(self) -> NDArray[np.bool_]:
        """Return whether each document occurs only once. Shape: (documents,)"""
        digests = np.frombuffer(self._digests, dtype=np.uint64)
        _, inverse, counts = np.unique(digests, return_inverse=True, return_counts=True)
        unique: NDArray[np.bool_] = counts[inverse] == 1
        return unique


@dataclass(frozen=True)
class ValidationSplit:
    """How the validation text is chosen from a corpus."""

    share: float
    """Share of the characters to hold out."""
    max_characters: int
    """Upper bound on the characters to hold out."""
    seed: int
    """Seed of the random choice."""
    cut_after: tuple[int, ...]
    """Ids after which a document may be cut, the preferred one first, as in `cut_passages`."""

    def choose(self, ids: Ids, documents: Bounds, is_unique: NDArray[np.bool_]) -> Bounds:
        """Choose whole documents, or passages of them where documents are few or long.

        Text that occurs more than once is never chosen: the model would be validated on text it was trained on.

        Args:
            ids: the stream. Shape: (characters,)
            documents: bounds of its documents. Shape: (documents, 2)
            is_unique: whether each document occurs only once. Shape: (documents,)

        Returns:
            Bounds of the validation text, in the order of the stream. Shape: (segments, 2)

        Raises:
            CharEmbedError: there is too little text, or it repeats itself too much.
        """
        total = int(documents[-1, 1])
        size = min(int(self.share * total), self.max_characters)
        candidates = documents
        chosen = choose_documents(_lengths(documents), is_unique, size, self.seed)
        if chosen is None:
            # Ten passages or more make up the validation text, so that it comes from all over the corpus.
            index = DocumentIndex()
            for start, end in documents.tolist():
                document = ids[start:end]
                for first, last in cut_passages(document, max(size // 10, 1), self.cut_after):
                    index.add(document[first:last].tobytes(), last - first)
            candidates = index.bounds()
            chosen = choose_documents(_lengths(candidates), index.is_unique(), size, self.seed)
        if chosen is None:
            raise CharEmbedError(
                f"the corpus is too small, or repeats itself too much, to hold out {self.share:.1%} of its {total:,}"
                " characters: provide more text, or validation text of its own (data.valid)"
            )
        return candidates[chosen]


def choose_documents(
    lengths: NDArray[np.int64], eligible: NDArray[np.bool_], size: int, seed: int
) -> NDArray[np.bool_] | None:
    """Choose documents at random that together have about `size` characters: at least half, at most one and a half.

    Args:
        lengths: number of characters of each document. Shape: (documents,)
        eligible: whether each document may be chosen. Shape: (documents,)
        size: number of characters to choose.
        seed: seed of the choice.

    Returns:
        Whether each document is chosen, or None if the documents are too few or too long for such a choice.
        Shape: (documents,)
    """
    chosen = np.zeros(len(lengths), dtype=np.bool_)
    characters = 0
    for document in np.random.default_rng(seed).permutation(np.flatnonzero(eligible)):
        if characters >= size:
            break
        # Skip a document that is too long: a shorter one may still fit.
        if characters + lengths[document] <= 1.5 * size:
            chosen[document] = True
            characters += int(lengths[document])
    # Something must be left to train on.
    return chosen if characters >= 0.5 * size and 0 < characters < lengths.sum() else None


def cut_passages(ids: Ids, length: int, cut_after: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Cut a document into passages of about `length` characters.

    Args:
        ids: the document. Shape: (characters,)
        length: minimum length of a passage; the maximum is twice that, and the last passage may be shorter.
        cut_after: ids to cut after. The first of them that occurs where a passage may end decides; if none does, the
            passage ends at its minimum length.

    Yields:
        Offset of the first character of the passage, and one past its last.
    """
    start = 0
    while start < len(ids):
        earliest, latest = start + length, start + 2 * length
        end = len(ids)
        if earliest < len(ids):
            window = ids[earliest:latest]
            ends = (int(hits[0]) + earliest + 1 for id_ in cut_after if (hits := np.flatnonzero(window == id_)).size)
            end = next(ends, earliest)
        yield start, end
        start = end


def subtract_bounds(documents: Bounds, held_out: Bounds) -> Bounds:
    """Return the bounds of documents without the segments that are held out.

    Both are in the order of the stream, and no segment crosses the bounds of a document. A segment from the middle of a
    document leaves two segments of it.

    Shape: (documents, 2), (held out, 2) to (segments, 2)
    """
    # Sorted together, each start of what is left meets the next end; empty segments have none between them.
    starts = np.concatenate([documents[:, 0], held_out[:, 1]])
    ends = np.concatenate([documents[:, 1], held_out[:, 0]])
    starts.sort()
    ends.sort()
    segments = np.stack([starts, ends], axis=1)
    return segments[starts < ends]


def _lengths(bounds: Bounds) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = bounds[:, 1] - bounds[:, 0]
    return lengths
