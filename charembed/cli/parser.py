"""An argument parser with dashed option names, flags and examples, built on jsonargparse."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, cast, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, get_loader, set_loader

from charembed.cli.messages import ConfigError, check_keys, plain_message, unknown_key
from charembed.errors import CharEmbedError
from charembed.util.reading import MAX_JSON_BYTES, read_file
from charembed.util.yaml_text import check_yaml

_OPTION = re.compile(r"--[A-Za-z][\w.-]*\+?")
_NOT_IN_FILES = ("help", "config", "print_config", argparse.SUPPRESS)
"""What is not an option of a configuration file."""
_FLAG_VALUES = ("true", "false", "yes", "no", "on", "off")
_REQUIRED = re.compile(r"the following arguments are required: (?P<keys>.+)")


_load_any_yaml = get_loader("yaml")


def _load_yaml(text: str) -> Any:
    """Return what jsonargparse makes of the YAML of an option or a file, unless reading it could end the process."""
    check_yaml(text)
    return _load_any_yaml(text)


set_loader("yaml", _load_yaml, exceptions=(yaml.YAMLError,))


class _HelpFormatter(DefaultHelpFormatter):
    """Shows whether an option is required, or its default, and leaves out Python types."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
            return super()._get_help_string(action).removesuffix(" (required)")
        if "--print_config" in action.option_strings:
            return "Print the resulting configuration as YAML, and exit. Flags: skip_default, skip_unset"
        text = action.help or ""
        if action.required:
            return f"{text} (required)"
        has_default = action.default is not False and action.default not in (None, "", argparse.SUPPRESS)
        return f"{text} (default: %(default)s)" if action.option_strings and has_default else text


class Parser(ArgumentParser):
    """A parser of command lines and YAML files.

    Options are declared with underscores, as their YAML keys are. The command line accepts underscores and dashes, the
    help shows dashes. An option of type bool is a flag: `--overwrite` means `--overwrite true`.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        renamed: Mapping[str, str] | None = None,
        hint: str = "",
        **options: Any,
    ) -> None:
        """
        Args:
            args: positional arguments of `jsonargparse.ArgumentParser`.
            examples: command lines for the end of the help.
            renamed: new name of each option that had another name in an earlier version, which is accepted too.
            hint: advice for a command line with too many or too few arguments.
            options: keyword arguments of `jsonargparse.ArgumentParser`.
        """
        # Abbreviations would make every new option a possible conflict with command lines in scripts.
        super().__init__(*args, allow_abbrev=False, formatter_class=_HelpFormatter, **options)
        self.color = False  # of argparse since Python 3.14: its escape sequences would be shown as text
        self.examples = examples
        self.renamed = renamed or {}
        self.hint = hint
        self._config: str | None = None
        """The configuration file that is being read."""

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Namespace:  # type: ignore[override]
        """Parse a command line; the arguments are those of `jsonargparse.ArgumentParser.parse_args`."""
        try:
            arguments = self._normalize(sys.argv[1:] if args is None else args)
            self._check_given_once(arguments)
            self._check_files(arguments)
            parsed = super().parse_args(arguments, *rest, **options)
        except UnicodeDecodeError as error:  # from the file of a group of options
            self.error(f"a configuration file is not UTF-8 text: {error}", error)
        if self._subcommands_action is None:
            self._check_groups(parsed)
        return parsed

    def _check_given_once(self, arguments: Sequence[str]) -> None:
        """Refuse a file, folder or model that is given twice: argparse would drop all but the last without a word."""
        names = [argument.partition("=")[0] for argument in arguments]
        for action in self._actions:
            # Later configuration files are meant to overrule earlier ones, and `--NAME+` appends to a list.
            options = [name for name in action.option_strings if name != "--config" and not name.endswith("+")]
            if _takes_text(action) and (times := sum(map(names.count, options))) > 1:
                remedy = _list_hint(options[0]) if takes_list(action) else "give it once"
                self.error(f"{_dashed(options[0])} is given {times} times; {remedy}")

    def _check_files(self, arguments: Sequence[str]) -> None:
        """Refuse files of groups of options that cannot be read as a whole."""
        keys = self._keys()
        for argument, following in pairwise([*arguments, ""]):
            name, equals, value = argument.partition("=")
            group = name.removeprefix("--")
            if name != group and any(key.startswith(f"{group}.") for key in keys):
                self._check_file(value if equals else following)

    def _check_file(self, path: Any) -> None:
        """Refuse a file that jsonargparse would wait for, such as a pipe, or that is too large for a configuration."""
        try:
            with suppress(OSError):  # jsonargparse says itself what it cannot open
                if not Path(path).is_dir():
                    read_file(Path(path), MAX_JSON_BYTES)
        except CharEmbedError as error:
            self.error(str(error), error)

    def _check_groups(self, parsed: Namespace) -> None:
        """Refuse unknown keys from the file of a group of options, such as `--model FILE`."""
        # jsonargparse would leave them to the parser of the program, which does not know the options of commands.
        keys = self._keys()
        for key in parsed.keys():  # noqa: SIM118 (not a mapping)
            group = next((group for group in keys if key.startswith(f"{group}.")), None)
            if group is not None and key not in keys:
                self.error(f"--{group}: {unknown_key(key, keys)}")

    def parse_path(self, path: Any, *rest: Any, **options: Any) -> Namespace:
        """Parse a configuration file; the arguments are those of `jsonargparse.ArgumentParser.parse_path`."""
        self._check_file(path)
        self._config = str(path)
        try:
            return cast(Namespace, super().parse_path(path, *rest, **options))
        except (OSError, UnicodeDecodeError) as error:
            self.error(f"cannot be read as UTF-8 text: {error}", error)
        finally:
            self._config = None

    def parse_string(self, content: str, *rest: Any, **options: Any) -> Namespace:
        """Parse a configuration; the arguments are those of `jsonargparse.ArgumentParser.parse_string`."""
        # jsonargparse checks keys only after it has read the command line, when it no longer knows the file.
        try:
            check_keys(content, self._keys())
        except ConfigError as error:
            self.error(str(error), error)
        return cast(Namespace, super().parse_string(content, *rest, **options))

    def format_help(self, *args: Any) -> str:
        """Return the help text, with examples at its end."""
        # jsonargparse shows a second form of each list option, `--data.train+`, which appends to the list.
        text = _dashed_help(re.sub(r", --[\w.]+\+ \S+", "", super().format_help(*args)))
        return text + "".join(["\nexamples:\n", *(f"  {line}\n" for line in self.examples)]) if self.examples else text

    def format_usage(self) -> str:
        """Return the usage."""
        return _dashed_help(super().format_usage())

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print a help text or an error."""
        if file is not None and file is sys.stdout:
            file.write(message)  # argparse would ignore that the help cannot be written
        else:
            super()._print_message(message, file)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print a message with the usage, and exit with status 2."""
        # jsonargparse names its own classes and keys; users know options and values.
        parser, hint = self, ""
        if match := _REQUIRED.fullmatch(message):
            parser, names = self._arguments(match["keys"].split(", "))
            message, hint = f"missing: {', '.join(names)}", parser.hint
        elif message.startswith("unrecognized arguments"):
            names, hint = _OPTION.findall(message), self.hint
            if not names and not hint and (hint := self._files_hint()):
                message = message.replace("unrecognized arguments", "arguments without an option")
            message = _dashed(message) + self._suggestion(names)
        else:
            message = plain_message(message, self._actions, in_file=self._config is not None)
        file = "" if self._config is None else f"{self._config}: "
        super(Parser, parser).error(f"{file}{message}{hint and '; '}{hint}", ex)

    def _normalize(self, arguments: Sequence[str]) -> list[str]:
        """Return the arguments with underscores in option names, and with a value after each flag."""
        # argparse would take the word after a flag for its value, and a file name there would be an error.
        flags = {
            option
            for action in self._actions
            if getattr(action, "_typehint", None) is bool
            for option in action.option_strings
        }
        normalized: list[str] = []
        for position, argument in enumerate(arguments):
            if argument == "--":  # only positional arguments follow
                return [*normalized, *arguments[position:]]
            name, equals, value = argument.partition("=")
            if _OPTION.fullmatch(name):
                key = name[2:].replace("-", "_")
                name = "--" + self.renamed.get(key, key)
            following = arguments[position + 1 : position + 2]
            if name in flags and not equals and not (following and following[0].lower() in _FLAG_VALUES):
                equals, value = "=", "true"
            normalized.append(name + equals + value)
        return normalized

    def _keys(self) -> list[str]:
        """Return the keys of the options."""
        keys = [action.dest for action in self._actions if action.dest not in _NOT_IN_FILES]
        # jsonargparse adds a help option for what a mapping contains.
        return [key for key in keys if not key.endswith(".help")]

    def _suggestion(self, names: Sequence[str]) -> str:
        """Return which options the unknown ones may stand for, as the end of a message."""
        commands = self._subcommands_action
        parsers = [self, *(commands.choices.values() if commands is not None else ())]
        # Only the options of the command in use are there: the others were never built.
        known = {option for parser in parsers for action in parser._actions for option in action.option_strings}
        keys = [name[2:].replace("-", "_") for name in names]
        matches = [difflib.get_close_matches(f"--{key}", known, n=1) for key in keys]
        close = [_dashed(match[0]) for match in matches if match]
        return f"; did you mean {', '.join(close)}?" if close else ""

    def _files_hint(self) -> str:
        """Return how to give several files to an option of the command, if there is one that takes a list."""
        commands = self._subcommands_action
        parsers = [self, *(commands.choices.values() if commands is not None else ())]
        actions = [action for parser in parsers for action in parser._actions if takes_list(action)]
        return _list_hint(actions[0].option_strings[0]) if actions else ""

    def _arguments(self, keys: Sequence[str]) -> tuple[Parser, list[str]]:
        """Return the parser of some keys and the arguments as they are written on the command line."""
        parser = self
        # The keys of a command's options begin with the name of the command, and that of its group.
        while (commands := parser._subcommands_action) is not None:
            command = keys[0].partition(".")[0]
            if command not in commands.choices:
                break
            parser = commands.choices[command]
            keys = [key.removeprefix(f"{command}.") for key in keys]
        positional = {action.dest for action in parser._actions if not action.option_strings}
        return parser, [key.upper() if key in positional else _dashed(f"--{key}") for key in keys]


def takes_list(action: argparse.Action) -> bool:
    """Return whether an option takes a list of names, such as `--data.train`."""
    return bool(action.option_strings) and any(
        get_origin(hint) is list
        for hint in (getattr(action, "_typehint", None), *get_args(getattr(action, "_typehint", None)))
    )


def _takes_text(action: argparse.Action) -> bool:
    """Return whether the value of an option is text, or a list: most are names of files, folders and models."""
    hint = getattr(action, "_typehint", action.type)
    return takes_list(action) or str in (hint, *get_args(hint))


def _list_hint(option: str) -> str:
    return f"name several files in a list, {_dashed(option)} '[a.txt, b.txt]', or by a glob in quotation marks"


def _dashed(text: str) -> str:
    """Return a text with dashes instead of underscores in names of options."""
    return _OPTION.sub(lambda match: match[0].replace("_", "-"), text)


def _dashed_help(text: str) -> str:
    """Return a help text with dashed names, and with flags that show no value."""
    # jsonargparse joins --print_config and its flags by a backspace, which would be shown as an escape.
    return _dashed(text.replace(" {true,false}", "")).replace(" \b", "")
