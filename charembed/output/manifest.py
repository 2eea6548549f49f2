"""Record which inputs and options an output was made with, and how much of it is written."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charembed.errors import CharEmbedError
from charembed.text.word_boundaries import HAS_WORD_RULES_1
from charembed.util.digests import DIGEST, seal_json, unseal_json
from charembed.util.files import MANIFEST, atomic_write
from charembed.util.reading import MAX_JSON_BYTES, parse_json, read_file

START_OVER = "start over with --overwrite"
"""Remedy that error messages name."""


@dataclass(frozen=True)
class Position:
    """A position in the corpus, between two words."""

    texts: int = 0
    """Number of texts and document starts before it."""
    words: int = 0
    """Number of words before it in its own text."""


@dataclass
class Manifest:
    """The content of `_embeddings.json`, whose keys are the names of these fields, and `digest` for its SHA-256."""

    made_of: dict[str, Any]
    """Inputs and options that must be the same when an interrupted output is resumed."""
    files: int = 0
    """Number of complete files."""
    words: int = 0
    """Number of words in the complete files."""
    texts: int = 0
    """Number of finished texts and document starts: the complete files contain all words of these texts."""
    words_of_next: int = 0
    """Number of words of the next, unfinished text that the complete files contain."""
    complete: bool = False
    """Whether all words are written."""
    projected: dict[str, Any] = field(default_factory=dict)
    """Number of dimensions of the projection (`dim`), its share of the sample's variance (`explained_variance`) and the
    digest of its file (`sha256`, not in version 0.1.0); empty if the vectors are not reduced."""

    @property
    def position(self) -> Position:
        """Position in the corpus after the words in the complete files."""
        return Position(self.texts, self.words_of_next)

    @property
    def word_rules(self) -> int:
        """Version of the rules by which the words were found. Version 0.1.0 did not store it."""
        return int(self.made_of.get("word_rules", 1))

    @property
    def size(self) -> str:
        """Number of words and files written, for messages."""
        return f"{self.words:,} words in {self.files:,} file{'' if self.files == 1 else 's'}"

    def save(self, folder: Path) -> None:
        """Write the manifest atomically.

        Raises:
            OSError: the file cannot be written.
        """
        atomic_write(folder / MANIFEST, self.to_json())

    def to_json(self) -> str:
        """Return the content of the file."""
        return seal_json(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def load(cls, folder: Path) -> Manifest | None:
        """Read the manifest of a folder; None if the folder has none.

        Raises:
            CharEmbedError: the manifest is damaged.
        """
        try:
            content = read_file(folder / MANIFEST, MAX_JSON_BYTES)
        except FileNotFoundError:
            return None
        return cls.parse(content, str(folder / MANIFEST))

    @classmethod
    def parse(cls, content: bytes, name: str) -> Manifest:
        """Return the manifest in the content of a file.

        Args:
            content: the content.
            name: name of the file, for the error message.

        Raises:
            CharEmbedError: the manifest is damaged.
        """
        try:
            fields = parse_json(content)
            if DIGEST in fields:  # version 0.1.0 wrote none
                fields = unseal_json(content)
            manifest = cls(**fields)
            manifest.check_types()
        except (ValueError, TypeError) as error:
            raise CharEmbedError(f"{name} is damaged ({error}): {START_OVER}") from error
        return manifest

    def check_types(self) -> None:
        """Check the values that were read from a file.

        Raises:
            TypeError: a value has the wrong type or is negative.
        """
        for name in ("files", "words", "texts", "words_of_next"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise TypeError(f"{name} must be a whole number of at least 0, got {value!r}")
        if not (isinstance(self.made_of, dict) and isinstance(self.projected, dict) and type(self.complete) is bool):
            raise TypeError("made_of, projected or complete has the wrong type")

    def check_same_inputs(self, made_of: dict[str, Any], folder: str | os.PathLike[str]) -> None:
        """Refuse to resume an output with other inputs or options.

        Args:
            made_of: the inputs and options now.
            folder: the output folder, for the error message.

        Raises:
            CharEmbedError: an input or option differs, or version 0.1.0 began the output and the installed `regex`
                finds other words than it did.
        """
        if self.word_rules == 1 and not (HAS_WORD_RULES_1 or self.complete):
            raise CharEmbedError(
                f"output {folder} was begun by charembed 0.1.0, which found words with an older regex: pip install"
                f" 'regex<2026.11.18' until it is complete, or {START_OVER}"
            )
        differences = []
        # An output that was begun with earlier word rules is finished with them, so that its words are all of one kind.
        same_rules = {"word_rules": made_of["word_rules"]} if self.word_rules <= made_of["word_rules"] else {}
        before = self.made_of | same_rules
        for name, value in made_of.items():
            earlier = before.get(name)
            if earlier == value:
                continue
            # Digests and lists say nothing to the user: name the input only.
            is_readable = isinstance(value, (str, int, type(None))) and name != "model"
            differences.append(f"{name} {earlier}, not {value}" if is_readable else f"another {name.removesuffix('s')}")
        if differences:
            raise CharEmbedError(
                f"output {folder} contains vectors made with {', '.join(differences)}: name another folder, or"
                f" {START_OVER}"
            )
