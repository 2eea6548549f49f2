"""From documents to windows: nothing lost, nothing read twice, every target one character after its input."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from conftest import EXCERPT
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedError, CharVocab, stream
from charembed.corpus import CorpusConfig
from charembed.stream import TextStreams, VocabConfig, WindowStream, choose_held_out, passages, read_streams


def streams_of(path: Path, **options: object) -> TextStreams:
    return read_streams(CorpusConfig(train=str(path), **options), VocabConfig(coverage=1.0), seed=5)


def test_validation_text_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("One.\n\nTwo.\n")
    (tmp_path / "valid.txt").write_text("Three.\n")
    streams = streams_of(tmp_path, valid=str(tmp_path / "valid.txt"))
    assert streams.vocab.decode(streams.train) == "One.\n\nTwo.\n\n"
    unknown = "Th\ufffdee.\n\n".replace("h", "\ufffd")
    assert streams.vocab.decode(streams.valid) == unknown, "the validation text adds no characters to the vocabulary"
    assert streams.documents == 2


def test_held_out_text_is_whole_documents_and_nothing_is_lost(tmp_path: Path) -> None:
    documents = [f"Document {k} says {k * k}." for k in range(200)]
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(documents))
    streams = streams_of(path, held_out=0.1)
    train = streams.vocab.decode(streams.train).split("\n\n")[:-1]
    valid = streams.vocab.decode(streams.valid).split("\n\n")[:-1]
    assert sorted(train + valid) == sorted(documents)
    assert 15 <= len(valid) <= 25
    assert [d for d in documents if d in valid] == valid, "in the order of the text"
    again = streams_of(path, held_out=0.1)
    assert np.array_equal(again.valid, streams.valid), "the same choice from the same seed"


def test_text_that_is_repeated_is_not_held_out(tmp_path: Path) -> None:
    documents = [f"Document {k}." for k in range(100)] + ["The same again."] * 100 + ["Twice over."] * 2
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(documents))
    streams = streams_of(path, held_out=0.2)
    train = set(streams.vocab.decode(streams.train).split("\n\n")[:-1])
    valid = set(streams.vocab.decode(streams.valid).split("\n\n")[:-1])
    assert len(valid) > 20
    assert not train & valid


def test_validation_text_is_its_first_characters_where_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_VALIDATION", 10)
    (tmp_path / "train.txt").write_text("Seen, one two three.")
    (tmp_path / "valid.txt").write_text("one\n\ntwo\n\nthree\n")
    streams = streams_of(tmp_path / "train.txt", valid=str(tmp_path / "valid.txt"))
    assert streams.vocab.decode(streams.valid) == "one\n\ntwo\n\n"


@pytest.mark.parametrize("separator", ["\n", " "])
def test_one_long_document_is_held_out_in_passages(tmp_path: Path, separator: str) -> None:
    text = separator.join(f"word{k}" for k in range(2000))
    path = tmp_path / "text.txt"
    path.write_text(text)
    streams = streams_of(path, held_out=0.1)
    assert len(streams.train) + len(streams.valid) == len(text) + 2
    assert streams.documents == 1
    assert 0.05 * len(text) <= len(streams.valid) <= 0.15 * len(text)
    for word in (streams.vocab.decode(streams.valid) + streams.vocab.decode(streams.train)).split():
        assert word.startswith("word"), "no word is cut"


def test_a_document_longer_than_the_share_is_never_held_out() -> None:
    lengths = np.array([10_000, 100, 100, 100, 100])
    chosen = choose_held_out(lengths, np.full(5, True), 200, seed=1)
    assert chosen is not None
    assert not chosen[0]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=50), st.integers(0, 2000), st.integers(0, 3))
def test_held_out_choice_is_close_to_what_is_wanted_or_none(lengths: list[int], size: int, seed: int) -> None:
    eligible = np.arange(len(lengths)) % 3 > 0
    chosen = choose_held_out(np.array(lengths), eligible, size, seed)
    if chosen is not None:
        assert not (chosen & ~eligible).any()
        held = int(np.array(lengths)[chosen].sum())
        assert 0.5 * size <= held <= 1.5 * size
        assert 0 < held < sum(lengths)


@given(st.text("ab \n", max_size=300), st.integers(1, 40))
def test_passages_put_together_are_the_text(text: str, length: int) -> None:
    parts = list(passages(text, length))
    assert "".join(parts) == text
    assert all(0 < len(part) <= 2 * length for part in parts)


def test_fingerprint_is_that_of_the_documents(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    numbers = " ".join(map(str, range(100)))
    path.write_text("\n\nOne é.\n\n\n\nTwo.\n" + numbers, encoding="utf-8")
    wanted = hashlib.sha256(("One é.\n\nTwo.\n" + numbers + "\n\n").encode()).hexdigest()
    assert streams_of(path, held_out=0.2).fingerprint == wanted


@pytest.mark.parametrize("content", ["", "\n \n\n"])
def test_empty_corpus(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.txt"
    path.write_text(content)
    with pytest.raises(CharEmbedError, match=r"the corpus is empty: no text in '.*empty.txt'"):
        streams_of(path)
    full = tmp_path / "full.txt"
    full.write_text("text")
    with pytest.raises(CharEmbedError, match="the validation text is empty"):
        streams_of(full, valid=str(path))


def test_a_corpus_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text.txt"
    path.write_text(" ".join(map(str, range(100))))
    original = stream._hold_out

    def grow(*arguments: object) -> object:
        chosen = original(*arguments)
        with path.open("a") as file:
            file.write("more")
        return chosen

    monkeypatch.setattr(stream, "_hold_out", grow)
    with pytest.raises(CharEmbedError, match="the corpus changed while it was read: 291 characters at first, then 295"):
        streams_of(path, held_out=0.2)


def test_too_little_to_hold_out(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("short")
    with pytest.raises(CharEmbedError, match=r"too small, or repeats itself too much, to hold out 2.0% of its 7 char"):
        streams_of(path)


def test_a_vocabulary_can_be_given(tmp_path: Path) -> None:
    CharVocab("xyz").save(tmp_path / "tokenizer.json")
    config = VocabConfig(path=str(tmp_path / "tokenizer.json"))
    streams = read_streams(CorpusConfig(train=str(EXCERPT)), config, seed=1)
    assert streams.vocab == CharVocab("xyz")
    assert streams.unknown_rate > 0.9


@given(
    length=st.integers(20, 200),
    batch_size=st.integers(1, 4),
    seq_len=st.integers(1, 5),
    seed=st.integers(0, 5),
)
def test_windows_go_on_where_the_last_ones_ended(length: int, batch_size: int, seq_len: int, seed: int) -> None:
    ids = np.arange(length, dtype=np.uint16)
    cut = WindowStream(ids, batch_size, seq_len, seed)
    epochs = 2
    windows = [cut.window(step) for step in range(epochs * cut.steps_per_epoch)]
    for step, window in enumerate(windows):
        assert window.inputs.shape == window.targets.shape == (seq_len, batch_size)
        assert ((window.inputs + 1) % length == window.targets).all(), "a target is the character after its input"
        assert window.starts_epoch == (step % cut.steps_per_epoch == 0)
        if not window.starts_epoch:
            assert (window.inputs[0] == windows[step - 1].targets[-1]).all(), "lanes go on"
    for epoch in range(epochs):
        part = windows[epoch * cut.steps_per_epoch : (epoch + 1) * cut.steps_per_epoch]
        read = np.concatenate([window.inputs.numpy().ravel() for window in part])
        assert len(set(read.tolist())) == len(read), "no character twice in an epoch"
        assert len(read) > length - batch_size * (seq_len + 1), "no more left out than the lanes' last cuts"


def test_epochs_start_at_different_places() -> None:
    cut = WindowStream(np.arange(1000), 2, 10, seed=1)
    starts = {int(cut.window(epoch * cut.steps_per_epoch).inputs[0, 0]) for epoch in range(5)}
    assert len(starts) == 5


def test_corpus_too_small_for_the_batch() -> None:
    WindowStream(np.zeros(40), 4, 10, seed=1)
    with pytest.raises(CharEmbedError, match="39 characters to train on, batch_size 4 × seq_len 10 needs 40"):
        WindowStream(np.zeros(39), 4, 10, seed=1)
