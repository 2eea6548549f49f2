"""Receives what a folder of vectors is made of and how far it has come; keeps it there, and reads it back."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charembed.errors import CharEmbedError
from charembed.util.files import MANIFEST, atomic_write

ANEW = "begin anew with --overwrite true"


@dataclass
class Manifest:
    """What a folder of vectors is made of, and how far it has come."""

    made_of: dict[str, Any]
    """What must be the same for a run to go on."""
    files: int = 0
    words: int = 0
    texts: int = 0
    """Texts and beginnings of documents that are finished; of the next text `words_of_next` words are written."""
    words_of_next: int = 0
    complete: bool = False
    projected: dict[str, Any] = field(default_factory=dict)
    """Dimensions kept, and the share of the sample's variance in them."""

    @property
    def so_far(self) -> str:
        """What was written, in words."""
        return f"{self.words:,} words in {self.files:,} file{'' if self.files == 1 else 's'}"

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        atomic_write(folder / MANIFEST, json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Manifest | None:
        """That of a folder, if there is one.

        Raises:
            CharEmbedError: it is damaged.
        """
        try:
            manifest = cls(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
            manifest.check()
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, RecursionError) as error:
            raise CharEmbedError(f"{folder / MANIFEST} is damaged ({error}): {ANEW}") from error
        return manifest

    def check(self) -> None:
        """
        Raises:
            TypeError: a value is of no use.
        """
        for name in ("files", "words", "texts", "words_of_next"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise TypeError(f"{name} is {value!r}")
        if not (isinstance(self.made_of, dict) and isinstance(self.projected, dict) and type(self.complete) is bool):
            raise TypeError("made_of, projected or complete is of another type")
