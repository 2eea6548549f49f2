"""The model that training starts from: a new one, or a finished one, with a larger vocabulary if requested."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import EXCERPT, tiny_config

from charembed import CharEmbedder, CharEmbedError, CharLMConfig, train
from charembed.dataset.encoded_corpus import encode_corpus
from charembed.lm.scoring import score
from charembed.pretrained.model_folder import Pretrained
from charembed.text.corpus import CorpusConfig
from charembed.text.vocab import VocabConfig
from charembed.training.initial_model import load_initial, make_initial_model
from charembed.training.result import TrainResult
from charembed.training.schedule import BudgetConfig


@pytest.fixture
def german(tmp_path: Path) -> str:
    """The name of a text with characters that the English model does not know."""
    path = tmp_path / "german.txt"
    path.write_text(
        "\n\n".join(f"Größe und Übermaß № {k}: ein Öl für {k * k} €." for k in range(300)), encoding="utf-8"
    )
    return str(path)


def bits_of(folder: Path, text: str) -> float:
    """Return the bits per character of the forward model in a folder."""
    pretrained = Pretrained.load(folder)
    lm, vocab = pretrained.model.direction("forward"), pretrained.vocab
    return score(lm, vocab.encode(text), vocab).bits_per_character


def test_a_new_model_predicts_the_frequencies_of_characters(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    encoded = encode_corpus(config.data, config.vocab, config.seed, tmp_path / "encoded")
    model = make_initial_model(config.model, config.directions, config.seed, encoded, None)
    frequencies = np.bincount(encoded.ids, minlength=len(encoded.vocab)) + 1.0
    for direction in ("forward", "backward"):
        bias = model.direction(direction).decoder.bias.detach()
        torch.testing.assert_close(bias.softmax(0).numpy(), (frequencies / frequencies.sum()).astype(np.float32))
    assert model.training


def test_training_starts_from_a_finished_model(tmp_path: Path, run: TrainResult, german: str) -> None:
    config = tiny_config(tmp_path, init=str(run.folder / "best"), data=CorpusConfig(train=german), model=CharLMConfig())
    untouched = train(tiny_config(tmp_path, **vars(config) | {"budget": BudgetConfig(steps=0)}))
    folders = (run.folder / "best", untouched.folder / "best")
    vectors = [CharEmbedder.from_pretrained(folder).embed(["The same."])[0].vectors for folder in folders]
    assert np.array_equal(*vectors)
    config.overwrite, config.budget = True, BudgetConfig(steps=60)
    adapted = train(config)
    assert adapted.best is not None
    assert untouched.best is not None
    assert adapted.best.bits_per_character < untouched.best.bits_per_character - 0.5
    pretrained = Pretrained.load(adapted.folder / "best")
    assert pretrained.vocab == Pretrained.load(run.folder / "best").vocab
    assert pretrained.model.config.hidden_size == 48
    assert pretrained.provenance["init"] == str(run.folder / "best")


def test_a_grown_vocabulary_keeps_what_the_model_has_learned(tmp_path: Path, run: TrainResult, german: str) -> None:
    initial = str(run.folder / "best")
    options = {"init": initial, "data": CorpusConfig(train=german, held_out=0.1), "model": CharLMConfig()}
    config = tiny_config(tmp_path, **options, vocab=VocabConfig(grow=True, coverage=1.0), budget=BudgetConfig(steps=0))
    grown = Pretrained.load(train(config).folder / "best")
    before = Pretrained.load(initial)
    assert grown.vocab.characters[: len(before.vocab) - 1] == before.vocab.characters
    assert set("ßÖ€№") - set(before.vocab.characters) <= set(grown.vocab.characters)
    gained = len(grown.vocab) - len(before.vocab)
    assert gained > 0
    ids = torch.from_numpy(before.vocab.encode("Known characters.")).long().unsqueeze(1)
    for direction in ("forward", "backward"):
        with torch.no_grad():
            old = before.model.direction(direction)(ids)[0].softmax(-1)
            new = grown.model.direction(direction)(ids)[0].softmax(-1)
        torch.testing.assert_close(new[..., 1 : len(before.vocab)], old[..., 1:], rtol=1e-4, atol=1e-7)
        shares = torch.cat([new[..., :1], new[..., len(before.vocab) :]], dim=-1)
        torch.testing.assert_close(shares, old[..., :1].expand_as(shares) / (1 + gained), rtol=1e-4, atol=1e-9)
    config.overwrite, config.budget = True, BudgetConfig(steps=80)
    learned = train(config)
    text = "Übermaß und Öl für 9 €."
    assert bits_of(learned.folder / "best", text) < bits_of(run.folder / "best", text) - 1.0


def test_an_initial_model_with_another_architecture_is_refused(tmp_path: Path, run: TrainResult) -> None:
    initial = str(run.folder / "best")
    with pytest.raises(CharEmbedError, match=r"init .* has hidden_size 48, not 64: remove model.hidden_size"):
        tiny_config(tmp_path, init=initial, model=CharLMConfig(hidden_size=64))
    with pytest.raises(CharEmbedError, match="is not a model folder"):
        train(tiny_config(tmp_path, init=str(EXCERPT)))
    config = tiny_config(tmp_path, init=initial, model=CharLMConfig(dropout=0.3), direction="backward")
    loaded = load_initial(config.init, config.directions)
    assert loaded is not None
    encoded = encode_corpus(config.data, config.vocab, 1, tmp_path / "encoded", loaded.vocab)
    model = make_initial_model(config.model, config.directions, config.seed, encoded, loaded)
    assert model.config.dropout == 0.3, "the dropout of the new run is ignored"
    assert model.directions == ("backward",)


def test_a_model_is_read_as_the_one_that_it_starts_from(tmp_path: Path, run: TrainResult) -> None:
    initial = replace(Pretrained.load(run.folder / "best"), readout="separator", delimiter="##")
    initial.save(tmp_path / "start")
    config = tiny_config(tmp_path, init=str(tmp_path / "start"), model=CharLMConfig(), budget=BudgetConfig(steps=0))
    trained = Pretrained.load(train(config).folder / "best")
    assert (trained.readout, trained.delimiter) == ("separator", "##")
