"""The reference documents every public name and every option, and the site fetches nothing."""

from __future__ import annotations

import re
import shlex

import pytest
from helpers import ROOT

import charembed
import charembed.recurrent

pytest.importorskip("mkdocs")

from charembed.cli.main import build_parser
from scripts.docs.generated_pages import REMOTE, command_line_page, configuration_page, option_groups, subcommands

REFERENCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/reference").glob("*.md")))


@pytest.mark.parametrize("module", [charembed, charembed.recurrent])
def test_every_public_name_is_in_the_reference(module) -> None:
    for name in module.__all__:
        if name != "__version__":
            assert re.search(rf"^::: {module.__name__}\.{name}$", REFERENCE, re.MULTILINE), name


def test_every_command_and_option_is_in_the_reference() -> None:
    page, configuration = command_line_page(), configuration_page()
    for name, parser in subcommands().items():
        assert f"## charembed {name}\n" in page
        section = page.split(f"## charembed {name}\n")[1].split("\n## ")[0]
        for _, actions in option_groups(parser):
            for action in actions:
                if name == "train" and action.dest != "dry_run":
                    assert f"| `{action.dest}` |" in configuration
                elif action.option_strings:
                    option = action.option_strings[-1].removesuffix("+").replace("_", "-")  # + appends to a list
                    assert option in section.replace("_", "-"), option
    assert {"tag train", "tag predict", "tag evaluate"} <= subcommands().keys()
    assert not re.search(r"\| +\|$", page + configuration, re.MULTILINE), "an option has no description"


def test_examples_of_the_help_are_commands() -> None:
    for command in [build_parser(), *subcommands().values()]:
        for example in command.examples:
            program, *arguments = shlex.split(example)
            assert program == "charembed"
            build_parser(arguments).parse_args(arguments)


def test_architecture_names_every_file() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("## Outside")[0]
    named = set()
    for section in page.split("\n### ")[1:]:
        folder = re.match(r"charembed[/\w]*", section)[0]
        named |= {f"{folder}/{file}" for file in re.findall(r"^\| `(\w+\.py)` \|", section, re.MULTILINE)}
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "charembed").rglob("*.py")}
    packages = {file for file in files if file.endswith("/__init__.py") and file.count("/") > 1}
    assert named == files - packages


def test_a_generated_cell_is_valid_markdown() -> None:
    for line in (command_line_page() + configuration_page()).splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) == 4, line


@pytest.mark.parametrize(
    ("html", "is_remote"),
    [
        ('<script src="https://example.org/a.js"></script>', True),
        ('<link rel="stylesheet" href="https://example.org/a.css">', True),
        ('<img alt="a" src="http://example.org/a.png">', True),
        ('<a href="https://example.org">a page</a>', False),
        ('<script src="../a.js"></script><a href="https://example.org">a page</a>', False),
        ('<link rel="canonical" href="https://example.org">', False),
    ],
)
def test_remote_assets_are_recognized(html: str, is_remote: bool) -> None:
    assert bool(REMOTE.search(html)) == is_remote
