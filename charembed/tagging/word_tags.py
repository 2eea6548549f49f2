"""The tags of words, with their probabilities, from the lattice of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from charembed.tagging.decoding import TagLattice
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tag_schemes import entity_spans


@dataclass(frozen=True)
class WordSpan:
    """An entity, in words."""

    start: int
    """Number of its first word."""
    end: int
    """Number of one past its last word."""
    label: str
    """Its label, for example "PER"."""
    score: float
    """Probability, according to the tagger, that there is exactly this entity."""


@dataclass(frozen=True)
class WordTags:
    """The tags of consecutive words in one layer."""

    tags: list[str]
    """One tag per word."""
    scores: list[float]
    """Probability of each word's tag."""
    entities: list[WordSpan]
    """The entities; none in a layer of other tags."""


def most_probable_tags(layer: TagLayer, lattice: TagLattice) -> Iterator[WordTags]:
    """Yield the most probable tags of each sentence of a batch.

    Args:
        layer: the layer of the tags.
        lattice: the lattice of the batch.
    """
    ids = layer.ids
    for number, path in enumerate(lattice.best_paths()):
        tags = [layer.tags[tag] for tag in path]
        # Rounding can raise a probability above 1.
        scores = np.minimum(lattice.marginals[number, np.arange(len(path)), path], 1).tolist()
        spans = entity_spans(tags) if layer.kind == "entities" else []
        entities = [
            WordSpan(
                start, end, label, lattice.span_probability(number, start, end, ids[f"B-{label}"], ids[f"I-{label}"])
            )
            for start, end, label in spans
        ]
        yield WordTags(tags, scores, entities)
