"""Text that is read again and again, and text that never ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import EXCERPT, assert_same_weights, tiny_config, weights_of

from charembed import CharEmbedError, train
from charembed.dataset import encoded_corpus as encoded
from charembed.dataset import windows as epochs
from charembed.dataset.encoded_corpus import VocabConfig, encode_corpus
from charembed.dataset.windows import Epochs
from charembed.text.corpus import CorpusConfig
from charembed.training.checkpoint import Checkpoint, saved_checkpoints
from charembed.training.schedule import BudgetConfig
from charembed.training.trainer import Trainer


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CorpusConfig:
    """200 documents of 14 characters each, read 1,000 characters at a time: 72 and 72 documents, then 56."""
    for module in (encoded, epochs):
        monkeypatch.setattr(module, "SEGMENT", 1000)
    path = tmp_path / "stream.jsonl"
    path.write_text("".join(f'{{"text": "Document {k:03}"}}\n' for k in range(200)))
    return CorpusConfig(train=str(path), streaming=True, held_out=0.1)


def texts(source: Epochs, vocab) -> list[str]:
    text = vocab.decode(source.text.read(0, source.text.length))
    return (text + text).split("\n\n")[1:-1]


def test_a_stream_is_read_once_from_first_to_last_and_again(tmp_path: Path, stream: CorpusConfig) -> None:
    corpus = encode_corpus(stream, VocabConfig(coverage=1.0), 1, tmp_path / "encoded")
    held_out = set(corpus.vocab.decode(corpus.valid).split("\n\n")[:-1])
    assert len(held_out) == pytest.approx(7, abs=1)
    source = Epochs(corpus, stream, seed=1)
    seen = []
    for number in range(5):
        assert source.number == number
        seen.append(set(texts(source, corpus.vocab)))
        source.advance()
    names = [f"Document {k:03}" for k in range(200)]
    assert seen[0] == set(names[:72]) - held_out
    assert seen[1] == set(names[72:144])
    assert seen[2] == set(names[144:])
    assert seen[3] == seen[0], "where the stream ends, it begins again, without what is held out"
    assert seen[4] == seen[1]


@pytest.mark.parametrize("epoch", [0, 1, 2, 3, 4])
def test_a_place_in_the_stream_is_found_again(tmp_path: Path, stream: CorpusConfig, epoch: int) -> None:
    corpus = encode_corpus(stream, VocabConfig(coverage=1.0), 1, tmp_path / "encoded")
    source = Epochs(corpus, stream, seed=1)
    for _ in range(epoch):
        source.advance()
    place = (source.number, source.documents)
    wanted = [texts(source, corpus.vocab)]
    source.advance()
    wanted.append(texts(source, corpus.vocab))
    again = Epochs(corpus, stream, seed=1)
    again.seek(*place)
    found = [texts(again, corpus.vocab)]
    again.advance()
    found.append(texts(again, corpus.vocab))
    assert found == wanted


def test_an_end_that_is_too_short_is_left_out(tmp_path: Path, stream: CorpusConfig) -> None:
    corpus = encode_corpus(stream, VocabConfig(coverage=1.0), 1, tmp_path / "encoded")
    source = Epochs(corpus, stream, seed=1, at_least=900)
    source.advance()
    source.advance()
    assert "Document 000" in texts(source, corpus.vocab) + corpus.vocab.decode(corpus.valid).split("\n\n")


def test_a_run_on_a_stream_goes_on_bit_for_bit(
    tmp_path: Path, stream: CorpusConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"data": stream, "budget": BudgetConfig(steps=60), "batch_size": 2, "validations": 1}
    whole = train(tiny_config(tmp_path, output=str(tmp_path / "whole"), **options))
    assert Checkpoint.load(saved_checkpoints(whole.folder / "checkpoints")[0]).facts["epoch"] >= 2
    assert whole.report.corpus["characters"] is None, "nobody knows how long it is"
    original = Trainer._take_step

    def ended(self: Trainer, spent: float) -> None:
        if self._step == 45:
            raise KeyboardInterrupt
        original(self, spent)

    config = tiny_config(tmp_path, output=str(tmp_path / "parts"), checkpoint_minutes=1e-6, **options)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", ended)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert_same_weights(weights_of(train(config).folder), weights_of(whole.folder))


def test_a_stream_has_no_epochs_to_count(tmp_path: Path) -> None:
    data = CorpusConfig(train=str(EXCERPT), streaming=True)
    with pytest.raises(CharEmbedError, match=r"budget.epochs needs text that ends"):
        tiny_config(tmp_path, data=data, budget=BudgetConfig(epochs=1))


def test_an_endless_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hugging Face data set that gives records for ever: no more of it is read than is trained on."""
    import datasets

    from charembed.text import sources

    for module in (encoded, epochs):
        monkeypatch.setattr(module, "SEGMENT", 5000)
    given = []

    def records():
        for k in iter(int, 1):
            given.append(k)
            yield {"text": f"Record number {len(given)} of a stream."}

    endless = datasets.IterableDataset.from_generator(records)
    monkeypatch.setattr(sources.DatasetName, "open", lambda _: endless)
    data = CorpusConfig(train="dataset:endless", streaming=True)
    result = train(tiny_config(tmp_path, data=data, budget=BudgetConfig(steps=200), validations=1))
    assert result.last is not None
    assert result.last.characters == 200 * 64
    read = len(given) * len("Record number 100 of a stream.\n\n")
    assert read < 5 * 200 * 64 + 20_000
