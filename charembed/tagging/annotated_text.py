"""Turn a text with annotated spans of characters into sentences whose words have tags."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from charembed.tagging.source_file import SourceSentence
from charembed.tagging.tag_schemes import EntitySpan, bio_tags
from charembed.text.words import Span, SpannedText

ENTITY_LAYER = "entities"
"""Name of the layer of annotated spans."""

_LINE_END = re.compile("\r\n|\n|\r")


@dataclass(frozen=True)
class Annotation:
    """An annotated span of a text."""

    start: int
    """Offset of the first character."""
    end: int
    """Offset of the character after the last."""
    kind: str
    """Kind of the entity."""


@dataclass
class AnnotationCounts:
    """Counts of annotations that could not be kept as they are."""

    widened: int = 0
    """Annotations that cut a word and were widened to whole words."""
    overlapping: int = 0
    """Annotations that share a word with a longer one, and were left out."""
    without_words: int = 0
    """Annotations without a word, and left out."""

    def notes(self) -> list[str]:
        """Return a sentence for each count that is not zero."""
        texts = {
            "spans that cut a word were widened to whole words": self.widened,
            "spans that overlap a longer one were left out": self.overlapping,
            "spans without a word were left out": self.without_words,
        }
        return [f"{count} {text}" for text, count in texts.items() if count]


@dataclass(frozen=True)
class AnnotatedText:
    """A text, its words and its annotations."""

    text: str
    """The text."""
    words: list[Span]
    """Offsets of the words, in order; no two overlap."""
    annotations: list[Annotation]
    """Annotated spans, in any order."""

    def sentences(
        self, document: int, counts: AnnotationCounts, breaks: list[Span] | None = None
    ) -> Iterator[SourceSentence]:
        """Yield the sentences that have words: one per line, except where an entity crosses the end of a line.

        Args:
            document: number of the document.
            counts: counts to add to.
            breaks: end of each sentence except the last and start of the one after it; the ends of lines if None.
        """
        spans = self._entity_spans(counts)
        if breaks is None:
            breaks = [match.span() for match in _LINE_END.finditer(self.text)]
        starts = [start for start, _ in self.words]

        # Word and characters at which the sentences begin; a break inside an entity does not count.
        bounds = [(0, 0, 0)]
        for end, start in breaks:
            word = bisect_left(starts, start)
            if not any(first < word < last for first, last, _ in spans):
                bounds.append((word, end, start))
        bounds.append((len(starts), len(self.text), len(self.text)))

        tags = bio_tags(spans, len(starts))
        for (first, _, text_start), (last, text_end, _) in pairwise(bounds):
            if first < last:
                line = self.text[text_start:text_end]
                offsets = [(start - text_start, end - text_start) for start, end in self.words[first:last]]
                original = SpannedText.of((line, offsets))
                yield SourceSentence(original.words, {ENTITY_LAYER: list(tags[first:last])}, original, document)

    def _entity_spans(self, counts: AnnotationCounts) -> list[EntitySpan]:
        """Return the annotations as spans of words, the longest of those that overlap."""
        starts = [start for start, _ in self.words]
        ends = [end for _, end in self.words]
        taken = [False] * len(starts)
        spans = []
        for annotation in sorted(set(self.annotations), key=lambda one: (one.start - one.end, one.start, one.kind)):
            first, last = bisect_right(ends, annotation.start), bisect_left(starts, annotation.end)
            if first >= last:
                counts.without_words += 1
            elif any(taken[first:last]):
                counts.overlapping += 1
            else:
                counts.widened += starts[first] < annotation.start or annotation.end < ends[last - 1]
                taken[first:last] = [True] * (last - first)
                spans.append((first, last, annotation.kind))
        return sorted(spans)
