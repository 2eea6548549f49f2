"""Write the card of a tagger folder, the README.md that model hubs display."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charembed.pretrained.card_text import card, code, example, list_section, markdown, properties_table
from charembed.tagging.tag_layer import TagLayer


def tagger_card(layers: Sequence[TagLayer], provenance: dict[str, Any], address: str) -> str:
    """Return the text of a card: a YAML header for model hubs, followed by Markdown.

    Args:
        layers: the layers of tags.
        provenance: what the tagger was trained on and its scores. `language` and `license` also go into the header;
            lists become sections, `scores` a table.
        address: name from which the example on the card loads the tagger.
    """
    from tabulate import tabulate

    header = {"pipeline_tag": "token-classification", "tags": ["sequence-tagger"]}
    header |= {key: provenance[key] for key in ("language", "license") if key in provenance}
    lines = ["# Sequence tagger", ""]
    for layer in layers:
        what = "entities" if layer.kind == "entities" else "tags"
        lines += [f"Layer {code(layer.name)} ({what}): {', '.join(code(label) for label in layer.labels)}", ""]
    lines += example("Tagger", "tagger = Tagger.load", address, 'print(tagger.predict(["Text to tag."])[0])')
    for name, by_type in provenance.get("scores", {}).items():
        # Numbers stay numbers, which the table aligns. What a folder has instead of them is text like any other.
        rows = [
            [markdown(kind), *(value if isinstance(value, int | float) else markdown(value) for value in values)]
            for kind, values in by_type.items()
        ]
        table = tabulate(rows, ["", "Precision", "Recall", "F1", "Number"], tablefmt="github", floatfmt=".2f")
        lines += [f"## Scores: {markdown(name)}", "", table, ""]
    known = {key: value for key, value in provenance.items() if key != "scores" and value is not None}
    lists = {key: value for key, value in known.items() if isinstance(value, list)}
    lines += ["## Training", "", *properties_table({key: known[key] for key in known if key not in lists}), ""]
    for key, items in lists.items():
        if items:
            lines += list_section(key, items)
    return card(header, lines)
