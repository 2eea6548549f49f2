"""Receives documents; hands on their ids in a memory-mapped file, with the alphabet, and held-out text to validate on.

The stream of ids is the documents one after the other, a blank line after each. It takes 2 bytes a character on disk
and next to nothing in memory; where documents begin and end takes 16 bytes a document, and some 120 in memory
while they are read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm import tqdm

from charembed.dataset.split import MAX_VALIDATION, DocumentIndex, subtract_bounds, validation_bounds
from charembed.errors import CharEmbedError
from charembed.text.corpus import Corpus, CorpusConfig, document_texts, take_characters
from charembed.text.vocab import CODE_POINTS, UNKNOWN_ID, CharacterCounter, CharVocab, Ids, code_points
from charembed.util.files import fsync_files, fsync_folder

logger = logging.getLogger(__name__)

ENCODING_VERSION = 1
IDS, SEGMENTS, VALID, COUNTS = "ids.bin", "segments.npy", "valid.npy", "counts.npy"
TOKENIZER, FACTS = "tokenizer.json", "facts.json"
SEGMENT = 10_000_000
"""Characters of a stream that are encoded, and held in memory, at a time."""
ID_TYPE = np.dtype("<u2")
MAX_IDS = 0x10000
"""Ids that two bytes can tell apart."""
_ENTRY = re.compile(r"\.?(?P<key>[0-9a-f]{32})(\.lock|\.tmp)?")
_BLOCK = 1 << 20
"""Characters encoded at once."""


@dataclass
class VocabConfig:
    """The vocabulary, built from the training text (its held-out part included)."""

    coverage: float = 0.9999
    """Share of all characters of the text that get an id of their own; the rest is read as <unk>."""
    max_size: int | None = None
    """Upper bound on the number of ids, <unk> included; never above 65,536."""
    path: str | None = None
    """A tokenizer.json to use instead of building one, such as that of another model."""
    grow: bool = False
    """Add the characters that the text would give a vocabulary of its own to the one that `path` or `init` gives."""

    def __post_init__(self) -> None:
        if self.max_size is not None and self.max_size > MAX_IDS:
            raise CharEmbedError(f"vocab.max_size must be at most {MAX_IDS}, got {self.max_size}")

    def build(self, counter: CharacterCounter, given: CharVocab | None) -> CharVocab:
        """The vocabulary of a text whose characters are counted, from the given one where there is one."""
        if given is not None and not self.grow:
            return given
        own = CharVocab.from_counts(counter, coverage=self.coverage, max_size=self.max_size or MAX_IDS)
        if given is None:
            return own
        known = set(given.characters)
        return CharVocab([*given.characters, *(c for c in own.characters if c not in known)][: MAX_IDS - 1])


@dataclass(frozen=True)
class EncodedCorpus:
    """A corpus as ids."""

    vocab: CharVocab
    ids: Ids
    """All of it, what is held out included. Shape: (characters,)"""
    segments: NDArray[np.int64]
    """The text to train on: first character of each document, or of a part of one, and one past its last. Shape:
    (segments, 2)"""
    valid: Ids
    """Shape: (characters,)"""
    fingerprint: str
    """SHA-256 of all the documents, those held out included."""
    documents: int
    """Number of documents, those held out included."""
    characters: int
    """Number of characters to train on."""
    counts: NDArray[np.int64]
    """How often each id occurs in all of it. Shape: (len(vocab),)"""

    @property
    def unknown_rate(self) -> float:
        """Share of all characters that are <unk>."""
        return float(self.counts[UNKNOWN_ID] / self.counts.sum())

    @property
    def folder(self) -> Path:
        """Where its files are."""
        assert isinstance(self.ids, np.memmap)
        return Path(str(self.ids.filename)).parent

    def digests(self) -> dict[str, str | int]:
        """What must be the same for a run to go on with it."""
        return {
            "sha256": self.fingerprint,
            "characters": self.characters,
            "validation_sha256": hashlib.sha256(self.valid.tobytes()).hexdigest(),
            "vocabulary_sha256": hashlib.sha256("".join(self.vocab.characters).encode()).hexdigest(),
        }

    @classmethod
    def load(cls, folder: Path) -> EncodedCorpus:
        """Read what `encode_corpus` wrote.

        Raises:
            OSError, ValueError: files are missing or damaged.
        """
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        ids = np.memmap(folder / IDS, dtype=ID_TYPE, mode="r")
        vocab, counts = CharVocab.load(folder / TOKENIZER), np.load(folder / COUNTS, allow_pickle=False)
        if not len(ids) == facts.pop("length") == counts.sum() or len(vocab) != len(counts):
            raise ValueError(f"{folder / IDS} has another length than {FACTS} and {COUNTS} say")
        return cls(
            vocab=vocab,
            ids=ids,
            segments=np.load(folder / SEGMENTS, mmap_mode="r", allow_pickle=False),
            valid=np.load(folder / VALID, allow_pickle=False),
            counts=counts,
            **facts,
        )


def encode_corpus(
    config: CorpusConfig, vocab_config: VocabConfig, seed: int, folder: Path, given: CharVocab | None = None
) -> EncodedCorpus:
    """Read a corpus once, build its vocabulary, hold out validation text when none is given, and keep it all as files.

    What a folder holds already is taken from there, unless text, vocabulary, held-out share or seed are others. Several
    runs may do so at once: the first one writes, the others wait.

    Args:
        config: the text.
        vocab_config: the vocabulary.
        seed: of what is held out.
        folder: where the files go; made where it is missing.
        given: a vocabulary that goes before the one of the configuration.

    Raises:
        CharEmbedError: text that cannot be read, or none at all.
        OSError: the folder cannot be written.
    """
    if given is None and vocab_config.path is not None:
        given = CharVocab.load(vocab_config.path)
    corpus, valid_corpus = corpora(config)
    entry = folder / _key(config, vocab_config, seed, given, corpus, valid_corpus)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f"{entry.name}.lock"):
        if entry.exists():
            try:
                return EncodedCorpus.load(entry)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
                logger.warning("%s is damaged (%s): encoding the text anew", entry, error)
                shutil.rmtree(entry)
        aside = folder / f".{entry.name}.tmp"
        shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
        aside.mkdir()
        try:
            _encode(aside, corpus, valid_corpus, config, vocab_config, seed, given)
            fsync_files(aside)
            os.replace(aside, entry)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        fsync_folder(folder)
        return EncodedCorpus.load(entry)


def remove_other_entries(folder: Path, kept: EncodedCorpus) -> None:
    """Remove what `encode_corpus` has left in a folder of other texts or settings."""
    for path in folder.iterdir():
        found = _ENTRY.fullmatch(path.name)
        if found and found["key"] != kept.folder.name:
            path.unlink() if path.is_file() or path.is_symlink() else shutil.rmtree(path)


def corpora(config: CorpusConfig) -> tuple[Corpus, Corpus | None]:
    """The text to train on, and the text to validate on where it is given.

    Raises:
        CharEmbedError: a source names nothing that can be read.
    """
    valid = None
    if config.valid is not None:
        valid = Corpus(config.valid, text_column=config.text_column, errors=config.errors)
    exclude = valid.sources if valid else ()
    return Corpus(config.train, text_column=config.text_column, errors=config.errors, exclude=exclude), valid


def _locked(path: Path) -> AbstractContextManager[Any]:
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=1)
    except Timeout:
        logger.info("another run is encoding the same text: waiting for it")
        return lock.acquire()


def _key(
    config: CorpusConfig,
    vocab_config: VocabConfig,
    seed: int,
    given: CharVocab | None,
    corpus: Corpus,
    valid_corpus: Corpus | None,
) -> str:
    """Another name for each text and each way to encode it."""
    if config.streaming:
        return uuid.uuid4().hex  # whether a stream has changed cannot be told without reading all of it
    digests = [part.digests() for part in (corpus, valid_corpus) if part is not None]
    if any(digest is None for part in digests for digest in part):
        return uuid.uuid4().hex  # nor what comes through a pipe, which can be read but once
    what = {
        "version": ENCODING_VERSION,
        "text": digests,
        "held_out": config.held_out if valid_corpus is None else None,
        "seed": seed,
        "text_column": config.text_column,
        "errors": config.errors,
        "vocab": asdict(vocab_config) | {"path": None},
        "given": given.characters if given is not None else None,
    }
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _encode(
    folder: Path,
    corpus: Corpus,
    valid_corpus: Corpus | None,
    config: CorpusConfig,
    vocab_config: VocabConfig,
    seed: int,
    given: CharVocab | None,
) -> None:
    """Write all the files, in one pass over the text and one over the ids.

    The first pass gives each character an id when it is met, since the vocabulary is not known before its end.
    """
    counter = CharacterCounter()
    digest = hashlib.sha256()
    index = DocumentIndex()
    provisional = _ProvisionalIds()
    with (folder / IDS).open("wb") as file, _progress_bar() as bar:
        pieces = document_texts(corpus)
        for block in _blocks(_indexed(take_characters(SEGMENT, pieces) if config.streaming else pieces, index)):
            counter.update(block)
            digest.update(block.encode())
            file.write(provisional.encode(block).tobytes())
            bar.update(len(block))
    bounds = index.bounds()
    total = int(bounds[-1, 1]) if len(bounds) else 0
    if not total:
        raise CharEmbedError(f"the corpus is empty: no text in {config.train!r}")
    vocab = vocab_config.build(counter, given)
    counts = _translate(folder / IDS, provisional.points_to(vocab), len(vocab))
    ids = np.memmap(folder / IDS, dtype=ID_TYPE, mode="r")
    if valid_corpus is not None:
        segments, valid = bounds, _first_documents(valid_corpus, vocab, MAX_VALIDATION)
        if valid.size == 0:
            raise CharEmbedError(f"the validation text is empty: no text in {config.valid!r}")
    else:
        cut_after = (int(vocab.encode("\n")[0]), int(vocab.encode(" ")[0]))
        held_out = validation_bounds(ids, bounds, index.occurs_once(), config.held_out, seed, cut_after)
        valid = np.concatenate([ids[start:end] for start, end in held_out])
        segments = subtract_bounds(bounds, held_out)
    facts = {
        "length": total,
        "fingerprint": digest.hexdigest(),
        "documents": len(bounds),
        "characters": int((segments[:, 1] - segments[:, 0]).sum()),
    }
    np.save(folder / SEGMENTS, segments)
    np.save(folder / VALID, valid)
    np.save(folder / COUNTS, counts)
    vocab.save(folder / TOKENIZER)
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _indexed(pieces: Iterable[str], index: DocumentIndex) -> Iterator[str]:
    for piece in pieces:
        index.add(piece.encode(), len(piece))
        yield piece


def _blocks(pieces: Iterable[str]) -> Iterator[str]:
    """Short pieces put together, to make one call for many of them, and long ones cut, to need little memory each."""
    block: list[str] = []
    size = 0
    for piece in pieces:
        for start in range(0, len(piece), _BLOCK):
            block.append(piece[start : start + _BLOCK])
            size += len(block[-1])
            if size >= _BLOCK:
                yield "".join(block)
                block, size = [], 0
    yield "".join(block)


class _ProvisionalIds:
    """Ids in the order in which characters are met. Those met when all are given away are read as <unk>."""

    def __init__(self) -> None:
        self._id_of_point = np.full(CODE_POINTS, UNKNOWN_ID, dtype=ID_TYPE)
        self._points: list[int] = []
        self._full = False

    def encode(self, text: str) -> Ids:
        points = code_points(text)
        ids: Ids = self._id_of_point[points]
        if (ids == UNKNOWN_ID).any():
            new = np.unique(points[ids == UNKNOWN_ID]).tolist()
            left = MAX_IDS - 1 - len(self._points)
            if len(new) > left and not self._full:
                self._full = True
                logger.warning("more than %s different characters: those first met last are read as <unk>", MAX_IDS - 1)
            for point in new[:left]:
                self._points.append(point)
                self._id_of_point[point] = len(self._points)
            ids = self._id_of_point[points]
        return ids

    def points_to(self, vocab: CharVocab) -> Ids:
        """The vocabulary's id of each provisional one. Shape: (provisional ids,)"""
        known = vocab.encode("".join(map(chr, self._points)))
        return np.concatenate([[UNKNOWN_ID], known]).astype(ID_TYPE)


def _translate(path: Path, table: Ids, size: int) -> NDArray[np.int64]:
    """Replace the ids in a file, block by block, and count each of the new ones. Shape: (size,)"""
    counts = np.zeros(size, dtype=np.int64)
    with path.open("r+b") as file:
        while (block := np.frombuffer(file.read(16 * _BLOCK), dtype=ID_TYPE)).size:
            ids = table[block]
            counts += np.bincount(ids, minlength=size)
            file.seek(-block.nbytes, os.SEEK_CUR)
            file.write(ids.tobytes())
    return counts


def _first_documents(corpus: Corpus, vocab: CharVocab, size: int) -> Ids:
    """As many documents from the first as make `size` characters, the last one cut there."""
    return vocab.encode("".join(take_characters(size, document_texts(corpus)))[:size]).astype(ID_TYPE)


def _progress_bar() -> Any:
    """A count of the characters read; nothing where standard error is no terminal."""
    return tqdm(
        desc="reading the text", unit=" characters", unit_scale=True, disable=None, dynamic_ncols=True, leave=False
    )
