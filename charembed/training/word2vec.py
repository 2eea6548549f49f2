"""Train static word vectors with gensim. Every choice of the algorithm is made in this module."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from charembed.errors import import_extra
from charembed.training.word_text import WordText

PURPOSE = "training static word vectors (words: train)"
_ALGORITHM = {"sg": 1, "negative": 5, "window": 5, "sample": 1e-3}
"""Skip-gram with negative sampling (Mikolov et al. 2013), as keyword arguments of gensim."""
_FIRST_RATE, _LAST_RATE = 0.025, 0.0001
"""Learning rate at the beginning and at the end, linear in between: those of the original program."""
_MIN_COUNT = 5
"""Occurrences that a word needs."""
_MAX_WORDS = 200_000
"""Most frequent words that get vectors, at most; more would take more memory than the language models."""


@dataclass(frozen=True)
class WordVectors:
    """Words with their vectors."""

    words: list[str]
    """The words, most frequent first."""
    vectors: NDArray[np.float32]
    """Shape: (words, dim)"""


def check_gensim() -> None:
    """
    Raises:
        MissingExtraError: gensim is not installed.
    """
    import_extra("gensim", extra="words", purpose=PURPOSE)


def train_word_vectors(text: WordText, dim: int, epochs: int, threads: int, seed: int) -> WordVectors:
    """Train a vector for each word that is frequent enough.

    Args:
        text: the words of a text.
        dim: number of dimensions.
        epochs: number of passes over the text.
        threads: number of threads. With one, the same text and seed give the same vectors.
        seed: seed of the vectors and of the sampling.

    Returns:
        The vectors; none if no word is frequent enough.

    Raises:
        MissingExtraError: gensim is not installed.
    """
    frequent = [(word, count) for word, count in text.counts.items() if count >= _MIN_COUNT][:_MAX_WORDS]
    if not frequent:
        return WordVectors([], np.empty((0, dim), np.float32))
    word2vec = import_extra("gensim.models.word2vec", extra="words", purpose=PURPOSE)
    with _quiet_gensim():
        model = word2vec.Word2Vec(vector_size=dim, min_count=1, workers=threads, seed=seed, **_ALGORITHM)
        model.build_vocab_from_freq(dict(frequent))
        # One epoch per call, for the progress bar. Each call continues the decay of the learning rate.
        rates = np.linspace(_FIRST_RATE, _LAST_RATE, epochs + 1).tolist()
        for epoch in tqdm(range(epochs), desc="static word vectors", unit=" epochs", disable=None, leave=False):
            model.train(
                # As bytes: gensim waits for ever if a name is not UTF-8.
                corpus_file=os.fsencode(text.path),
                total_words=text.words,
                total_examples=text.lines,
                epochs=1,
                start_alpha=rates[epoch],
                end_alpha=rates[epoch + 1],
            )
    # In the order of the counts: gensim orders equally frequent words in another way.
    words = [word for word, _ in frequent]
    rows = [model.wv.key_to_index[word] for word in words]
    return WordVectors(words, np.array(model.wv.vectors[rows], dtype=np.float32))


@contextmanager
def _quiet_gensim() -> Iterator[None]:
    """Keep gensim from logging dozens of lines, until the context ends."""
    logger = logging.getLogger("gensim")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
