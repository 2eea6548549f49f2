"""Generate the pages of the documentation that are derived from the code and from the files at the top (MkDocs hook).

The command line and the configuration are read from the parser, so that they are always those of the code.
"""

from __future__ import annotations

import argparse
import functools
import html
import re
import typing
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from charembed.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[2]
TOP_FILES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md", "security.md": "SECURITY.md"}
"""Pages of the site and the files at the top of the repository that they show."""
REMOTE = re.compile(
    r"""<(?:script|img|iframe|link rel="(?:stylesheet|preconnect)")[^>]*(?P<address>https?://[^"' >]+)"""
)
HIDDEN = {"help", "print_config", "config", "version"}
"""Options that every command has, or that are described in the text."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of `docs/` (called by MkDocs)."""
    pages = {
        "reference/command-line.md": command_line_page(),
        "reference/configuration.md": configuration_page(),
    }
    pages |= {page: top_file(name) for page, name in TOP_FILES.items()}
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001 (MkDocs passes it)
    """Refuse a page that loads anything from the network (called by MkDocs)."""
    if remote := REMOTE.search(output):
        raise PluginError(f"{page.file.src_uri} loads {remote['address']}: keep a copy in docs/ instead")
    return output


def top_file(name: str) -> str:
    """Return a file at the top of the repository, with its links into `docs/` as links within the site."""
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


def command_line_page() -> str:
    """Return the reference of all commands and their options, as Markdown."""
    parts = [
        "# Command line",
        "Generated from the parser of the installed version. `charembed COMMAND --help` prints the same text. The"
        " exit status is 0 on success, 2 after wrong input, and 128 plus the number of the signal after a signal (130"
        " after Ctrl-C). Dashes and underscores in the names of options are interchangeable.",
    ]
    for name, parser in subcommands().items():
        parts += [f"## charembed {name}", sentence(parser.description or "")]
        if name == "train":
            parts.append(
                "Every key of the [configuration](configuration.md) is an option: `budget.minutes` is"
                " `--budget.minutes`. `--config FILE` reads options from a YAML file; options after it override it."
                " `--print_config` prints the resulting configuration and exits."
            )
        groups = list(option_groups(parser))
        if name == "train":
            groups = groups[:1]  # the others are those of the configuration
        rows = [row(a, invocation(a)) for _, actions in groups for a in actions]
        if rows:
            parts.append(table("Option", rows))
        if examples := getattr(parser, "examples", ()):
            parts += ["```sh\n" + "\n".join(examples) + "\n```"]
    return "\n\n".join(parts) + "\n"


def configuration_page() -> str:
    """Return the reference of all keys of a training configuration, as Markdown."""
    parts = [
        "# Configuration of a training run",
        "Generated from `TrainConfig` of the installed version. A configuration is a YAML file of these keys, read"
        " with `charembed train --config FILE`; each key is an option of the command line too (`--model.cell gru`)"
        " and a field of [`TrainConfig`](python.md#charembed.TrainConfig) in Python. A key that is not listed here"
        " is an error. Each run saves its own configuration as `config.yaml` in its folder.",
    ]
    for title, actions in option_groups(subcommands()["train"]):
        keys = [a for a in actions if a.dest not in ("dry_run",)]
        if not keys:
            continue
        prefix = keys[0].dest.rpartition(".")[0]
        parts.append(f"## {f'`{prefix}`' if prefix else 'Top level'}")
        parts += [sentence(title), table("Key", [row(a, f"`{a.dest}`") for a in keys])]
    return "\n\n".join(parts) + "\n"


@functools.cache
def subcommands() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands by name, in their order; those of a group, such as `tag train`, follow it."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # as the command line does before it parses
    return dict(_commands_of(build_parser()))


def _commands_of(parser: argparse.ArgumentParser, prefix: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield prefix + name, command
                yield from _commands_of(command, f"{prefix}{name} ")


def option_groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[argparse.Action]]]:
    """Yield the titles of the groups of options and what they hold, without the options that every command has."""
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.dest not in HIDDEN and not _is_no_option(a)]
        if actions:
            yield group.title or "", actions


def _is_no_option(action: argparse.Action) -> bool:
    """Whether an action chooses a command, or loads a file of options, such as jsonargparse's `--model FILE`."""
    return isinstance(action, argparse._SubParsersAction) or type(action).__name__ == "_ActionConfigLoad"


def invocation(action: argparse.Action) -> str:
    """Return how an option is written on the command line."""
    names = [name.replace("_", "-") for name in action.option_strings if not name.endswith("+")]
    if not names:
        return f"`{action.dest.upper()}{' …' if action.nargs == '+' else ''}`"
    is_flag = action.nargs == 0 or getattr(action, "_typehint", None) is bool
    value = "" if is_flag else f" {action.dest.rpartition('.')[2].upper()}"
    return ", ".join(f"`{name}`" for name in names[:-1]) + (", " if names[:-1] else "") + f"`{names[-1]}{value}`"


def row(action: argparse.Action, name: str) -> tuple[str, str, str]:
    """Return the cells of an option: its name, its default and its description."""
    choices = values(action)
    description = sentence(" ".join((action.help or "").split()), keep={str(choice) for choice in choices})
    if choices:
        listed = ", ".join(f"`{choice}`" for choice in choices)
        if not all(re.search(rf"\b{re.escape(str(choice))}\b", description) for choice in choices):
            description += f" One of {listed}."
    if action.required and action.option_strings:
        return name, "required", description
    given = action.default not in (None, "", argparse.SUPPRESS) and action.default is not False
    default = f"`{action.default}`" if given else ""
    return name, default, description


def values(action: argparse.Action) -> list[Any]:
    """Return the values that an option accepts, where they can be listed."""
    if action.choices:
        return list(action.choices)
    hint = getattr(action, "_typehint", None)
    inner = [hint, *typing.get_args(hint)]
    return [value for kind in inner if typing.get_origin(kind) is typing.Literal for value in typing.get_args(kind)]


def sentence(text: str, keep: Collection[str] = ()) -> str:
    """Return a text with a capital letter and a full stop.

    Args:
        text: the text.
        keep: words that stay as they are at its beginning, such as values of an option.
    """
    text = text.strip()
    first = text.split(maxsplit=1)[0] if text else ""
    if first.isalpha() and first not in keep:
        text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "…")) else f"{text}."


def table(head: str, rows: list[tuple[str, str, str]]) -> str:
    """Return a Markdown table of options."""
    lines = [f"| {head} | Default | Description |", "| --- | --- | --- |"]
    for name, default, description in rows:
        parts = description.split("`")  # every second part is code
        parts[::2] = [re.sub(r"([\[\]*])", r"\\\1", html.escape(part, quote=False)) for part in parts[::2]]
        text = "`".join(parts).replace("|", "\\|")
        lines.append(f"| {name} | {default} | {text} |")
    return "\n".join(lines)
