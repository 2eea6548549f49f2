"""Tests of epochs: of text that is read repeatedly, and of streams that never end."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import EXCERPT, assert_same_weights, tiny_config, weights_of

from charembed import CharEmbedError, CharVocab, train
from charembed.dataset.encoded_corpus import EncodedCorpus, encode_corpus
from charembed.dataset.encoding import CorpusLimits
from charembed.dataset.frequent_words import FrequentWords
from charembed.dataset.windows import Epochs
from charembed.dataset.word_marks import BEGINS, FIRST
from charembed.text.corpus import CorpusConfig
from charembed.text.vocab import VocabConfig
from charembed.text.words import find_words
from charembed.training.checkpoint import Checkpoint, saved_checkpoints
from charembed.training.objective import ObjectiveConfig
from charembed.training.schedule import BudgetConfig
from charembed.training.trainer import Trainer

LIMITS = CorpusLimits(segment=1000)


def train_with_limits(limits: CorpusLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charembed.training.model_trainer.encode_corpus", partial(encode_corpus, limits=limits))
    monkeypatch.setattr("charembed.training.model_trainer.Epochs", partial(Epochs, limits=limits))


@pytest.fixture
def stream(tmp_path: Path) -> CorpusConfig:
    """200 documents of 14 characters each. `LIMITS` cut them into segments of 72, 72 and 56 documents."""
    path = tmp_path / "stream.jsonl"
    path.write_text("".join(f'{{"text": "Document {k:03}"}}\n' for k in range(200)))
    return CorpusConfig(train=str(path), streaming=True, held_out=0.1)


def encode(stream: CorpusConfig, folder: Path) -> EncodedCorpus:
    return encode_corpus(stream, VocabConfig(coverage=1.0), 1, folder / "encoded", limits=LIMITS)


def documents_of(epochs: Epochs, vocab: CharVocab) -> list[str]:
    text = vocab.decode(epochs.text.read(0, epochs.text.length))
    return (text + text).split("\n\n")[1:-1]


def test_a_stream_is_read_in_order_and_then_again(tmp_path: Path, stream: CorpusConfig) -> None:
    corpus = encode(stream, tmp_path)
    held_out = set(corpus.vocab.decode(corpus.valid).split("\n\n")[:-1])
    assert len(held_out) == pytest.approx(7, abs=1)
    epochs = Epochs(corpus, stream, seed=1, limits=LIMITS)
    seen = []
    for number in range(5):
        assert epochs.number == number
        seen.append(set(documents_of(epochs, corpus.vocab)))
        epochs.advance()
    names = [f"Document {k:03}" for k in range(200)]
    assert seen[0] == set(names[:72]) - held_out
    assert seen[1] == set(names[72:144])
    assert seen[2] == set(names[144:])
    assert seen[3] == seen[0], "after its end the stream begins again, without the held-out text"
    assert seen[4] == seen[1]


@pytest.mark.parametrize("epoch", [0, 1, 2, 3, 4])
def test_a_position_in_the_stream_is_restored(tmp_path: Path, stream: CorpusConfig, epoch: int) -> None:
    corpus = encode(stream, tmp_path)
    epochs = Epochs(corpus, stream, seed=1, limits=LIMITS)
    for _ in range(epoch):
        epochs.advance()
    position = (epochs.number, epochs.documents)
    expected = [documents_of(epochs, corpus.vocab)]
    epochs.advance()
    expected.append(documents_of(epochs, corpus.vocab))
    restored = Epochs(corpus, stream, seed=1, limits=LIMITS)
    restored.seek(*position)
    documents = [documents_of(restored, corpus.vocab)]
    restored.advance()
    documents.append(documents_of(restored, corpus.vocab))
    assert documents == expected


def test_a_last_segment_that_is_too_short_is_dropped(tmp_path: Path, stream: CorpusConfig) -> None:
    corpus = encode(stream, tmp_path)
    epochs = Epochs(corpus, stream, seed=1, min_characters=900, limits=LIMITS)
    epochs.advance()
    epochs.advance()
    assert "Document 000" in documents_of(epochs, corpus.vocab) + corpus.vocab.decode(corpus.valid).split("\n\n")


def test_segments_of_a_stream_have_the_words_of_the_first(tmp_path: Path, stream: CorpusConfig) -> None:
    corpus = encode(stream, tmp_path)
    frequent = FrequentWords.of(corpus, 3)
    assert frequent.words[0] == "Document"
    epochs = Epochs(corpus, stream, seed=1, frequent=frequent, limits=LIMITS)
    for _ in range(4):
        text = corpus.vocab.decode(epochs.text.read(0, 2 * epochs.text.length))
        marks = epochs.text.read_marks(0, 2 * epochs.text.length)
        words = find_words(text).tolist()
        # The epoch begins anywhere in a document, so its first word and its last one may be cut.
        for start, end in words[1:-1]:
            number = frequent.words.index(text[start:end]) if text[start:end] in frequent.words else -1
            expected = max(number, -1) + FIRST
            assert marks[start:end].tolist() == [BEGINS + expected] + [expected] * (end - start - 1), text[start:end]
        assert np.count_nonzero(marks) == sum(end - start for start, end in words)
        epochs.advance()
    assert epochs.documents


@pytest.mark.parametrize("words", [0, 20])
def test_a_run_on_a_stream_resumes_bit_for_bit(
    tmp_path: Path, stream: CorpusConfig, monkeypatch: pytest.MonkeyPatch, words: int
) -> None:
    train_with_limits(LIMITS, monkeypatch)
    options = {"data": stream, "budget": BudgetConfig(steps=60), "batch_size": 2, "validations": 1}
    options["objective"] = ObjectiveConfig(words=words)
    whole = train(tiny_config(tmp_path, output=str(tmp_path / "whole"), **options))
    assert Checkpoint.load(saved_checkpoints(whole.folder / "checkpoints")[0]).state.epoch >= 2
    assert whole.report.corpus["characters"] is None, "the length of a stream is not known"
    original = Trainer._take_step

    def interrupt(self: Trainer, spent: float) -> None:
        if self.state.step == 45:
            raise KeyboardInterrupt
        original(self, spent)

    config = tiny_config(tmp_path, output=str(tmp_path / "resumed"), checkpoint_minutes=1e-6, **options)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert_same_weights(weights_of(train(config).folder), weights_of(whole.folder))


def test_a_budget_of_epochs_needs_text_that_ends(tmp_path: Path) -> None:
    data = CorpusConfig(train=str(EXCERPT), streaming=True)
    with pytest.raises(CharEmbedError, match=r"budget.epochs needs text that ends"):
        tiny_config(tmp_path, data=data, budget=BudgetConfig(epochs=1))


def test_an_endless_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hugging Face data set with an infinite number of records: no more of them are read than are trained on."""
    import datasets

    from charembed.text import sources

    train_with_limits(CorpusLimits(segment=5000), monkeypatch)
    records_read = 0

    def records():
        nonlocal records_read
        while True:
            records_read += 1
            yield {"text": f"Record number {records_read} of a stream."}

    endless = datasets.IterableDataset.from_generator(records)
    monkeypatch.setattr(sources.DatasetName, "open", lambda _: endless)
    data = CorpusConfig(train="dataset:endless", streaming=True)
    result = train(tiny_config(tmp_path, data=data, budget=BudgetConfig(steps=200), validations=1))
    assert result.last is not None
    assert result.last.characters == 200 * 64
    characters_read = records_read * len("Record number 100 of a stream.\n\n")
    assert characters_read < 5 * 200 * 64 + 20_000
