"""Write the parts that cards of models and taggers share: the header, tables, sections and text as Markdown."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any


def card(header: dict[str, Any], lines: Sequence[str]) -> str:
    """Return the text of a card: a YAML header for model hubs, followed by Markdown.

    Args:
        header: metadata; values that a header cannot hold are left out.
        lines: the lines of the Markdown.
    """
    from huggingface_hub import ModelCard, ModelCardData

    values = {key: value for key, value in header.items() if _is_header_value(value)}
    metadata = ModelCardData(library_name="charembed", **values).to_yaml()
    # Parsing the card ensures that the Hub can read its header.
    return str(ModelCard(f"---\n{metadata}\n---\n" + "\n".join(lines)))


def example(public_name: str, call: str, address: str, use: str) -> list[str]:
    """Return the lines of an example in Python.

    Args:
        public_name: what is imported from charembed.
        call: the call that loads the model, without its arguments, as in `embedder = CharEmbedder.from_pretrained`.
        address: name from which it is loaded.
        use: the line that uses it.
    """
    literal = json.dumps(address, ensure_ascii=False) if address.isprintable() else ascii(address)
    return ["```python", f"from charembed import {public_name}", "", f"{call}({literal})", use, "```", ""]


def properties_table(properties: dict[str, Any]) -> list[str]:
    """Return the lines of a table with one row per property."""
    rows = [f"| {markdown(_words(key))} | {markdown(value)} |" for key, value in properties.items()]
    return ["| Property | Value |", "| --- | --- |", *rows]


def list_section(key: str, items: Sequence[object]) -> list[str]:
    """Return the lines of a section with a list."""
    return [f"## {markdown(_words(key).capitalize())}", "", *(f"- {markdown(item)}" for item in items), ""]


def markdown(value: object) -> str:
    """Return a value as one line of Markdown that displays exactly its text."""
    if isinstance(value, dict):
        return ", ".join(f"{markdown(_words(str(key)))} {markdown(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(markdown(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else _escape(str(value))


def code(text: str) -> str:
    """Return text as code in a line of Markdown, or escaped where code could not display it."""
    return f"`{text}`" if text.isprintable() and text.strip() == text != "" and "`" not in text else markdown(text)


def _is_header_value(value: object) -> bool:
    """Return whether a value is a string or a list of strings that a YAML header can hold."""
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(isinstance(item, str) and item.isprintable() for item in items)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _escape(text: str) -> str:
    """Return text on one line in which no character has a meaning in Markdown or HTML."""
    # Control characters and lone surrogates are written out, so that any file can hold the text and any viewer show it.
    text = "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in " ".join(text.split())
    )
    # As an entity, since a backslash before a bracket begins a formula on some hubs.
    text = html.escape(text, quote=False).replace("\\", "&#92;")
    # An underscore between letters or digits never begins or ends emphasis.
    text = re.sub(r"[`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
    # Headings, lists and rules begin with one of these characters, numbered lists with a number.
    text = re.sub(r"^[#+=-]", r"\\\g<0>", text)
    return re.sub(r"^(\d+)(?=[.)](?: |$))", r"\1\\", text)
