"""Read a text with a model, a tagger and an index, for the page that shows them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.neighbors import Neighbor
from charembed.embedding.occurrence_index import OccurrenceIndex
from charembed.errors import CharEmbedError
from charembed.explore.layout import two_dimensions
from charembed.lm.surprise import surprise
from charembed.report.charts import ScatterChart
from charembed.report.drawing import page_svg
from charembed.tagging.tagger import Tagger
from charembed.text.vocab import UNKNOWN_ID

MAX_CHARACTERS = 5_000
"""Length of a text, at most."""
MAX_WORDS = 5
"""Number of words on a map, at most."""
_MAX_POINTS = 200
"""Occurrences of a word on a map, at most."""
_EXCERPT = 60
"""Characters shown on each side of a word."""
_NEIGHBORS = 8


@dataclass(frozen=True)
class Excerpt:
    """A word in its sentence."""

    before: str
    """Text before it."""
    word: str
    """The word."""
    after: str
    """Text after it."""

    @classmethod
    def of(cls, text: str, start: int, end: int) -> Excerpt:
        """Cut a word with some text on both sides."""
        before, after = text[max(0, start - _EXCERPT) : start], text[end : end + _EXCERPT]
        # Leave out the word that is cut, if there are others.
        if start > _EXCERPT:
            before = "… " + (before.partition(" ")[2] or before)
        if end + _EXCERPT < len(text):
            after = (after.rpartition(" ")[0] or after) + " …"
        return cls(before, text[start:end], after)


class Workspace:
    """A model, and a tagger and an index if there are any. Threads may share it."""

    def __init__(self, embedder: CharEmbedder, tagger: Tagger | None) -> None:
        self._embedder, self._tagger = embedder, tagger
        self._lock = threading.Lock()
        self.index: OccurrenceIndex | None = None
        """The index of the corpus, once it is there."""

    def read(self, text: str) -> dict[str, Any]:
        """Return the words of a text, their tags and the surprise of its characters.

        Raises:
            CharEmbedError: the text is too long.
        """
        check_text(text)
        pretrained = self._embedder.pretrained
        with self._lock:
            spans = self._embedder.embed([text])[0].spans
            tagged = None if self._tagger is None else self._tagger.predict([text])[0]
            bits = surprise(pretrained.model, pretrained.vocab, text)
        answer: dict[str, Any] = {
            "text": text,
            "words": spans,
            "surprise": {direction: np.round(values, 2).tolist() for direction, values in bits.items()},
            "unknown": np.flatnonzero(pretrained.vocab.encode(text) == UNKNOWN_ID).tolist(),
            "tags": {},
            "entities": [],
        }
        if tagged is not None and self._tagger is not None:
            for layer in self._tagger.layers:
                if layer.kind == "tags":
                    tag_at = dict(zip(tagged.spans, tagged.tags[layer.name], strict=True))
                    answer["tags"][layer.name] = [tag_at.get(span, "") for span in spans]
            answer["entities"] = [[one.start, one.end, one.label, round(one.score, 3)] for one in tagged.entities]
        return answer

    def neighbors(self, text: str, number: int) -> list[dict[str, Any]]:
        """Return the words of the corpus that are nearest to one of a text.

        Args:
            text: the text.
            number: number of the word in the text, from 0.

        Raises:
            CharEmbedError: there is no index, the text is too long or has no such word.
        """
        check_text(text)
        index = self._index()
        with self._lock:
            embedded = self._embedder.embed([text])[0]
        if not 0 <= number < len(embedded):
            raise CharEmbedError(f"the text has no word number {number}")
        found = index.neighbors(embedded.vectors[number], embedded.words[number], _NEIGHBORS)
        return [_as_fields(neighbor) for neighbor in found]

    def map(self, words: Sequence[str]) -> dict[str, Any]:
        """Return a map of the occurrences of some words in the corpus: near each other if they are used alike.

        Raises:
            CharEmbedError: there is no index, a word does not occur, or there are too many or too few words.
        """
        index = self._index()
        words = list(dict.fromkeys(words))
        if not 1 <= len(words) <= MAX_WORDS:
            raise CharEmbedError(f"a map shows from 1 to {MAX_WORDS} words, got {len(words)}")
        groups = {}
        for word in words:
            numbers = index.occurrences.of_word(word)
            if not len(numbers):
                raise CharEmbedError(f"the corpus does not contain the word {word!r}")
            # Evenly over the corpus if there are too many.
            groups[word] = numbers[np.linspace(0, len(numbers) - 1, min(len(numbers), _MAX_POINTS)).astype(int)]
        positions = two_dimensions(index.vectors(np.concatenate(list(groups.values())).tolist()))
        ends = np.cumsum([len(numbers) for numbers in groups.values()])
        parts = np.split(positions, ends[:-1])
        chart = ScatterChart("map", dict(zip(groups, (part.tolist() for part in parts), strict=True)))
        occurrences = [index.occurrences.at(int(k)) for numbers in groups.values() for k in numbers]
        return {
            "svg": page_svg(chart),
            "points": [asdict(Excerpt.of(one.text, one.start, one.end)) for one in occurrences],
        }

    def _index(self) -> OccurrenceIndex:
        if self.index is None:
            raise CharEmbedError("there is no index of a corpus: start charembed explore with --corpus FILE, or wait")
        return self.index


def check_text(text: str) -> None:
    """Raise unless a text is short enough to be shown.

    Raises:
        CharEmbedError: it is too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise CharEmbedError(f"the text has {len(text):,} characters, and the page shows at most {MAX_CHARACTERS:,}")


def _as_fields(neighbor: Neighbor) -> dict[str, Any]:
    return {
        "similarity": round(neighbor.similarity, 3),
        **asdict(Excerpt.of(neighbor.text, *neighbor.span)),
    }
