"""ONNX exports: they run without charembed or PyTorch, and a wrong export is not written."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import AWKWARD_TEXTS, assert_same_vectors, small_model, small_static_vectors, unix_only, with_projection

from charembed import CharEmbedder, CharEmbedError
from charembed.cli.main import main
from charembed.integrations.onnx import export_onnx
from charembed.onnx_graphs import builder, example, lm_weights
from charembed.onnx_graphs.example import embed
from charembed.util.controls import escape_controls

CELLS: list[dict] = [
    {"cell": "elman"},
    {"cell": "lstm", "num_layers": 2, "proj_size": 5, "readout": "separator"},
    {"cell": "peephole_lstm", "delimiter": "\n\n"},
    {"cell": "gru"},
    {"cell": "gru", "reset_after": True},
    {"cell": "mgu"},
]
SENTENCES = [words for text in AWKWARD_TEXTS if (words := text.split()) and len(text) < 1000]


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("options", CELLS, ids=str)
def test_example_embeds_without_charembed_or_torch(options: dict, precision: str, tmp_path: Path) -> None:
    pretrained = small_model(**options)
    export = export_onnx(pretrained, tmp_path / "out", precision)
    np.save(tmp_path / "sentences.npy", np.array([json.dumps(words) for words in SENTENCES]))
    code = f"""
import importlib, json, sys
import numpy as np
for name in ("torch", "charembed", "tokenizers", "onnx"):
    sys.modules[name] = None
sys.path.insert(0, r"{tmp_path / "out"}")
from embed import embed
sentences = [json.loads(words) for words in np.load(r"{tmp_path / "sentences.npy"}")]
np.save(r"{tmp_path / "vectors.npy"}", np.concatenate([embed(r"{tmp_path / "out"}", words) for words in sentences]))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    results = CharEmbedder(pretrained, engine="torch").embed(SENTENCES)
    words = [word for result in results for word in result.words]
    expected = np.concatenate([result.vectors for result in results])
    vectors = np.load(tmp_path / "vectors.npy")
    if precision == "float32":
        assert_same_vectors(vectors, expected, words)
        assert export.difference < 1e-5
    else:
        cosines = (vectors * expected).sum(axis=1)
        cosines /= np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
        assert cosines.min() > 0.998
        assert 0.998 < export.cosine < 1.0


def test_example_prints_words_and_vectors(embedder, tmp_path: Path) -> None:
    export_onnx(embedder.pretrained, tmp_path / "out")
    command = [sys.executable, "embed.py", ".", "two", "words"]
    ran = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=True)
    assert [line.split()[:2] for line in ran.stdout.splitlines()] == [["two", "(24,)"], ["words", "(24,)"]]
    copied = (tmp_path / "out" / "embed.py").read_text()
    assert copied.count("\n") <= 125


def test_example_escapes_control_characters() -> None:
    every = "".join(map(chr, range(0xD800))) + "".join(map(chr, range(0xE000, 0x11000)))
    assert example.escape_controls(every) == escape_controls(every, line_ends=True)
    assert example.escape_controls("\udce4") == r"\udce4", "it could not be printed"


@unix_only
def test_example_prints_no_control_characters(embedder, tmp_path: Path) -> None:
    export_onnx(embedder.pretrained, tmp_path / "out")
    command = [sys.executable, "embed.py", ".", "red\x1b[31m", os.fsdecode(b"l\xe4uf")]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    ran = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=True, env=environment)
    assert [line.split()[0] for line in ran.stdout.splitlines()] == [r"red\u001b[31m", r"l\udce4uf"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are bytes")
def test_the_name_of_an_export_need_not_be_text(embedder, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"l\xe4uf")
    export_onnx(embedder.pretrained, folder)
    words = ["two", "words"]
    assert_same_vectors(embed(folder, words), embedder.embed([words])[0].vectors, words)


@pytest.mark.parametrize("program", ["engine", "example"])
def test_onnxruntime_sends_and_stores_no_telemetry(program: str, embedder, tmp_path: Path) -> None:
    """When it is imported, onnxruntime writes a device id into the user's cache if its telemetry is on."""
    export_onnx(embedder.pretrained, tmp_path / "out")
    embedder.save_pretrained(tmp_path / "model")
    home = tmp_path / "home"
    home.mkdir()
    command = {
        "engine": [
            "-c",
            "from charembed import CharEmbedder\n"
            f"CharEmbedder.from_pretrained({str(tmp_path / 'model')!r}, engine='onnx').embed(['two words'])",
        ],
        "example": [str(tmp_path / "out" / "embed.py"), str(tmp_path / "out"), "two", "words"],
    }[program]
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True)
    assert list(home.rglob("*")) == []


def test_int8_weights_have_seven_bits(pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export may run on a CPU that adds products in 16 bits, where eight bits would overflow."""
    monkeypatch.setattr(builder, "has_int8_units", lambda: True)
    export_onnx(pretrained, tmp_path / "out", "int8")
    initializers = onnx.load(tmp_path / "out" / "forward.onnx").graph.initializer
    weights = [
        onnx.numpy_helper.to_array(weight) for weight in initializers if weight.data_type == onnx.TensorProto.INT8
    ]
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) == 63


@pytest.mark.parametrize("buckets", [0, 30])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_static_vectors_are_exported(buckets: int, precision: str, pretrained, tmp_path: Path) -> None:
    model = dataclasses.replace(pretrained, static=small_static_vectors(buckets=buckets))
    export_onnx(model, tmp_path / "out", precision)
    for words in (*SENTENCES, ["The", "THE", "Lazy", "unknown", "東", "東京", "", "\ud800", "a" * 300]):
        vectors = embed(tmp_path / "out", words)
        assert vectors.shape == (len(words), 28)
        assert_same_vectors(vectors[:, 24:], CharEmbedder(model, parts=["words"]).embed([words])[0].vectors, words)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["embedding_dim"], config["static_vectors"]) == (28, True)
    assert "the last 4 are the static vector of the word" in (tmp_path / "out" / "README.md").read_text()
    # An export without static vectors replaces one with them.
    export_onnx(pretrained, tmp_path / "out")
    assert not (tmp_path / "out" / "static_vectors.safetensors").exists()


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_vectors_are_reduced(precision: str, with_words, tmp_path: Path) -> None:
    reducible = with_projection(with_words)
    reducible.save(tmp_path / "model")
    options = ["--precision", precision, "--dim", "4"]
    assert main(["export-onnx", "--model", str(tmp_path / "model"), str(tmp_path / "out"), *options]) == 0
    engine = {"engine": "onnx", "precision": "int8"} if precision == "int8" else {"engine": "torch"}
    expected = CharEmbedder(reducible, dim=4, **engine).embed(SENTENCES)
    for words, result in zip(SENTENCES, expected, strict=True):
        tolerance = 1e-5 if precision == "float32" else 0.1  # the engine's weights have eight bits on some CPUs
        assert_same_vectors(embed(tmp_path / "out", words), result.vectors, words, tolerance=tolerance)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["embedding_dim"] == 4
    assert "A vector has 28 dimensions" in (card := (tmp_path / "out" / "README.md").read_text())
    assert "`projection.safetensors` reduces it to 4" in card
    # An export of all dimensions replaces it, and one that is impossible does not.
    with pytest.raises(CharEmbedError, match="vectors cannot be reduced to 8 dimensions"):
        export_onnx(reducible, tmp_path / "out", dim=8)
    assert embed(tmp_path / "out", ["a"]).shape == (1, 4)
    export_onnx(reducible, tmp_path / "out")
    assert embed(tmp_path / "out", ["a"]).shape == (1, 28)


def test_wrong_static_vectors_are_not_written(with_words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "fnv1a", len)
    with pytest.raises(CharEmbedError, match="the example does not find the static vectors of this model"):
        export_onnx(with_words, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_one_direction_alone(tmp_path: Path) -> None:
    from charembed.lm.model import BiCharLM
    from charembed.pretrained.model_folder import Pretrained

    pair = small_model()
    alone = Pretrained(BiCharLM(pair.model.config, ["backward"]), pair.vocab)
    export_onnx(alone, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.onnx")) == ["backward.onnx"]
    vectors = embed(tmp_path / "out", ["two", "words"])
    assert_same_vectors(vectors, CharEmbedder(alone).embed([["two", "words"]])[0].vectors, ["two", "words"])
    assert embed(tmp_path / "out", []).shape == (0, 12)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_wrong_graphs_are_not_written(
    precision: str, pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = lm_weights.layer_weights
    for module in ("scan", "int8_lstm"):
        monkeypatch.setattr(
            f"charembed.onnx_graphs.{module}.layer_weights",
            lambda lm, k: {name: -weight if name == "weight_hh" else weight for name, weight in right(lm, k).items()},
        )
    with pytest.raises(CharEmbedError, match="do not compute this model's vectors on this machine"):
        export_onnx(pretrained, tmp_path / "out", precision)
    assert not list(tmp_path.iterdir())


def test_command_line_exports(embedder, tmp_path: Path, capsys) -> None:
    embedder.save_pretrained(tmp_path / "model")
    for precision in ("float32", "int8"):  # the second export replaces the first
        arguments = ["export-onnx", "--model", str(tmp_path / "model"), str(tmp_path / "out"), "--precision", precision]
        assert main(arguments) == 0
        assert "smallest cosine" in capsys.readouterr().out
        config = json.loads((tmp_path / "out" / "config.json").read_text())
        assert config["precision"] == precision


@pytest.mark.parametrize("name", ["notes.txt", "README.md", "config.json"])
def test_other_folders_are_not_replaced(name: str, embedder, tmp_path: Path, capsys) -> None:
    embedder.save_pretrained(tmp_path / "model")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("{}")
    assert main(["export-onnx", "--model", str(tmp_path / "model"), str(tmp_path / "out")]) == 2
    assert "name another folder" in capsys.readouterr().err
    assert (tmp_path / "out" / name).read_text() == "{}"
    assert main(["export-onnx", "--model", str(tmp_path / "model"), str(tmp_path / "model")]) == 2


def test_invalid_precision_is_reported(pretrained, tmp_path: Path) -> None:
    with pytest.raises(CharEmbedError, match="precision must be one of float32, int8, got 'int4'"):
        export_onnx(pretrained, tmp_path / "out", "int4")
