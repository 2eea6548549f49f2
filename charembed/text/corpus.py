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
from charembed.text.records import DecodingErrors, TextReader, holds_records
from charembed.text.sources import Source, content_digest, find_sources
from charembed.util.files import escape_undecodable, user_path

logger = logging.getLogger(__name__)

SourceNames = str | list[str]

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
    these such as '[a.txt, b.txt]'. Files in .jsonl, .ndjson and .parquet hold one document per record, in text_column.
    All others are UTF-8 text in which a blank line ends a document. Names may also end in .gz, .xz, .bz2 or .zst."""
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
    text_column: str = "text"
    """Column that holds the text in JSONL, Parquet and data sets."""
    errors: DecodingErrors = "strict"
    """What to do with bytes that are not UTF-8: 'strict' stops with an error that names file and byte, 'replace' reads
    each invalid sequence as U+FFFD and logs how many there were."""

    def __post_init__(self) -> None:
        self.train = _as_names(self.train)
        self.valid = None if self.valid is None else _as_names(self.valid)
        self.cache = None if self.cache is None else os.fspath(user_path(self.cache))
        if not 0.0 < self.held_out < 1.0:
            raise CharEmbedError(f"held_out must be between 0 and 1, got {self.held_out}")


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
        text_column: str = "text",
        errors: DecodingErrors = "strict",
        exclude: Iterable[Source] = (),
        max_block: int = MAX_BLOCK,
    ) -> None:
        """
        Args:
            sources: what to read, named as in `CorpusConfig.train`. A source named twice is read once.
            text_column: column that holds the text in JSONL, Parquet and data sets.
            errors: what to do with bytes that are not UTF-8, as in `CorpusConfig.errors`.
            exclude: sources to leave out, such as those of the validation text.
            max_block: characters after which a document of a text file ends even without a blank line.

        Raises:
            CharEmbedError: a name stands for nothing that can be read, or no source is left.
        """
        self.text_column = text_column
        self.errors = errors
        self._max_block = max_block
        self.replaced = 0
        """Number of invalid byte sequences and lone surrogates replaced during the latest iteration."""
        self._warned = False
        self.sources: list[Source] = []
        excluded = {_identity(source) for source in exclude}
        seen: set[Source] = set()
        names = _as_names(sources)
        for name in [names] if isinstance(names, str) else names:
            # Two names may stand for the same file, such as a folder and a file in it.
            for source in find_sources(name):
                if _identity(source) in excluded:
                    logger.info("%s is validation text: left out of the training text", source)
                elif _identity(source) not in seen:
                    seen.add(_identity(source))
                    self.sources.append(source)
        if not self.sources:
            raise CharEmbedError(f"no text to read in {names!r}")

    def __iter__(self) -> Iterator[str]:
        """Yield the documents, without blank lines and without a newline at the end.

        Raises:
            CharEmbedError: a source cannot be read or decoded, or a record has no text.
        """
        reader = TextReader(self.text_column, self.errors)
        for source in self.sources:
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
        reader = TextReader(self.text_column, self.errors)
        for source in self.sources:
            yield from source_texts(reader, source, escape_undecodable(str(source)))
        self._report_replaced(reader.replaced)

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
            logger.warning("%d invalid UTF-8 sequences or lone surrogates were read as U+FFFD", count)


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


def _identity(source: Source) -> Source:
    """Return what is equal for two names of the same source."""
    return source.resolve() if isinstance(source, Path) else source


def _without_blank_lines(text: str) -> str:
    return "\n".join(line for line in text.replace("\r\n", "\n").split("\n") if line.strip())


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
