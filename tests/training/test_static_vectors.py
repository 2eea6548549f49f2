"""A run makes static word vectors, or takes over those that it is given, and stores them with its models."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import EXCERPT, small_static_vectors, tiny_config

from charembed import CharEmbedder, CharEmbedError, TrainConfig, join, train
from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.errors import MissingExtraError
from charembed.pretrained.model_folder import Pretrained
from charembed.static_vectors import StaticVectors
from charembed.text.corpus import CorpusConfig
from charembed.training import static_vectors
from charembed.training import train as training
from charembed.training.dry_run import DryRunLimits, dry_run
from charembed.training.report import Report, table
from charembed.training.schedule import BudgetConfig
from charembed.training.static_vectors import StaticVectorsConfig
from charembed.training.trainer import Trainer

SMALL = StaticVectorsConfig(dim=8, words=300, buckets=50, epochs=1)


def config_with_words(folder: Path, words: str = "train", **changes: object) -> TrainConfig:
    """Return the configuration of a short run that trains small static vectors."""
    return tiny_config(folder, **{"words": words, "static_vectors": SMALL} | changes)


def vectors_of(folder: Path, model: str = "last") -> StaticVectors:
    """Return the static vectors of a model of a run."""
    static = Pretrained.load(folder / model).static
    assert static is not None
    return static


@pytest.fixture(scope="module")
def words_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with static vectors."""
    return train(config_with_words(tmp_path_factory.mktemp("words"))).folder


@pytest.fixture
def words_run_copy(tmp_path: Path, words_run: Path) -> Path:
    """A folder with a copy of that run."""
    shutil.copytree(words_run, tmp_path / "out")
    return tmp_path


def test_a_run_stores_static_vectors_with_its_models(words_run: Path) -> None:
    stored = StaticVectors.from_bytes((words_run / "static_vectors.safetensors").read_bytes(), "the file")
    assert (len(stored), stored.buckets, stored.dim) == (300, 50, 8)
    assert stored.words[:2] == ["the", ","], "not the most frequent words"
    for model in ("best", "last"):
        static = vectors_of(words_run, model)
        assert static.words == stored.words
        assert np.array_equal(static.rows, stored.rows)
        provenance = Pretrained.load(words_run / model).provenance["static_vectors"]
        assert provenance == {"source": "text", "words": 300, "buckets": 50, "dimensions": 8}
    assert np.abs(stored.lookup(["Unbekanntes"])).max() > 0, "other words have no vectors"
    assert not list(words_run.glob(".words*")), "a temporary file is left"
    report = Report.load(words_run)
    assert report.static_vectors == provenance
    assert "static word vectors" in table({"run": report})
    assert "300 × 8" in table({"run": report})


def test_static_vectors_vary_as_much_as_the_states(words_run: Path) -> None:
    """On the validation text, embedded by the public class."""
    encoded = EncodedCorpus.load(next((words_run / "text").glob("*/facts.json")).parent)
    text = encoded.vocab.decode(encoded.valid[:20_000])
    vectors = CharEmbedder.from_pretrained(words_run / "last").embed([text])[0].vectors
    assert vectors.shape[1] == 16 + 16 + 8
    variances = vectors.var(axis=0)
    assert variances[32:].mean() == pytest.approx(variances[:32].mean(), rel=0.02)


def test_the_same_seed_gives_the_same_vectors(tmp_path: Path, words_run: Path) -> None:
    again = train(config_with_words(tmp_path)).folder
    assert vectors_of(again).digest() == vectors_of(words_run).digest()
    other = train(config_with_words(tmp_path, seed=2, overwrite=True)).folder
    assert vectors_of(other).digest() != vectors_of(words_run).digest()


def test_a_resumed_run_keeps_its_vectors(tmp_path: Path, words_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer._take_step

    def take_step(self: Trainer, spent: float) -> None:
        if self.state.step == 4:
            raise KeyboardInterrupt
        original(self, spent)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", take_step)
        with pytest.raises(KeyboardInterrupt):
            train(config_with_words(tmp_path))
    monkeypatch.setattr(training, "make_static_vectors", None)  # not to be called
    folder = train(config_with_words(tmp_path)).folder
    assert vectors_of(folder).digest() == vectors_of(words_run).digest()
    assert Report.load(folder).static_vectors == Report.load(words_run).static_vectors


def test_lost_vectors_of_a_run_are_made_again(words_run_copy: Path) -> None:
    file = words_run_copy / "out" / "static_vectors.safetensors"
    content = file.read_bytes()
    longer = config_with_words(words_run_copy, budget=BudgetConfig(steps=8))
    file.write_bytes(small_static_vectors().to_bytes())
    with pytest.raises(CharEmbedError, match=r"static_vectors.safetensors is not the file that the run .* has been us"):
        train(longer)
    file.unlink()
    train(longer)
    assert file.read_bytes() == content


def test_a_run_without_vectors_goes_on_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was started where gensim was not installed."""
    with monkeypatch.context() as patch:
        patch.setattr(static_vectors, "_gensim_is_installed", lambda: False)
        train(config_with_words(tmp_path, "auto"))
    folder = train(config_with_words(tmp_path, "auto", budget=BudgetConfig(steps=8))).folder
    assert Pretrained.load(folder / "last").static is None


def test_a_run_that_starts_over_drops_the_vectors(words_run_copy: Path) -> None:
    config = config_with_words(words_run_copy, "none")
    with pytest.raises(CharEmbedError, match="words 'train' → 'none'"):
        train(config)
    (words_run_copy / "out" / ".words.txt.tmp").touch()  # left by a run that was killed while it trained vectors
    folder = train(dataclasses.replace(config, overwrite=True)).folder
    assert Pretrained.load(folder / "last").static is None
    assert not list(folder.glob(".words*"))
    assert not (folder / "static_vectors.safetensors").exists()
    assert Report.load(folder).static_vectors is None


def test_without_gensim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises(MissingExtraError, match=r"needs gensim: pip install 'charembed\[words\]'"):
        train(config_with_words(tmp_path))
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(static_vectors, "_gensim_is_installed", lambda: False)
    caplog.set_level("INFO")
    folder = train(config_with_words(tmp_path, "auto")).folder
    assert "no static word vectors, since gensim is not installed: pip install 'charembed[words]'" in caplog.text
    assert Pretrained.load(folder / "last").static is None


def test_auto_trains_with_gensim(tmp_path: Path, words_run: Path) -> None:
    assert importlib.util.find_spec("gensim") is not None
    folder = train(config_with_words(tmp_path, "auto")).folder
    assert vectors_of(folder).digest() == vectors_of(words_run).digest()


def test_too_little_text(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"word{k}x" for k in range(200)))
    data = CorpusConfig(train=str(text), held_out=0.2)
    with pytest.raises(CharEmbedError, match="words: train needs a text in which words occur five times"):
        train(config_with_words(tmp_path, data=data))
    assert not (tmp_path / "out").exists()
    assert Pretrained.load(train(config_with_words(tmp_path, "auto", data=data)).folder / "last").static is None


def test_vectors_from_a_file(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    words = [f"{stem}{ending}" for stem in ("walk", "talk", "jump") for ending in ("", "s", "ed", "ing")]
    lines = [" ".join([word, *(f"{number:.4f}" for number in random.normal(size=6))]) for word in [*words, "last"]]
    file = tmp_path / "vectors.txt"
    file.write_text("\n".join(["13 6", *lines]))
    config = config_with_words(tmp_path, str(file), static_vectors=StaticVectorsConfig(words=12, buckets=40))
    folder = train(config).folder
    static = vectors_of(folder)
    assert static.words == words, "not the first twelve words"
    assert (static.dim, static.buckets) == (6, 40)
    given = np.array([line.split()[1:] for line in lines[:12]], dtype=float)
    stored = static.lookup(words)
    factors = stored / given
    np.testing.assert_allclose(factors, np.median(factors), rtol=0.3)
    assert np.abs(static.lookup(["jumpy"])).max() > 0
    file.unlink()  # the run has its own copy
    longer = train(dataclasses.replace(config, budget=BudgetConfig(steps=8))).folder
    assert np.array_equal(vectors_of(longer).rows, static.rows)
    with pytest.raises(CharEmbedError, match=r"words .*vectors.txt: no such file or folder; give a file of word vect"):
        train(dataclasses.replace(config, output=str(tmp_path / "other")))
    assert not (tmp_path / "other").exists()


def test_vectors_from_another_run(tmp_path: Path, words_run: Path) -> None:
    folder = train(config_with_words(tmp_path, str(words_run / "best"), seed=3)).folder
    assert np.array_equal(vectors_of(folder).rows, vectors_of(words_run).rows)


def test_an_unreadable_file_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("no vectors\n")
    with pytest.raises(CharEmbedError, match=r"vectors.txt"):
        train(config_with_words(tmp_path, str(tmp_path / "vectors.txt")))
    assert not (tmp_path / "out").exists()


def test_an_initial_model_keeps_its_vectors(tmp_path: Path, words_run: Path) -> None:
    initial = str(words_run / "best")
    digest = vectors_of(words_run, "best").digest()
    made = {}
    for words in ("auto", "train", "none"):
        config = config_with_words(tmp_path, words, output=str(tmp_path / words), init=initial, seed=5)
        made[words] = Pretrained.load(train(config).folder / "last").static
    assert made["auto"] is not None
    assert made["auto"].digest() == digest
    assert made["train"] is not None
    assert made["train"].digest() != digest
    assert made["none"] is None


def test_directions_trained_one_at_a_time_can_be_joined(tmp_path: Path, words_run: Path) -> None:
    models = []
    for direction in ("forward", "backward"):
        config = config_with_words(tmp_path, direction=direction, output=str(tmp_path / direction))
        models.append(Pretrained.load(train(config).folder / "last"))
    pair = join(*models)
    assert pair.static is not None
    scales = [model.static.scales[0] for model in models if model.static is not None]
    assert scales[0] != scales[1], "they would be joined anyway"
    assert pair.static.scales[0] == pytest.approx(np.sqrt(scales[0] * scales[1]), rel=1e-4)
    assert np.array_equal(pair.static.rows, vectors_of(words_run).rows)
    other = dataclasses.replace(models[1], static=small_static_vectors(8))
    with pytest.raises(CharEmbedError, match="they differ in their static vectors"):
        join(models[0], other)


def test_a_stream_gives_vectors_of_its_first_segment(tmp_path: Path) -> None:
    folder = train(config_with_words(tmp_path, data=CorpusConfig(train=str(EXCERPT), streaming=True))).folder
    assert len(vectors_of(folder)) == 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "static_vectors.dim must be a whole number from 1 to 65536, got 0"),
        ({"buckets": -1}, "static_vectors.buckets must be a whole number from 0 to 2147483648, got -1"),
        ({"min_n": 5}, "static_vectors.max_n must be a whole number from 5 to 16, got 4"),
        ({"max_n": 17}, "static_vectors.max_n must be a whole number from 2 to 16, got 17"),
        ({"threads": 0}, "static_vectors.threads must be"),
    ],
)
def test_options_that_are_refused(options: dict, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        StaticVectorsConfig(**options)


def test_a_dry_run_says_where_the_vectors_would_come_from(
    tmp_path: Path, words_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = DryRunLimits(warm_up_seconds=0.0, measured_seconds=0.01)

    def plan(words: str, **changes: object) -> str:
        return dry_run(config_with_words(tmp_path, words, **changes), limits).static_vectors

    assert re.fullmatch(
        r"static, trained on 4\d\d,\d\d\d characters before the first step; the budget .*", plan("auto")
    )
    assert plan("train", static_vectors=StaticVectorsConfig(max_characters=5000)).startswith(
        "static, trained on 5,000 "
    )
    assert plan("auto", init=str(words_run / "best")) == "static, those of the initial model"
    assert plan("none") == "none"
    assert plan(str(EXCERPT)) == f"static, read from {EXCERPT}"
    monkeypatch.setattr(static_vectors, "_gensim_is_installed", lambda: False)
    assert plan("auto") == "none: gensim is not installed"
    with pytest.raises(CharEmbedError, match="words absent: no such file or folder"):
        plan("absent")
    assert not (tmp_path / "out").exists()
