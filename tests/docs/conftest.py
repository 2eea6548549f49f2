"""The example files that the code blocks of the documentation name."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from helpers import EXCERPT, ROOT

from charembed import CharLMConfig, TrainConfig, train
from charembed.text.corpus import CorpusConfig
from charembed.training.schedule import BudgetConfig

NOTES = "The patient came in with a cough.\nShe was discharged on Monday.\n\nHe plays the piano. She plays too.\n"
LABELLED = (
    "George B-PER\nWashington I-PER\nwent O\nto O\nWashington B-LOC\n. O\n\n"
    "Mary B-PER\nplays O\nthe O\npiano O\nin O\nParis B-LOC\n. O\n\n"
)


@pytest.fixture(scope="session")
def workspace_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files once for all pages."""
    folder = tmp_path_factory.mktemp("documentation")
    text = EXCERPT.read_text(encoding="utf-8")
    (folder / "my_text.txt").write_text(NOTES + text[:40_000], encoding="utf-8")
    for name in ("other_text.txt", "tweets.txt"):
        (folder / name).write_text(text[40_000:50_000], encoding="utf-8")
    (folder / "notes.txt").write_text(NOTES, encoding="utf-8")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text(NOTES, encoding="utf-8")
    with gzip.open(folder / "notes" / "b.txt.gz", "wt", encoding="utf-8") as file:
        file.write(text[50_000:60_000])
    with gzip.open(folder / "more.txt.gz", "wt", encoding="utf-8") as file:
        file.write(text[60_000:70_000])
    (folder / "notes.jsonl").write_text(json.dumps({"text": NOTES}) + "\n", encoding="utf-8")
    for name in ("train.conll", "dev.conll", "test.conll"):
        (folder / name).write_text(LABELLED * 2, encoding="utf-8")
    (folder / "layers.conll").write_text(LABELLED.replace(" ", " X ") * 2, encoding="utf-8")
    train(
        TrainConfig(
            output=str(folder / "runs" / "mine"),
            data=CorpusConfig(train=str(folder / "my_text.txt")),
            model=CharLMConfig(hidden_size=16, embedding_dim=8),
            budget=BudgetConfig(steps=4),
            validations=1,
            batch_size=8,
            seq_len=32,
            words="none",
        )
    )
    shutil.copytree(folder / "runs" / "mine", folder / "runs" / "other")
    (folder / "configs").symlink_to(ROOT / "configs")
    return folder


@pytest.fixture
def workspace(workspace_template: Path, tmp_path: Path) -> Path:
    """A folder with the example files, for one page.

    my_text.txt, other_text.txt, tweets.txt, notes.txt, notes.jsonl, notes/ (a.txt, b.txt.gz), more.txt.gz; train.conll,
    dev.conll, test.conll and layers.conll; runs/mine and runs/other, two finished runs; configs/ of the repository.
    """
    return shutil.copytree(workspace_template, tmp_path / "page", symlinks=True)


@pytest.fixture
def flair_models(workspace: Path) -> None:
    """news-forward.pt and news-backward.pt, files of Flair's language models."""
    from charembed import CharEmbedder
    from charembed.integrations.flair import export_flair

    embedder = CharEmbedder.from_pretrained(workspace / "runs" / "mine" / "best")
    export_flair(embedder, workspace / "news-forward.pt", workspace / "news-backward.pt")
