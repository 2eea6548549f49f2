"""Receives documents; hands on the id stream, cut into windows for truncated back-propagation through time.

The stream is the documents one after the other, a blank line after each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charembed.corpus import Corpus, CorpusConfig
from charembed.errors import CharEmbedError
from charembed.vocab import UNKNOWN_ID, CharacterCounter, CharVocab

DOCUMENT_END = "\n\n"
MAX_VALIDATION = 500_000
"""Characters to validate on at most: more would cost time at every validation and tell little more."""

Ids = NDArray[np.integer[Any]]


@dataclass
class VocabConfig:
    """The vocabulary, built from the training text (its held-out part included)."""

    coverage: float = 0.9999
    """Share of all characters of the text that get an id of their own; the rest is read as <unk>."""
    max_size: int | None = None
    """Upper bound on the number of ids, <unk> included."""
    path: str | None = None
    """A tokenizer.json to use instead of building one, such as that of another model."""


@dataclass(frozen=True)
class TextStreams:
    """A corpus as ids."""

    vocab: CharVocab
    train: Ids
    """Shape: (characters,)"""
    valid: Ids
    """Shape: (characters,)"""
    fingerprint: str
    """SHA-256 of all the documents, those held out included."""
    documents: int
    """Number of documents, those held out included."""

    @property
    def unknown_rate(self) -> float:
        """Share of the training characters that are <unk>."""
        return float(np.mean(self.train == UNKNOWN_ID))


def read_streams(config: CorpusConfig, vocab_config: VocabConfig, seed: int) -> TextStreams:
    """Read a corpus: build the vocabulary, hold out validation text when none is given, encode both parts.

    The text is read twice, three times where passages are held out, a document at a time; its ids take 2 bytes a
    character, 5 for the moment in which held-out text is taken out.

    Raises:
        CharEmbedError: text that cannot be read, or none at all.
    """
    valid_corpus = None
    if config.valid is not None:
        valid_corpus = Corpus(config.valid, text_column=config.text_column, errors=config.errors)
    train_corpus = Corpus(
        config.train,
        text_column=config.text_column,
        errors=config.errors,
        exclude=valid_corpus.parts if valid_corpus else (),
    )
    counter = CharacterCounter()
    digest = hashlib.sha256()

    def counted() -> Iterator[str]:
        for piece in _pieces(train_corpus):
            counter.update(piece)
            digest.update(piece.encode())
            yield piece

    lengths, once = _lengths_and_uniqueness(counted())
    total = int(lengths.sum())
    if not total:
        raise CharEmbedError(f"the corpus is empty: no text in {config.train!r}")
    if vocab_config.path is not None:
        vocab = CharVocab.load(vocab_config.path)
    else:
        vocab = CharVocab.from_counts(counter, coverage=vocab_config.coverage, max_size=vocab_config.max_size)
    if valid_corpus is not None:
        train = _encode(_pieces(train_corpus), total, vocab)
        valid: Ids = vocab.encode(_first_documents(valid_corpus, MAX_VALIDATION))
        if valid.size == 0:
            raise CharEmbedError(f"the validation text is empty: no text in {config.valid!r}")
    else:
        held_out = _hold_out(train_corpus, lengths, once, config.held_out, seed)
        everything = _encode(_pieces(train_corpus), total, vocab)
        train, valid = everything[~held_out], everything[held_out]
    return TextStreams(vocab, train, valid, digest.hexdigest(), len(lengths))


def _pieces(corpus: Corpus) -> Iterator[str]:
    """The stream in pieces, one a document."""
    return (text + DOCUMENT_END for text in corpus)


def _hold_out(
    corpus: Corpus, lengths: NDArray[np.int64], once: NDArray[np.bool_], share: float, seed: int
) -> NDArray[np.bool_]:
    """Which characters of the stream are held out: whole documents, or passages where documents are few or long.

    Args:
        corpus: read again where passages are wanted.
        lengths: characters of each document. Shape: (documents,)
        once: whether it occurs but once. Shape: (documents,)
        share: of the characters to hold out.
        seed: of the choice.

    Returns:
        Shape: (characters,)
    """
    total = int(lengths.sum())
    size = min(int(share * total), MAX_VALIDATION)
    chosen = choose_held_out(lengths, once, size, seed)
    if chosen is None:
        length = max(size // 10, 1)
        lengths, once = _lengths_and_uniqueness(p for piece in _pieces(corpus) for p in passages(piece, length))
        _check_unchanged(total, int(lengths.sum()))
        chosen = choose_held_out(lengths, once, size, seed)
    if chosen is None:
        raise CharEmbedError(
            f"the corpus is too small, or repeats itself too much, to hold out {share:.1%} of its {total:,} characters:"
            " give more text, or validation text of its own (data.valid)"
        )
    return np.repeat(chosen, lengths)


def _lengths_and_uniqueness(pieces: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Length of each piece, and whether it occurs but once: text that is trained on too would flatter a validation."""
    lengths, digests = [], []
    for piece in pieces:
        lengths.append(len(piece))
        digests.append(int.from_bytes(hashlib.blake2b(piece.encode(), digest_size=8).digest()))
    _, which, counts = np.unique(np.array(digests, dtype=np.uint64), return_inverse=True, return_counts=True)
    return np.array(lengths, dtype=np.int64), counts[which] == 1


def _first_documents(corpus: Corpus, size: int) -> str:
    """As many documents from the first as make `size` characters, the last one cut there."""
    documents = []
    for text in corpus:
        documents.append((text + DOCUMENT_END)[:size])
        size -= len(documents[-1])
        if not size:
            break
    return "".join(documents)


def _encode(pieces: Iterable[str], total: int, vocab: CharVocab) -> Ids:
    stream: Ids = np.empty(total, dtype=np.uint16 if len(vocab) <= 0x10000 else np.int32)
    at = 0
    for piece in pieces:
        end = at + len(piece)
        if end <= total:
            stream[at:end] = vocab.encode(piece)
        at = end
    _check_unchanged(total, at)
    return stream


def _check_unchanged(total: int, again: int) -> None:
    """Files that grow, and pipes, which can be read but once, would give another text in the second pass."""
    if again != total:
        raise CharEmbedError(f"the corpus changed while it was read: {total:,} characters at first, then {again:,}")


def choose_held_out(
    lengths: NDArray[np.int64], eligible: NDArray[np.bool_], size: int, seed: int
) -> NDArray[np.bool_] | None:
    """Choose pieces at random that together have about `size` characters, from half of it to one and a half times it.

    Args:
        lengths: characters of each piece. Shape: (pieces,)
        eligible: whether it may be chosen. Shape: (pieces,)
        size: characters wanted.
        seed: of the choice.

    Returns:
        True for the pieces chosen, or None where no such choice exists because the pieces are too few or too long.
        Shape: (pieces,)
    """
    chosen = np.zeros(len(lengths), dtype=np.bool_)
    held = 0
    for piece in np.random.default_rng(seed).permutation(np.flatnonzero(eligible)):
        if held >= size:
            break
        if held + lengths[piece] <= 1.5 * size:
            chosen[piece] = True
            held += int(lengths[piece])
    return chosen if held >= 0.5 * size and 0 < held < lengths.sum() else None


def passages(text: str, length: int) -> Iterator[str]:
    """Cut a text into passages of about `length` characters, at line ends or else at spaces where there are any."""
    start = 0
    while start < len(text):
        near, far = start + length, start + 2 * length
        if near >= len(text):
            cut = len(text)
        else:
            cut = next((at + 1 for end in "\n " if (at := text.find(end, near, far)) >= 0), near)
        yield text[start:cut]
        start = cut


@dataclass(frozen=True)
class Window:
    """One step's ids: `targets` are `inputs` one character later."""

    inputs: Tensor
    """Shape: (seq_len, batch)"""
    targets: Tensor
    """Shape: (seq_len, batch)"""
    starts_epoch: bool
    """The text before this window is not the window before it: the carried state starts from zero."""


class WindowStream:
    """Cuts a stream into `batch_size` lanes read side by side, `seq_len` characters a step.

    Each lane's window goes on where the lane's last window ended, so hidden states can be carried over. Every epoch
    starts from another place in the stream, so windows fall differently each time. A window depends on the step number
    and the seed alone.
    """

    def __init__(self, ids: Ids, batch_size: int, seq_len: int, seed: int) -> None:
        """
        Args:
            ids: the stream; the reversed stream for the backward model. Shape: (characters,)
            batch_size: lanes.
            seq_len: characters a window.
            seed: of the places where epochs start.

        Raises:
            CharEmbedError: the stream is too short for one window in each lane.
        """
        needed = batch_size * seq_len
        if len(ids) < needed:
            raise CharEmbedError(
                f"the corpus is too small for the batch: {len(ids):,} characters to train on, batch_size {batch_size} ×"
                f" seq_len {seq_len} needs {needed:,}: lower one of these, or give more text"
            )
        self.ids = ids
        self.seed = seed
        self.seq_len = seq_len
        lane_length = len(ids) // batch_size
        self.steps_per_epoch = lane_length // seq_len
        within = np.arange(seq_len + 1)[:, None]
        self._offsets = within + np.arange(batch_size)[None, :] * lane_length

    def window(self, step: int) -> Window:
        """The window of a step, counted from 0 over all epochs."""
        epoch, k = divmod(step, self.steps_per_epoch)
        start = int(np.random.default_rng([self.seed, epoch]).integers(len(self.ids)))
        at = (self._offsets + start + k * self.seq_len) % len(self.ids)
        ids = torch.from_numpy(self.ids[at].astype(np.int64))
        return Window(inputs=ids[:-1], targets=ids[1:], starts_epoch=k == 0)
