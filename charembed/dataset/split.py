"""Receives pieces of a corpus; hands on which of them are held out for validation."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from charembed.errors import CharEmbedError
from charembed.text.vocab import Ids

MAX_VALIDATION = 500_000
"""Characters to validate on at most: more would cost time at every validation and tell little more."""


class DocumentIndex:
    """Where pieces of text stand in the stream, one after the other, and which occur but once: text that is trained on
    too would flatter a validation."""

    def __init__(self) -> None:
        self._ends = array("q")
        self._digests = array("Q")

    def add(self, piece: bytes, length: int) -> None:
        """One more piece: what it holds, and how many characters of the stream it takes."""
        self._ends.append((self._ends[-1] if self._ends else 0) + length)
        self._digests.append(int.from_bytes(hashlib.blake2b(piece, digest_size=8).digest()))

    def __len__(self) -> int:
        return len(self._ends)

    def bounds(self) -> NDArray[np.int64]:
        """First character of each piece, and one past its last. Shape: (pieces, 2)"""
        ends = np.frombuffer(self._ends, dtype=np.int64) if self._ends else np.empty(0, dtype=np.int64)
        return np.stack([np.concatenate([[0], ends[:-1]])[: len(ends)], ends], axis=1)

    def occurs_once(self) -> NDArray[np.bool_]:
        """Shape: (pieces,)"""
        digests = np.frombuffer(self._digests, dtype=np.uint64)
        _, which, counts = np.unique(digests, return_inverse=True, return_counts=True)
        once: NDArray[np.bool_] = counts[which] == 1
        return once


def choose_documents(
    lengths: NDArray[np.int64], eligible: NDArray[np.bool_], size: int, seed: int
) -> NDArray[np.bool_] | None:
    """Choose pieces at random that together have about `size` characters, from half of it to one and a half times it.

    Args:
        lengths: characters of each piece. Shape: (pieces,)
        eligible: whether it may be chosen. Shape: (pieces,)
        size: characters wanted.
        seed: of the choice.

    Returns:
        True for the pieces chosen, or None where no such choice exists because the pieces are too few or too long.
        Shape: (pieces,)
    """
    chosen = np.zeros(len(lengths), dtype=np.bool_)
    held = 0
    for piece in np.random.default_rng(seed).permutation(np.flatnonzero(eligible)):
        if held >= size:
            break
        if held + lengths[piece] <= 1.5 * size:
            chosen[piece] = True
            held += int(lengths[piece])
    return chosen if held >= 0.5 * size and 0 < held < lengths.sum() else None


def cut_passages(ids: Ids, length: int, cut_after: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Cut a document into passages of about `length` characters.

    Args:
        ids: the document. Shape: (characters,)
        length: of a passage, at least; at most twice that, but for the last one.
        cut_after: where to cut: after the first of these ids, or else of the next, that is within reach.

    Yields:
        First character of the passage, and one past its last.
    """
    start = 0
    while start < len(ids):
        near, far = start + length, start + 2 * length
        cut = len(ids)
        if near < len(ids):
            reach = ids[near:far]
            found = (int(at[0]) + near + 1 for end in cut_after if (at := np.flatnonzero(reach == end)).size)
            cut = next(found, near)
        yield start, cut
        start = cut


def validation_bounds(
    ids: Ids, bounds: NDArray[np.int64], once: NDArray[np.bool_], share: float, seed: int, cut_after: tuple[int, ...]
) -> NDArray[np.int64]:
    """What is held out: whole documents, or passages where documents are few or long.

    Args:
        ids: the stream. Shape: (characters,)
        bounds: of its documents. Shape: (documents, 2)
        once: whether each occurs but once. Shape: (documents,)
        share: of the characters to hold out.
        seed: of the choice.
        cut_after: where passages may end, as in `cut_passages`.

    Raises:
        CharEmbedError: there is too little text, or it repeats itself too much.

    Returns:
        Bounds of what is held out, in the order of the stream. Shape: (pieces, 2)
    """
    total = int(bounds[-1, 1])
    size = min(int(share * total), MAX_VALIDATION)
    chosen = choose_documents(bounds[:, 1] - bounds[:, 0], once, size, seed)
    if chosen is None:
        index = DocumentIndex()
        for start, end in bounds.tolist():
            document = ids[start:end]
            for first, last in cut_passages(document, max(size // 10, 1), cut_after):
                index.add(document[first:last].tobytes(), last - first)
        bounds = index.bounds()
        chosen = choose_documents(bounds[:, 1] - bounds[:, 0], index.occurs_once(), size, seed)
    if chosen is None:
        raise CharEmbedError(
            f"the corpus is too small, or repeats itself too much, to hold out {share:.1%} of its {total:,} characters:"
            " give more text, or validation text of its own (data.valid)"
        )
    return bounds[chosen]


def subtract_bounds(bounds: NDArray[np.int64], held_out: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bounds of documents with some pieces taken out, which cut what they are taken from in two.

    Both are in the order of the stream; no piece crosses the bounds of a document.

    Shape: (documents, 2), (pieces, 2) to (segments, 2)
    """
    starts = np.concatenate([bounds[:, 0], held_out[:, 1]])
    ends = np.concatenate([bounds[:, 1], held_out[:, 0]])
    starts.sort()
    ends.sort()
    segments = np.stack([starts, ends], axis=1)
    return segments[starts < ends]
