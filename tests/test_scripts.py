"""The short scripts, as README runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import EXCERPT, ROOT


def script(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_train_and_embed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    printed = script("train_language_model.py", EXCERPT, out, "--minutes", "0.02", "--hidden_size", "8")
    assert "bits per character" in printed
    printed = script("embed.py", out / "best", "It's here.", "Two")
    assert [line.split()[:2] for line in printed.splitlines()] == [
        ["0–4", "It's"],
        ["5–9", "here"],
        ["9–10", "."],
        ["0–3", "Two"],
    ]
