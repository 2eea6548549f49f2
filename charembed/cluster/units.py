"""Cut the texts of a source into units of work, which are the same however often the source is read."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from charembed.text.corpus import SourceText

if TYPE_CHECKING:
    from charembed.embedding.context import Context


@dataclass(frozen=True)
class Unit:
    """Consecutive texts of one source, and the texts around them that are read as their context."""

    texts: list[SourceText]
    """The texts."""
    before: list[SourceText]
    """Texts of the same document before them."""
    after: list[SourceText]
    """Texts of the same document after them."""

    def digest(self) -> str:
        """Return a digest of all that the result depends on, apart from the model and the options."""
        texts = [(text.number, text.text, text.begins_document) for text in self.all_texts()]
        content = json.dumps([self.texts[0].source, len(self.before), len(self.texts), texts])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def all_texts(self) -> list[SourceText]:
        """Return the texts with their context, in order."""
        return [*self.before, *self.texts, *self.after]

    def to_row(self, source_number: int, number: int) -> dict[str, Any]:
        """Return the unit as a row of a data set.

        Args:
            source_number: number of the source, from 0.
            number: number of the unit in its source, from 0.
        """
        texts = self.all_texts()
        return {
            "part": f"part-{source_number:05}-{number:06}-{self.digest()}.parquet",
            "source": self.texts[0].source,
            "numbers": [text.number for text in texts],
            "texts": [text.text for text in texts],
            "begins": [text.begins_document for text in texts],
            "bounds": [len(self.before), len(self.before) + len(self.texts)],
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Unit:
        """Return the unit of a row."""
        columns = zip(row["numbers"], row["texts"], row["begins"], strict=True)
        texts = [SourceText(row["source"], int(number), text, bool(begins)) for number, text, begins in columns]
        first, end = row["bounds"]
        return cls(texts[first:end], texts[:first], texts[end:])


def cut_units(texts: Iterable[SourceText], characters: int, context: Context | None) -> Iterator[Unit]:
    """Yield the texts of a source in units.

    Args:
        texts: the texts.
        characters: a unit is complete when it has that many.
        context: neighboring texts that are read with each text; None for none.
    """
    source = iter(texts)
    ahead: deque[SourceText] = deque()
    before: list[SourceText] = []

    def following() -> Iterator[SourceText]:
        """Yield the texts after those taken so far, without taking them."""
        yield from ahead
        for text in source:
            ahead.append(text)
            yield text

    while True:
        unit: list[SourceText] = []
        size = 0
        while size < characters and (text := ahead.popleft() if ahead else next(source, None)) is not None:
            unit.append(text)
            size += len(text.text)
        if not unit:
            return
        if context is None:
            yield Unit(unit, [], [])
            continue
        after = _take(context, following())
        yield Unit(unit, [] if unit[0].begins_document else before, after)
        before = _last(context, before + unit)


def _take(context: Context, texts: Iterator[SourceText]) -> list[SourceText]:
    """Return the first texts, up to the next document, as many as the context needs."""
    taken: list[SourceText] = []
    while not context.is_filled_by(text.text for text in taken):
        text = next(texts, None)
        if text is None or text.begins_document:
            break
        taken.append(text)
    return taken


def _last(context: Context, texts: Sequence[SourceText]) -> list[SourceText]:
    """Return the last texts, back to the start of the document, as many as the context needs."""
    taken: list[SourceText] = []
    for text in reversed(texts):
        taken.append(text)
        if text.begins_document or context.is_filled_by(text.text for text in taken):
            break
    return taken[::-1]
