"""Hash the character n-grams of words into buckets, as fastText does (Bojanowski et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_N = 16
"""Maximum length of an n-gram."""
MAX_BUCKETS = 2**31
"""Largest number of buckets: the hash has 32 bits."""
MAX_CHARACTERS = 256
"""Characters of a word that are hashed: no real word has more, but a text may consist of one "word" of a megabyte."""
_BASIS, _PRIME = np.uint32(2166136261), np.uint32(16777619)
"""Constants of the hash FNV-1a in 32 bits."""


def ngram_buckets(
    words: Sequence[str], buckets: int, min_n: int, max_n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the buckets of the character n-grams of words.

    The n-grams are those of "<word>", from `min_n` to `max_n` characters long, except for "<" and ">" alone. The bucket
    of an n-gram is its hash modulo the number of buckets. The hash is FNV-1a over the bytes of UTF-8, which count as
    signed, as in fastText: n-grams have the same buckets there and here.

    Args:
        words: the words. Of a word with more than 256 characters, the first 256 count.
        buckets: number of buckets, at least 1.
        min_n: length of the shortest n-grams, at least 1.
        max_n: length of the longest n-grams, at least `min_n`.

    Returns:
        The buckets of all n-grams, those of the first word first; and the number of n-grams of each word.
        Shape: (ngrams,), (words,)
    """
    marked = [f"<{word[:MAX_CHARACTERS]}>" for word in words]
    # Lone surrogates have no UTF-8, but may occur in a text.
    content = np.frombuffer("".join(marked).encode("utf-8", "surrogatepass"), np.uint8)
    signed = content.astype(np.int8).astype(np.int32).view(np.uint32)
    # Each character: its first byte, its number of bytes, its word, and one past the last character of that word.
    first_bytes = np.flatnonzero((content & 0xC0) != 0x80)
    sizes = np.diff(first_bytes, append=len(content))
    lengths = np.array([len(word) for word in marked], np.int64)
    word_of = np.repeat(np.arange(len(words)), lengths)
    ends = np.repeat(lengths.cumsum(), lengths)
    # Extend the n-grams that begin at each character by one character at a time, and with them their hashes.
    starts = np.arange(len(first_bytes))
    hashes = np.full(len(starts), _BASIS)
    found_buckets, found_words = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for n in range(1, max_n + 1):
        fits = starts + n <= ends[starts]
        starts, hashes = starts[fits], hashes[fits]
        added = starts + n - 1
        for k in range(4):  # bytes of a character, at most
            has_byte = sizes[added] > k
            hashes[has_byte] = (hashes[has_byte] ^ signed[first_bytes[added[has_byte]] + k]) * _PRIME
        if n >= min_n:
            counts = ~_is_marker(starts, ends, word_of) if n == 1 else slice(None)
            found_buckets.append(hashes[counts].astype(np.int64) % buckets)
            found_words.append(word_of[starts[counts]])
    all_words = np.concatenate(found_words)
    by_word = np.argsort(all_words, kind="stable")
    return np.concatenate(found_buckets)[by_word], np.bincount(all_words, minlength=len(words))


def _is_marker(starts: NDArray[np.int64], ends: NDArray[np.int64], word_of: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which characters are the first or last of their word with its markers. Shape: (characters,)"""
    is_first = np.diff(word_of[starts], prepend=-1) != 0
    marker: NDArray[np.bool_] = is_first | (starts + 1 == ends[starts])
    return marker
