"""Write the words of a training text to a file, one sentence per line, as word2vec reads them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.dataset.split import Bounds
from charembed.dataset.word_marks import forget_rare, most_frequent_first, text_pieces
from charembed.text.vocab import REPLACEMENT
from charembed.text.words import SpannedText
from charembed.util.files import errors_name

_LINE_WORDS = 1_000
"""Words of a line, at most: word2vec leaves out what a line has beyond 10,000."""


@dataclass(frozen=True)
class WordTextLimits:
    """How many words are counted."""

    counted: int = 2_000_000
    """Different words that are counted; when there are more, the rarest are forgotten."""


DEFAULT_LIMITS = WordTextLimits()


@dataclass(frozen=True)
class WordText:
    """A text as words in a file."""

    path: Path
    """The file, in UTF-8: words separated by single spaces."""
    counts: dict[str, int]
    """How often each word occurs, the most frequent first; equally frequent ones in the order of their code points."""
    words: int
    """Number of words in the file."""
    lines: int
    """Number of its lines."""


def write_word_text(
    encoded: EncodedCorpus, path: Path, max_characters: int, seed: int, limits: WordTextLimits = DEFAULT_LIMITS
) -> WordText:
    """Write the words of a training text to a file, without the held-out text.

    A document is one line, or several if it is long. Characters outside the vocabulary are left out, and end words.

    Args:
        encoded: the text.
        path: the file to write.
        max_characters: length of the text that is written, if there is more: documents are chosen at random.
        seed: seed of that choice.
        limits: how many words to count.

    Raises:
        OSError: the file cannot be written.
    """
    counts: Counter[str] = Counter()
    words = lines = 0
    segments = choose_segments(encoded.segments, max_characters, seed)
    total = int((segments[:, 1] - segments[:, 0]).sum())
    with (
        errors_name(path),
        path.open("w", encoding="utf-8") as file,
        tqdm(
            desc="words of the text", total=total, unit=" characters", unit_scale=True, disable=None, leave=False
        ) as bar,
    ):
        for _, text in text_pieces(encoded.ids, segments, encoded.vocab):
            piece = [word for word in SpannedText.of(text).words if word != REPLACEMENT]
            counts.update(piece)
            counts = forget_rare(counts, limits.counted)
            for start in range(0, len(piece), _LINE_WORDS):
                file.write(" ".join(piece[start : start + _LINE_WORDS]) + "\n")
                lines += 1
            words += len(piece)
            bar.update(len(text))
    return WordText(path, dict(most_frequent_first(counts)), words, lines)


def choose_segments(segments: Bounds, max_characters: int, seed: int) -> Bounds:
    """Return the bounds of documents chosen at random, with about `max_characters` characters, in their order.

    The last one chosen is cut. If the text is not longer, all documents are returned.

    Shape: (documents, 2) to (chosen, 2)
    """
    lengths = segments[:, 1] - segments[:, 0]
    if lengths.sum() <= max_characters:
        return segments
    order = np.random.default_rng(seed).permutation(len(segments))
    ends = np.cumsum(lengths[order])
    count = int(np.searchsorted(ends, max_characters)) + 1
    chosen = np.array(segments[order[:count]])
    chosen[-1, 1] -= ends[count - 1] - max_characters
    return chosen[np.argsort(chosen[:, 0])]
