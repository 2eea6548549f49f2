"""Write the card of a tagger folder, the README.md that model hubs display."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from charembed.tagging.tag_layer import TagLayer


def tagger_card(layers: Sequence[TagLayer], provenance: dict[str, Any], address: str) -> str:
    """Return the text of a card: a YAML header for model hubs, followed by Markdown.

    Args:
        layers: the layers of tags.
        provenance: what the tagger was trained on and its scores. `language` and `license` also go into the header;
            lists become sections, `scores` a table.
        address: name from which the example on the card loads the tagger.
    """
    from huggingface_hub import ModelCard, ModelCardData
    from tabulate import tabulate

    header = ModelCardData(
        library_name="charembed",
        pipeline_tag="token-classification",
        tags=["sequence-tagger"],
        **{key: provenance[key] for key in ("language", "license") if provenance.get(key)},
    ).to_yaml()
    lines = ["# Sequence tagger", ""]
    for layer in layers:
        what = "entities" if layer.kind == "entities" else "tags"
        lines += [f"Layer `{layer.name}` ({what}): {', '.join(f'`{label}`' for label in layer.labels)}", ""]
    lines += [
        "```python",
        "from charembed import Tagger",
        "",
        f"tagger = Tagger.load({json.dumps(address, ensure_ascii=not address.isprintable())})",
        'print(tagger.predict(["Text to tag."])[0])',
        "```",
        "",
    ]
    scores = provenance.get("scores", {})
    for name, by_type in scores.items():
        rows = [[_cell(kind), *values] for kind, values in by_type.items()]
        table = tabulate(rows, ["", "Precision", "Recall", "F1", "Number"], tablefmt="github", floatfmt=".2f")
        lines += [f"## Scores: {name}", "", table, ""]
    properties = {key: value for key, value in provenance.items() if key != "scores" and not isinstance(value, list)}
    rows = [[key.replace("_", " "), _cell(value)] for key, value in properties.items() if value is not None]
    lines += ["## Training", "", tabulate(rows, ["", ""], tablefmt="github", disable_numparse=True), ""]
    for key, items in provenance.items():
        if isinstance(items, list) and items:
            lines += [f"## {key.replace('_', ' ').capitalize()}", "", *(f"- {item}" for item in items), ""]
    return str(ModelCard(f"---\n{header}\n---\n" + "\n".join(lines)))


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")
