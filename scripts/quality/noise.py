"""Change characters of words at random, as typists and OCR do, to measure how robust word vectors are."""

from __future__ import annotations

import random
from dataclasses import replace

from charembed import CharEmbedError
from charembed.tagging.labelled_text import LabelledSentence

CHANGES = ("replace", "drop", "double", "swap")
"""What happens to a changed character; each is as likely as the others."""


def add_noise(sentences: list[LabelledSentence], rate: float) -> list[LabelledSentence]:
    """Return the sentences with some of their characters changed; words and tags stay as many as they are.

    Each character is replaced by a character drawn from the sentences, dropped, doubled, or swapped with the next one
    of its word. A word of one character is never dropped, and the last character of a word is never swapped: these are
    replaced. The same sentences and rate always give the same result. The text before tokenization is left out.

    Args:
        sentences: the sentences.
        rate: share of the characters to change, above 0 and at most 1.

    Raises:
        CharEmbedError: an invalid rate.
    """
    if not 0 < rate <= 1:
        raise CharEmbedError(f"a rate of noise must be above 0 and at most 1, got {rate}")
    # Replacements are as frequent as in the text, so they are of its script.
    alphabet = "".join(word for sentence in sentences for word in sentence.words)
    generator = random.Random(1)
    return [
        replace(sentence, words=[_change(word, rate, alphabet, generator) for word in sentence.words], original=None)
        for sentence in sentences
    ]


def _change(word: str, rate: float, alphabet: str, generator: random.Random) -> str:
    characters = list(word)
    position = 0
    while position < len(characters):
        step = 1
        if generator.random() < rate:
            change = generator.choice(CHANGES)
            is_last = position == len(characters) - 1
            if change == "double":
                characters.insert(position, characters[position])
                step = 2
            elif change == "drop" and len(characters) > 1:
                del characters[position]
                step = 0
            elif change == "swap" and not is_last:
                characters[position], characters[position + 1] = characters[position + 1], characters[position]
                step = 2
            else:
                characters[position] = generator.choice(alphabet)
        position += step
    return "".join(characters)
