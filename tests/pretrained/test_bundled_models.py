"""Bundled models: their content, their names and how they are released."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
from helpers import EXCERPT, ROOT, run_script, tiny_config

from charembed import CharEmbedder, CharEmbedError, TrainConfig, train
from charembed.lm.scoring import score_all
from charembed.pretrained.hub import BUNDLED_MODELS, bundled_models, resolve_folder
from charembed.pretrained.model_card import model_card
from charembed.pretrained.model_folder import Pretrained
from charembed.text.corpus import DOCUMENT_END, CorpusConfig
from charembed.text.vocab import UNKNOWN_ID
from charembed.training.schedule import BudgetConfig
from charembed.util.workers import WorkerPool
from scripts.quality.embedders import weights_digest
from scripts.quality.results import Result

PUBLISHED = sorted((ROOT / "models").glob("*"))
"""Models that are published beside the package; the source distribution does not contain them."""
SENTENCE = {
    "en": "The bank of the river was steep.",
    "de": "Die Bank am Ufer des Flusses war grün.",
    "pt": "A margem do rio não é íngreme.",
    "sv": "Banken på flodens strand är grön.",
    "fr": "La rive du fleuve était fleurie.",
    "fi": "Joen ranta on jyrkkä.",
}
LICENCE = {
    "en": "CC BY-SA 3.0",
    "de": "CC BY-SA 3.0",
    "pt": "CC BY 4.0",
    "sv": "CC BY 4.0",
    "fr": "Licence Ouverte 2.0",
    "fi": "CC BY 4.0",
}
"""Licence of the training text of each language, which a card must name."""


def test_english_and_german_are_bundled() -> None:
    assert set(bundled_models()) == {"en", "de"}


@pytest.mark.parametrize(
    "folder", [*(BUNDLED_MODELS / name for name in bundled_models()), *PUBLISHED], ids=lambda path: path.name
)
def test_released_model_embeds_its_language_and_has_a_card(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.iterdir()) < 15_000_000
    embedder = CharEmbedder.from_pretrained(str(folder))
    pretrained = embedder.pretrained
    language, _, _ = folder.name.partition("-")
    assert pretrained.provenance["language"] == language
    (result,) = embedder.embed([SENTENCE[language]])
    assert result.vectors.shape == (len(result.words), embedder.embedding_dim)
    assert UNKNOWN_ID not in embedder.pretrained.vocab.encode(SENTENCE[language])
    card = (folder / "README.md").read_text()
    address = f"models/{folder.name}" if folder in PUBLISHED else folder.name
    for text in (
        f'from_pretrained("{address}")',
        "## Attribution",
        LICENCE[language],
        "## Weaknesses",
        "## Tagger scores",
    ):
        assert text in card
    assert card == model_card(
        pretrained.model, pretrained.provenance, address, pretrained.static, pretrained.projection
    )
    paths = re.findall(r'"/[^"]*', json.dumps(embedder.pretrained.provenance))
    assert not paths, f"the card contains paths of the machine that trained the model: {paths}"
    with safetensors.safe_open(folder / "model.safetensors", "numpy") as weights:
        assert {weights.get_slice(key).get_dtype() for key in weights.keys()} == {"F16"}  # noqa: SIM118 (not a mapping)


def test_english_predicts_english() -> None:
    """Guessing needs log2(vocabulary size) bits per character, letter frequencies more than 4."""
    pretrained = Pretrained.load("en")
    ids = pretrained.vocab.encode(EXCERPT.read_text()[:20_000])
    for score in score_all(pretrained.model, ids, pretrained.vocab, WorkerPool()).values():
        assert score.bits_per_character < 2.2 < math.log2(len(pretrained.vocab))


def test_english_is_the_default() -> None:
    named, default = (
        embedder.embed(["Some words"])[0].vectors
        for embedder in (CharEmbedder.from_pretrained("en"), CharEmbedder.from_pretrained())
    )
    assert np.array_equal(named, default)


def test_local_model_folder_takes_precedence_over_a_bundled_model(embedder, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_folder("en") == BUNDLED_MODELS / "en"
    (tmp_path / "en").mkdir()  # a training run, for example, whose models are en/best and en/last
    assert resolve_folder("en") == BUNDLED_MODELS / "en"
    embedder.save_pretrained("en")
    assert resolve_folder("en") == Path("en")
    assert CharEmbedder.from_pretrained("en").embedding_dim == embedder.embedding_dim
    assert resolve_folder("./en") == Path("en")


def test_unknown_name_lists_the_bundled_models() -> None:
    with pytest.raises(
        CharEmbedError, match=r"no model 'fr': .* bundled models are de, en\. Train a model with: charembed train"
    ):
        CharEmbedder.from_pretrained("fr")
    for name, message in [
        ("fr", "no model 'fr': "),
        ("a" * 5_000, "no model 'aaaa"),
        ("en\0", r"'en\\x00' cannot be the name of a file or folder"),
    ]:
        with pytest.raises(CharEmbedError, match=message):
            Pretrained.load(name)


def test_training_starts_from_a_bundled_model(tmp_path: Path) -> None:
    corpus = CorpusConfig(train=str(EXCERPT), held_out=0.02)
    config = TrainConfig(
        output=str(tmp_path), data=corpus, init="en", budget=BudgetConfig(steps=1), batch_size=1, words="none"
    )
    bits = train(config).last.bits_per_character
    assert bits < 2.2  # an untrained model needs more than 4
    assert "init: en\n" in (tmp_path / "config.yaml").read_text()


def test_float16_halves_the_file_and_preserves_the_vectors(embedder, tmp_path: Path) -> None:
    for dtype in ("float32", "float16"):
        embedder.save_pretrained(tmp_path / dtype, dtype)
    sizes = [(tmp_path / dtype / "model.safetensors").stat().st_size for dtype in ("float32", "float16")]
    assert sizes[1] < 0.6 * sizes[0]
    exact, rounded = (CharEmbedder.from_pretrained(tmp_path / dtype) for dtype in ("float32", "float16"))
    assert {weight.dtype for weight in rounded.model.state_dict().values()} == {
        weight.dtype for weight in exact.model.state_dict().values()
    }
    texts = ["Some words, and more."]
    assert np.abs(exact.embed(texts)[0].vectors - rounded.embed(texts)[0].vectors).max() < 2e-3


def test_weights_too_large_for_float16_are_refused(embedder, tmp_path: Path) -> None:
    embedder.model.forward_lm.decoder.weight.data[0, 0] = 1e6
    with pytest.raises(CharEmbedError, match="too large for float16"):
        embedder.save_pretrained(tmp_path / "model", "float16")
    assert not (tmp_path / "model").exists()
    with pytest.raises(CharEmbedError, match="dtype must be one of float32, float16, got 'int8'"):
        embedder.save_pretrained(tmp_path / "model", "int8")


@pytest.mark.slow
def test_release_model(tmp_path: Path) -> None:
    for direction in ("forward", "backward"):
        train(tiny_config(tmp_path / direction, direction=direction))
    (tmp_path / "card.yaml").write_text("language: en\ncorpus: an excerpt\nattribution: [Its authors]\n")
    (tmp_path / "test.txt").write_text(EXCERPT.read_text()[:5_000])
    run_script(
        *("release/model.py", "join"),
        *("--forward", tmp_path / "forward" / "out" / "best", "--backward", tmp_path / "backward" / "out" / "best"),
        *("--test", tmp_path / "test.txt", "--card", tmp_path / "card.yaml", "--output", tmp_path / "model"),
    )
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    results = [
        Result(
            embedder="model",
            task="names",
            tagger="probe",
            seed=seed,
            metric="entity F1",
            score=score,
            dev_score=None,
            minutes=1.0,
            settings={},
            task_settings={},
            tagger_settings={},
            weights=weights_digest([Pretrained.load(tmp_path / "model").model]),
            sentences="",
        )
        for seed, score in ((1, 20.0), (2, 22.0))
    ]
    results.append(replace(results[0], tagger="flair", score=30.0))
    others = [replace(result, embedder="others", weights="0" * 16) for result in results]
    file = tmp_path / "quality.jsonl"
    file.write_text("".join(json.dumps(asdict(result)) + "\n" for result in results + others))
    command = ("release/model.py", "tagger_scores", "--model", tmp_path / "model", "--results", file, "--row")
    with pytest.raises(pytest.fail.Exception, match="has no scores of absent"):
        run_script(*command, "absent")
    with pytest.raises(pytest.fail.Exception, match="has scores of others with other weights"):
        run_script(*command, "others")
    for _ in range(2):  # the second call replaces the scores of the first
        run_script(*command, "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == weights
    released = Pretrained.load(tmp_path / "model")
    assert released.model.directions == ("forward", "backward")
    ids = released.vocab.encode((tmp_path / "test.txt").read_text() + DOCUMENT_END)
    for direction, score in score_all(released.model, ids, released.vocab, WorkerPool()).items():
        stated = released.provenance["test_bits_per_character"][direction]
        assert score.bits_per_character == pytest.approx(stated, abs=0.02)
    card = (tmp_path / "model" / "README.md").read_text()
    for text in (
        "\nlanguage: en\n",
        "| corpus | an excerpt |",
        "- Its authors",
        "- names, entity F1, probe (BiLSTM-CRF), 2 seeds: 21.00 ± 1.41",
        "- names, entity F1, Flair's SequenceTagger, 1 seed: 30.00",
    ):
        assert card.count(text) == 1
    assert str(tmp_path) not in card
