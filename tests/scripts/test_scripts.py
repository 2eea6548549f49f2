"""The scripts as a user runs them."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import EXCERPT, ROOT, run_script

from charembed import CharEmbedError

SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))


def run_process(name: str, *arguments: str | Path) -> str:
    """Run a script as a user does and return what it prints; fail with its errors."""
    module = "scripts." + name.removesuffix(".py").replace("/", ".")
    script = ["-m", module] if "/" in name else [str(ROOT / "scripts" / name)]
    command = [sys.executable, *script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_train_and_embed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    printed = run_script("train_language_model.py", EXCERPT, out, "--minutes", "0.02", "--hidden-size", "8")
    assert "bits per character" in printed
    printed = run_process("embed.py", "--model", out / "best", "It's here.", "Two")
    assert [line.split()[:2] for line in printed.splitlines()] == [
        ["0–4", "It's"],
        ["5–9", "here"],
        ["9–10", "."],
        ["0–3", "Two"],
    ]


@pytest.mark.usefixtures("columns")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "upos"}, "are not those of --task upos"),
        ({"task": "ner", "tag_column": 0}, r"the tags of .*train\.conll are not those of --task ner"),
    ],
)
def test_options_that_a_tagger_cannot_use_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    train_tagger = importlib.import_module("scripts.train_tagger").TrainTagger
    files = {name: str(tmp_path / "train.conll") for name in ("train", "dev", "test")}
    with pytest.raises(CharEmbedError, match=message):
        train_tagger(model="en", **files, **options)()


def test_the_top_level_has_the_three_short_scripts() -> None:
    top = [path for path in SCRIPTS if path.parent.name == "scripts"]
    assert [path.name for path in top] == ["embed.py", "train_language_model.py", "train_tagger.py"]
    for path in top:
        assert f"python scripts/{path.name} " in path.read_text(encoding="utf-8").split('"""')[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [str(path.relative_to(ROOT / "scripts")) for path in SCRIPTS if "__main__" in path.read_text("utf-8")]
)
def test_docstrings_show_commands_that_run(name: str) -> None:
    """The options of each command in the docstring of a script are options of the script."""
    if "flair" in name:
        pytest.importorskip("flair")
    docstring = (ROOT / "scripts" / name).read_text(encoding="utf-8").split('"""')[1].replace("\\\\\n", " ")
    module = "scripts." + name.removesuffix(".py").replace("/", ".")
    script = f"-m {module}" if "/" in name else f"scripts/{name}"
    commands = re.findall(rf"^ +python {re.escape(script)}(.*)$", docstring, re.MULTILINE)
    assert commands, "the docstring shows no command"
    for arguments in map(str.split, commands):
        subcommand = [arguments[0]] if arguments and re.fullmatch(r"[a-z_0-9]+", arguments[0]) else []
        options = run_process(name, *subcommand, "--help")
        for option in re.findall(r"(?<= )--[\w-]+", " " + " ".join(arguments)):
            assert option in options
