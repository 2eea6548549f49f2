"""Write tagger folders, read them, and refuse damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import small_model, small_static_vectors, small_tagger

from charembed import CharEmbedder
from charembed.errors import CharEmbedError
from charembed.pretrained.model_folder import Pretrained
from charembed.tagging.network import NetworkConfig, TaggerNetwork
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagger import Tagger

TEXTS = ["The quick fox jumps over the lazy dog.", "東 fox"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_tagger(CharEmbedder(small_model()), static=small_static_vectors()).save(tmp_path / "tagger")
    return tmp_path / "tagger"


def edit(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "tagger.json").read_text(encoding="utf-8"))
    (folder / "tagger.json").write_text(json.dumps(config | changes), encoding="utf-8")


@pytest.mark.parametrize("model", ["auto", "float32", "float16"])
def test_loaded_tagger_predicts_the_same(tmp_path: Path, model) -> None:
    tagger = small_tagger(CharEmbedder(small_model(readout="separator")), static=small_static_vectors())
    tagger.save(tmp_path / "tagger", model)
    loaded = Tagger.load(tmp_path / "tagger")
    for one, other in zip(tagger.predict(TEXTS), loaded.predict(TEXTS), strict=True):
        assert one.tags == other.tags
        assert [entity.score for entity in one.entities] == pytest.approx(
            [entity.score for entity in other.entities], abs=0.02 if model == "float16" else 1e-6
        )
    loaded.save(tmp_path / "again", model)  # the digest of rounded weights is stable
    assert Tagger.load(tmp_path / "again").provenance == {"seed": 5}


def test_bundled_model_is_referred_to(tmp_path: Path) -> None:
    tagger = small_tagger(CharEmbedder(Pretrained.load("en")))
    tagger.save(tmp_path / "tagger")
    assert sorted(path.name for path in (tmp_path / "tagger").iterdir()) == [
        "README.md",
        "tagger.json",
        "tagger.safetensors",
    ]
    assert Tagger.load(tmp_path / "tagger").predict(TEXTS) == tagger.predict(TEXTS)


def test_another_model_cannot_be_referred_to(tmp_path: Path) -> None:
    with pytest.raises(CharEmbedError, match="not bundled"):
        small_tagger(CharEmbedder(small_model())).save(tmp_path / "tagger", "reference")
    assert not (tmp_path / "tagger").exists()


def test_another_language_model_is_refused(folder: Path) -> None:
    small_model(seed=4).save(folder / "language_model")
    edit(folder, charembed_version="x" * 5000)
    with pytest.raises(CharEmbedError, match=r"is not the one that the tagger .* was trained with.*\('x{199}…\)$"):
        Tagger.load(folder)


def test_newer_format_is_refused_by_name(folder: Path) -> None:
    edit(folder, format_version=2)
    with pytest.raises(CharEmbedError, match=r"format version 2, but this version .* up to 1: upgrade"):
        Tagger.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": True}, "it has no format_version"),
        ({"layers": 3}, "is damaged"),
        ({"layers": [{"name": "a", "kind": "verbs", "tags": ["A"]}]}, "is damaged.*kind must be one of"),
        ({"layers": [{"name": ["a"], "kind": "tags", "tags": ["A"]}]}, "is damaged.*all of them text"),
        ({"layers": [{"name": "a", "kind": "tags", "tags": ["A", "A"]}]}, "is damaged.*more than once"),
        ({"layers": [{"name": "a", "kind": "entities", "tags": ["O", "B-A"]}]}, "is damaged.*B and I of each label"),
        ({"network": {"input_size": 28, "hidden_size": 10**30}}, "is damaged"),
        ({"network": {"input_size": 28, "hidden_size": 60_000}}, "expected"),
        ({"network": {"input_size": 28, "projection_size": -1}}, "is damaged.*projection_size"),
        ({"network": {"input_size": 28, "wings": 2}}, "is damaged.*wings"),
        ({"network": {"input_size": 28, "projection_size": 9, "hidden_size": 4}}, r"has shape \(16, 6\), expected "),
        ({"provenance": None}, "provenance"),
        ({"embedder": {"parts": ["tails"], "dim": None}}, "parts"),
    ],
)
def test_damaged_configuration_has_one_clear_error(folder: Path, changes, message: str) -> None:
    edit(folder, **changes)
    with pytest.raises(CharEmbedError, match=message):
        Tagger.load(folder)


@pytest.mark.parametrize("name", ["tagger.json", "tagger.safetensors", "static_vectors.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_files_have_one_clear_error(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CharEmbedError, match=name if damage == "truncated" else "missing"):
        Tagger.load(folder)


def test_language_model_and_tagger_are_not_confused(folder: Path, tmp_path: Path) -> None:
    small_model().save(tmp_path / "model")
    with pytest.raises(CharEmbedError, match=r"is a language model, not a tagger: .*charembed tag train"):
        Tagger.load(tmp_path / "model")
    with pytest.raises(CharEmbedError, match="is a language model, not a tagger"):
        Tagger.load("en")
    with pytest.raises(CharEmbedError, match=r"is the folder of a tagger, whose language model is .*language_model"):
        CharEmbedder.from_pretrained(folder)
    with pytest.raises(CharEmbedError, match=r"no tagger 'nothing'.*bundled taggers"):
        Tagger.load("nothing")


def test_tagger_folder_with_a_foreign_file_is_never_replaced(folder: Path) -> None:
    (folder / "thesis.txt").write_text("years", encoding="utf-8")
    with pytest.raises(CharEmbedError, match=r"thesis\.txt, which would be lost"):
        small_tagger(CharEmbedder(small_model())).save(folder)
    assert (folder / "thesis.txt").exists()


def test_labels_of_any_text_can_be_saved(tmp_path: Path) -> None:
    layer = TagLayer("a.b/c", "entities", ("O", "B-\udfff |\n", "I-\udfff |\n"))
    tagger = small_tagger(CharEmbedder(small_model()))
    network = TaggerNetwork(NetworkConfig(tagger.embedder.embedding_dim), [layer])
    Tagger(tagger.embedder, network).save(tmp_path / "tagger")
    assert Tagger.load(tmp_path / "tagger").layers == (layer,)


def test_weights_of_another_type_are_refused(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / "tagger.safetensors")
    tensors["center"] = tensors["center"].to(torch.float8_e4m3fn)
    safetensors.torch.save_file(tensors, folder / "tagger.safetensors")
    with pytest.raises(CharEmbedError, match=r"center has type torch\.float8_e4m3fn, expected a floating-point type"):
        Tagger.load(folder)


def test_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years", encoding="utf-8")
    with pytest.raises(CharEmbedError, match=r"thesis\.txt, which would be lost"):
        small_tagger(CharEmbedder(small_model())).save(tmp_path / "work")
    assert (tmp_path / "work" / "thesis.txt").read_text(encoding="utf-8") == "years"


def test_options_that_change_the_vectors_are_refused(folder: Path) -> None:
    with pytest.raises(CharEmbedError, match="readout cannot be set: the tagger was trained with its own"):
        Tagger.load(folder, readout="word")


def test_int8_is_close(folder: Path) -> None:
    exact, fast = Tagger.load(folder), Tagger.load(folder, precision="int8")
    assert exact.predict(TEXTS)[1].scores["upos"] == pytest.approx(fast.predict(TEXTS)[1].scores["upos"], abs=0.1)
