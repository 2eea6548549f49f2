"""One layer of tags: its name, its kind and all tags that a tagger can give to a word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from charembed.errors import CharEmbedError
from charembed.tagging.labelled_text import LabelledSentence, LayerKind
from charembed.util.checks import check_choice, shown


@dataclass(frozen=True)
class TagLayer:
    """A layer of tags that a tagger predicts."""

    name: str
    """Name of the layer, for example "ner"."""
    kind: LayerKind
    """Whether the tags are BIO tags of entities or of any other kind."""
    tags: tuple[str, ...]
    """All tags. For entities: O, and B and I of each label."""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(LayerKind))
        if not (isinstance(self.name, str) and self.tags and all(isinstance(tag, str) for tag in self.tags)):
            got = f"{shown(self.name)} and {shown(self.tags)}"
            raise CharEmbedError(f"a layer has a name and tags, all of them text: got {got}")
        if len(set(self.tags)) < len(self.tags):
            raise CharEmbedError(f"layer {self.name} has a tag more than once")
        if self.kind == "entities":
            expected = {"O"} | {prefix + label for label in self.labels for prefix in ("B-", "I-")}
            if set(self.tags) != expected:
                raise CharEmbedError(f"layer {self.name} must have the tags O, and B and I of each label")

    @classmethod
    def of(cls, name: str, kind: LayerKind, sentences: Iterable[LabelledSentence]) -> TagLayer:
        """Collect the tags of a layer from labelled sentences.

        Every label of an entity gets both of its tags, even if the sentences have no entity of several words.

        Args:
            name: name of the layer.
            kind: its kind.
            sentences: the sentences to train on.
        """
        tags = {tag for sentence in sentences for tag in sentence.tags[name]}
        if kind == "tags":
            return cls(name, kind, tuple(sorted(tags)))
        labels = sorted({tag[2:] for tag in tags if tag != "O"})
        return cls(name, kind, ("O", *(prefix + label for label in labels for prefix in ("B-", "I-"))))

    @property
    def labels(self) -> list[str]:
        """The labels of entities, or the tags of another layer, sorted."""
        return sorted({tag[2:] for tag in self.tags if tag != "O"}) if self.kind == "entities" else sorted(self.tags)

    @property
    def ids(self) -> dict[str, int]:
        """The number of each tag."""
        return {tag: number for number, tag in enumerate(self.tags)}

    def possible_first(self) -> NDArray[np.bool_]:
        """Return which tags a sentence can begin with. Shape: (tags,)"""
        inside = [self.kind == "entities" and tag.startswith("I-") for tag in self.tags]
        return ~np.array(inside, dtype=np.bool_)

    def possible_transitions(self) -> NDArray[np.bool_]:
        """Return which tag can follow which. Shape: (tags, tags), the earlier tag first"""
        label_ids = {label: number for number, label in enumerate(self.labels)} if self.kind == "entities" else {}
        labels = np.array([label_ids.get(tag[2:], -1) for tag in self.tags])
        # I-X follows B-X and I-X only.
        same_label: NDArray[np.bool_] = labels[:, None] == labels
        return self.possible_first() | same_label
