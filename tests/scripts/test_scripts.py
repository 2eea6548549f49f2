"""The short scripts, as README runs them."""

from __future__ import annotations

from pathlib import Path

from helpers import EXCERPT, run_script


def test_train_and_embed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    printed = run_script("train_language_model.py", EXCERPT, out, "--minutes", "0.02", "--hidden_size", "8")
    assert "bits per character" in printed
    printed = run_script("embed.py", "--model", out / "best", "It's here.", "Two")
    assert [line.split()[:2] for line in printed.splitlines()] == [
        ["0–4", "It's"],
        ["5–9", "here"],
        ["9–10", "."],
        ["0–3", "Two"],
    ]
