"""Labelled sentences for the tagger scripts: CoNLL columns and CoNLL-U in, scores out."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import random
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from charembed.text.opening import open_binary
from charembed.text.words import SpannedText, TextInput

T = TypeVar("T")


class InDocument(Protocol):
    """What knows the document that it is of."""

    @property
    def document(self) -> int: ...


S = TypeVar("S", bound=InDocument)
Task = Literal["ner", "upos"]
"""Named entities, tagged BIO or IO, or parts of speech."""
METRICS: dict[Task, str] = {"ner": "entity F1", "upos": "accuracy"}


@dataclass(frozen=True)
class LabelledSentence:
    """A sentence as its file has it."""

    words: list[str]
    tags: list[str]
    original: SpannedText | None = None
    """Its text before it was cut into words, where the file says it (CoNLL-U)."""
    document: int = 0
    """Number of the document that it is of, in its file."""

    @property
    def text(self) -> TextInput:
        """What an embedder is given to read it as it was written: words alone are joined by spaces."""
        if self.original is None:
            return self.words
        return self.original.text, [(start, end) for start, end in self.original.spans.tolist()]


@dataclass(frozen=True)
class Splits(Generic[T]):
    """The sentences of a task, in some form."""

    train: list[T]
    dev: list[T]
    test: list[T]

    def __iter__(self) -> Iterator[list[T]]:
        return iter((self.train, self.dev, self.test))


_COLUMN = re.compile(r"[^ \t\r\n]+")  # a word may hold other white space, such as a no-break space


def read_labelled(path: str | Path, token_column: int = 0, tag_column: int = 1) -> list[LabelledSentence]:
    """The sentences of a file, packed or not: CoNLL-U where its name says so, and columns otherwise.

    Multi-word tokens and empty nodes of a treebank are left out. Documents begin at lines of `-DOCSTART-`, in CoNLL-U
    at comments of `newdoc`; a file without them is one.
    """
    with open_binary(Path(path)) as content, io.TextIOWrapper(content, encoding="utf-8-sig") as file:
        if ".conllu" in Path(str(path).lower()).suffixes:
            return [sentence for sentence in _treebank(file) if sentence.words]
        return list(_columns(file, token_column, tag_column, str(path)))


def _columns(lines: Iterable[str], token_column: int, tag_column: int, name: str) -> Iterator[LabelledSentence]:
    words: list[str] = []
    tags: list[str] = []
    document = 0
    for number, line in enumerate(lines, start=1):
        columns = _COLUMN.findall(line)
        starts = line.startswith("-DOCSTART-")
        if columns and not starts:
            try:
                word, tag = columns[token_column], columns[tag_column]
            except IndexError:
                sys.exit(f"{name}, line {number} has {len(columns)} columns: see token_column and tag_column")
            words.append(word)
            tags.append(tag)
        elif words:
            yield LabelledSentence(words, tags, document=document)
            words, tags = [], []
        document += starts
    if words:
        yield LabelledSentence(words, tags, document=document)


def _treebank(lines: io.TextIOWrapper) -> Iterator[LabelledSentence]:
    try:
        import conllu
    except ImportError:
        sys.exit("reading CoNLL-U needs the package conllu, which charembed[flair] installs")
    document = 0
    for rows in conllu.parse_incr(lines):
        document += any(key.startswith("newdoc") for key in rows.metadata)
        tokens = [row for row in rows if isinstance(row["id"], int)]
        words = [row["form"] for row in tokens]
        original = _found(words, rows.metadata.get("text", ""))
        yield LabelledSentence(words, [row["upos"] for row in tokens], original, document)


def _found(words: list[str], text: str) -> SpannedText | None:
    """Where the words stand in the text; None if one of them does not, as in a contraction's parts."""
    spans = []
    end = 0
    for word in words:
        start = text.find(word, end)
        if start < 0 or text[end:start].strip():
            return None
        end = start + len(word)
        spans.append((start, end))
    return SpannedText.of((text, spans))


def divide(train: list[S], dev: list[S] | None, test: list[S] | None) -> Splits[S]:
    """Take what is missing from the training sentences: a quarter of them for the test, then a tenth of the rest to
    choose the epoch. They are drawn with a seed that never changes, so that every tagger has the same ones.

    Where there are several documents, whole ones are drawn until there are enough sentences: a document repeats its
    names.
    """
    groups = [list(group) for _, group in itertools.groupby(train, key=lambda one: one.document)]
    if len(groups) == 1:
        groups = [[one] for one in train]
    random.Random(1).shuffle(groups)

    def draw(share: int) -> list[S]:
        wanted = max(1, sum(map(len, groups)) // share)
        drawn: list[S] = []
        while groups and len(drawn) < wanted:
            drawn += groups.pop(0)
        return drawn

    if test is None:
        test = draw(4)
    if dev is None:
        dev = draw(10)
    return Splits([one for group in groups for one in group], dev, test)


def read_splits(
    train: str, dev: str | None, test: str | None, token_column: int = 0, tag_column: int = 1
) -> Splits[LabelledSentence]:
    """The sentences of a task; what has no file of its own is taken from the training sentences.

    Raises:
        SystemExit: nothing to learn from, to choose the epoch with or to score.
    """
    found = [None if path is None else read_labelled(path, token_column, tag_column) for path in (dev, test)]
    splits = divide(read_labelled(train, token_column, tag_column), *found)
    check_splits(splits, train)
    return splits


def check_splits(splits: Splits[LabelledSentence], train: str) -> None:
    """
    Args:
        splits: of a task.
        train: the file of its training sentences, and of those that have no file of their own.

    Raises:
        SystemExit: nothing to learn from, to choose the epoch with or to score.
    """
    for name, split in zip(("to learn from", "to choose the epoch with", "to score"), splits, strict=True):
        if not split:
            sys.exit(
                f"there is no sentence {name}: give train, dev and test files that hold some, or in {train} more"
                " sentences, of more documents where it is divided into such"
            )
    if {tag for sentence in splits.train for tag in sentence.tags} <= {"O"}:
        sys.exit(f"{train} has no label but O to learn: see token_column and tag_column")


def sentences_digest(splits: Splits[LabelledSentence]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of all words and tags, and of how they are divided."""
    content = [[(sentence.words, sentence.tags) for sentence in split] for split in splits]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def entities(tags: list[str]) -> set[tuple[int, int, str]]:
    """First word, one past the last, and kind of each entity.

    Raises:
        SystemExit: a tag of another scheme.
    """
    for tag in tags:
        if tag != "O" and tag[:2] not in ("B-", "I-"):
            sys.exit(f"tags of entities are O, B-KIND and I-KIND, got {tag!r}: see task and tag_column")
    found, start = set(), 0
    for k, (before, tag) in enumerate(pairwise(["O", *tags, "O"])):
        if tag.startswith("B-") or tag[2:] != before[2:]:
            if before != "O":
                found.add((start, k, before[2:]))
            start = k
    return found


def score(task: Task, predicted: Iterable[list[str]], wanted: Iterable[list[str]]) -> float:
    """Micro-averaged F1 of whole entities, their extent and kind, or the share of right parts of speech; in per cent.

    Args:
        task: which of them.
        predicted: tags of each sentence.
        wanted: the true ones.
    """
    right = total = 0
    for found, true in zip(predicted, wanted, strict=True):
        if task == "ner":
            right += 2 * len(entities(found) & entities(true))
            total += len(entities(found)) + len(entities(true))
        else:
            right += sum(one == other for one, other in zip(found, true, strict=True))
            total += len(true)
    return 100 * right / max(1, total)
