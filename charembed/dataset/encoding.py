"""Encode the text of a corpus as ids and write them to files, in one pass over the text and one over the ids.

The stream of ids is the documents one after the other, each followed by a blank line. It takes 2 bytes per character on
disk and next to nothing in memory; the bounds of documents take 16 bytes per document on disk, and about 120 in memory
while the text is read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from charembed.dataset.split import Bounds, DocumentIndex, ValidationSplit, subtract_bounds
from charembed.errors import CharEmbedError
from charembed.text.corpus import (
    Corpus,
    CorpusConfig,
    check_text_column,
    document_texts,
    take_characters,
)
from charembed.text.divisions import check_not_divided
from charembed.text.vocab import (
    CODE_POINTS,
    MAX_IDS,
    UNKNOWN_ID,
    CharacterCounter,
    CharVocab,
    Ids,
    VocabConfig,
    code_points,
)
from charembed.util.digests import file_digest, seal_json

logger = logging.getLogger(__name__)

ENCODING_VERSION = 2
"""Part of the key of an encoded corpus. Raise it when the same text and options give other files, for example because
held-out text is chosen differently: caches of before must not be used then. Version 2 has digests of the files."""
IDS, SEGMENTS, VALID, COUNTS = "ids.bin", "segments.npy", "valid.npy", "counts.npy"
TOKENIZER, METADATA = "tokenizer.json", "facts.json"
DIGESTS = "files_sha256"
"""Key of the digests of the other files in the metadata."""
ID_TYPE = np.dtype("<u2")
_BLOCK = 1 << 20
"""Characters that are encoded at once."""


@dataclass(frozen=True)
class CorpusLimits:
    """How many characters of a corpus are used at a time."""

    segment: int = 10_000_000
    """Characters of a stream that are encoded, and in memory, at a time."""
    validation: int = 500_000
    """Characters to validate on at most: more would cost time at every validation and barely change the score."""


DEFAULT_LIMITS = CorpusLimits()


def open_corpora(config: CorpusConfig) -> tuple[Corpus, Corpus | None]:
    """Return the training text, and the validation text if the configuration names one.

    Raises:
        CharEmbedError: a name stands for nothing that can be read, a folder is divided into training and test text, or
            `text_column` does not apply to any of the text.
    """
    options: dict[str, Any] = {name: getattr(config, name) for name in ("text_column", "errors", "max_text_mb")}
    valid = None if config.valid is None else Corpus(config.valid, **options)
    check_not_divided(config.train, [source for source in valid.sources if isinstance(source, Path)] if valid else ())
    train = Corpus(config.train, exclude=valid.sources if valid else (), **options)
    check_text_column(train, valid)
    return train, valid


class CorpusEncoder:
    """Encodes one corpus with one set of options."""

    def __init__(
        self,
        config: CorpusConfig,
        vocab_config: VocabConfig,
        seed: int,
        initial_vocab: CharVocab | None = None,
        limits: CorpusLimits = DEFAULT_LIMITS,
    ) -> None:
        """
        Args:
            config: the text.
            vocab_config: how to build the vocabulary.
            seed: seed of the choice of held-out text.
            initial_vocab: a vocabulary to use or to extend, which takes precedence over `vocab_config.path`.
            limits: how much text to use at a time.

        Raises:
            CharEmbedError: a source names nothing that can be read, or the given vocabulary has too many ids.
        """
        self._config = config
        self._vocab_config = vocab_config
        self._seed = seed
        self._limits = limits
        vocab_name = "the vocabulary of the initial model"
        if initial_vocab is None and vocab_config.path is not None:
            initial_vocab, vocab_name = CharVocab.load(vocab_config.path), vocab_config.path
        if initial_vocab is not None and len(initial_vocab) > MAX_IDS:
            raise CharEmbedError(
                f"{vocab_name} has {len(initial_vocab):,} ids, and training allows at most {MAX_IDS:,}: use one with"
                " fewer characters, or let training build one from the text"
            )
        self._initial_vocab = initial_vocab
        self._corpus, self._valid_corpus = open_corpora(config)

    def key(self) -> str:
        """Return a name that differs for each text and each way to encode it: 32 hexadecimal digits.

        Raises:
            CharEmbedError: a source cannot be read.
        """
        # Only reading all of a stream would show whether it has changed, and a pipe can be read only once: such text
        # never matches an earlier encoding.
        if self._config.streaming:
            return uuid.uuid4().hex
        digests = [corpus.digests() for corpus in (self._corpus, self._valid_corpus) if corpus is not None]
        if any(digest is None for corpus_digests in digests for digest in corpus_digests):
            return uuid.uuid4().hex
        options = {
            "version": ENCODING_VERSION,
            "text": digests,
            "held_out": self._config.held_out if self._valid_corpus is None else None,
            "seed": self._seed,
            "text_column": self._config.text_column,
            "errors": self._config.errors,
            "vocab": asdict(self._vocab_config) | {"path": None},
            "given": self._initial_vocab.characters if self._initial_vocab is not None else None,
        }
        return hashlib.sha256(json.dumps(options).encode()).hexdigest()[:32]

    def write(self, folder: Path) -> None:
        """Write all the files of the encoded corpus.

        Raises:
            CharEmbedError: the text cannot be read or is empty, or too little of it can be held out.
            OSError: a file cannot be written.
        """
        # First pass: read the text, number its characters provisionally and count them.
        texts = document_texts(self._corpus)
        if self._config.streaming:
            texts = take_characters(self._limits.segment, texts)
        stream = _DocumentStream(texts)
        stream.write(folder / IDS)
        documents = stream.documents.bounds()
        if not len(documents):
            raise CharEmbedError(f"the corpus is empty: no text in {self._config.train!r}")
        # Second pass: now that all characters are known, replace the provisional ids by those of the vocabulary.
        vocab = self._vocab_config.build(stream.characters, self._initial_vocab)
        counts = _translate(folder / IDS, stream.provisional.table(vocab), len(vocab))
        ids = np.memmap(folder / IDS, dtype=ID_TYPE, mode="r")
        if self._valid_corpus is not None:
            segments, valid = documents, self._read_validation_text(self._valid_corpus, vocab)
        else:
            segments, valid = self._split(ids, documents, stream.documents.is_unique(), vocab)
        np.save(folder / SEGMENTS, segments)
        np.save(folder / VALID, valid)
        np.save(folder / COUNTS, counts)
        vocab.save(folder / TOKENIZER)
        metadata = {
            DIGESTS: {name: file_digest(folder / name) for name in (IDS, SEGMENTS, VALID, COUNTS, TOKENIZER)},
            "fingerprint": stream.digest.hexdigest(),
            "documents": len(documents),
            "characters": int((segments[:, 1] - segments[:, 0]).sum()),
        }
        (folder / METADATA).write_text(seal_json(metadata), encoding="utf-8")

    def _read_validation_text(self, corpus: Corpus, vocab: CharVocab) -> Ids:
        """Return the first characters of the validation text. Shape: (characters,)"""
        size = self._limits.validation
        ids = vocab.encode("".join(take_characters(size, document_texts(corpus)))[:size]).astype(ID_TYPE)
        if ids.size == 0:
            raise CharEmbedError(f"the validation text is empty: no text in {self._config.valid!r}")
        return ids

    def _split(self, ids: Ids, documents: Bounds, is_unique: NDArray[np.bool_], vocab: CharVocab) -> tuple[Bounds, Ids]:
        """Return the bounds of the training text and the ids of the validation text."""
        cut_after = (int(vocab.encode("\n")[0]), int(vocab.encode(" ")[0]))
        split = ValidationSplit(self._config.held_out, self._limits.validation, self._seed, cut_after)
        held_out = split.choose(ids, documents, is_unique)
        return subtract_bounds(documents, held_out), np.concatenate([ids[start:end] for start, end in held_out])


class _DocumentStream:
    """Writes the documents as one stream of provisional ids, and collects what the second pass needs."""

    def __init__(self, texts: Iterable[str]) -> None:
        """
        Args:
            texts: the documents, each with the blank line that ends it; read once.
        """
        self._texts = texts
        self.documents = DocumentIndex()
        self.characters = CharacterCounter()
        self.provisional = _ProvisionalIds()
        self.digest = hashlib.sha256()

    def write(self, path: Path) -> None:
        """Read the text and write its provisional ids."""
        with path.open("wb") as file, _progress_bar() as bar:
            for block in _blocks(self._indexed()):
                self.characters.update(block)
                self.digest.update(block.encode())
                file.write(self.provisional.encode(block).tobytes())
                bar.update(len(block))

    def _indexed(self) -> Iterator[str]:
        for text in self._texts:
            self.documents.add(text.encode(), len(text))
            yield text


def _blocks(texts: Iterable[str]) -> Iterator[str]:
    """Join short texts, so that one call encodes many, and cut long ones, so that each call needs little memory."""
    block: list[str] = []
    size = 0
    for text in texts:
        for start in range(0, len(text), _BLOCK):
            block.append(text[start : start + _BLOCK])
            size += len(block[-1])
            if size >= _BLOCK:
                yield "".join(block)
                block, size = [], 0
    yield "".join(block)


class _ProvisionalIds:
    """Ids in the order in which characters first occur. When all ids are in use, new characters are read as <unk>."""

    def __init__(self) -> None:
        self._id_of_point = np.full(CODE_POINTS, UNKNOWN_ID, dtype=ID_TYPE)
        self._points: list[int] = []
        self._warned = False

    def encode(self, text: str) -> Ids:
        """Return the ids of a text, after giving its new characters the next ids. Shape: (len(text),)"""
        points = code_points(text)
        ids: Ids = self._id_of_point[points]
        if (ids == UNKNOWN_ID).any():
            new_points = np.unique(points[ids == UNKNOWN_ID]).tolist()
            free = MAX_IDS - 1 - len(self._points)
            if len(new_points) > free and not self._warned:
                self._warned = True
                logger.warning(
                    "the text has more than %s different characters: those that occur last are read as <unk>",
                    MAX_IDS - 1,
                )
            # Id 0 is <unk>, so the first character gets 1.
            for point in new_points[:free]:
                self._points.append(point)
                self._id_of_point[point] = len(self._points)
            ids = self._id_of_point[points]
        return ids

    def table(self, vocab: CharVocab) -> Ids:
        """Return the id in a vocabulary of each provisional id. Shape: (provisional ids,)"""
        known = vocab.encode("".join(map(chr, self._points)))
        return np.concatenate([[UNKNOWN_ID], known]).astype(ID_TYPE)


def _translate(path: Path, table: Ids, size: int) -> NDArray[np.int64]:
    """Replace the ids in a file, block by block, and count the new ones.

    Args:
        path: the file of ids.
        table: the new id of each present one. Shape: (present ids,)
        size: number of new ids.

    Returns:
        How often each new id occurs. Shape: (size,)
    """
    counts = np.zeros(size, dtype=np.int64)
    with path.open("r+b") as file:
        while (block := np.frombuffer(file.read(16 * _BLOCK), dtype=ID_TYPE)).size:
            # The new ids take as many bytes as the old ones, so they are written in place.
            ids = table[block]
            counts += np.bincount(ids, minlength=size)
            file.seek(-block.nbytes, os.SEEK_CUR)
            file.write(ids.tobytes())
    return counts


def _progress_bar() -> Any:
    """Return a bar that counts the characters read, shown only if standard error is a terminal."""
    return tqdm(
        desc="reading the text", unit=" characters", unit_scale=True, disable=None, dynamic_ncols=True, leave=False
    )
