"""Taggers as ONNX graphs: the same scores and tags as PyTorch's, without charembed or PyTorch."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import small_model, small_static_vectors, small_tagger, with_projection

from charembed import CharEmbedder, CharEmbedError
from charembed.cli.main import main
from charembed.integrations.onnx import export_onnx
from charembed.integrations.onnx_tagger import export_tagger_onnx
from charembed.tagging import onnx_example, onnx_export
from charembed.tagging.network import NetworkConfig, TaggerNetwork
from charembed.tagging.onnx_example import tag_vectors, viterbi
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagger import Tagger

SENTENCES = [["fox"], ["The", "quick", "東", "fox", "jumps", "over", "don't", "unknown", "."], ["two", "words"]]


def tags_of_example(folder: Path, sentences: list[list[str]]) -> list[dict[str, list[str]]]:
    """Run the exported example in a process that has neither charembed nor PyTorch."""
    code = f"""
import json, sys
for name in ("torch", "charembed", "tokenizers", "onnx", "safetensors"):
    sys.modules[name] = None
sys.path.insert(0, {str(folder)!r})
from tag import tag
print(json.dumps([tag({str(folder)!r}, words) for words in json.loads(sys.argv[1])]))
"""
    command = [sys.executable, "-c", code, json.dumps(sentences)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def assert_same_emissions(tagger: Tagger, folder: Path, sentences: list[list[str]]) -> None:
    session = onnxruntime.InferenceSession(str(folder / "tagger.onnx"))
    for embeddings in tagger.embedder.embed(sentences):
        vectors = tagger.input_vectors(embeddings)
        with torch.inference_mode():
            expected, _ = tagger.network.emissions([vectors])
        emissions = session.run(None, {"vectors": vectors.numpy()})
        assert len(emissions) == len(expected) == len(tagger.layers)
        for ours, theirs in zip(emissions, expected, strict=True):
            np.testing.assert_allclose(ours, theirs[0].numpy(), atol=1e-4)
        assert tag_vectors(folder, vectors.numpy()) == tagger.network.predict([vectors])[0]


@pytest.mark.parametrize("encoder", ["bilstm", "linear"])
@pytest.mark.parametrize("static", [False, True], ids=["embedder only", "static vectors"])
def test_emissions_and_tags_are_those_of_pytorch(encoder, static: bool, with_words, tmp_path: Path) -> None:
    embedder = CharEmbedder(with_words, engine="torch")
    tagger = small_tagger(embedder, static=small_static_vectors(dim=3) if static else None, encoder=encoder)
    export = export_tagger_onnx(tagger, tmp_path / "out")
    assert max(export.emission_difference, export.difference) < 1e-5
    assert (tmp_path / "out" / "tagger_static_vectors.safetensors").exists() == static
    assert_same_emissions(tagger, tmp_path / "out", SENTENCES)
    expected = [tagged.tags for tagged in tagger.predict(SENTENCES)]
    assert len({tag for tags in expected for layer in tags.values() for tag in layer}) >= 4
    assert tags_of_example(tmp_path / "out", [*SENTENCES, []]) == [*expected, {"ner": [], "upos": []}]


@pytest.mark.parametrize("options", [{"parts": ["backward"]}, {"parts": ["words"]}, {"dim": 5}], ids=str)
def test_options_of_the_embedder_are_exported(options: dict, with_words, tmp_path: Path) -> None:
    tagger = small_tagger(CharEmbedder(with_projection(with_words), engine="torch", **options))
    export_tagger_onnx(tagger, tmp_path / "out")
    expected = [tagged.tags for tagged in tagger.predict(SENTENCES)]
    assert tags_of_example(tmp_path / "out", SENTENCES) == expected
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["embedding_dim"] == tagger.embedder.embedding_dim


def test_example_prints_words_and_tags(tmp_path: Path) -> None:
    tagger = small_tagger(CharEmbedder(small_model(readout="separator")))
    tagger.save(tmp_path / "tagger")
    arguments = ["export-onnx", "--model", str(tmp_path / "tagger"), str(tmp_path / "out"), "--precision"]
    for precision in ("int8", "float32"):  # the second export replaces the first
        assert main([*arguments, precision]) == 0
    command = [sys.executable, "tag.py", ".", *SENTENCES[1]]
    ran = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=True)
    expected = tagger.predict([SENTENCES[1]])[0].tags
    assert [line.split() for line in ran.stdout.splitlines()] == [
        list(row) for row in zip(SENTENCES[1], *expected.values(), strict=True)
    ]
    assert len(inspect.getsource(viterbi).splitlines()) <= 30


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are bytes")
def test_example_prints_no_control_characters_and_reads_any_folder(tmp_path: Path) -> None:
    network = TaggerNetwork(NetworkConfig(24), [TagLayer("color", "tags", ("red\x1b[31m",))])
    folder = tmp_path / os.fsdecode(b"l\xe4uf")
    export_tagger_onnx(Tagger(CharEmbedder(small_model()), network), folder)
    command = [sys.executable, folder / "tag.py", folder, "up\x1b[A"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == "up\\u001b[A red\\u001b[31m\n"


def test_int8_vectors_are_close(embedder, tmp_path: Path) -> None:
    tagger = small_tagger(embedder)
    sizes = {
        precision: export_tagger_onnx(tagger, tmp_path / precision, precision).megabytes
        for precision in ("float32", "int8")
    }
    assert sizes["int8"] < sizes["float32"]
    export = export_tagger_onnx(tagger, tmp_path / "int8", "int8")
    assert 0.99 < export.cosine < 1
    assert export.emission_difference < 1e-5
    assert "with precision int8" in (tmp_path / "int8" / "README.md").read_text()


def test_exports_of_models_and_taggers_replace_each_other(embedder, tmp_path: Path) -> None:
    tagger = small_tagger(embedder)
    export_tagger_onnx(tagger, tmp_path / "out")
    export_onnx(embedder.pretrained, tmp_path / "out")
    assert not (tmp_path / "out" / "tagger.onnx").exists()
    export_tagger_onnx(tagger, tmp_path / "out")
    tagger.save(tmp_path / "tagger")
    with pytest.raises(CharEmbedError, match="which would be lost: name another folder"):
        export_tagger_onnx(tagger, tmp_path / "tagger")
    # The folder of an export is not the folder of a tagger.
    with pytest.raises(CharEmbedError, match=r"holds backward\.onnx, which would be lost"):
        tagger.save(tmp_path / "out")


def test_names_of_layers_and_tags_may_be_any_text(embedder, tmp_path: Path) -> None:
    layers = [
        TagLayer("entités : 東", "entities", ("O", "B-\ud800", "I-\ud800")),
        TagLayer("x/y.z", "tags", ("'", '"', "a`<b>")),
    ]
    tagger = small_tagger(embedder, layers)
    export_tagger_onnx(tagger, tmp_path / "out")
    assert tags_of_example(tmp_path / "out", SENTENCES) == [tagged.tags for tagged in tagger.predict(SENTENCES)]
    assert "`'`, a\\`&lt;b&gt;\n" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_dimensions_of_a_tagger_cannot_be_chosen(embedder, tmp_path: Path, capsys) -> None:
    small_tagger(embedder).save(tmp_path / "tagger")
    assert main(["export-onnx", "--model", str(tmp_path / "tagger"), str(tmp_path / "out"), "--dim", "4"]) == 2
    assert "--dim cannot be set for a tagger" in capsys.readouterr().err


def test_wrong_graphs_are_not_written(embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = small_tagger(embedder)
    right = onnx_export.onnx_weights
    with monkeypatch.context() as patched:
        patched.setattr(onnx_export, "onnx_weights", lambda lstm: {name: -array for name, array in right(lstm).items()})
        with pytest.raises(CharEmbedError, match="does not compute this tagger's scores on this machine"):
            export_tagger_onnx(tagger, tmp_path / "out")
    monkeypatch.setattr(onnx_example, "viterbi", lambda emissions, *_: emissions.argmin(axis=1).tolist())
    with pytest.raises(CharEmbedError, match="the example does not find the tags of this tagger"):
        export_tagger_onnx(tagger, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_large_scores_are_compared_by_their_share(embedder, tmp_path: Path) -> None:
    tagger = small_tagger(embedder)
    with torch.no_grad():
        tagger.network.heads[0].weight.mul_(1e6)
    assert export_tagger_onnx(tagger, tmp_path / "out").emission_difference < 1e-5
