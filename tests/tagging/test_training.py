"""Train taggers: the best epoch, repetition, resumption, errors before anything is trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from helpers import flip_bit
from tagger_helpers import tagger_config, write_columns

from charembed.errors import CharEmbedError
from charembed.pretrained.model_folder import Pretrained
from charembed.tagging.evaluation import evaluate_tagger
from charembed.tagging.fitting import FitConfig, Fitter
from charembed.tagging.labelled_text import Columns
from charembed.tagging.tagger import Tagger
from charembed.tagging.training import train_tagger


def weights(folder: Path) -> bytes:
    return (folder / "tagger" / "tagger.safetensors").read_bytes()


def test_tagger_learns_both_layers_and_its_folder_predicts(tmp_path: Path, pretrained: Pretrained) -> None:
    config = tagger_config(tmp_path, pretrained, fit=FitConfig(epochs=25, batch_size=4, learning_rate=0.02))
    config = dataclasses.replace(config, train=str(write_columns(tmp_path / "more.conll", 200)))
    _, report = train_tagger(config)
    assert report.test.scores["ner"].score > 50  # an untrained tagger: below 10
    assert report.test.scores["pos"].score > 80
    assert report.best_epoch == max(report.curve, key=lambda epoch: epoch.dev).epoch
    tagger = Tagger.load(config.output)
    [tagged] = tagger.predict(["abc 1ab 2ab ."])
    assert len(tagged.tags["ner"]) == 4
    assert tagged.tags["pos"][-1] == "PUNCT"
    # The report is that of the folder, on fresh sentences too.
    stored = json.loads((Path(config.output) / "report.json").read_text(encoding="utf-8"))
    assert stored["test"]["scores"]["ner"]["score"] == report.test.scores["ner"].score
    fresh = write_columns(tmp_path / "fresh.conll", seed=9)
    scores = evaluate_tagger(tagger, fresh, Columns(tags={"pos": 1, "ner": 2}))
    assert scores["ner"].score > 50
    assert not (Path(config.output) / ".training").exists()


def test_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path, pretrained: Pretrained) -> None:
    config = tagger_config(tmp_path, pretrained)
    train_tagger(config)
    first = weights(tmp_path)
    torch.manual_seed(99)  # whatever the caller has drawn
    train_tagger(dataclasses.replace(config, overwrite=True))
    assert weights(tmp_path) == first
    train_tagger(dataclasses.replace(config, overwrite=True, fit=dataclasses.replace(config.fit, seed=2)))
    assert weights(tmp_path) != first


@pytest.mark.parametrize("fine_tune", [False, True])
def test_killed_run_resumes_bit_for_bit(
    tmp_path: Path, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch, fine_tune: bool
) -> None:
    config = tagger_config(tmp_path, pretrained, fine_tune=fine_tune)
    train_tagger(config)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "tagger").rglob("*.safetensors")}
    again = dataclasses.replace(config, overwrite=True)
    save, saved = Fitter._save, []

    def save_then_die(self: Fitter, path: Path) -> None:
        save(self, path)
        saved.append(path)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Fitter, "_save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        train_tagger(again)
    assert weights(tmp_path) == expected["tagger.safetensors"]  # the earlier tagger stays until the new one is complete
    # The same folder by another name.
    _, report = train_tagger(dataclasses.replace(config, output=f"{config.output}/../tagger"))
    assert len(saved) == 3  # one epoch was left
    assert len(report.curve) == 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "tagger").rglob("*.safetensors")} == expected


def test_flipped_bits_in_the_files_of_a_killed_run_are_noticed(
    tmp_path: Path, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The vectors are computed again, and training starts over: with the same weights in the end."""
    config = tagger_config(tmp_path, pretrained)
    train_tagger(config)
    expected, state = weights(tmp_path), tmp_path / "tagger" / ".training"
    with monkeypatch.context() as patch:
        patch.setattr(Fitter, "_save", Mock(side_effect=[None, KeyboardInterrupt]))
        with pytest.raises(KeyboardInterrupt):
            train_tagger(dataclasses.replace(config, overwrite=True))
    monkeypatch.setattr("charembed.tagging.training.save_tagger", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train_tagger(config)
    monkeypatch.undo()
    (state / ".checkpoint.safetensors.123.tmp").touch()
    names = [path.name for path in state.iterdir() if path.suffix in (".bin", ".safetensors")]
    assert len(names) == 4
    for name in names:
        flip_bit(state / name, 8 * (state / name).stat().st_size // 2)
    caplog.clear()
    train_tagger(config)
    for name in names:
        assert f"{name} cannot be used: it has changed since it was written; " in caplog.text
    assert weights(tmp_path) == expected


def test_unfinished_run_of_other_options_is_not_resumed(
    tmp_path: Path, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tagger_config(tmp_path, pretrained)
    with monkeypatch.context() as patch:
        patch.setattr(Fitter, "fit", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_tagger(config)
    with pytest.raises(CharEmbedError, match="unfinished run with other options"):
        train_tagger(dataclasses.replace(config, hidden_size=5))
    write_columns(tmp_path / "columns.conll", seed=8)
    with pytest.raises(CharEmbedError, match="unfinished run with other options, sentences"):
        train_tagger(config)
    train_tagger(dataclasses.replace(config, overwrite=True))


def test_fine_tuning_changes_the_language_model_and_no_other_run_does(tmp_path: Path, pretrained: Pretrained) -> None:
    before = pretrained.digest()
    frozen, _ = train_tagger(tagger_config(tmp_path, pretrained))
    assert frozen.embedder.pretrained.digest() == before
    tuned, _ = train_tagger(tagger_config(tmp_path, pretrained, fine_tune=True, output=str(tmp_path / "tuned")))
    assert tuned.embedder.pretrained.digest() != before
    texts = ["abc 1ab 2ab .", "3ab cde"]
    assert Tagger.load(tmp_path / "tuned").predict(texts) == tuned.predict(texts)


def test_training_stops_when_dev_no_longer_improves(tmp_path: Path, pretrained: Pretrained) -> None:
    fit = FitConfig(epochs=200, patience=2, batch_size=8, learning_rate=0.02)
    _, report = train_tagger(tagger_config(tmp_path, pretrained, fit=fit))
    assert len(report.curve) == report.best_epoch + 2 < 200


def test_static_vectors_of_a_file_are_part_of_the_tagger(tmp_path: Path, pretrained: Pretrained) -> None:
    (tmp_path / "words.txt").write_text("abc 1 0 0\n1ab 0 1 0\n", encoding="utf-8")
    train_tagger(tagger_config(tmp_path, pretrained, words=str(tmp_path / "words.txt")))
    loaded = Tagger.load(tmp_path / "tagger")
    assert loaded.static is not None
    assert loaded.static.dim == 3
    assert loaded.network.config.input_size == loaded.embedder.embedding_dim + 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "nothing"}, "no model 'nothing'"),
        ({"tag_columns": {"ner": 7}}, "columns.conll, line 1"),
        ({"threads": 0}, "threads must be"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"encoder": "transformer"}, "encoder must be one of bilstm, linear"),
        ({"words": "nothing.vec"}, "nothing.vec"),
        ({"dim": 5}, "5 dimensions"),
        ({"tag_columns": {}}, "tag_columns must name at least one layer"),
        ({"model_storage": "reference"}, "is not a bundled model"),
    ],
)
def test_wrong_options_have_one_clear_error_and_leave_nothing(
    tmp_path: Path, pretrained: Pretrained, changes, message: str
) -> None:
    with pytest.raises((CharEmbedError, OSError), match=message):
        train_tagger(tagger_config(tmp_path, pretrained, **changes))
    assert not (tmp_path / "tagger").exists()


@pytest.mark.parametrize(
    "changes", [{"epochs": 0}, {"patience": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"seed": -1}]
)
def test_wrong_settings_of_training_are_refused(changes) -> None:
    with pytest.raises(CharEmbedError, match=next(iter(changes))):
        FitConfig(**changes)


def test_trained_tagger_is_not_replaced_unasked(tmp_path: Path, pretrained: Pretrained) -> None:
    config = tagger_config(tmp_path, pretrained)
    train_tagger(config)
    with pytest.raises(CharEmbedError, match="contains a trained tagger"):
        train_tagger(config)


def test_unknown_tag_in_a_test_file_is_named(tmp_path: Path, pretrained: Pretrained) -> None:
    tagger, _ = train_tagger(tagger_config(tmp_path, pretrained))
    (tmp_path / "other.conll").write_text("abc\tNOUN\tB-ORG\n", encoding="utf-8")
    with pytest.raises(CharEmbedError, match=r"other.conll has B-ORG, .* labels are LOC, PER"):
        evaluate_tagger(tagger, tmp_path / "other.conll", Columns(tags={"pos": 1, "ner": 2}))
    with pytest.raises(CharEmbedError, match="no layer 'colour'"):
        evaluate_tagger(tagger, tmp_path / "columns.conll", Columns(tags={"colour": 1}))
    with pytest.raises(CharEmbedError, match="set tag_columns"):
        evaluate_tagger(tagger, tmp_path / "columns.conll")
