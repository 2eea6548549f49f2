"""Read YAML of a limited size and depth."""

from __future__ import annotations

from typing import Any

import yaml

_MAX_CHARACTERS = 1_000_000
_MAX_DEPTH = 50
_MAX_NODES = 100_000
"""Largest number of scalars and containers, with those that aliases repeat."""


def load_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        yaml.YAMLError: not YAML, too large, or nested too deep.
    """
    check_yaml(text)
    return yaml.safe_load(text)


def check_yaml(text: str) -> None:
    """Check that a YAML text can be read in little time and memory.

    Deep nesting overflows the stack of PyYAML's C parser, which ends the process. Aliases of aliases let a short text
    stand for billions of values.

    Raises:
        yaml.YAMLError: not YAML, too large, or nested too deep.
    """
    if len(text) > _MAX_CHARACTERS:
        raise yaml.YAMLError(f"it has {len(text):,} characters, expected at most {_MAX_CHARACTERS:,}")
    # The nodes of each open container so far, and of each anchor. Reading events, unlike values, needs no recursion.
    counts = [0]
    open_anchors: list[str | None] = []
    anchors: dict[str | None, int] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            counts.append(1)
            open_anchors.append(event.anchor)
            if len(counts) > _MAX_DEPTH:
                raise yaml.YAMLError(f"it is nested more than {_MAX_DEPTH} levels deep")
            continue
        size = 0
        if isinstance(event, yaml.CollectionEndEvent):
            size, anchor = counts.pop(), open_anchors.pop()
            anchors[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            size = anchors.get(event.anchor, _MAX_NODES)  # unknown inside its own value: without end
        elif isinstance(event, yaml.ScalarEvent):
            if "\0" in event.value:  # no text, name or path of an option can have it
                raise yaml.YAMLError("a value contains the character U+0000")
            size = anchors[event.anchor] = 1
        counts[-1] += size
        if counts[-1] > _MAX_NODES:
            raise yaml.YAMLError(f"it has more than {_MAX_NODES:,} values")
