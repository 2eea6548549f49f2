"""YAML that would end the process, fill the memory or never be done."""

from __future__ import annotations

import pytest
import yaml

from charembed.util.yaml_text import check_yaml, load_yaml

LAUGHS = "a: &a [1]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_usual_text_is_read() -> None:
    text = "model: {cell: gru, hidden_size: 8}\ndata: &data [a.txt, b.txt]\nother: *data\nnothing: null\n"
    assert load_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested more than 50 levels deep"),
        ("{a: " * 100_000, "nested more than 50 levels deep"),
        ("- " * 100_000, "nested more than 50 levels deep"),
        (LAUGHS, "more than 100,000 values"),
        (r'output: "a\0b"', r"contains the character U\+0000"),
        ("a: &a [*a]", "more than 100,000 values"),
        ("a: 1\n" * 300_000, "expected at most 1,000,000"),
    ],
)
def test_hostile_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(yaml.YAMLError, match=message):
        check_yaml(text)
