"""Tests of the words that windows predict: against a reading of the text word by word, in plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharVocab
from charembed.dataset.windows import EpochText, WindowStream
from charembed.dataset.word_marks import WordMarker
from charembed.dataset.word_targets import WordPrediction, find_targets
from charembed.text.words import find_words

FREQUENT = ["the", "cat", "東", "京", ",", "ไ", "it's", "👩‍🔬"]
RARE = ["dog", "首", ".", "rareword"]


def documents_of(words: list[str], between: list[str]) -> st.SearchStrategy[list[str]]:
    """Return documents of some words and what is between them."""
    pieces = st.lists(st.tuples(st.sampled_from(words), st.sampled_from(between)), min_size=1)
    return st.lists(pieces.map(lambda pieces: "".join(map("".join, pieces)) + "\n\n"), min_size=1, max_size=6)


DOCUMENTS = documents_of(FREQUENT + RARE, ["", " ", " ", "\n", ", ", "  "])
FREQUENT_ALONE = documents_of(FREQUENT, [" ", "\n", ", ", "  "])
Target = tuple[int, int, int, tuple[int, ...]]
"""Window, position, lane, numbers of the words."""


@dataclass
class Example:
    """Documents as the text of an epoch, and the word at each position of it."""

    text: EpochText
    words: list[tuple[int, int] | None]
    """For each position of the epoch's text: the first character of the word there, which tells words apart, and the
    number of the word."""

    @classmethod
    def of(cls, documents: list[str], seed: int = 0) -> Example:
        vocab = CharVocab.build(documents, coverage=1.0)
        ids = vocab.encode("".join(documents)).astype(np.uint16)
        ends = np.cumsum([len(text) for text in documents])
        bounds = np.stack([ends - np.diff(ends, prepend=0), ends], axis=1)
        text = EpochText(ids, bounds, seed, 0, WordMarker(FREQUENT, vocab).mark(ids, bounds))
        # The same text with the offset of each character in place of its id shows where the epoch puts it.
        offsets = EpochText(np.arange(len(ids)), bounds, seed, 0)
        found: dict[int, tuple[int, int]] = {}
        for document, (start, _) in zip(documents, bounds.tolist(), strict=True):
            for first, end in find_words(document).tolist():
                word = document[first:end]
                number = FREQUENT.index(word) if word in FREQUENT else -1
                found |= {start + offset: (start + first, number) for offset in range(first, end)}
        return cls(text, [found.get(offset) for offset in offsets.read(0, text.length).tolist()])

    def read_words(self, *, backward: bool) -> list[tuple[int, int, int]]:
        """Return the first and the last position of each word in the order of reading, with its number; the text is
        read twice."""
        read = (self.words[::-1] if backward else self.words) * 2
        found: list[tuple[int, int, int]] = []
        for position, word in enumerate(read):
            if word is not None and position and word == read[position - 1]:
                found[-1] = (found[-1][0], position, word[1])
            elif word is not None:
                found.append((position, position, word[1]))
        return found


def targets_of(stream: WindowStream, rank: int = 0, lanes: int = 0) -> Counter[Target]:
    """Return the targets of all windows of a stream; lanes are numbered over all processes."""
    targets: Counter[Target] = Counter()
    for number in range(stream.windows):
        window = stream.window(number)
        batch = window.inputs.shape[1]
        assert window.words is not None
        for position, words in zip(window.words.positions.tolist(), window.words.words.tolist(), strict=True):
            targets[number, position // batch, position % batch + rank * lanes, tuple(words)] += 1
    return targets


def expected_targets(
    example: Example, lanes: int, seq_len: int, ahead: int, after: int, *, backward: bool
) -> Counter[Target]:
    """Return the targets of all windows, if the state `after` characters after the end of a word predicts the words
    that begin after it."""
    targets: Counter[Target] = Counter()
    lane_length = example.text.length // lanes
    length = lane_length // seq_len * seq_len
    words = example.read_words(backward=backward)
    for k, (_, end, _) in enumerate(words):
        lane, position = divmod(end, lane_length)
        numbers = [number for first, _, number in words[k + 1 : k + 2 + ahead] if first > end + after][:ahead]
        state = position + after
        if lane < lanes and position < length and state < length and max(numbers) >= 0:
            targets[state // seq_len, state % seq_len, lane, tuple(numbers)] += 1
    return targets


@given(
    documents=DOCUMENTS,
    batch_size=st.integers(1, 3),
    seq_len=st.sampled_from([1, 2, 5]),
    ahead=st.sampled_from([1, 3]),
    position=st.sampled_from(["word", "separator"]),
    backward=st.booleans(),
    seed=st.integers(0, 3),
)
def test_states_predict_the_words_that_a_reader_finds_next(
    documents: list[str], batch_size: int, seq_len: int, ahead: int, position: str, backward: bool, seed: int
) -> None:
    documents = documents * 5  # several blocks of windows
    example = Example.of(documents, seed)
    if example.text.length < batch_size * seq_len:
        return
    stream = WindowStream(example.text, batch_size, seq_len, backward=backward, words=WordPrediction(ahead, position))
    after = int(position == "separator")
    assert targets_of(stream) == expected_targets(example, batch_size, seq_len, ahead, after, backward=backward)


@pytest.mark.parametrize(
    ("text", "backward", "state", "target"),
    [
        ("the cat, it's ", False, 7, "it's"),  # at the comma, which is a word itself
        ("the cat, it's ", True, 7, "the"),  # read as " s'ti ,tac eht": at the "t" of "tac"
        ("東京the ", False, 1, "the"),  # at 京, which is the next word
        ("cat京東 ", True, 2, "cat"),
    ],
)
def test_a_word_of_which_a_state_has_read_some_is_no_target(text: str, backward: bool, state: int, target: str) -> None:
    vocab = CharVocab.build([text], coverage=1.0)
    marks = WordMarker(FREQUENT, vocab).mark(vocab.encode(text), np.array([[0, len(text)]]))
    lane = marks[::-1] if backward else marks
    targets = find_targets([lane], [0], 0, len(text), WordPrediction(1, "separator"), backward=backward)
    assert targets.words[targets.positions == state].tolist() == [[FREQUENT.index(target)]]


@given(FREQUENT_ALONE, st.booleans(), st.sampled_from([1, 3]))
def test_with_both_each_word_is_predicted_from_one_of_its_states(
    documents: list[str], backward: bool, ahead: int
) -> None:
    example = Example.of(documents * 9)
    if example.text.length < 10:
        return
    stream = WindowStream(example.text, 2, 5, backward=backward, words=WordPrediction(ahead, "both"))
    targets = targets_of(stream)
    word = expected_targets(example, 2, 5, ahead, 0, backward=backward)
    separator = expected_targets(example, 2, 5, ahead, 1, backward=backward)
    assert targets <= word + separator
    # A word at the very end of a lane has no state after it.
    assert separator.total() - 2 <= word.total()
    assert word.total() - 2 <= targets.total() <= word.total()


def both(text: EpochText, batch_size: int, rank: int = 0, world_size: int = 1, *, backward: bool = False) -> Counter:
    words = WordPrediction(1, "both")
    stream = WindowStream(text, batch_size, 4, backward=backward, rank=rank, world_size=world_size, words=words)
    return targets_of(stream, rank, batch_size)


def test_the_choice_of_states_is_random_and_reproducible() -> None:
    example = Example.of(["the cat , the cat\n\n"] * 400)
    targets = both(example.text, 2)
    assert targets == both(example.text, 2)
    word = expected_targets(example, 2, 4, 1, 0, backward=False)
    share = (targets & word).total() / targets.total()
    assert 0.45 < share < 0.55
    assert targets != both(Example.of(["the cat , the cat\n\n"] * 400, seed=1).text, 2)
    assert targets != both(example.text, 2, backward=True)


def test_processes_predict_the_words_of_the_lanes_that_they_share() -> None:
    example = Example.of(["the cat sat, 東京 it's\n\n"] * 60)
    shared = both(example.text, 2, 0, 2) + both(example.text, 2, 1, 2)
    assert shared == both(example.text, 4)


def test_windows_can_be_read_in_any_order() -> None:
    example = Example.of(["the cat 東京\n\n"] * 100)
    prediction = WordPrediction(2, "both")
    in_order, reverse = (WindowStream(example.text, 1, 3, words=prediction) for _ in range(2))
    assert in_order.windows > 3 * 64, "several blocks"
    windows = [in_order.window(k).words for k in range(in_order.windows)]
    for k in reversed(range(in_order.windows)):
        words = reverse.window(k).words
        assert words is not None
        assert words.positions.equal(windows[k].positions)
        assert words.words.equal(windows[k].words)


@pytest.mark.parametrize("backward", [False, True])
def test_a_window_without_words(backward: bool) -> None:
    example = Example.of([" " * 500 + "\n\n"])
    stream = WindowStream(example.text, 2, 10, backward=backward, words=WordPrediction(3, "both"))
    words = stream.window(0).words
    assert words is not None
    assert words.positions.shape == (0,)
    assert words.words.shape == (0, 3)
