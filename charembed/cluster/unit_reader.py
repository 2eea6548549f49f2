"""Read the sources of a corpus in units, in processes that need no PyTorch, whose import takes seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charembed.cluster.units import cut_units
from charembed.text.corpus import Corpus, source_texts
from charembed.text.lines import DecodingErrors
from charembed.text.records import TextReader
from charembed.text.sources import Source
from charembed.util.files import escape_undecodable

if TYPE_CHECKING:
    from charembed.embedding.context import Context


@dataclass(frozen=True)
class UnitReader:
    """Reads the sources of a corpus in units."""

    sources: Sequence[tuple[str, Source]]
    """Name and source of each; paths are absolute, because workers run in other folders."""
    text_column: str
    errors: DecodingErrors
    max_text_mb: int
    unit_characters: int
    context: Context | None

    @classmethod
    def of(cls, corpus: Corpus, unit_characters: int, context: Context | None) -> UnitReader:
        """Return the reader of a corpus.

        Args:
            corpus: the corpus.
            unit_characters: a unit is complete when it has that many characters.
            context: neighboring texts that are read with each text; None for none.
        """
        sources = [
            (escape_undecodable(str(source)), source.absolute() if isinstance(source, Path) else source)
            for source in corpus.sources
        ]
        return cls(sources, corpus.text_column, corpus.errors, corpus.max_text_mb, unit_characters, context)

    def read(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the units of the source whose number a row holds, as rows.

        Raises:
            CharEmbedError: the source cannot be read or decoded.
        """
        name, source = self.sources[row["source"]]
        texts = source_texts(TextReader(self.text_column, self.errors, self.max_text_mb), source, name)
        for number, unit in enumerate(cut_units(texts, self.unit_characters, self.context)):
            yield unit.to_row(row["source"], number)
