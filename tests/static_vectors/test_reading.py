"""Static vectors of other programs: text files of word2vec, GloVe and fastText, and model2vec folders."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from helpers import small_static_vectors
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from charembed import CharEmbedError
from charembed.static_vectors import load_static_vectors, read_static_vectors

WORDS = ["the", "The", "straße", "東", "don't", "New York", "\u00a0", ",", "7", "...", "a\u2028b"]
VECTORS = np.random.default_rng(3).normal(size=(len(WORDS), 4)).astype(np.float32)


def lines_of(words: list[str], vectors: np.ndarray, end: str = "\n") -> str:
    return "".join(f"{word} {' '.join(map(repr, row.tolist()))}{end}" for word, row in zip(words, vectors, strict=True))


FILES = {
    "glove.txt": lines_of(WORDS, VECTORS),
    "word2vec.txt": f"{len(WORDS)} 4\n" + lines_of(WORDS, VECTORS),
    "fasttext.vec": f"{len(WORDS)} 4\n" + lines_of(WORDS, VECTORS, " \n"),
    "windows.txt": f"{len(WORDS)} 4\r\n" + lines_of(WORDS, VECTORS, "\r\n"),
    "no_last_newline.txt": lines_of(WORDS, VECTORS).rstrip("\n"),
}


@pytest.mark.parametrize("name", FILES)
def test_text_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name].encode())
    words, vectors = read_static_vectors(tmp_path / name)
    assert words == WORDS
    np.testing.assert_array_equal(vectors, VECTORS)
    words, vectors = read_static_vectors(str(tmp_path / name), limit=3)
    assert words == WORDS[:3]
    np.testing.assert_array_equal(vectors, VECTORS[:3])


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zst"])
def test_compressed_files(suffix: str, tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    compress = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}.get(
        suffix, zstandard.ZstdCompressor().compress
    )
    content = compress(FILES["fasttext.vec"].encode())
    path = tmp_path / f"file.vec{suffix}"
    path.write_bytes(content)
    assert read_static_vectors(path)[0] == WORDS
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CharEmbedError, match=r"file.vec"):
        read_static_vectors(path)


def test_files_of_gensim(tmp_path: Path) -> None:
    """An independent writer of the format."""
    keyedvectors = pytest.importorskip("gensim.models.keyedvectors")
    model = keyedvectors.KeyedVectors(4)
    model.add_vectors(WORDS, VECTORS)
    for header in (True, False):
        model.save_word2vec_format(tmp_path / "file.txt", write_header=header)
        words, vectors = read_static_vectors(tmp_path / "file.txt")
        assert words == WORDS
        np.testing.assert_allclose(vectors, VECTORS, rtol=1e-6)
    model.save_word2vec_format(tmp_path / "file.bin", binary=True)
    with pytest.raises(CharEmbedError, match=r"file.bin, line 2: expected a word and 4 numbers"):
        read_static_vectors(tmp_path / "file.bin")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file.vec")  # nobody ever writes to it
    with pytest.raises(CharEmbedError, match=r"file.vec is not a regular file"):
        load_static_vectors(tmp_path / "file.vec")


def test_words_that_cannot_be_used_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = b"5 2\nthe 1 2\nthe 3 4\nna\xc3 5 6\n 7 8\nend 9 10\n"
    (tmp_path / "file.vec").write_bytes(content)
    words, vectors = read_static_vectors(tmp_path / "file.vec")
    assert words == ["the", "end"]
    assert vectors.tolist() == [[1, 2], [9, 10]]
    assert "skipped 3 words that occur twice, are empty or not UTF-8" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is not a text file of word vectors: its first line has 0 field"),
        (b"the\n", r"its first line has 1 field"),
        (b"\x80\x04\x95\n", "its first line has 1 field"),
        (b"2 0\n", "its first line has 2 field"),
        (b"3 2\nthe 1 2\nof 3 4\n", "is incomplete: it has 2 of 3 words"),
        (b"1 2\nthe 1 2\nof 3 4\n", "is incomplete: it has 2 of 1 words"),
        (b"2 2\nthe 1 2\nof 3\n", "line 3: expected a word and 2 numbers: could not convert"),
        (b"2 2\nthe 1 2\n3\n", r"line 3: expected a word and 2 numbers: found 1 field"),
        (b"2 2\nthe 1 2\n\n", r"line 3: expected a word and 2 numbers: found 0 field"),
        (b"the 1 2\nof 3 4 five\n", "line 2: expected a word and 2 numbers: could not convert"),
        (b"the 1 2\nof nan 2\n", "line 2: expected a word and 2 numbers: a number is not finite"),
        (b"the 1 2\nof 1e39 2\n", "line 2: expected a word and 2 numbers: a number is not finite"),
        (b"99999999999 999999999\nthe 1 2\n", "line 2: expected a word and 999999999 numbers"),
        (b"0 2\n", "contains no words"),
        (b"1 2\n\xff 1 2\n", "contains no words"),
        (b"x" * 2**21, "has a line of a megabyte"),
        (b"the 1 2\n" + b"x" * 2**21, "has a line of a megabyte"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    with pytest.raises(CharEmbedError, match=message) as refused:
        read_static_vectors(path)
    assert str(path) in str(refused.value)


def test_a_compressed_line_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(bytes(2**28)))
    with pytest.raises(CharEmbedError, match="has a line of a megabyte"):
        read_static_vectors(path)


@given(content=st.binary(max_size=60))
@example(content=b"1 1\nthe 1_0\n")
def test_any_bytes_are_refused_or_read(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any_bytes.txt"
    path.write_bytes(content)
    try:
        words, vectors = read_static_vectors(path)
    except CharEmbedError:
        return
    finally:
        path.unlink()
    assert len(words) == len(set(words)) == len(vectors) > 0
    assert np.isfinite(vectors).all()


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CharEmbedError, match=r"absent.txt: cannot be read: No such file"):
        read_static_vectors(tmp_path / "absent.txt")
    with pytest.raises(CharEmbedError, match=r"tokenizer.json: cannot be read: No such file"):
        read_static_vectors(tmp_path)
    with pytest.raises(CharEmbedError, match="limit must be a whole number of at least 1"):
        read_static_vectors(tmp_path / "absent.txt", limit=0)


# model2vec ------------------------------------------------------------------------------------------------------


def wordpiece() -> Tokenizer:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "the", "##ing", "walk", "paris", ",", "don", "'", "t", "東", "straße"]
    tokenizer = Tokenizer(models.WordPiece({token: k for k, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]"])
    return tokenizer


def unigram() -> Tokenizer:
    pieces = [
        ("<unk>", 0.0),
        ("▁the", -1.0),
        ("ing", -2.0),
        ("▁walk", -2.0),
        ("▁Paris", -2.0),
        ("▁", -9.0),
        (",", -3.0),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e"), ("i", "n"), ("in", "g")]
    vocab = [*alphabet, *(left + right for left, right in merges)]
    tokenizer = Tokenizer(models.BPE({token: k for k, token in enumerate(vocab)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def model2vec_folder(folder: Path, tokenizer: Tokenizer, **tensors: np.ndarray) -> np.ndarray:
    """Write a folder and return the vector of each token."""
    count = tokenizer.get_vocab_size()
    table = np.random.default_rng(4).normal(size=(count, 3)).astype(np.float32)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.safetensors").write_bytes(safetensors.numpy.save({"embeddings": table} | tensors))
    return table


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (wordpiece(), ["the", "walk", "paris", ",", "don", "'", "t", "東", "straße"]),
        (unigram(), ["the", "walk", "Paris"]),
    ],
    ids=["WordPiece", "Unigram"],
)
def test_words_of_model2vec_are_tokens_that_are_words(
    tokenizer: Tokenizer, expected: list[str], tmp_path: Path
) -> None:
    table = model2vec_folder(tmp_path, tokenizer)
    words, vectors = read_static_vectors(tmp_path)
    assert words == expected
    vocab = tokenizer.get_vocab()
    rows = [vocab.get(word, vocab.get(f"▁{word}")) for word in words]
    np.testing.assert_array_equal(vectors, table[rows])
    assert read_static_vectors(tmp_path, limit=2)[0] == expected[:2]


def test_words_of_a_byte_level_tokenizer(tmp_path: Path) -> None:
    tokenizer = byte_level()
    table = model2vec_folder(tmp_path, tokenizer)
    words, vectors = read_static_vectors(tmp_path)
    assert "the" in words
    assert "ing" not in words, "a token that only continues words"
    np.testing.assert_array_equal(vectors[words.index("the")], table[tokenizer.get_vocab()["Ġthe"]])


def test_later_model2vec_folders_have_weights_and_share_rows(tmp_path: Path) -> None:
    tokenizer = wordpiece()
    count = tokenizer.get_vocab_size()
    table = np.arange(12, dtype=np.float16).reshape(4, 3)
    mapping = np.arange(count) % 4
    weights = np.linspace(0.5, 2, count)
    model2vec_folder(tmp_path, tokenizer, embeddings=table, mapping=mapping, weights=weights)
    words, vectors = read_static_vectors(tmp_path)
    ids = [tokenizer.get_vocab()[word] for word in words]
    np.testing.assert_allclose(vectors, table[mapping[ids]] * weights[ids, None], rtol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"embeddings": np.zeros(3, np.float32)}, "wrong types or shapes"),
        ({"embeddings": np.zeros((13, 3), np.int64)}, "wrong types or shapes"),
        ({"embeddings": np.zeros((5, 3), np.float32)}, "its tokenizer has tokens without vectors"),
        ({"mapping": np.arange(13) - 4}, "its tokenizer has tokens without vectors"),
        ({"mapping": np.arange(13) + 1}, "its tokenizer has tokens without vectors"),
        ({"mapping": np.arange(12)}, "its tokenizer has tokens without vectors"),
        ({"mapping": np.arange(13.0)}, "wrong types or shapes"),
        ({"weights": np.ones(12)}, "wrong types or shapes"),
        ({"weights": np.full(13, np.nan)}, "NaN, infinite or above"),
    ],
)
def test_hostile_model2vec_folders_are_refused(tensors: dict, message: str, tmp_path: Path) -> None:
    model2vec_folder(tmp_path, wordpiece(), **tensors)
    with pytest.raises(CharEmbedError, match=message) as refused:
        load_static_vectors(tmp_path)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", json.dumps({"model": {"type": "WordPiece"}}).encode()])
def test_damaged_tokenizers_are_refused(content: bytes, tmp_path: Path) -> None:
    model2vec_folder(tmp_path, wordpiece())
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(CharEmbedError, match=r"tokenizer.json is not a tokenizer"):
        read_static_vectors(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", safetensors.numpy.save({"weight": np.zeros((2, 2))})])
def test_other_weights_are_refused(content: bytes, tmp_path: Path) -> None:
    model2vec_folder(tmp_path, wordpiece())
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CharEmbedError, match=r"model.safetensors does not contain the vectors of model2vec"):
        read_static_vectors(tmp_path)


# load_static_vectors ---------------------------------------------------------------------------------------------


def test_files_of_charembed_are_loaded_with_their_ngrams(tmp_path: Path) -> None:
    static = small_static_vectors()
    path = tmp_path / "static_vectors.safetensors"
    path.write_bytes(static.to_bytes())
    assert load_static_vectors(path).digest() == static.digest()
    path.write_bytes(b"damaged")
    with pytest.raises(CharEmbedError, match=r"static_vectors.safetensors does not contain static vectors"):
        load_static_vectors(path)
    path.unlink()
    with pytest.raises(CharEmbedError, match=r"static_vectors.safetensors: cannot be read"):
        load_static_vectors(path)


def test_text_files_are_quantised(tmp_path: Path) -> None:
    (tmp_path / "file.vec").write_text(FILES["fasttext.vec"])
    static = load_static_vectors(tmp_path / "file.vec", limit=5)
    assert static.words == WORDS[:5]
    np.testing.assert_allclose(static.lookup(WORDS[:5]), VECTORS[:5], atol=0.02)


def test_vectors_of_a_model_folder_are_loaded(with_words, tmp_path: Path) -> None:
    with_words.save(tmp_path / "model")
    assert load_static_vectors(tmp_path / "model").digest() == with_words.static.digest()


def test_unknown_words_get_vectors_from_their_ngrams(tmp_path: Path) -> None:
    words = [f"{stem}{ending}" for stem in ("walk", "talk", "jump", "climb") for ending in ("", "s", "ed", "ing")]
    vectors = np.random.default_rng(5).normal(size=(len(words), 6)).astype(np.float32)
    (tmp_path / "file.txt").write_text(lines_of(words, vectors))
    assert not load_static_vectors(tmp_path / "file.txt").lookup(["walker"]).any()
    static = load_static_vectors(tmp_path / "file.txt", buckets=500)
    assert (static.buckets, static.min_n, static.max_n) == (500, 2, 4)
    near, far = static.lookup(["walkings"])[0], vectors[words.index("jumped")]
    assert near @ vectors[words.index("walking")] > near @ far
