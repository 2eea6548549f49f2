"""Bring texts into the form that a vocabulary knows, and notice texts of which it knows little."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
import regex

from charembed.text.vocab import UNKNOWN_ID, CharVocab
from charembed.text.words import SpannedText, Spans

logger = logging.getLogger(__name__)

# Combining marks, and the vowels and final consonants of Hangul syllables, after what they combine with.
_CLUSTER = regex.compile(r"[^\p{M}\u1160-\u11ff][\p{M}\u1160-\u11ff]++")
_LONGEST = 8
"""Characters that are composed into one, at most: Unicode has none of more than four."""
_MANY_UNKNOWN = 0.05
"""Share of unknown characters above which vectors say little."""
_ENOUGH, _ENOUGH_AT_THE_END = 1000, 20
"""Characters after which the share is judged: while texts are read, and after the last one."""
_PIECE = 1 << 20
"""Characters that are counted at a time."""


class TextPreparation:
    """Composes the characters of texts, and counts those that the vocabulary lacks. Warns once if they are many."""

    def __init__(self, vocab: CharVocab) -> None:
        self._vocab = vocab
        self._known = frozenset(vocab.characters)
        self._composed: dict[str, str] = {}
        self._warned = False
        self.characters = 0
        """Number of characters read so far."""
        self.unknown = 0
        """Number of unknown characters among them."""

    def prepare(self, texts: Iterable[SpannedText]) -> Iterator[SpannedText]:
        """Yield the texts as the models read them."""
        for text in texts:
            prepared = self.compose(text)
            self._count(prepared.text)
            yield prepared
        self._warn(_ENOUGH_AT_THE_END)

    def compose(self, text: SpannedText) -> SpannedText:
        """Return a text with letters and accents in one character each where the vocabulary has that and not both.

        Text in Unicode's normal form C is returned as it is. Otherwise the text that was given is the `original` of the
        one that is returned.
        """
        if text.text.isascii():
            return text
        replaced: list[tuple[int, int, str]] = []
        for match in _CLUSTER.finditer(text.text):
            cluster = match[0]
            composed = self._compose_cluster(cluster)
            if composed != cluster:
                replaced.append((match.start(), match.end(), composed))
        if not replaced:
            return text
        pieces, last = [], 0
        for start, end, composed in replaced:
            pieces += [text.text[last:start], composed]
            last = end
        return SpannedText("".join([*pieces, text.text[last:]]), _moved(text.spans, replaced), original=text)

    def _compose_cluster(self, cluster: str) -> str:
        """Return a character and its marks with as many of them composed as the vocabulary knows."""
        if self._known.issuperset(cluster):
            return cluster
        if cluster not in self._composed:
            if len(self._composed) > _PIECE:  # of a hostile text
                self._composed.clear()
            self._composed[cluster] = cluster
            for end in range(min(len(cluster), _LONGEST), 1, -1):
                composed = unicodedata.normalize("NFC", cluster[:end])
                if len(composed) < end and self._known.issuperset(composed):
                    self._composed[cluster] = composed + cluster[end:]
                    break
        return self._composed[cluster]

    def _count(self, text: str) -> None:
        for start in range(0, len(text), _PIECE):
            ids = self._vocab.encode(text[start : start + _PIECE])
            self.characters += len(ids)
            self.unknown += int(np.count_nonzero(ids == UNKNOWN_ID))
        self._warn(_ENOUGH)

    def _warn(self, least: int) -> None:
        if self._warned or self.characters < least or self.unknown <= _MANY_UNKNOWN * self.characters:
            return
        self._warned = True
        logger.warning(
            "%.1f %% of the characters so far are unknown to the model (%s of %s), which reads them all alike: is the"
            " text in another language or script than the model?",
            100 * self.unknown / self.characters,
            f"{self.unknown:,}",
            f"{self.characters:,}",
        )


def _moved(spans: Spans, replaced: list[tuple[int, int, str]]) -> Spans:
    """Return spans after parts of their text were replaced; a span that begins or ends in a part has all of it.

    Args:
        spans: offsets into the text before. Shape: (words, 2)
        replaced: first character, one past the last, and new text of each part, in order.
    """
    starts, ends = (np.array([part[k] for part in replaced]) for k in (0, 1))
    shifts = np.concatenate([[0], np.cumsum([len(new) - (end - start) for start, end, new in replaced])])
    moved = spans.copy()
    for column, bounds in enumerate((starts, ends)):
        offsets = spans[:, column]
        part = np.searchsorted(ends, offsets, side="right")
        nearest = np.minimum(part, len(replaced) - 1)
        is_inside = (part < len(replaced)) & (starts[nearest] < offsets)
        offsets = np.where(is_inside, bounds[nearest], offsets)
        moved[:, column] = offsets + shifts[np.searchsorted(ends, offsets, side="right")]
    return moved
