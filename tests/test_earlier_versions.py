"""Runs and outputs that version 0.1.0 began are finished by this version."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import yaml
from helpers import DATA, EXCERPT, ROOT, weights_of

from charembed import CharEmbedder, CharLMConfig, TrainConfig, train
from charembed.output import OutputConfig, write_embeddings
from charembed.text.corpus import Corpus, CorpusConfig
from charembed.text.vocab import VocabConfig
from charembed.training.schedule import BudgetConfig, OptimizerConfig


def test_a_run_begun_by_an_earlier_version_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture was killed after 8 of 12 steps; `expected.safetensors` holds the weights of a run without a kill."""
    shutil.copytree(DATA / "run-0.1.0", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    fields = yaml.safe_load(Path("out", "config.yaml").read_text())
    parts = {
        "data": CorpusConfig,
        "model": CharLMConfig,
        "vocab": VocabConfig,
        "budget": BudgetConfig,
        "optimizer": OptimizerConfig,
    }
    config = TrainConfig(**{name: parts[name](**v) if name in parts else v for name, v in fields.items()})
    encoded_before = {path.name for path in Path("out", "text").iterdir()}
    result = train(config)
    assert result.report.steps == 12
    assert result.last is not None
    assert result.last.characters == 12 * 4 * 16
    assert {path.name for path in Path("out", "text").iterdir()} == encoded_before, "the encoded text was used again"
    expected = {
        f"{direction}_lm.{name.removeprefix(direction + '.')}": tensor
        for name, tensor in safetensors.torch.load_file("expected.safetensors").items()
        for direction in [name.split(".")[0]]
    }
    found = weights_of(Path("out"))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():  # written on another CPU, so not to the last bit
        difference = (found[name] - tensor).abs().max().item()
        assert difference <= 1e-4, f"{name} differs by {difference:.1e}"


def test_an_output_begun_by_an_earlier_version_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture was killed after its first file."""
    monkeypatch.chdir(ROOT)
    begun, whole = tmp_path / "begun", tmp_path / "whole"
    shutil.copytree(DATA / "embeddings-0.1.0", begun)
    first = (begun / "part-00000.parquet").read_bytes()
    embedder = CharEmbedder.from_pretrained(DATA / "model-format-1")
    corpus = Corpus([str(EXCERPT.relative_to(ROOT))])
    for folder in (begun, whole):
        options = OutputConfig(format="parquet", dtype="float16", dim=2, shard_mb=1)
        if folder == whole:
            options = OutputConfig(
                format="parquet", dtype="float16", projection=str(begun / "_projection.safetensors"), shard_mb=1
            )
        assert write_embeddings(embedder, corpus, folder, options).complete
    assert (begun / "part-00000.parquet").read_bytes() == first, "the finished file was left alone"
    names = sorted(path.name for path in whole.glob("part-*"))
    assert names == sorted(path.name for path in begun.glob("part-*"))
    assert len(names) > 2
    for name in names[1:]:
        assert (begun / name).read_bytes() == (whole / name).read_bytes(), name
