"""Runs and outputs that were begun by version 0.1.0 are finished by this version."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import yaml
from helpers import DATA, EXCERPT, ROOT, tiny_config, weights_of

from charembed import CharEmbedder, CharLMConfig, TrainConfig, train
from charembed.output import OutputConfig, write_embeddings
from charembed.output.manifest import Manifest
from charembed.text.corpus import Corpus, CorpusConfig
from charembed.text.vocab import VocabConfig
from charembed.text.word_boundaries import HAS_WORD_RULES_1
from charembed.training.run_state import RunState
from charembed.training.schedule import BudgetConfig, OptimizerConfig


def test_a_run_begun_by_an_earlier_version_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture was killed after 8 of 12 steps; `expected.safetensors` holds the weights of a run without a kill."""
    shutil.copytree(DATA / "run-0.1.0", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    fields = yaml.safe_load(Path("out", "config.yaml").read_text())
    classes = {
        "data": CorpusConfig,
        "model": CharLMConfig,
        "vocab": VocabConfig,
        "budget": BudgetConfig,
        "optimizer": OptimizerConfig,
    }
    config = TrainConfig(**{name: classes[name](**v) if name in classes else v for name, v in fields.items()})
    [encoded_before] = [path.name for path in Path("out", "text").iterdir() if path.is_dir()]
    result = train(config)
    assert result.report.steps == 12
    assert result.report.static_vectors is None, "a model of the run has parts that the others lack"
    assert result.last is not None
    assert result.last.characters == 12 * 4 * 16
    # The encoded text of that version has no digests. It is encoded again, and the checkpoint says that it is the same.
    names = {path.name for path in Path("out", "text").iterdir()}
    assert len(names) == 2, "the earlier text and its lock are left"
    assert encoded_before not in names
    expected = {
        f"{direction}_lm.{name.removeprefix(direction + '.')}": tensor
        for name, tensor in safetensors.torch.load_file("expected.safetensors").items()
        for direction in [name.split(".")[0]]
    }
    weights = weights_of(Path("out"))
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():  # written on another CPU, so not to the last bit
        difference = (weights[name] - tensor).abs().max().item()
        assert difference <= 1e-4, f"{name} differs by {difference:.1e}"


@pytest.mark.parametrize("spelling", ["bf16", "bfloat16"])
def test_a_run_in_bf16_resumes_in_bfloat16(tmp_path: Path, spelling: str) -> None:
    """Version 0.1.0 wrote `bf16` into configurations and checkpoints."""
    # PyTorch runs a GRU in bfloat16 on every CPU, which it does not do with an LSTM.
    options: dict = {"model": CharLMConfig(cell="gru", hidden_size=8, embedding_dim=4), "validations": 1}
    options |= {"direction": "forward", "seq_len": 4}
    begun = train(tiny_config(tmp_path, precision="bf16", budget=BudgetConfig(steps=2), **options))
    assert begun.report.precision == "bfloat16"
    config = begun.folder / "config.yaml"
    assert "precision: bfloat16\n" in config.read_text()
    fields, _, _ = config.read_text().rpartition("# SHA-256")  # that version wrote no digest
    config.write_text(fields.replace("precision: bfloat16", "precision: bf16"))
    for path in (begun.folder / "checkpoints").iterdir():
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        assert '"precision": "bfloat16"' in metadata["facts"]
        facts = metadata["facts"].replace('"precision": "bfloat16"', '"precision": "bf16"')
        metadata = {"version": "1", "facts": facts}  # version 1 has no digest
        path.write_bytes(safetensors.torch.save(safetensors.torch.load_file(path), metadata))
    resumed = train(tiny_config(tmp_path, precision=spelling, budget=BudgetConfig(steps=4), **options))
    assert resumed.report.steps == 4
    assert [validation["step"] for validation in resumed.report.validations] == [2, 4]
    assert resumed.report.precision == "bfloat16"


def test_the_keys_of_a_checkpoint_are_those_of_version_1() -> None:
    with safetensors.safe_open(next((DATA / "run-0.1.0" / "out" / "checkpoints").iterdir()), framework="pt") as file:
        metadata = file.metadata()
    stored = json.loads(metadata["facts"])
    written = RunState.from_metadata(stored).to_metadata()
    for validation in [written["best"], *written["validations"]]:
        assert validation.pop("nats_per_word") == {}, "what was added since is empty"
    assert written == stored | {"static_vectors": None}
    assert metadata["version"] == "1"


@pytest.mark.skipif(not HAS_WORD_RULES_1, reason="needs regex < 2026.11.18")
def test_an_output_begun_by_an_earlier_version_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture was killed after its first file."""
    monkeypatch.chdir(ROOT)
    begun, whole = tmp_path / "begun", tmp_path / "whole"
    for folder in (begun, whole):
        shutil.copytree(DATA / "embeddings-0.1.0", folder)
    first = (begun / "part-00000.parquet").read_bytes()
    # The other output starts at the first word, with the same projection and word rules.
    manifest = Manifest.load(whole)
    assert manifest is not None
    dataclasses.replace(manifest, files=0, words=0, texts=0, words_of_next=0).save(whole)
    (whole / "part-00000.parquet").unlink()
    embedder = CharEmbedder.from_pretrained(DATA / "model-format-1")
    corpus = Corpus([str(EXCERPT.relative_to(ROOT))])
    options = OutputConfig(format="parquet", dtype="float16", dim=2, shard_mb=1)
    for folder in (begun, whole):
        assert write_embeddings(embedder, corpus, folder, options).words == 92_975, "the words of version 0.1.0"
    assert (begun / "part-00000.parquet").read_bytes() == first, "the finished file was left alone"
    names = sorted(path.name for path in whole.glob("part-*"))
    assert names == sorted(path.name for path in begun.glob("part-*"))
    assert len(names) > 2
    for name in names[1:]:
        assert (begun / name).read_bytes() == (whole / name).read_bytes(), name
