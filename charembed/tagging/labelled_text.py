"""Read labelled sentences from CoNLL columns and CoNLL-U, and divide them into train, dev and test."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from charembed.errors import CharEmbedError, import_extra
from charembed.text.opening import open_binary
from charembed.text.words import SpannedText, TextInput

T = TypeVar("T")


class InDocument(Protocol):
    """A sentence that knows its document."""

    @property
    def document(self) -> int: ...


S = TypeVar("S", bound=InDocument)


@dataclass(frozen=True)
class LabelledSentence:
    """A sentence as its file has it."""

    words: list[str]
    """The words."""
    tags: list[str]
    """One tag per word."""
    original: SpannedText | None = None
    """The text before tokenization with the spans of the words, where the file gives it (CoNLL-U)."""
    document: int = 0
    """Number of the document in its file."""

    @property
    def text(self) -> TextInput:
        """The input for an embedder that reads the sentence as it was written; without `original`, the words."""
        if self.original is None:
            return self.words
        return self.original.text, [(start, end) for start, end in self.original.spans.tolist()]


@dataclass(frozen=True)
class Splits(Generic[T]):
    """The sentences of a task, in some form."""

    train: list[T]
    """Sentences to train on."""
    dev: list[T]
    """Sentences that choose the best epoch."""
    test: list[T]
    """Sentences to report the score on."""

    def __iter__(self) -> Iterator[list[T]]:
        return iter((self.train, self.dev, self.test))


# Not str.split: a word may contain other white space, such as a no-break space.
_COLUMN = re.compile(r"[^ \t\r\n]+")


def read_labelled(path: str | Path, token_column: int = 0, tag_column: int = 1) -> list[LabelledSentence]:
    """Read the sentences of a file: CoNLL-U if the name contains `.conllu`, columns otherwise.

    The file may be compressed. Multi-word tokens and empty nodes of a treebank are left out. A document begins at a
    `-DOCSTART-` line, in CoNLL-U at a `newdoc` comment; a file without them is one document.

    Args:
        path: the file.
        token_column: column of the word, from 0; not used for CoNLL-U.
        tag_column: column of the tag, from 0; not used for CoNLL-U, where tags are universal parts of speech.

    Raises:
        CharEmbedError: a line has too few columns.
        MissingExtraError: CoNLL-U without the package conllu.
        OSError: the file cannot be read.
    """
    # utf-8-sig: files from Windows begin with a byte order mark.
    with open_binary(Path(path)) as content, io.TextIOWrapper(content, encoding="utf-8-sig") as file:
        if ".conllu" in Path(str(path).lower()).suffixes:
            return [sentence for sentence in _read_treebank(file) if sentence.words]
        return list(_read_columns(file, token_column, tag_column, str(path)))


def _read_columns(lines: Iterable[str], token_column: int, tag_column: int, name: str) -> Iterator[LabelledSentence]:
    words: list[str] = []
    tags: list[str] = []
    document = 0
    for number, line in enumerate(lines, start=1):
        columns = _COLUMN.findall(line)
        begins_document = line.startswith("-DOCSTART-")
        if columns and not begins_document:
            try:
                word, tag = columns[token_column], columns[tag_column]
            except IndexError as error:
                raise CharEmbedError(
                    f"{name}, line {number} has {len(columns)} columns, but token_column is {token_column} and"
                    f" tag_column is {tag_column} (counted from 0): correct these options"
                ) from error
            words.append(word)
            tags.append(tag)
        elif words:  # an empty line or a new document ends the sentence
            yield LabelledSentence(words, tags, document=document)
            words, tags = [], []
        document += begins_document
    if words:
        yield LabelledSentence(words, tags, document=document)


def _read_treebank(file: io.TextIOWrapper) -> Iterator[LabelledSentence]:
    conllu: Any = import_extra("conllu", extra="flair", purpose="reading CoNLL-U")
    document = 0
    for rows in conllu.parse_incr(file):
        document += any(key.startswith("newdoc") for key in rows.metadata)
        # The ids of multi-word tokens (2-3) and empty nodes (3.1) are tuples.
        tokens = [row for row in rows if isinstance(row["id"], int)]
        words = [row["form"] for row in tokens]
        original = _align(words, rows.metadata.get("text", ""))
        yield LabelledSentence(words, [row["upos"] for row in tokens], original, document)


def _align(words: list[str], text: str) -> SpannedText | None:
    """Return the text with the spans of the words; None if a word is not in it, such as a part of a contraction."""
    spans = []
    end = 0
    for word in words:
        start = text.find(word, end)
        if start < 0 or text[end:start].strip():  # only white space may lie between words
            return None
        end = start + len(word)
        spans.append((start, end))
    return SpannedText.of((text, spans))


def divide(train: list[S], dev: list[S] | None, test: list[S] | None) -> Splits[S]:
    """Draw missing splits from the training sentences: a quarter of them for test, a tenth of the rest for dev.

    The seed of the draw is fixed, so that every tagger gets the same splits. If the training sentences come from
    several documents, whole documents are drawn until there are enough sentences, because a document repeats its names.

    Args:
        train: sentences of the training file.
        dev: sentences of the dev file; None draws them.
        test: sentences of the test file; None draws them.
    """
    # Whole documents are drawn, or single sentences if the file has one document only.
    groups = [list(group) for _, group in itertools.groupby(train, key=lambda sentence: sentence.document)]
    if len(groups) == 1:
        groups = [[sentence] for sentence in train]
    random.Random(1).shuffle(groups)

    def draw(share: int) -> list[S]:
        count = max(1, sum(map(len, groups)) // share)
        drawn: list[S] = []
        while groups and len(drawn) < count:
            drawn += groups.pop(0)
        return drawn

    # Test first: its sentences do not depend on whether there is a dev file.
    if test is None:
        test = draw(4)
    if dev is None:
        dev = draw(10)
    return Splits([sentence for group in groups for sentence in group], dev, test)


def read_splits(
    train: str, dev: str | None, test: str | None, token_column: int = 0, tag_column: int = 1
) -> Splits[LabelledSentence]:
    """Read the splits of a task; a split without a file is drawn from the training sentences (see `divide`).

    Raises:
        CharEmbedError: a split is empty, there is nothing to learn, or a line has too few columns.
    """
    dev_sentences, test_sentences = (
        None if path is None else read_labelled(path, token_column, tag_column) for path in (dev, test)
    )
    splits = divide(read_labelled(train, token_column, tag_column), dev_sentences, test_sentences)
    check_splits(splits, train)
    return splits


def check_splits(splits: Splits[LabelledSentence], train: str) -> None:
    """Check that a tagger can be trained, selected and scored on some splits.

    Args:
        splits: the splits of a task.
        train: name of the training file, from which missing splits were drawn.

    Raises:
        CharEmbedError: a split is empty, or all training tags are O.
    """
    for name, split in zip(("train", "dev", "test"), splits, strict=True):
        if not split:
            raise CharEmbedError(
                f"the {name} split has no sentences: give train, dev and test files that contain some, or add"
                f" sentences to {train} (documents, if it has several: they are never divided)"
            )
    # All O: most likely the wrong column, or a task without entities.
    if {tag for sentence in splits.train for tag in sentence.tags} <= {"O"}:
        raise CharEmbedError(f"all tags in {train} are O: check token_column and tag_column")


def sentences_digest(splits: Splits[LabelledSentence]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of all words and tags and their division into splits."""
    content = [[(sentence.words, sentence.tags) for sentence in split] for split in splits]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
