"""Control characters never reach a terminal, whatever prints them."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import small_model
from tqdm import tqdm

from charembed import CharVocab
from charembed.cli.main import main
from charembed.cli.runner import run_program
from charembed.cli.terminal import EscapingStream, OneLineFormatter
from charembed.util.controls import escape_controls

HOSTILE = "a\x1b[31mb\x07c\rd\x9be\u202ef\u2028g"
"""A color, a bell, a return to the start of the line, a control sequence of one character, reversed text."""
ESCAPED = "a\\u001b[31mb\\u0007c\\u000dd\\u009be\\u202ef\\u2028g"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]")


def assert_harmless(printed: str) -> None:
    match = CONTROL.search(printed)
    assert match is None, f"{match[0]!r} in {printed!r}"


def test_escapes_are_those_of_json() -> None:
    assert escape_controls(HOSTILE) == ESCAPED
    assert json.loads(f'"{ESCAPED}"') == HOSTILE
    text = "tab\t, line\n, joiner 👩\u200d🔬, mark \u200e, שלום, \u00a0"
    assert escape_controls(text) == text
    assert escape_controls("two\nlines", line_ends=True) == "two\\u000alines"


def test_everything_that_a_program_prints(capsys: pytest.CaptureFixture[str]) -> None:
    def program() -> None:
        print(HOSTILE)
        sys.stdout.writelines([HOSTILE])
        print(HOSTILE, file=sys.stderr)
        argparse.ArgumentParser(HOSTILE).print_usage(sys.stderr)
        for _ in HOSTILE:
            print("\r", end="", flush=True)  # one character at a time, as generated text

    assert run_program("name", program) == 0
    printed = capsys.readouterr()
    assert_harmless(printed.out + printed.err)
    assert printed.out.startswith(ESCAPED + "\n" + ESCAPED)


def test_an_error_or_log_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def program() -> None:
        raise OSError("a\nname: error: forged")

    assert run_program("name", program) == 2
    assert capsys.readouterr().err == "name: error: a\\u000aname: error: forged\n"
    record = logging.LogRecord("charembed.text", logging.INFO, "", 0, "read %s", ("a\n\x1bb",), None)
    assert OneLineFormatter("%(message)s").format(record) == "read a\\u000a\\u001bb"


def test_the_traceback_of_a_bug() -> None:
    code = f"from charembed.cli.runner import run_program\nrun_program('name', lambda: [][{HOSTILE!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 1
    assert "TypeError" in done.stderr.decode()
    assert_harmless(done.stderr.decode())


def test_progress_bars_move_the_cursor_and_quote_safely() -> None:
    terminal = io.StringIO()
    stream = EscapingStream(terminal, progress_bars=True)
    with tqdm(total=2, desc=HOSTILE, file=stream), tqdm(total=2, desc="inner", position=1, file=stream) as inner:
        inner.update()
    printed = terminal.getvalue()
    assert "\r" + ESCAPED in printed
    assert "\x1b[A" in printed, "the inner bar cannot be drawn below the outer one"
    assert_harmless(printed.replace("\x1b[A", "").replace("\r", ""))


@pytest.fixture
def hostile_model(tmp_path: Path) -> str:
    """A model whose alphabet consists of control characters."""
    pretrained = small_model()
    vocab = CharVocab.build(["".join(CONTROL.findall("".join(map(chr, range(0x2100))))) * 3], coverage=1.0)
    model = type(pretrained.model)(dataclasses.replace(pretrained.model.config, vocab_size=len(vocab)))
    dataclasses.replace(pretrained, model=model, vocab=vocab).save(tmp_path / "hostile")
    return str(tmp_path / "hostile")


def test_commands_on_hostile_files_and_vocabularies(
    hostile_model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / f"{HOSTILE}.txt"
    text.write_text(f"{HOSTILE} word\n" * 3, encoding="utf-8")
    records = tmp_path / f"{HOSTILE}.jsonl"
    records.write_text(json.dumps({f"{HOSTILE}other": "text"}), encoding="utf-8")
    columns = tmp_path / f"{HOSTILE}.conll"
    columns.write_text(f"a{HOSTILE} O\n", encoding="utf-8")
    config = tmp_path / f"{HOSTILE}.yaml"
    config.write_text(yaml.safe_dump({HOSTILE: 1}))
    model = ["--model", hostile_model]
    commands = [
        (0, ["generate", *model, "--prompt", "\x1b]0;title\x07", "--characters", "50", "--seed", "1"]),
        (0, ["neighbors", *model, str(text), "--sentence", "a word", "--word", "word"]),
        (0, ["embed", *model, str(text), "-o", str(tmp_path / HOSTILE)]),
        (2, ["embed", *model, str(tmp_path / f"{HOSTILE}absent"), "-o", str(tmp_path / "out")]),
        (2, ["embed", *model, str(records), "--text-column", HOSTILE, "-o", str(tmp_path / "out")]),
        (2, ["report", str(tmp_path / HOSTILE)]),
        (2, ["tag", "train", "--train", str(columns), "--output", str(tmp_path / "tagger")]),
        (2, ["train", "--config", str(config)]),
        (2, ["train", f"--{HOSTILE}", "1"]),
        (2, ["train", "--batch-size", HOSTILE]),
        (2, [HOSTILE]),
        (0, ["train", "--data.train", str(text), "--output", HOSTILE, "--print_config"]),
    ]
    for status, arguments in commands:
        try:
            ended = main(arguments)
        except SystemExit as error:
            ended = error.code
        printed = "".join(capfd.readouterr())
        assert (ended or 0) == status, printed
        assert_harmless(printed)
