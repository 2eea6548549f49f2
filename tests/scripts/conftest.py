"""Fixtures of the tests of scripts."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def model(embedder, tmp_path: Path) -> Path:
    """The folder of an untrained model."""
    embedder.save_pretrained(tmp_path / "model")
    return tmp_path / "model"
