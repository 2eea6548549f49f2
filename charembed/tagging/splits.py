"""Divide labelled sentences into train, dev and test."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from charembed.errors import CharEmbedError
from charembed.tagging.columns import Columns
from charembed.tagging.labelled_text import LabelledFile, LabelledSentence, read_labelled
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tag_schemes import LayerKind

T = TypeVar("T")


class InDocument(Protocol):
    """A sentence that knows its document."""

    @property
    def document(self) -> int: ...


S = TypeVar("S", bound=InDocument)


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

    def sizes(self) -> dict[str, int]:
        """Return the number of sentences of each split."""
        return {"train": len(self.train), "dev": len(self.dev), "test": len(self.test)}


@dataclass(frozen=True)
class LabelledSplits:
    """The labelled sentences of a task."""

    splits: Splits[LabelledSentence]
    """The sentences."""
    kinds: dict[str, LayerKind]
    """Kind of each layer of tags, by its name."""
    notes: list[str]
    """What was converted, widened or left out, and which tags cannot be learnt: sentences for a log."""

    def layers(self) -> list[TagLayer]:
        """Return the layers with the tags of the training sentences."""
        return [TagLayer.of(name, kind, self.splits.train) for name, kind in self.kinds.items()]


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


def read_splits(train: str, dev: str | None, test: str | None, columns: Columns | None = None) -> LabelledSplits:
    """Read the splits of a task; a split without a file is drawn from the training sentences (see `divide`).

    Args:
        train: file to train on. What its layers are called and whether they are entities holds for the other files too.
        dev: file that chooses the best epoch.
        test: file to report the score on.
        columns: where words and tags are in files of columns and CoNLL-U.

    Raises:
        CharEmbedError: a file cannot be read, a split is empty, there is nothing to learn, or a file lacks a layer of
            the training file.
        MissingExtraError: a package that reads the format of a file is not installed.
    """
    train_file = read_labelled(train, columns)
    others = [None if path is None else read_labelled(path, columns, train_file.kinds) for path in (dev, test)]
    for path, other in zip((dev, test), others, strict=True):
        if path is not None and other is not None:
            _check_layers(path, other, train, train_file)
    splits = divide(train_file.sentences, *(None if other is None else other.sentences for other in others))
    check_splits(splits, train)

    notes = [note for file in (train_file, *others) if file is not None for note in file.notes]
    for part, path, sentences in (("dev", dev, splits.dev), ("test", test, splits.test)):
        name = f"{part} part of {Path(train).name}" if path is None else Path(path).name
        notes += _notes_on_unknown_tags(name, sentences, splits.train, train_file.kinds)
    notes += _notes_on_repeated_sentences(splits)
    return LabelledSplits(splits, train_file.kinds, list(dict.fromkeys(notes)))


def _check_layers(path: str, file: LabelledFile, train: str, train_file: LabelledFile) -> None:
    missing = [name for name in train_file.kinds if name not in file.kinds]
    if missing:
        raise CharEmbedError(
            f"{path} has no layer {', '.join(missing)}, which {train} has; it has {', '.join(file.kinds)}"
        )


def _notes_on_unknown_tags(
    name: str, sentences: list[LabelledSentence], train: list[LabelledSentence], kinds: Mapping[str, LayerKind]
) -> list[str]:
    """Return a note for each layer with tags, or kinds of entities, that are not in the training sentences."""
    notes = []
    for layer, kind in kinds.items():
        # A tagger knows both tags of a kind of entities if one of them is in the training sentences.
        known, used = (
            {tag[2:] if kind == "entities" else tag for one in split for tag in one.tags[layer]}
            for split in (train, sentences)
        )
        if unknown := sorted(used - known):
            what = "kinds of entities" if kind == "entities" else "tags"
            notes.append(
                f"{name}: {what} of layer {layer} that no training sentence has, and that count as errors:"
                f" {', '.join(unknown)}"
            )
    return notes


def _notes_on_repeated_sentences(splits: Splits[LabelledSentence]) -> list[str]:
    """Return a note for each split that has no sentence of its own."""
    train, dev, test = (
        {(tuple(sentence.words), tuple(map(tuple, sentence.tags.values()))) for sentence in split} for split in splits
    )
    scores = {
        "dev, whose sentences are all in train": dev <= train,
        "test, whose sentences are all in train": test <= train,
        "test, whose sentences are all in dev, which chooses the best epoch": test <= dev and not test <= train,
    }
    return [f"scores on {split}, say nothing about other text" for split, is_repeated in scores.items() if is_repeated]


def check_splits(splits: Splits[LabelledSentence], train: str) -> None:
    """Check that a tagger can be trained, selected and scored on some splits.

    Args:
        splits: the splits of a task.
        train: name of the training file, from which missing splits were drawn.

    Raises:
        CharEmbedError: a split is empty, or all training tags of a layer are O.
    """
    for name, split in zip(("train", "dev", "test"), splits, strict=True):
        if not split:
            raise CharEmbedError(
                f"the {name} split has no sentences: give train, dev and test files that contain some, or add"
                f" sentences to {train} (documents, if it has several: they are never divided)"
            )
    # All O: most likely the wrong column, or a task without entities.
    for layer in splits.train[0].tags:
        if all(tag == "O" for sentence in splits.train for tag in sentence.tags[layer]):
            raise CharEmbedError(f"all tags in {train} are O (layer {layer}): choose another column, or label entities")


def sentences_digest(splits: Splits[LabelledSentence]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of all words and tags and their division into splits."""
    content = [[(sentence.words, _tags_content(sentence.tags)) for sentence in split] for split in splits]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _tags_content(tags: dict[str, list[str]]) -> Sequence[str] | dict[str, list[str]]:
    """Return the tags of the only layer, whatever its name, or of all by name."""
    return next(iter(tags.values())) if len(tags) == 1 else tags
