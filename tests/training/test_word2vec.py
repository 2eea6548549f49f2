"""Static word vectors: the text they are trained on, and gensim's training."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import EXCERPT

from charembed.dataset.encoded_corpus import EncodedCorpus, encode_corpus
from charembed.text.corpus import Corpus, CorpusConfig
from charembed.text.vocab import VocabConfig
from charembed.text.words import find_words
from charembed.training.word2vec import train_word_vectors
from charembed.training.word_text import WordText, WordTextLimits, choose_segments, write_word_text


def words_of(text: str) -> list[str]:
    return [text[start:end] for start, end in find_words(text)]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    config = CorpusConfig(train=str(EXCERPT), held_out=0.1)
    return encode_corpus(config, VocabConfig(coverage=1.0), 1, tmp_path_factory.mktemp("encoded"))


def test_the_words_of_the_training_text_are_written(encoded: EncodedCorpus, tmp_path: Path) -> None:
    text = write_word_text(encoded, tmp_path / "words.txt", 10**9, seed=1)
    lines = text.path.read_text(encoding="utf-8").splitlines()
    written = Counter(word for line in lines for word in line.split(" "))
    expected = Counter(word for document in Corpus(str(EXCERPT)) for word in words_of(document))
    held_out = Counter(words_of(encoded.vocab.decode(encoded.valid)))
    assert written == expected - held_out
    assert text.counts == written
    assert (text.words, text.lines) == (written.total(), len(lines))
    assert list(text.counts) == sorted(written, key=lambda word: (-written[word], word))


def test_characters_outside_the_vocabulary_end_words(tmp_path: Path) -> None:
    rare = tmp_path / "rare.txt"
    rare.write_text("abc def\n\n" * 200 + "d€f")
    config = CorpusConfig(train=str(rare), valid=str(EXCERPT))
    encoded = encode_corpus(config, VocabConfig(coverage=0.98), 1, tmp_path / "encoded")
    text = write_word_text(encoded, tmp_path / "words.txt", 10**9, seed=1)
    assert text.counts == {"abc": 200, "def": 200, "d": 1, "f": 1}


def test_long_documents_become_several_lines(tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_text("one two three " * 1000)
    config = CorpusConfig(train=str(source), valid=str(EXCERPT))
    encoded = encode_corpus(config, VocabConfig(), 1, tmp_path / "encoded")
    text = write_word_text(encoded, tmp_path / "words.txt", 10**9, seed=1)
    assert [len(line.split()) for line in text.path.read_text().splitlines()] == [1000, 1000, 1000]


def test_rare_words_are_forgotten_when_there_are_too_many(encoded: EncodedCorpus, tmp_path: Path) -> None:
    all_counts = write_word_text(encoded, tmp_path / "words.txt", 10**9, seed=1).counts
    text = write_word_text(encoded, tmp_path / "words.txt", 10**9, seed=1, limits=WordTextLimits(counted=3000))
    assert len(text.counts) <= 3000 < len(all_counts)
    for word in list(all_counts)[:200]:  # occurrences before the first time that it was forgotten may be missing
        assert 0.8 * all_counts[word] <= text.counts[word] <= all_counts[word]


def test_documents_are_chosen_at_random() -> None:
    segments = np.array([[0, 10], [12, 20], [20, 60], [60, 61]])
    assert choose_segments(segments, 59, 1) is segments
    chosen = [choose_segments(segments, 30, seed) for seed in range(20)]
    for bounds in chosen:
        assert (bounds[:, 1] - bounds[:, 0]).sum() == 30
        assert (np.diff(bounds.ravel()) >= 0).all(), "not in the order of the text"
        inside = [((segments[:, 0] <= start) & (end <= segments[:, 1])).any() for start, end in bounds]
        assert all(inside)
    assert len({bounds.tobytes() for bounds in chosen}) > 3
    assert np.array_equal(chosen[3], choose_segments(segments, 30, 3))
    assert segments.tolist() == [[0, 10], [12, 20], [20, 60], [60, 61]], "the argument was changed"


@pytest.fixture
def synonyms(tmp_path: Path) -> WordText:
    """A text in which "car" and "auto" are used alike, and so are "dog" and "cat"."""
    random = np.random.default_rng(5)
    vehicles, animals = ["drive", "road", "wheel", "fuel", "motor"], ["bark", "fur", "tail", "paw", "milk"]
    lines = []
    for _ in range(3000):
        name, others = (["car", "auto"], vehicles) if random.random() < 0.5 else (["dog", "cat"], animals)
        words = [*random.choice(others, 4), random.choice(name)]
        lines.append(" ".join(random.permutation(words)))
    path = tmp_path / "words.txt"
    path.write_text("\n".join([*lines, "seldom"]) + "\n")
    counts = Counter(" ".join([*lines, "seldom"]).split())
    return WordText(path, dict(counts.most_common()), counts.total(), len(lines) + 1)


def test_words_used_alike_have_similar_vectors(synonyms: WordText) -> None:
    level = logging.getLogger("gensim").level
    trained = train_word_vectors(synonyms, dim=8, epochs=5, threads=1, seed=1)
    assert logging.getLogger("gensim").level == level
    assert trained.words == [word for word in synonyms.counts if word != "seldom"], "it occurs only once"
    assert trained.vectors.shape == (14, 8)
    vectors = trained.vectors / np.linalg.norm(trained.vectors, axis=1, keepdims=True)
    car, auto, dog, cat = (vectors[trained.words.index(word)] for word in ("car", "auto", "dog", "cat"))
    assert min(car @ auto, dog @ cat) > 0.9
    assert max(car @ dog, auto @ cat) < 0.5


def test_vectors_are_reproducible(synonyms: WordText) -> None:
    first, again = (train_word_vectors(synonyms, dim=8, epochs=2, threads=1, seed=1) for _ in range(2))
    assert np.array_equal(first.vectors, again.vectors)
    other = train_word_vectors(synonyms, dim=8, epochs=2, threads=1, seed=2)
    assert not np.array_equal(first.vectors, other.vectors)


def test_a_text_without_frequent_words_has_no_vectors(tmp_path: Path) -> None:
    trained = train_word_vectors(WordText(tmp_path / "absent", {"a": 4}, 4, 1), dim=8, epochs=5, threads=1, seed=1)
    assert (trained.words, trained.vectors.shape) == ([], (0, 8))
