"""Static vectors: lookup, n-grams, quantisation and the file."""

from __future__ import annotations

import copy
import json
import pickle
import struct

import numpy as np
import pytest
import safetensors.numpy
from helpers import AWKWARD_TEXTS
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedError
from charembed.static_vectors import StaticVectors
from charembed.static_vectors.ngrams import MAX_CHARACTERS, ngram_buckets
from charembed.text.words import SpannedText

GENERATOR = np.random.default_rng(1)
WORDS = ["the", "The", "Haus", "straße", "東", "don't", "."]


def static_vectors(buckets: int = 20, dim: int = 5) -> StaticVectors:
    generator = np.random.default_rng(2)
    table = generator.normal(size=(buckets, dim)) if buckets else None
    return StaticVectors.from_arrays(WORDS, generator.normal(size=(len(WORDS), dim)), table)


def fasttext_buckets(word: str, buckets: int, min_n: int, max_n: int) -> list[int]:
    """Return the buckets of a word as fastText's `Dictionary::computeSubwords` defines them, one byte at a time."""
    marked = f"<{word}>"
    found = []
    for start in range(len(marked)):
        for n in range(min_n, max_n + 1):
            if start + n > len(marked) or (n == 1 and start in (0, len(marked) - 1)):
                continue
            value = 2166136261
            for byte in marked[start : start + n].encode("utf-8", "surrogatepass"):
                signed = byte - 256 if byte > 127 else byte
                value = ((value ^ (signed % 2**32)) * 16777619) % 2**32
            found.append(value % buckets)
    return found


@given(st.lists(st.text(max_size=12), max_size=5), st.integers(1, 4), st.integers(0, 4), st.integers(1, 3_000_000))
def test_ngrams_have_the_buckets_of_fasttext(words: list[str], min_n: int, more: int, buckets: int) -> None:
    found, counts = ngram_buckets(words, buckets, min_n, min_n + more)
    of_each_word = np.split(found, np.cumsum(counts)[:-1]) if words else []
    for word, of_word in zip(words, of_each_word, strict=True):
        assert sorted(of_word.tolist()) == sorted(fasttext_buckets(word, buckets, min_n, min_n + more)), word


def test_ngrams_have_the_buckets_of_gensim() -> None:
    fasttext = pytest.importorskip("gensim.models.fasttext")
    for word in [*WORDS, "Bundesverfassungsgericht", "naïve", "👩‍🔬"]:
        expected = fasttext.ft_ngram_hashes(word, 3, 6, 10_000)
        assert sorted(ngram_buckets([word], 10_000, 3, 6)[0].tolist()) == sorted(expected)


def test_a_word_of_a_megabyte_has_the_ngrams_of_its_beginning() -> None:
    long = "ab" * 500_000
    assert ngram_buckets([long], 99, 3, 6)[0].tolist() == ngram_buckets([long[:MAX_CHARACTERS]], 99, 3, 6)[0].tolist()


def reference_lookup(static: StaticVectors, word: str) -> np.ndarray:
    """Return the vector of a word as the documentation defines it."""
    table = static.rows.astype(np.float64) * static.scales[:, None]
    for form in (word, word.lower()):
        if form in static.words:
            return table[static.words.index(form)]
    buckets = fasttext_buckets(word, static.buckets, static.min_n, static.max_n) if static.buckets else []
    rows = [table[len(static) + bucket] for bucket in buckets]
    return np.mean(rows, axis=0) if rows else np.zeros(static.dim)


@pytest.mark.parametrize("buckets", [0, 20])
def test_lookup_finds_the_word_its_lower_case_form_or_its_ngrams(buckets: int) -> None:
    static = static_vectors(buckets)
    words = ["the", "THE", "The", "tHe", "haus", "HAUS", "Haus", "STRASSE", "", "a", "new", "new", "\ud800", "東京"]
    words += [word for text in AWKWARD_TEXTS for word in SpannedText.of(text).words if len(word) < 100]
    expected = np.array([reference_lookup(static, word) for word in words])
    for _ in range(2):  # the second time from the cache
        np.testing.assert_allclose(static.lookup(words), expected, atol=1e-6)
    assert static.lookup(words).dtype == np.float32


@given(st.lists(st.sampled_from(["the", "THE", "x", "xy", "xyz", "xyzzy"]) | st.text(max_size=8), max_size=30))
def test_a_vector_does_not_depend_on_the_words_around_it(words: list[str]) -> None:
    static = static_vectors()
    together = static.lookup(words)
    assert together.shape == (len(words), static.dim)
    for word, vector in zip(words, together, strict=True):
        fresh = static_vectors().lookup([word])[0]
        assert fresh.tobytes() == vector.tobytes()


def test_many_unknown_words_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charembed.static_vectors.word_vectors._CACHE_BYTES", 400)
    static = static_vectors()
    words = [f"word{k}" for k in range(3000)]
    first = static.lookup(words)
    for k in range(0, 3000, 100):
        assert static.lookup(words[k : k + 100]).tobytes() == first[k : k + 100].tobytes()
    assert len(static._cache) <= 20 + 100


def test_the_caller_may_change_the_vectors() -> None:
    static = static_vectors()
    words = ["the", "unknown"]
    expected = static.lookup(words).copy()
    static.lookup(words)[:] = 7
    np.testing.assert_array_equal(static.lookup(words), expected)


def test_quantisation_error_is_at_most_half_a_step() -> None:
    vectors = GENERATOR.normal(size=(500, 30)) * 10.0 ** GENERATOR.integers(-6, 6, size=(500, 1))
    vectors[7] = 0
    static = StaticVectors.from_arrays([f"w{k}" for k in range(500)], vectors)
    error = np.abs(static.lookup(static.words) - vectors)
    steps = np.abs(vectors).max(axis=1) / 127
    assert (error <= 0.5001 * steps[:, None]).all()
    assert not static.lookup(["w7"]).any()
    cosines = (static.lookup(static.words) * vectors).sum(axis=1) / np.maximum(
        np.linalg.norm(static.lookup(static.words), axis=1) * np.linalg.norm(vectors, axis=1), 1e-30
    )
    assert np.delete(cosines, 7).min() > 0.999


@pytest.mark.parametrize("words", [WORDS, []])
def test_a_file_restores_the_vectors(words: list[str]) -> None:
    buckets = GENERATOR.normal(size=(9, 4))
    static = StaticVectors.from_arrays(words, GENERATOR.normal(size=(len(words), 4)), buckets, min_n=2, max_n=4)
    queries = [*WORDS, "unknown"]
    content = static.to_bytes()
    assert content == static.to_bytes()
    for other in (StaticVectors.from_bytes(content, "file"), copy.deepcopy(static), pickle.loads(pickle.dumps(static))):
        assert (other.words, other.buckets, other.dim, other.min_n, other.max_n) == (words, 9, 4, 2, 4)
        assert other.digest() == static.digest()
        assert other.lookup(queries).tobytes() == static.lookup(queries).tobytes()
    tensors = safetensors.numpy.load(content)
    assert tensors["vectors"].dtype == np.int8
    assert tensors["scales"].dtype == np.float32
    assert tensors["words"].tobytes().decode() == "\n".join(words)


def test_the_digest_depends_on_everything() -> None:
    vectors, buckets = GENERATOR.normal(size=(2, 3)), GENERATOR.normal(size=(2, 3))
    variants = [
        StaticVectors.from_arrays(["a", "b"], vectors, buckets),
        StaticVectors.from_arrays(["b", "a"], vectors, buckets),
        StaticVectors.from_arrays(["a", "b"], vectors),
        StaticVectors.from_arrays(["a", "b"], vectors * 2, buckets),
        StaticVectors.from_arrays(["a", "b"], vectors, buckets, min_n=2),
        StaticVectors.from_arrays(["a", "b"], vectors, buckets, max_n=5),
    ]
    assert len({static.digest() for static in variants}) == len(variants)


@pytest.mark.parametrize(
    ("words", "vectors", "options", "message"),
    [
        (["a"], np.zeros((2, 3)), {}, r"1 words need as many vectors, got an array of shape \(2, 3\)"),
        (["a"], np.zeros(3), {}, "1 words need as many vectors"),
        (["a"], np.zeros((1, 0)), {}, "rows must be int8 in two dimensions"),
        ([], np.zeros((0, 3)), {}, "rows must be int8 in two dimensions"),
        (["a"], np.full((1, 3), np.nan), {}, "NaN, infinite or above"),
        (["a"], np.full((1, 3), -np.inf), {}, "NaN, infinite or above"),
        (["a"], np.full((1, 3), 1e31), {}, "NaN, infinite or above"),
        (["a", "a"], np.zeros((2, 3)), {}, "the word 'a' occurs twice"),
        ([""], np.zeros((1, 3)), {}, "a word must be text of at least one character"),
        (["a\nb"], np.zeros((1, 3)), {}, "without line breaks"),
        (["\ud800"], np.zeros((1, 3)), {}, "cannot be written as UTF-8"),
        ([b"a"], np.zeros((1, 3)), {}, "a word must be text"),
        (["a"], np.zeros((1, 3)), {"buckets": np.zeros((4, 2))}, "those of buckets have shape"),
        (["a"], np.zeros((1, 3)), {"min_n": 0}, "min_n must be a whole number of at least 1"),
        (["a"], np.zeros((1, 3)), {"min_n": 4, "max_n": 3}, "max_n must be from min_n"),
        (["a"], np.zeros((1, 3)), {"max_n": 17}, "max_n must be from min_n"),
    ],
)
def test_invalid_arrays_are_refused(words: list, vectors: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        StaticVectors.from_arrays(words, vectors, **options)


def hostile_file(**changes: object) -> bytes:
    """Return the file of valid vectors with some tensors or metadata replaced; None removes one."""
    content = static_vectors().to_bytes()
    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["static_vectors"])
    tensors = safetensors.numpy.load(content)
    for name, value in changes.items():
        target = tensors if name in tensors else metadata
        target.pop(name, None)
        if value is not None:
            target[name] = value
    return safetensors.numpy.save(tensors, {"static_vectors": json.dumps(metadata)})


@pytest.mark.parametrize(
    "changes",
    [
        {"vectors": None},
        {"scales": None},
        {"words": None},
        {"vectors": np.zeros((27, 5), np.float32)},
        {"vectors": np.zeros((3, 5), np.int8), "scales": np.ones(3, np.float32)},
        {"vectors": np.zeros(27, np.int8)},
        {"vectors": np.zeros((27, 0), np.int8)},
        {"scales": np.ones(26, np.float32)},
        {"scales": np.ones(27, np.float64)},
        {"scales": np.full(27, np.nan, np.float32)},
        {"scales": np.full(27, np.inf, np.float32)},
        {"scales": np.full(27, -1, np.float32)},
        {"words": np.frombuffer(b"a\nb", np.uint8)},
        {"words": np.frombuffer(b"a\na\nc\nd\ne\nf\ng", np.uint8)},
        {"words": np.frombuffer(b"a\n\nc\nd\ne\nf\ng", np.uint8)},
        {"words": np.frombuffer(b"a\n\xff\nc\nd\ne\nf\ng", np.uint8)},
        {"words": np.zeros(3, np.int32)},
        {"min_n": None},
        {"min_n": 0},
        {"min_n": "3"},
        {"min_n": 3.0},
        {"max_n": 2},
        {"max_n": 10**9},
        {"version": 2},
        {"version": None},
    ],
)
def test_hostile_files_are_refused(changes: dict) -> None:
    with pytest.raises(CharEmbedError, match="some file"):
        StaticVectors.from_bytes(hostile_file(**changes), "some file")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not safetensors",
        pickle.dumps({"vectors": 1}),
        safetensors.numpy.save({"vectors": np.zeros((1, 1), np.int8)}),
        safetensors.numpy.save({name: np.zeros(1, np.int8) for name in ("vectors", "scales", "words")}),
        struct.pack("<Q", 2**63) + b"{}",
        *(
            safetensors.numpy.save(safetensors.numpy.load(static_vectors().to_bytes()), {"static_vectors": text})
            for text in ("", "[]", "7", "[" * 100_000, '{"words": true}')
        ),
    ],
    ids=range(11),
)
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(CharEmbedError, match="some file"):
        StaticVectors.from_bytes(content, "some file")


@given(st.data())
def test_damaged_files_are_refused_or_give_finite_vectors(data: st.DataObject) -> None:
    content = bytearray(static_vectors().to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        static = StaticVectors.from_bytes(bytes(content), "some file")
    except CharEmbedError:
        return
    assert np.isfinite(static.lookup(["the", "THE", "unknown", *static.words])).all()
