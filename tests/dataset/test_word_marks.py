"""Words of encoded text are counted and marked as `find_words` finds them, whatever the script and the limits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from helpers import AWKWARD_TEXTS
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharVocab
from charembed.dataset.word_marks import BEGINS, FIRST, RARE, WordCounter, WordLimits, WordMarker
from charembed.text.words import find_words

ALPHABET = "abAB01'’.,-_\"\n\r\t \u00a0\u3000\u2028\x85\x1c\u200d\u200b\u0301ßİ" + "東京カナไทยहिदीשא🇩🇪👩🔬👍🏽"
DOCUMENT = st.text(st.sampled_from(ALPHABET), max_size=40).map(lambda text: text + "\n\n")
LIMITS = st.builds(
    WordLimits,
    piece=st.just(1 << 20),
    tokens=st.integers(0, 10),
    characters=st.integers(0, 60),
    cached=st.integers(0, 60),
)


def encode(documents: list[str], gaps: bool = False) -> tuple[CharVocab, np.ndarray, np.ndarray]:
    """Return a vocabulary, the ids of the documents, and the bounds of all of them, or of every other one."""
    vocab = CharVocab.build(documents, coverage=1.0)
    ends = np.cumsum([len(text) for text in documents])
    bounds = np.stack([ends - np.diff(ends, prepend=0), ends], axis=1)
    return vocab, vocab.encode("".join(documents)).astype(np.uint16), bounds[:: 2 if gaps else 1]


def words_of(text: str) -> list[str]:
    return [text[start:end] for start, end in find_words(text)]


def naive_marks(documents: list[str], frequent: list[str]) -> list[int]:
    """Return the marks of documents read one by one, character by character."""
    marks = []
    for text in documents:
        of_text = [0] * len(text)
        for start, end in find_words(text):
            word = text[start:end]
            of_text[start:end] = [FIRST + frequent.index(word) if word in frequent else RARE] * len(word)
            of_text[start] += BEGINS
        marks += of_text
    return marks


@given(st.lists(DOCUMENT, min_size=1, max_size=8), st.booleans(), LIMITS)
def test_words_are_counted_and_marked_as_found_in_each_document(
    documents: list[str], gaps: bool, limits: WordLimits
) -> None:
    vocab, ids, bounds = encode(documents, gaps)
    read = [text if not gaps or k % 2 == 0 else "" for k, text in enumerate(documents)]
    expected = Counter(word for text in read for word in words_of(text))
    counter = WordCounter(vocab, limits)
    counter.count(ids, bounds)
    assert dict(counter.most_common(10_000)) == dict(expected)
    assert counter.total == expected.total()
    frequent = [word for word, _ in counter.most_common(5)]
    assert frequent == sorted(expected, key=lambda word: (-expected[word], word))[:5], "frequency, then code points"
    marks = WordMarker(frequent, vocab, limits).mark(ids, bounds)
    naive = [naive_marks([text], frequent) for text in documents]
    assert marks.tolist() == [
        mark for k, of_text in enumerate(naive) for mark in (of_text if read[k] else [0] * len(of_text))
    ]


def test_awkward_texts() -> None:
    documents = [text.encode(errors="replace").decode() + "\n\n" for text in AWKWARD_TEXTS]
    vocab, ids, bounds = encode(documents)
    assert WordMarker(["a", "、"], vocab).mark(ids, bounds).tolist() == naive_marks(documents, ["a", "、"])


@pytest.mark.parametrize("piece", [8, 9, 20])
def test_no_word_is_cut_between_pieces(piece: int) -> None:
    documents = ["one two three four\nfive, six.\n\n", "東京は 日本の首都 です\n\n"]
    vocab, ids, bounds = encode(documents)
    limits = WordLimits(piece=piece)
    assert WordMarker(["four"], vocab, limits).mark(ids, bounds).tolist() == naive_marks(documents, ["four"])
    counter = WordCounter(vocab, limits)
    counter.count(ids, bounds)
    assert dict(counter.most_common(100)) == dict(Counter(word for text in documents for word in words_of(text)))


def test_rare_words_are_forgotten_when_there_are_too_many() -> None:
    documents = ["often " * 5 + f"rare{k} never{k}\n\n" for k in range(50)]
    vocab, ids, bounds = encode(documents)
    counter = WordCounter(vocab, WordLimits(piece=64, tokens=5, words=10))
    counter.count(ids, bounds)
    words = counter.most_common(1000)
    assert words[0] == ("often", 250)
    assert len(words) <= 20
    assert counter.total == 350, "words that were forgotten are still among the total"


def test_an_unknown_character_is_a_word_of_its_own() -> None:
    vocab = CharVocab("abc \n")
    ids = vocab.encode("abXc a\n\n").astype(np.uint16)
    marks = WordMarker(["a"], vocab).mark(ids, np.array([[0, 8]]))
    assert marks.tolist() == [RARE + BEGINS, RARE, RARE + BEGINS, RARE + BEGINS, 0, FIRST + BEGINS, 0, 0]
