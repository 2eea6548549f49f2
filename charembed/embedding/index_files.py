"""The files of an index of occurrences: texts, where their words are, and the vectors of these words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.word_embeddings import WordEmbeddings
from charembed.errors import CharEmbedError
from charembed.util.digests import check_file, file_digest, seal_json, unseal_json
from charembed.util.reading import MAX_JSON_BYTES, check_regular, open_regular, read_file

FORMAT_VERSION = 1
METADATA, PROJECTION, VECTORS = "index.json", "projection.safetensors", "vectors.usearch"
TEXTS, TEXT_ENDS, OCCURRENCES, WORDS = "texts.bin", "text_ends.bin", "occurrences.bin", "words.json"
FILES = (METADATA, PROJECTION, VECTORS, TEXTS, TEXT_ENDS, OCCURRENCES, WORDS)
_OCCURRENCE = np.dtype([("text", "<u4"), ("start", "<u4"), ("end", "<u4"), ("word", "<u4")])


@dataclass(frozen=True)
class FileState:
    """What a file was when it was written."""

    size: int
    """Bytes."""
    modified: int
    """Time of its last change, in nanoseconds."""
    sha256: str
    """SHA-256 of its content."""

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Return the state of a file."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, file_digest(path))

    def check(self, path: Path) -> None:
        """Check that a file has not changed. If its size and time are the same, it is not read.

        Raises:
            OSError: the file cannot be read.
            ValueError: it has changed, or is not a regular file.
        """
        check_regular(path)
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified):
            check_file(path, self.sha256)


@dataclass(frozen=True)
class IndexMetadata:
    """What an index was built from."""

    model: str
    """Digest of the model."""
    texts: list[str]
    """Digests of the sources."""
    occurrences: int = 0
    """Number of words of the texts."""
    files: dict[str, FileState] = field(default_factory=dict)
    """State of the other files when they were written."""
    format_version: int = FORMAT_VERSION
    """Version of the format of the files."""

    @classmethod
    def load(cls, folder: Path) -> IndexMetadata:
        """Read index.json.

        Raises:
            CharEmbedError: it is missing, damaged or of another version.
        """
        if not (folder / METADATA).exists():
            raise CharEmbedError(f"{folder} is not an index of charembed: it has no {METADATA}")
        with readable_errors(folder):
            values = unseal_json(read_file(folder / METADATA, MAX_JSON_BYTES))
            if values["format_version"] != FORMAT_VERSION:
                raise ValueError(f"it has format {values['format_version']}, which this version does not read")
            states = {name: FileState(**state) for name, state in values.pop("files").items()}
            return cls(**values, files=states)

    def is_of_same(self, other: IndexMetadata) -> bool:
        """Return whether two indexes were built from the same texts with the same model."""
        return (self.model, self.texts) == (other.model, other.texts)

    def check_sizes(self, folder: Path) -> None:
        """Check that the files still have the sizes that they had when they were opened.

        Beyond the end of a file that became shorter while it was mapped, reading it would end the process.

        Raises:
            CharEmbedError: a file has another size, or is missing.
        """
        with readable_errors(folder):
            for name, state in self.files.items():
                size = (folder / name).stat().st_size
                if size != state.size:
                    raise ValueError(f"{name} has changed while it was open: {size:,} of {state.size:,} bytes")

    def save(self, folder: Path, occurrences: int) -> None:
        """Write index.json, with the number of words and the state of the other files, which are complete."""
        states = {name: FileState.of(folder / name) for name in FILES if name != METADATA}
        content = seal_json(asdict(replace(self, occurrences=occurrences, files=states)), indent=2)
        (folder / METADATA).write_text(content + "\n", encoding="utf-8")


@contextmanager
def readable_errors(folder: Path) -> Iterator[None]:
    """Raise what shows that an index is damaged as an error that names the remedy.

    Raises:
        CharEmbedError: a file is missing or damaged.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CharEmbedError(f"the index {folder} cannot be read: {error}; remove it to build it again") from error


@dataclass(frozen=True)
class Occurrence:
    """A word at one place."""

    word: str
    """The word, spelled as in its text."""
    text: str
    """The text."""
    start: int
    """Offset of its first character."""
    end: int
    """Offset of one past its last character."""


class OccurrenceWriter:
    """Writes texts and their words, one text after the other, so that memory holds only the different words."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._texts, self._ends, self._occurrences = (
            self._stack.enter_context((folder / name).open("wb")) for name in (TEXTS, TEXT_ENDS, OCCURRENCES)
        )
        self._ids: dict[str, int] = {}
        self._text = 0
        self.occurrences = 0
        """Number of occurrences written."""

    def __enter__(self) -> OccurrenceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        if error is None:
            (self._folder / WORDS).write_text(json.dumps(list(self._ids)), encoding="utf-8")

    def add(self, text: str, embedded: WordEmbeddings) -> None:
        """Write a text and its words."""
        self._texts.write(text.encode())
        self._ends.write(np.array([self._texts.tell()], "<u8").tobytes())
        rows = [
            (self._text, start, end, self._ids.setdefault(word, len(self._ids)))
            for word, (start, end) in zip(embedded.words, embedded.spans, strict=True)
        ]
        self._occurrences.write(np.array(rows, _OCCURRENCE).tobytes())
        self._text += 1
        self.occurrences += len(rows)


class OccurrenceTable:
    """The words of indexed texts, in the order of the texts. The files stay on the disk."""

    def __init__(self, folder: Path, metadata: IndexMetadata) -> None:
        self._folder = folder
        self._metadata = metadata
        self._ends = np.memmap(folder / TEXT_ENDS, "<u8", "r")
        self._rows: NDArray[np.void] = np.memmap(folder / OCCURRENCES, _OCCURRENCE, "r")
        self.words: list[str] = json.loads(read_file(folder / WORDS))
        """The different words."""
        self._folded: dict[str, list[int]] = {}
        for number, word in enumerate(self.words):
            self._folded.setdefault(word.casefold(), []).append(number)

    def __len__(self) -> int:
        return len(self._rows)

    def words_at(self, numbers: Sequence[int]) -> list[str]:
        """Return the words of some occurrences."""
        return [self.words[k] for k in self._rows["word"][list(numbers)]]

    def at(self, number: int) -> Occurrence:
        """Return an occurrence.

        Raises:
            CharEmbedError: the files have changed since they were opened.
        """
        self._metadata.check_sizes(self._folder)
        row = self._rows[number]
        text = int(row["text"])
        start = int(self._ends[text - 1]) if text else 0
        with readable_errors(self._folder), open_regular(self._folder / TEXTS) as file:
            file.seek(start)
            content = file.read(int(self._ends[text]) - start).decode()
        return Occurrence(self.words[row["word"]], content, int(row["start"]), int(row["end"]))

    def of_word(self, word: str) -> NDArray[np.int64]:
        """Return the numbers of the occurrences of a word in this spelling; in any case if there are none.

        Raises:
            CharEmbedError: the files have changed since they were opened.
        """
        self._metadata.check_sizes(self._folder)
        spellings = self._folded.get(word.casefold(), [])
        exact = [k for k in spellings if self.words[k] == word]
        return np.flatnonzero(np.isin(self._rows["word"], exact or spellings))
