"""Noise on words: how much of it, and that it can be nothing else."""

from __future__ import annotations

import difflib
import itertools

import pytest

from charembed import CharEmbedError
from charembed.tagging.labelled_text import LabelledSentence
from charembed.text.words import SpannedText
from scripts.quality.noise import add_noise

SENTENCES = [LabelledSentence(["abcdefghij", "klmnopqrst", "u"], {"ner": ["O", "B-A", "O"]}, document=3)] * 500


def test_words_tags_and_documents_stay() -> None:
    original = SpannedText.of(("ab c", [(0, 2), (3, 4)]))
    sentences = [*SENTENCES, LabelledSentence(["ab", "c"], {"ner": ["O", "B-A"]}, original)]
    for rate in (0.1, 1.0):
        noisy = add_noise(sentences, rate)
        assert [(one.tags, one.document) for one in noisy] == [(one.tags, one.document) for one in sentences]
        assert all(len(one.words) == len(one.tags["ner"]) and all(one.words) for one in noisy)
        assert noisy[-1].text == noisy[-1].words  # the original text would be without noise
        assert {character for one in noisy for word in one.words for character in word} <= set("abcdefghijklmnopqrstuc")
    assert add_noise(sentences, 0.1) == add_noise(sentences, 0.1)


def test_the_rate_is_the_share_of_changed_characters_and_all_changes_are_as_frequent() -> None:
    """In words of ten different letters, a difference in length and order says what happened to a character."""
    counts = dict.fromkeys(("replace", "drop", "double", "swap"), 0)
    words = [(word, "abcdefghij") for one in add_noise(SENTENCES * 8, 0.02) for word in one.words[:1]]
    for word, clean in words:
        if len(word) == 9:
            counts["drop"] += 1
        elif len(word) == 11:
            counts["double"] += any(left == right for left, right in itertools.pairwise(word))
        elif sorted(word) == sorted(clean) and word != clean:
            counts["swap"] += 1
        elif difflib.SequenceMatcher(None, word, clean).ratio() < 1:
            counts["replace"] += 1
    # Of 40,000 characters, 800 are changed; words with two changes are too few to matter.
    expected = 0.02 * 10 * len(words) / 4
    for change, count in counts.items():
        assert count == pytest.approx(expected, rel=0.25), change


@pytest.mark.parametrize("rate", [0, -0.1, 1.1])
def test_invalid_rates_are_refused(rate: float) -> None:
    with pytest.raises(CharEmbedError, match=f"a rate of noise must be above 0 and at most 1, got {rate}"):
        add_noise(SENTENCES, rate)
