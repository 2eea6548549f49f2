"""What a tagger says about a text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from charembed.text.words import Span


@dataclass(frozen=True)
class Entity:
    """A named entity, or any other labelled span."""

    start: int
    """Offset of its first character in the text."""
    end: int
    """Offset of one past its last character."""
    label: str
    """Its label, for example "PER"."""
    text: str
    """The characters from `start` to `end`."""
    score: float
    """Probability, according to the tagger, that there is exactly this entity."""
    layer: str
    """Layer of tags that it belongs to."""


@dataclass(frozen=True)
class TaggedText:
    """The words of one text with their tags."""

    text: str
    """The text as given; a list of words is joined by single spaces."""
    words: list[str]
    """The words, spelled as in the text."""
    spans: list[Span]
    """Offsets of each word's first character and of one past its last, in characters of `text`."""
    tags: dict[str, list[str]]
    """One tag per word, by layer. Layers of entities have BIO tags."""
    scores: dict[str, list[float]] = field(default_factory=dict)
    """Probability of each word's tag, by layer."""
    entities: list[Entity] = field(default_factory=list)
    """The entities of all layers of entities, in the order of the text."""

    def without_doubtful(self, min_score: float) -> TaggedText:
        """Return the text without the entities whose score is below a number; their words get the tag O."""
        tags = {layer: list(of_words) for layer, of_words in self.tags.items()}
        kept = []
        for entity in self.entities:
            if entity.score >= min_score:
                kept.append(entity)
                continue
            for number, (start, end) in enumerate(self.spans):
                if entity.start <= start and end <= entity.end:
                    tags[entity.layer][number] = "O"
        return dataclasses.replace(self, tags=tags, entities=kept)
