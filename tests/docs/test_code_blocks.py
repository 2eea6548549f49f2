"""Every code block of the README and the documentation runs, or says why it cannot.

Python blocks are executed in the order of the page, in one namespace per page. Shell blocks of `charembed …` and
`python scripts/…` or `python -m scripts.…` are executed in a temporary folder that holds the example files named in
`workspace`. A `text` block after them is their output, compared with `...` for what varies. A block that cannot run has
a comment above it:

    <!-- needs: REASON -->      it is not executed; commands in it must still parse
    <!-- file: NAME -->         it is written to the temporary folder as a file of this name
    <!-- shows: WHAT -->        neither code nor output, such as a drawing
    <!-- varies: REASON -->     output that differs from machine to machine, not compared

Long training runs are shortened (see `shortened`).
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers import execute_script
from sybil import Document
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from charembed.cli.main import build_parser, main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
PLACEHOLDERS = re.compile(r"(?<= )[A-Z]{1,7}(?= |$)")
"""Values such as LR in a command that the text around it explains: commands with them are not parsed."""
LEXER = RawFencedCodeBlockLexer(re.compile(r"(?P<language>[^\n]*)\n"))
MARK = re.compile(r"<!-- (?P<kind>needs|file|shows|varies): (?P<value>[^\n]+?) -->\s*\Z")
FLAIR = re.compile(r"^(from|import) (charembed\.integrations\.)?flair\b", re.MULTILINE)
STEPS = 4

# Flair, spaCy and what they import warn of their own affairs on import and in use.
pytestmark = pytest.mark.filterwarnings("default")


@dataclass
class Block:
    """A code block of a page."""

    line: int
    language: str
    source: str
    kind: str = ""
    """What its mark says: needs, file, shows, varies, or nothing."""
    value: str = ""

    def __str__(self) -> str:
        return f"line {self.line}"


@dataclass
class PageRunner:
    """Runs the blocks of one page."""

    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    output: str | None = None
    """Standard output of the latest block that ran; None where there is none to compare with."""

    def run(self, block: Block) -> None:
        """Run a block, or check it in the way that its mark says."""
        if block.kind == "file":
            path = Path(block.value)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.source, encoding="utf-8")
        elif block.kind == "shows":
            self.output = None
        elif block.kind == "needs":
            self.check_commands(block)
            self.output = None
        elif block.language == "text":
            self.compare(block)
        elif block.language == "python":
            self.run_python(block)
        elif block.language == "sh":
            self.run_shell(block)
        else:
            pytest.fail(f"{block}: a block of {block.language or 'no language'} is neither run nor marked")

    def compare(self, block: Block) -> None:
        """Compare a block with the output of the block before it."""
        if block.kind == "varies":
            return
        if self.output is None:
            pytest.fail(f"{block}: output of nothing that was run: mark it")
        checker = doctest.OutputChecker()
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        expected, output = block.source.strip() + "\n", self.output.strip() + "\n"
        if not checker.check_output(expected, output, flags):
            pytest.fail(f"{block}: the documentation shows\n{expected}\nbut this was printed\n{output}")

    def run_python(self, block: Block) -> None:
        """Execute a block in the namespace of the page."""
        code = compile(shortened(block.source), str(block), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(code, self.namespace)
        self.output = output.getvalue()

    def run_shell(self, block: Block) -> None:
        """Run the commands of a block."""
        with contextlib.redirect_stdout(io.StringIO()) as output:
            for command in split_commands(block.source):
                run_command(command)
        self.output = output.getvalue()

    @staticmethod
    def check_commands(block: Block) -> None:
        """Check that the commands of a block that is not run are commands of this version."""
        if block.language == "python":
            compile(block.source, str(block), "exec")
        if block.language == "sh":
            for command in split_commands(block.source):
                if command[0] == "charembed" and not PLACEHOLDERS.search(shlex.join(command)):
                    build_parser(command[1:]).parse_args(command[1:])


def split_commands(source: str) -> list[list[str]]:
    """Return the commands of a shell block, each as a list of its words."""
    commands: list[list[str]] = []
    pending = ""
    for line in source.replace("\\\n", " ").splitlines():
        pending += line + "\n"
        try:
            words = [shlex.split(part, comments=True) for part in pending.split(" && ")]
        except ValueError:  # a quotation that ends on a later line
            continue
        commands += [command for command in words if command]
        pending = ""
    assert not pending, f"a quotation without an end: {pending}"
    return commands


def run_command(command: list[str]) -> None:
    """Run a command in this process, which spares it the imports."""
    program, *arguments = command
    if program == "charembed":
        if arguments[:1] == ["train"]:
            arguments = [*arguments, *shortened_options(arguments)]
            if "--output" in arguments:  # a run with other options would be refused in its place
                shutil.rmtree(arguments[arguments.index("--output") + 1], ignore_errors=True)
        if arguments[:2] == ["tag", "train"]:
            arguments = [*arguments, "--overwrite", "--fit.epochs", "1", "--hidden-size", "8"]
        if arguments[:1] == ["probe"]:
            arguments = [*arguments, "--fit.epochs", "1", "--hidden-size", "8"]
        try:
            status = main(arguments)
        except SystemExit as end:  # --help
            status = end.code
        assert not status, f"{shlex.join(command)}: exit status {status}"
    elif program == "python":
        if arguments[0] == "-m":
            arguments = [f"{arguments[1].replace('.', '/')}.py", *arguments[2:]]
        script = ROOT / arguments[0] if arguments[0].startswith("scripts/") else Path(arguments[0])
        execute_script(script, *arguments[1:], *shortened_script(script.name))
    elif program == "cd":
        os.chdir(arguments[0])
    else:
        pytest.fail(f"{shlex.join(command)}: no command that the tests run: mark the block")


def shortened(source: str) -> str:
    """Return Python code with its minutes of training as a few steps."""
    return re.sub(r"\bminutes=\d+", f"steps={STEPS}", source)


def shortened_options(arguments: list[str]) -> list[str]:
    """Return options that make a training run short."""
    options = ["--budget.minutes", "null", "--budget.steps", str(STEPS), "--budget.epochs", "null"]
    options += ["--validations", "1"]
    if "--init" not in arguments:
        options += ["--model.hidden_size", "16", "--model.embedding_dim", "8"]
    return options


def shortened_script(name: str) -> list[str]:
    """Return options that make a tagger of `scripts/` short."""
    return ["--epochs", "1", "--hidden_size", "8"] if name == "train_tagger.py" else []


def blocks(page: str) -> Iterator[Block]:
    """Yield the code blocks of a page in their order."""

    document = Document.parse(str(ROOT / page), LEXER)
    for example in document.examples():
        lexemes = example.region.lexemes
        mark = MARK.search(document.text[: example.region.start])
        found = (mark["kind"], mark["value"]) if mark else ("", "")
        yield Block(example.line, lexemes["language"].strip(), str(lexemes["source"]), *found)


def run_page(page: str) -> None:
    """Run the code blocks of a page in the present folder."""
    runner = PageRunner()
    for block in blocks(page):
        try:
            runner.run(block)
        except Exception as error:
            raise AssertionError(f"{page}, {block}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_run(
    page: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if any(FLAIR.search(block.source) and not block.kind for block in blocks(page)):
        pytest.importorskip("flair", reason="Flair has an environment of its own: make test-flair")
    if any("news-forward.pt" in block.source and not block.kind for block in blocks(page)):
        request.getfixturevalue("flair_models")
    monkeypatch.chdir(workspace)
    run_page(page)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```python\nprint(1)\n```\n```text\n2\n```\n", "this was printed"),
        ("```sh\nrm -rf /\n```\n", "mark the block"),
        ("```yaml\na: 1\n```\n", "neither run nor marked"),
        ("```text\nfree\n```\n", "output of nothing"),
        ("<!-- needs: a day -->\n```sh\ncharembed train --no-such-option 1\n```\n", "SystemExit"),
        ("```sh\ncharembed report nowhere\n```\n", "exit status 2"),
    ],
)
def test_a_wrong_block_fails(text: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseException) as raised:  # noqa: PT011 (pytest.fail and SystemExit are not Exceptions)
        run_page(str(page))
    assert complaint in f"{type(raised.value).__name__}: {raised.value}"
