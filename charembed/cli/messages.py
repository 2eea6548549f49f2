"""Say in plain words what jsonargparse finds wrong with options and configuration files."""

from __future__ import annotations

import argparse
import difflib
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, PositiveInt

from charembed.util.yaml_text import load_yaml

# A group of options can be read from a file, in which a value can be wrong: the last key named is the one.
_REFUSED = re.compile(
    r"(?:Parser key .*?Unable to load config '(?P<file>.*?)'\s*- )?Parser key \"(?P<key>[\w.]+)\":\s*(?P<why>.*)",
    re.DOTALL,
)
_VALUE = re.compile(
    r"(?:Given value|Got value): (?P<value>.*)\Z|Not of type \w+: (?P<restricted>.*) does not conform"
    r"|Unable to load config \"(?P<config>.*?)\"",
    re.DOTALL,
)
_BROKEN = re.compile(r"Unable to load config '(.*?)'\s*- ")
"""A file that is given for a group of options, and is not YAML."""
_MAX_VALUE = 200
"""Characters of a refused value that a message shows."""
_EXPECTED_LIST = "Expected a <class 'list'>"
_CHOICE = re.compile(r"argument (?P<name>\S+): invalid choice: (?P<got>.+) \(choose from (?P<choices>.+)\)")
_NO_COMMAND = re.compile(r'expected "[\w.]*command" to be one of \{(?P<choices>.+)\}, but it was not provided\.')
_TYPES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    PositiveInt: "a whole number of at least 1",
    NonNegativeInt: "a whole number of at least 0",
    ClosedUnitInterval: "a number from 0 to 1",
}
_EXAMPLES: dict[Any, str] = {int: "1", float: "0.5", bool: "true"}


def plain_message(message: str, actions: Sequence[argparse.Action], in_file: bool) -> str:
    """Return a message of jsonargparse about the value of an option, or about a command, in plain words.

    Args:
        message: the message.
        actions: the options of the parser that refuses the value.
        in_file: whether a configuration file has the value, in which options are keys.
    """
    if match := _NO_COMMAND.fullmatch(message):
        return f"missing: a command, one of {match['choices'].replace(',', ', ')}"
    if match := _CHOICE.fullmatch(message):
        what, choices, got = (match[name].replace("'", "") for name in ("name", "choices", "got"))
        return f"{'the command' if what.endswith('command') else what} must be one of {choices}, got {got}"
    match = _REFUSED.search(message)
    if match is None:
        return message
    key, why = match["key"], match["why"]
    file = match["file"] if "." in key else None
    action = next((action for action in actions if action.dest == key), None)
    options = [action.dest for action in actions]
    name = key if in_file or file or action is None or not action.option_strings else "--" + key.replace("_", "-")
    why = _BROKEN.sub(r"Got value: \1: ", why) if is_group(key, options) else why
    value = _VALUE.search(why)
    hint = getattr(action, "_typehint", None)
    if value is None or (hint is None and not is_group(key, options)):
        return f"{name}: {' '.join(why.split())}"
    got = " ".join(next(text for text in value.groups() if text is not None).split())
    got = got if len(got) <= _MAX_VALUE else f"{got[:_MAX_VALUE]} …"
    if hint is None:
        expected = describe_group(key, options, in_file)
        if not in_file and value["config"] and not Path(got).exists():
            got += ", which does not exist"
    elif _is_list(hint) and not why.startswith(_EXPECTED_LIST):
        name, expected = f"each element of {name}", describe_type(get_args(hint)[0])
    else:
        expected = describe_type(hint)
    return f"{f'{file}: ' if file else ''}{name} must be {expected}, got {got}"


def describe_type(hint: Any) -> str:
    """Return which values a type allows, with an example if that is a mapping or a list."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        # An option that may be left out is described by the values it may be given.
        alternatives = [describe_type(argument) for argument in arguments if argument is not types.NoneType]
        return " or ".join(dict.fromkeys(alternatives))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a mapping, such as '{{name: {_example(arguments[1])}}}'"
    if _is_list(hint):
        return f"a list, such as '[{_example(arguments[0])}]'"
    return _TYPES.get(hint) or str(getattr(hint, "__name__", hint))


def _is_list(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Sequence)


def _example(hint: Any) -> str:
    first = get_args(hint)[0] if get_origin(hint) in (Union, types.UnionType) else hint
    return _EXAMPLES.get(first, "a")


def is_group(key: str, options: Sequence[str]) -> bool:
    """Return whether a key is that of several options, such as `model` of `model.hidden_size`."""
    return any(option.startswith(f"{key}.") for option in options)


def describe_group(key: str, options: Sequence[str], in_file: bool) -> str:
    """Return how to set the options of a group."""
    first = next(option for option in options if option.startswith(f"{key}."))
    if in_file:
        return f"a mapping of its options, such as {first.removeprefix(f'{key}.')}: …"
    return f"a YAML file of its options, which can also be given one by one, such as --{first.replace('_', '-')}"


class ConfigError(Exception):
    """A configuration does not fit the options. The message does not name its file."""


def check_keys(content: str, options: Sequence[str]) -> None:
    """Compare a configuration with the options that it may set.

    Args:
        content: the YAML text.
        options: keys of the options.

    Raises:
        ConfigError: the text is no YAML, no mapping, or has a key that is no option.
    """
    try:
        values = load_yaml(content)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        position = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        raise ConfigError(f"this is not valid YAML: {position}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"this is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, Mapping):
        got = "nothing" if values is None else content.strip().splitlines()[0]
        raise ConfigError(f"a configuration must consist of lines such as option: value, got {got}")
    _check_mapping(values, options, prefix="")


def _check_mapping(values: Mapping[Any, Any], options: Sequence[str], prefix: str) -> None:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if is_group(key, options):
            if isinstance(value, str):
                continue  # the path of a file with the options of the group
            if not isinstance(value, Mapping):
                got = "nothing" if value is None else value
                raise ConfigError(f"{key} must be {describe_group(key, options, in_file=True)}, got {got}")
            _check_mapping(value, options, f"{key}.")
        elif key not in options:
            raise ConfigError(unknown_key(key, options))


def unknown_key(key: str, options: Sequence[str]) -> str:
    """Return the message for a key that is no option."""
    close = difflib.get_close_matches(key, options, n=1)
    return f"there is no option {key!r}{f'; did you mean {close[0]}?' if close else ''}"
