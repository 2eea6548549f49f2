"""Receives texts; hands on their words, offsets and contextual vectors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from charembed.devices import usable_device
from charembed.directions import DirectionPool
from charembed.engine import Reading, read_states
from charembed.errors import CharEmbedError
from charembed.language_model import Direction
from charembed.paths import user_path
from charembed.pretrained import Pretrained
from charembed.words import Span, SpannedText, TextInput

# What both models read after a text. The reference implementation ends every text with a space.
END_MARKER = " "
WINDOW_CHARACTERS = 100_000
"""Texts looked at together, so that those of like length run side by side. Bounds the memory of `iter_embed`."""
WINDOW_TEXTS = 2048


@dataclass(frozen=True)
class WordEmbeddings:
    """The words of one text and their vectors."""

    words: list[str]
    """The words, as they stand in the text."""
    spans: list[Span]
    """Where they stand: offsets of the first character and of one past the last, in characters of the text as given; of
    the words joined by single spaces where words were given."""
    vectors: NDArray[np.float32]
    """Forward half first. Shape: (words, embedding_dim)"""

    def __len__(self) -> int:
        return len(self.words)


class CharEmbedder:
    """Turns texts into contextual word vectors (Akbik, Blythe & Vollgraf 2018).

    A word's vector is the forward model's state at its last character beside the backward model's at its first. Both
    models read each text on its own from the zero state, so the same text always gives the same vectors.
    """

    def __init__(self, pretrained: Pretrained, device: torch.device | str | None = None) -> None:
        """
        Args:
            pretrained: models, vocabulary and how to read them. Not copied.
            device: where to run; where the models are, by default.
        """
        self.pretrained = pretrained
        self.model = pretrained.model if device is None else pretrained.model.to(usable_device(device))
        self.model.eval()
        self._pool = DirectionPool()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] = "en",
        device: torch.device | str | None = None,
        engine: Literal["auto", "torch"] = "auto",
        precision: Literal["float32"] = "float32",
    ) -> CharEmbedder:
        """Load a model folder.

        Args:
            name_or_path: a folder that `charembed train` or `save_pretrained` wrote.
            device: "cpu" (the default), "cuda", …
            engine: what runs the models. "torch" is the one there is, and what "auto" picks.
            precision: of the computation.

        Raises:
            CharEmbedError: no such model, a damaged folder, an unknown engine or precision.
        """
        if engine not in ("auto", "torch"):
            raise CharEmbedError(f"engine must be auto or torch, got {engine!r}")
        if precision != "float32":
            raise CharEmbedError(f"precision must be float32, got {precision!r}")
        name_or_path = user_path(name_or_path)
        if not name_or_path.is_dir():
            raise CharEmbedError(
                f"no model '{name_or_path}': no folder has this name, and no model comes with this version."
                " Train one: charembed train --data.train YOUR_TEXT.txt --output FOLDER"
            )
        return cls(Pretrained.load(name_or_path, device="cpu" if device is None else device))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model folder.

        Raises:
            CharEmbedError: the folder exists and holds something else.
            OSError: it cannot be written.
        """
        self.pretrained.save(folder)

    @property
    def embedding_dim(self) -> int:
        """Width of a word vector."""
        return self.model.embedding_dim

    def embed(self, texts: Iterable[TextInput]) -> list[WordEmbeddings]:
        """Words and vectors of each text, all held in memory.

        Args:
            texts: each a `str`, whose words are found; a sequence of words, which are joined by single spaces; or a
                pair `(text, spans)` with the offsets of its words.

        Raises:
            CharEmbedError: a span that lies outside its text.
            TypeError: a single `str` instead of a list of them, or items of another form.
        """
        return list(self.iter_embed(texts))

    def iter_embed(self, texts: Iterable[TextInput]) -> Iterator[WordEmbeddings]:
        """`embed`, text by text in the order given, reading ahead no more than a bounded number of characters."""
        if isinstance(texts, str):
            raise TypeError("texts must be a list of texts, got one str: put it in a list")
        return self._iter_embed(texts)

    def _iter_embed(self, texts: Iterable[TextInput]) -> Iterator[WordEmbeddings]:
        window: list[SpannedText] = []
        characters = 0
        for item in texts:
            window.append(SpannedText.of(item))
            characters += len(window[-1].text)
            if characters >= WINDOW_CHARACTERS or len(window) >= WINDOW_TEXTS:
                yield from self._embed_window(window)
                window, characters = [], 0
        yield from self._embed_window(window)

    def _embed_window(self, window: list[SpannedText]) -> Iterator[WordEmbeddings]:
        if not window:
            return
        encoded = [self.pretrained.vocab.encode(spanned.text) for spanned in window]

        def read(direction: Direction) -> list[NDArray[np.float32]]:
            readings = [
                self._reading(direction, ids, spanned.spans) for ids, spanned in zip(encoded, window, strict=True)
            ]
            return read_states(self.model.direction(direction), readings)

        states = self._pool.map(read, self.model.directions)
        for spanned, *halves in zip(window, *states.values(), strict=True):
            yield WordEmbeddings(spanned.words, spanned.spans, np.concatenate(halves, axis=1))

    def _reading(self, direction: Direction, ids: NDArray[np.int32], spans: list[Span]) -> Reading:
        """What one model reads of a text, and where its state is each word's.

        Both read the delimiter m, the text (the backward one reversed) and the end marker. State k is the one after
        character k of that. For a word at text[a:b] of n characters that is |m| + b - 1 forward and |m| + n - 1 - a
        backward on the word's own outermost characters, and one further on the characters just outside it. An empty
        word takes the states on either side of its place.
        """
        encode = self.pretrained.vocab.encode
        before = encode(self.pretrained.delimiter)
        if direction == "backward":
            ids = ids[::-1]
        starts, ends = np.array(spans, dtype=np.int64).reshape(-1, 2).T
        read_up_to = ends if direction == "forward" else len(ids) - starts
        positions = len(before) + read_up_to - (1 if self.pretrained.readout == "word" else 0)
        return Reading(np.concatenate([before, ids, encode(END_MARKER)]), positions)
