"""The words of a text with their vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charembed.text.words import Span


@dataclass(frozen=True)
class WordEmbeddings:
    """The words of one text with their vectors."""

    words: list[str]
    """The words, spelled as in the text."""
    spans: list[Span]
    """Offsets of each word's first character and of one past its last, in characters of the text as given. For a list
    of words: offsets into the words joined by single spaces."""
    vectors: NDArray[np.float32]
    """One row per word: the forward state, the backward state, the static vector. Shape: (words, embedding_dim)"""

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True)
class EmbeddedPart:
    """Consecutive words of a text: all of them, unless the text is too long to hold all its vectors in memory."""

    embeddings: WordEmbeddings
    """The words of this part."""
    ends_text: bool
    """Whether this is the last part of its text."""


def join_parts(parts: Iterable[EmbeddedPart]) -> Iterator[WordEmbeddings]:
    """Join the parts of each text."""
    buffered: list[WordEmbeddings] = []
    for part in parts:
        buffered.append(part.embeddings)
        if part.ends_text:
            text = buffered[0] if len(buffered) == 1 else _concatenate(buffered)
            buffered = []  # before the yield: the parts are not kept while the caller works
            yield text


def _concatenate(embeddings: list[WordEmbeddings]) -> WordEmbeddings:
    return WordEmbeddings(
        [word for part in embeddings for word in part.words],
        [span for part in embeddings for span in part.spans],
        np.concatenate([part.vectors for part in embeddings]),
    )
