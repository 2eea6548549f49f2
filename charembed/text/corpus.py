"""Read a corpus as documents for training, or as single texts for embedding.

In a text file a document is a block of lines that a blank line ends, and a text is a line. In JSONL, Parquet and
Hugging Face data sets a record is both.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.text.lines import DEFAULT_MAX_TEXT_MB, DecodingErrors, line_feeds_only, max_text_bytes
from charembed.text.records import RECORD_SUFFIXES, TextReader, holds_records
from charembed.text.sources import Source, content_digest, find_sources
from charembed.util.files import escape_undecodable, user_path

logger = logging.getLogger(__name__)

SourceNames = str | list[str]

DEFAULT_COLUMN = "text"
MAX_BLOCK = 1_000_000
"""Characters after which a document of a text file ends without a blank line, to bound memory."""
DOCUMENT_END = "\n\n"


@dataclass
class CorpusConfig:
    """The text to train and validate on."""

    train: SourceNames
    """Training text: a file, a folder (read with its subfolders), a glob such as 'notes/*.txt.gz', an address such as
    'https://example.org/text.txt' or 's3://bucket/text.txt' (any that fsspec opens), a Hugging Face data set
    `dataset:NAME[,config=C][,split=S]` (on the Hub or in a local folder; split 'train' unless given), or a list of
    these such as '[a.txt, b.txt]'; '-' is the standard input. Files in .jsonl, .ndjson, .json, .csv, .tsv and .parquet
    hold one document per record, in text_column. All others are UTF-8 text in which a blank line ends a document.
    Files may be compressed with gzip, xz, bzip2 or Zstandard."""
    valid: SourceNames | None = None
    """Validation text, named like train; its first 500,000 characters are used. By default a random share of the
    training text (held_out) is set aside instead."""
    held_out: float = 0.02
    """Share of the training text to set aside for validation when valid is not given, between 0 and 1; never more than
    500,000 characters. Whole documents are chosen, or passages where documents are few or long. Text that occurs more
    than once is never chosen."""
    streaming: bool = False
    """For text that never ends or does not fit on the disk: read it in order, 10 million characters at a time; each of
    these segments is shuffled, trained on once and dropped. The first one gives the vocabulary and the held-out
    text."""
    cache: str | None = None
    """Folder for the encoded text, which takes 2 bytes per character. Runs on the same text may share it, so that it is
    encoded once. Default: a folder inside the output folder."""
    text_column: str = DEFAULT_COLUMN
    """Column that holds the text in JSON, JSONL, CSV, TSV, Parquet and data sets."""
    errors: DecodingErrors = "strict"
    """What to do with bytes that are not UTF-8: 'strict' stops with an error that names file, line and byte, 'replace'
    reads each invalid sequence as U+FFFD and logs how many there were."""
    max_text_mb: int = DEFAULT_MAX_TEXT_MB
    """Largest size of a line or record in megabytes. A longer one is an error that names file and line: compressed
    files can expand to more than the memory."""

    def __post_init__(self) -> None:
        self.train = _as_names(self.train)
        self.valid = None if self.valid is None else _as_names(self.valid)
        self.cache = None if self.cache is None else os.fspath(user_path(self.cache))
        if not 0.0 < self.held_out < 1.0:
            raise CharEmbedError(f"held_out must be between 0 and 1, got {self.held_out}")
        max_text_bytes(self.max_text_mb)


@dataclass(frozen=True)
class SourceText:
    """A text and its position in a corpus."""

    source: str
    """Name of the file or data set."""
    number: int
    """Number of the line in the file or of the record in the data set, from 1."""
    text: str
    """The text, unchanged, without the line end."""
    begins_document: bool = True
    """Whether the text does not continue the one before it: the first line of a file or after a blank line, or a
    record."""


class Corpus:
    """The documents or texts of one or several sources, in the order of the sources (files of a folder by path).

    Each iteration reads them again, one at a time.
    """

    def __init__(
        self,
        sources: str | os.PathLike[str] | list[str],
        *,
        text_column: str = DEFAULT_COLUMN,
        errors: DecodingErrors = "strict",
        max_text_mb: int = DEFAULT_MAX_TEXT_MB,
        exclude: Iterable[Source] = (),
        max_block: int = MAX_BLOCK,
    ) -> None:
        """
        Args:
            sources: what to read, named as in `CorpusConfig.train`. A source named twice is read once.
            text_column: column that holds the text in JSON, JSONL, CSV, TSV, Parquet and data sets.
            errors: what to do with bytes that are not UTF-8, as in `CorpusConfig.errors`.
            max_text_mb: largest size of a line or record, in megabytes.
            exclude: sources to leave out, such as those of the validation text.
            max_block: characters after which a document of a text file ends even without a blank line.

        Raises:
            CharEmbedError: a name stands for nothing that can be read, or no source is left.
        """
        self.text_column = text_column
        self.errors = errors
        self.max_text_mb = max_text_mb
        self._max_block = max_block
        self.replaced = 0
        """Number of invalid byte sequences, null bytes and lone surrogates replaced during the latest iteration."""
        self._warned = False
        self.sources: list[Source] = []
        excluded = {_identity(source) for source in exclude}
        seen: set[Source] = set()
        names = _as_names(sources)
        for name in [names] if isinstance(names, str) else names:
            # The same file may be found twice, such as by the names of a folder and of a file in it. Links to it are
            # names of their own: whoever embeds them expects vectors under each.
            for source in find_sources(name):
                if _identity(source) in excluded:
                    logger.info("%s is validation text: left out of the training text", source)
                elif _absolute(source) not in seen:
                    seen.add(_absolute(source))
                    self.sources.append(source)
        if not self.sources:
            raise CharEmbedError(f"no text to read in {names!r}")

    def __iter__(self) -> Iterator[str]:
        """Yield the documents, without blank lines and without a newline at the end.

        Several links to the same file are read once.

        Raises:
            CharEmbedError: a source cannot be read or decoded, or a record has no text.
        """
        reader = TextReader(self.text_column, self.errors, self.max_text_mb)
        distinct: dict[Source, Source] = {}
        for source in self.sources:
            distinct.setdefault(_identity(source), source)
        for source in distinct.values():
            # A record is a document even if it has blank lines, which a text file would be cut at.
            if holds_records(source):
                documents = (_without_blank_lines(text) for _, text in reader.read(source))
                yield from (document for document in documents if document)
            else:
                yield from _blocks((line for _, line in reader.read(source)), self._max_block)
        self._report_replaced(reader.replaced)

    def texts(self) -> Iterator[SourceText]:
        """Yield the texts that are not blank: the lines of text files, the records of other sources.

        Raises:
            CharEmbedError: a source cannot be read or decoded, or a record has no text.
        """
        reader = TextReader(self.text_column, self.errors, self.max_text_mb)
        for source in self.sources:
            yield from source_texts(reader, source, escape_undecodable(str(source)))
        self._report_replaced(reader.replaced)

    @property
    def holds_records(self) -> bool:
        """Whether any source holds records, so that `text_column` applies."""
        return any(map(holds_records, self.sources))

    def digests(self) -> list[str | None]:
        """Return for each source a digest that changes with its content; None for a pipe, which can be read only once.

        Raises:
            CharEmbedError: a source cannot be read.
        """
        return [content_digest(source) for source in self.sources]

    def _report_replaced(self, count: int) -> None:
        self.replaced = count
        if count and not self._warned:
            self._warned = True
            logger.warning("%d invalid UTF-8 sequences, null bytes or lone surrogates were read as U+FFFD", count)


def source_texts(reader: TextReader, source: Source, name: str) -> Iterator[SourceText]:
    """Yield the texts of one source that are not blank, as `Corpus.texts` does.

    Args:
        reader: reads the source.
        source: the source.
        name: its name in the texts.

    Raises:
        CharEmbedError: the source cannot be read or decoded, or a record has no text.
    """
    begins_document = True
    for number, text in reader.read(source):
        is_blank = not text or text.isspace()
        if not is_blank:
            yield SourceText(name, number, text, begins_document)
        begins_document = is_blank or holds_records(source)


def _as_names(sources: str | os.PathLike[str] | list[str]) -> SourceNames:
    if isinstance(sources, (str, os.PathLike)):
        return os.fspath(sources)
    return [os.fspath(source) for source in sources]


def check_text_column(*corpora: Corpus | None) -> None:
    """Refuse a `text_column` that nothing has: the user expects columns to be read where there are none.

    Args:
        corpora: corpora of the same options, of which at least one must hold records.

    Raises:
        CharEmbedError: the column is not the default and no corpus holds records.
    """
    present = [corpus for corpus in corpora if corpus is not None]
    column = present[0].text_column
    if column != DEFAULT_COLUMN and not any(corpus.holds_records for corpus in present):
        raise CharEmbedError(
            f"text_column {column!r} does not apply: {present[0].sources[0]} is read as text without columns; files"
            f" with records end in {', '.join(RECORD_SUFFIXES)}"
        )


def _identity(source: Source) -> Source:
    """Return what is equal for two names of the same source."""
    return source.resolve() if isinstance(source, Path) else source


def _absolute(source: Source) -> Source:
    """Return what is equal for two spellings of the same name."""
    return Path(os.path.normpath(source.absolute())) if isinstance(source, Path) else source


def _without_blank_lines(text: str) -> str:
    return "\n".join(line for line in line_feeds_only(text).split("\n") if line.strip())


def _blocks(lines: Iterable[str], max_characters: int) -> Iterator[str]:
    """Join the lines between blank lines, at most about `max_characters` of them."""
    block: list[str] = []
    size = 0
    for line in lines:
        if line.strip():
            block.append(line)
            size += len(line)
        if block and (size >= max_characters or not line.strip()):
            yield "\n".join(block)
            block, size = [], 0
    if block:
        yield "\n".join(block)


def document_texts(documents: Iterable[str]) -> Iterator[str]:
    """Return the documents of a corpus, each with the blank line that follows it in the stream that models read."""
    return (document + DOCUMENT_END for document in documents)


def take_characters(size: int, texts: Iterable[str]) -> Iterator[str]:
    """Yield whole texts from the first on until they have at least `size` characters."""
    for text in texts:
        yield text
        size -= len(text)
        if size <= 0:
            return
