"""Keep encoded corpora in a folder of files, so that each text is encoded once."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from charembed.dataset.encoding import (
    COUNTS,
    DEFAULT_LIMITS,
    DIGESTS,
    ID_TYPE,
    IDS,
    METADATA,
    SEGMENTS,
    TOKENIZER,
    VALID,
    CorpusEncoder,
    CorpusLimits,
)
from charembed.dataset.split import Bounds
from charembed.text.corpus import CorpusConfig
from charembed.text.vocab import UNKNOWN_ID, CharVocab, Ids, VocabConfig
from charembed.util.digests import check_file, unseal_json
from charembed.util.files import atomic_folder
from charembed.util.mapped_files import check_mapped
from charembed.util.reading import MAX_JSON_BYTES, read_file

logger = logging.getLogger(__name__)

# An encoded corpus, its lock, or what a killed run has left of it: version 0.1.0 wrote to `.KEY.tmp`.
_ENTRY = re.compile(r"\.?(?P<key>[0-9a-f]{32})(\.lock|\.tmp|\.charembed-.+)?")


@dataclass(frozen=True)
class EncodedCorpus:
    """A corpus as ids in a memory-mapped file, with its vocabulary and validation text."""

    vocab: CharVocab
    """The vocabulary of the ids."""
    ids: Ids
    """Ids of the whole text, held-out text included. Shape: (characters,)"""
    segments: Bounds
    """Bounds of the training text in `ids`: documents, or what is left of documents of which a part is held out.
    Shape: (segments, 2)"""
    valid: Ids
    """Ids of the validation text. Shape: (characters,)"""
    fingerprint: str
    """SHA-256 of all documents, held-out text included."""
    documents: int
    """Number of documents, held-out ones included."""
    characters: int
    """Number of characters of the training text."""
    counts: NDArray[np.int64]
    """Number of occurrences of each id in the whole text. Shape: (len(vocab),)"""

    @property
    def unknown_rate(self) -> float:
        """Share of all characters that are read as <unk>."""
        return float(self.counts[UNKNOWN_ID] / self.counts.sum())

    @property
    def folder(self) -> Path:
        """Folder that holds the files."""
        assert isinstance(self.ids, np.memmap)
        return Path(str(self.ids.filename)).parent

    def check_sizes(self) -> None:
        """Check that the mapped files are as long as they were when they were opened.

        Beyond the end of a file that became shorter, reading it would end the process.

        Raises:
            CharEmbedError: a file has become shorter.
        """
        for array in (self.ids, self.segments):
            check_mapped(array)

    def digests(self) -> dict[str, str | int]:
        """Return what must be the same for a run to resume with this text."""
        return {
            "sha256": self.fingerprint,
            "characters": self.characters,
            "validation_sha256": hashlib.sha256(self.valid.tobytes()).hexdigest(),
            "vocabulary_sha256": hashlib.sha256("".join(self.vocab.characters).encode()).hexdigest(),
        }

    @classmethod
    def load(cls, folder: Path) -> EncodedCorpus:
        """Read what `encode_corpus` has written, after checking that no byte of it has changed.

        This reads all of the text once: about as long as it takes to see whether the original text has changed.

        Raises:
            OSError, ValueError: files are missing or damaged.
        """
        metadata = unseal_json(read_file(folder / METADATA, MAX_JSON_BYTES))
        for name, digest in metadata.pop(DIGESTS).items():
            check_file(folder / name, digest)
        return cls(
            vocab=CharVocab.load(folder / TOKENIZER),
            ids=np.memmap(folder / IDS, dtype=ID_TYPE, mode="r"),
            segments=np.load(folder / SEGMENTS, mmap_mode="r", allow_pickle=False),
            valid=np.load(folder / VALID, allow_pickle=False),
            counts=np.load(folder / COUNTS, allow_pickle=False),
            **metadata,
        )


def encode_corpus(
    config: CorpusConfig,
    vocab_config: VocabConfig,
    seed: int,
    folder: Path,
    initial_vocab: CharVocab | None = None,
    limits: CorpusLimits = DEFAULT_LIMITS,
) -> EncodedCorpus:
    """Encode a corpus, or load it if the folder holds it already, encoded in the same way.

    The text is read once. The vocabulary is built from it, and validation text is held out unless the configuration
    names some. Several processes may do so at the same time: the first one writes, the others wait for it.

    Args:
        config: the text.
        vocab_config: how to build the vocabulary.
        seed: seed of the choice of held-out text.
        folder: where the files go; created if it is missing.
        initial_vocab: a vocabulary to use or to extend, which takes precedence over `vocab_config.path`.
        limits: how much text to use at a time.

    Raises:
        CharEmbedError: the text cannot be read or is empty, or too little of it can be held out.
        OSError: the folder cannot be written.
    """
    encoder = CorpusEncoder(config, vocab_config, seed, initial_vocab, limits)
    entry = folder / encoder.key()
    folder.mkdir(parents=True, exist_ok=True)
    # The process that holds this lock writes the entry, or finds the one that another has written. The lock inside the
    # temporary folder of `atomic_folder` is not enough: it only protects that folder from being cleared away, and each
    # process would encode the text into a temporary folder of its own.
    with _lock(folder / f"{entry.name}.lock"):
        if entry.exists():
            try:
                return EncodedCorpus.load(entry)
            except (OSError, ValueError) as error:
                logger.warning(f"{entry} cannot be used: {error}; encoding the text again")
        with atomic_folder(entry) as new:
            encoder.write(new)
        return EncodedCorpus.load(entry)


def remove_other_entries(folder: Path, kept: EncodedCorpus) -> None:
    """Remove what `encode_corpus` has written for other texts or options, and what killed runs have left."""
    key = kept.folder.name
    for path in folder.iterdir():
        if _ENTRY.fullmatch(path.name) and path.name not in (key, f"{key}.lock"):
            path.unlink() if path.is_file() or path.is_symlink() else shutil.rmtree(path)


def _lock(path: Path) -> AbstractContextManager[Any]:
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=1)
    except Timeout:
        logger.info("another process is encoding the same text: waiting for it")
        return lock.acquire()
