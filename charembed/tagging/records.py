"""The record of a tagged text in a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagged_text import TaggedText


def word_layers(layers: Iterable[TagLayer]) -> list[str]:
    """Return the names of the layers that have a tag for each word, not entities."""
    return [layer.name for layer in layers if layer.kind != "entities"]


def tagged_record(tagged: TaggedText, source: str, number: int, layers: Iterable[TagLayer]) -> dict[str, Any]:
    """Return the record of a text: its entities, and its words if there are layers with a tag for each.

    Args:
        tagged: the text.
        source: its file or data set.
        number: number of its line or record there, from 1.
        layers: the layers of the tagger.
    """
    record: dict[str, Any] = {"source": source, "number": number, "text": tagged.text}
    record["entities"] = [
        {key: round(value, 4) if key == "score" else value for key, value in dataclasses.asdict(entity).items()}
        for entity in tagged.entities
    ]
    if names := word_layers(layers):
        record["tokens"] = [
            {
                "start": start,
                "end": end,
                "text": word,
                "tags": {name: tagged.tags[name][k] for name in names},
                "scores": {name: round(tagged.scores[name][k], 4) for name in names},
            }
            for k, (word, (start, end)) in enumerate(zip(tagged.words, tagged.spans, strict=True))
        ]
    return record
