"""The words of a text with their vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charembed.text.words import Span


@dataclass(frozen=True)
class WordEmbeddings:
    """The words of one text and their vectors."""

    words: list[str]
    """The words, as they stand in the text."""
    spans: list[Span]
    """Where they stand: offsets of the first character and of one past the last, in characters of the text as given; of
    the words joined by single spaces where words were given."""
    vectors: NDArray[np.float32]
    """Forward half first. Shape: (words, embedding_dim)"""

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True)
class EmbeddedPart:
    """Some words of a text that is too long to be held with all its vectors; all of them, as a rule."""

    embeddings: WordEmbeddings
    ends_text: bool
    """Whether the next part is of the next text."""
