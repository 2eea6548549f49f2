"""Convert between entities and the tags that mark them, in every common scheme."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from charembed.errors import CharEmbedError

LayerKind = Literal["entities", "tags"]
"""What a layer of tags holds: entities, whose tags are read together, or any other tags, one per word."""
EntitySpan = tuple[int, int, str]
"""First word, one past the last word, and kind of an entity."""
Scheme = Literal["IO", "IOB1", "BIO", "IOBES", "BILOU", "BMES"]

# M is the inside of BMES, which is common for Chinese.
_ENTITY_TAG = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
_ALWAYS_FIRST = frozenset("BSU")
_ALWAYS_LAST = frozenset("ESLU")


@lru_cache(maxsize=10_000)
def split_tag(tag: str) -> tuple[str, str] | None:
    """Return prefix and kind of an entity tag, `("O", "")` for a word outside entities, None for any other tag."""
    if tag == "O":
        return "O", ""
    match = _ENTITY_TAG.fullmatch(tag)
    return None if match is None else (match[1], match[2])


def entity_spans(tags: list[str]) -> list[EntitySpan]:
    """Return the entities of a sentence, in order.

    All schemes have one reading in common: B, S and U begin an entity, and E, L, S and U end one. I, M, E and L
    continue the entity before if it has the same kind and has not ended; otherwise they begin one, as in IO and IOB1,
    and in what a tagger without constraints predicts.

    Args:
        tags: tags of one sentence, in any scheme.

    Raises:
        CharEmbedError: a tag is neither O nor PREFIX-KIND.
    """
    spans: list[EntitySpan] = []
    start, current = 0, None
    for position, tag in enumerate(tags):
        parts = split_tag(tag)
        if parts is None:
            raise CharEmbedError(f"entity tags must be O, B-KIND or I-KIND, got {tag!r}: check the column of the tags")
        prefix, kind = parts
        continues = kind == current and prefix not in _ALWAYS_FIRST
        if current is not None and not continues:
            spans.append((start, position, current))
            current = None
        if prefix != "O" and not continues:
            start, current = position, kind
        if current is not None and prefix in _ALWAYS_LAST:
            spans.append((start, position + 1, current))
            current = None
    if current is not None:
        spans.append((start, len(tags), current))
    return spans


def bio_tags(spans: Iterable[EntitySpan], length: int) -> list[str]:
    """Return the BIO tags of a sentence.

    Args:
        spans: entities that share no word.
        length: number of words.
    """
    tags = ["O"] * length
    for start, end, kind in spans:
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags


def detect_scheme(sentences: Iterable[list[str]]) -> Scheme:
    """Return the scheme of the entity tags of a file.

    IO and IOB1 differ only where two entities of one kind are adjacent: tags without any B are called IO.

    Args:
        sentences: tags of each sentence, all of them entity tags.
    """
    prefixes: set[str] = set()
    begins = begins_after_same_kind = inside_begins = 0
    for tags in sentences:
        for before, tag in pairwise(["O", *tags]):
            prefixes.add(tag[0])
            same_kind = before[2:] == tag[2:]
            begins += tag[0] == "B"
            begins_after_same_kind += tag[0] == "B" and same_kind
            inside_begins += tag[0] == "I" and not same_kind
    if "M" in prefixes:
        return "BMES"
    if prefixes & {"L", "U"}:
        return "BILOU"
    if prefixes & {"E", "S"}:
        return "IOBES"
    if "B" not in prefixes:
        return "IO"
    return "IOB1" if inside_begins and begins == begins_after_same_kind else "BIO"
