"""Number the frequent words of an encoded corpus, in a file that runs parallel to its ids."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.dataset.word_marks import MARK_TYPE, WordCounter, WordMarker, WordMarks
from charembed.text.words import WORD_RULES
from charembed.util.digests import check_file, file_digest, seal_json, unseal_json
from charembed.util.files import atomic_file, atomic_write, remove_leftovers
from charembed.util.reading import read_file

logger = logging.getLogger(__name__)

_FILES = re.compile(r"\.?(?P<name>words-\d+-\d+)\..+")
"""Files of frequent words, their lock, or what a killed run has left of them."""


@dataclass(frozen=True)
class FrequentWords:
    """The most frequent words of a text, and where each word of the text begins and ends."""

    words: list[str]
    """The words, most frequent first."""
    counts: np.ndarray[Any, np.dtype[np.int64]]
    """Number of occurrences of each in the training text. Shape: (words,)"""
    share: float
    """Share of the words of the training text that are frequent, from 0 to 1."""
    marks: WordMarks
    """The words of the encoded corpus, in a memory-mapped file. Shape: (characters,)"""
    marker: WordMarker
    """Marks the same words in other text."""

    def digest(self) -> str:
        """Return the SHA-256 of the words in their order."""
        return hashlib.sha256("\n".join(self.words).encode(errors="surrogatepass")).hexdigest()

    @classmethod
    def of(cls, encoded: EncodedCorpus, number: int) -> FrequentWords:
        """Return the frequent words of the training text, found now or in an earlier run with the same text.

        Several processes may do so at the same time: the first one finds the words, the others wait for it.

        Args:
            encoded: the text. The files are written next to it.
            number: largest number of words.

        Raises:
            OSError: the files cannot be written.
        """
        folder, name = encoded.folder, _name(number)
        with FileLock(folder / f"{name}.lock"):
            # The lock is ours, so a temporary file is of a process that was killed while it wrote.
            for suffix in (".bin", ".json"):
                remove_leftovers(folder, name + suffix)
            # The metadata is written last: without it, the marks are not complete.
            if (folder / f"{name}.json").exists():
                try:
                    return cls._load(encoded, name)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    logger.warning(f"{folder / name}.* cannot be used: {error}; counting the words again")
            _write(encoded, number, name)
            return cls._load(encoded, name)

    @classmethod
    def _load(cls, encoded: EncodedCorpus, name: str) -> FrequentWords:
        """Read what `_write` has written.

        Raises:
            OSError, ValueError, KeyError, TypeError: files are missing or damaged.
        """
        content, path = unseal_json(read_file(encoded.folder / f"{name}.json")), encoded.folder / f"{name}.bin"
        check_file(path, content["marks_sha256"])
        words, counts = content["words"], np.array(content["counts"], dtype=np.int64)
        marks = np.memmap(path, dtype=MARK_TYPE, mode="r")
        return cls(words, counts, float(content["share"]), marks, WordMarker(words, encoded.vocab))


def remove_other_words(encoded: EncodedCorpus, number: int) -> None:
    """Remove the files of other numbers of frequent words next to an encoded corpus.

    Args:
        encoded: the corpus.
        number: the number of words whose files stay; 0 for none.
    """
    for path in encoded.folder.iterdir():
        match = _FILES.fullmatch(path.name)
        if match and (not number or match["name"] != _name(number)):
            path.unlink()


def _name(number: int) -> str:
    """Return the name, without its suffix, of the files of this many words. Other rules find other words."""
    return f"words-{WORD_RULES}-{number}"


def _write(encoded: EncodedCorpus, number: int, name: str) -> None:
    """Count the words of the training text, and mark them."""
    counter = WordCounter(encoded.vocab)
    with _progress_bar("counting words", encoded.characters) as bar:
        counter.count(encoded.ids, encoded.segments, bar)
    frequent = counter.most_common(number)
    words, counts = [word for word, _ in frequent], [count for _, count in frequent]
    path = encoded.folder / f"{name}.bin"
    with (
        atomic_file(path) as temporary,
        temporary.open("wb") as file,
        _progress_bar("marking words", encoded.characters) as bar,
    ):
        # What is left out stays zero: no words in held-out text. Not by a memory map, which kills the process when the
        # disk is full.
        file.truncate(len(encoded.ids) * MARK_TYPE.itemsize)
        for start, marks in WordMarker(words, encoded.vocab).iter_marks(encoded.ids, encoded.segments):
            file.seek(start * MARK_TYPE.itemsize)
            file.write(marks.tobytes())
            bar.update(len(marks))
    content = {
        "words": words,
        "counts": counts,
        "share": sum(counts) / max(1, counter.total),
        "marks_sha256": file_digest(path),
    }
    atomic_write(encoded.folder / f"{name}.json", seal_json(content))


def _progress_bar(what: str, characters: int) -> Any:
    return tqdm(
        desc=what, total=characters, unit=" characters", unit_scale=True, disable=None, dynamic_ncols=True, leave=False
    )
