"""Cards of taggers: labels and provenance stay text."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagger_card import tagger_card

LAYER = TagLayer("ner", "entities", ("O", "B-PER", "I-PER"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>", "&lt;b&gt;"),
        ("a|b\nc", "a\\|b c"),
        ("`x` *y*", "\\`x\\` \\*y\\*"),
        ("\udc80", "\\udc80".replace("\\", "&#92;")),
    ],
)
def test_names_are_displayed_as_text(text: str, shown: str) -> None:
    lines = tagger_card(
        (LAYER,), {"train": text, "sources": [text], "scores": {text: {text: [1, 2, text, 4]}}}, "a"
    ).splitlines()
    assert f"| train | {shown} |" in lines
    assert f"- {shown}" in lines
    assert f"## Scores: {shown}" in lines
    row = next(line for line in lines if line.startswith(f"| {shown} | "))
    assert row.count(shown) == 2, "the score that is no number"


def test_labels_are_code_where_code_can_show_them() -> None:
    layer = TagLayer("ner", "entities", ("O", "B-PER", "I-PER", "B-`", "I-`", "B-\n", "I-\n"))
    card = tagger_card((layer,), {}, "a")
    assert "Layer `ner` (entities): " in card
    assert "`PER`" in card
    assert "\\`" in card


def test_hub_reads_the_metadata() -> None:
    card = ModelCard(tagger_card((LAYER,), {"language": "no", "license": "a\nb"}, "a"))
    assert (card.data.language, card.data.license) == ("no", None)
    assert card.data.pipeline_tag == "token-classification"
