"""Receives a model and its provenance; hands on the model card that goes into its folder."""

from __future__ import annotations

import json
from typing import Any

from charembed.lm.model import BiCharLM


def model_card(model: BiCharLM, provenance: dict[str, Any], address: str) -> str:
    """Text of the README.md of a model folder, with the YAML header that model hubs read.

    Args:
        model: what it is of.
        provenance: where the weights come from. A list becomes a section; `language` and `license` are for hubs too.
        address: from where it is loaded.
    """
    config = model.config
    header = [
        f"{key}: {json.dumps(provenance[key])}"
        for key in ("language", "license")
        if isinstance(provenance.get(key), str)
    ]
    above = f", projected to {config.proj_size}" if config.proj_size else ""
    lines = [
        "---",
        "library_name: charembed",
        "tags: [character-language-model, contextual-string-embeddings, token-embeddings]",
        *header,
        "---",
        "# Contextual character embeddings",
        "",
        "A forward and a backward character-level language model, read with [charembed]: each word's vector is the",
        f"forward model's state and the backward model's state at that word, {model.embedding_dim} numbers in all.",
        "",
        "```python",
        "from charembed import CharEmbedder",
        "",
        f'embedder = CharEmbedder.from_pretrained("{address}")',
        'print(embedder.embed(["Words in their context."])[0].vectors.shape)',
        "```",
        "",
        "## Architecture",
        "",
        f"{config.num_layers} layer(s) of {config.cell}, hidden size {config.hidden_size}{above}, character embeddings"
        f" of {config.embedding_dim}, {config.vocab_size} characters, {model.parameter_count():,} weights.",
        "",
        "## Provenance",
        "",
    ]
    lists = {key: value for key, value in provenance.items() if isinstance(value, list)}
    if provenance:
        lines += ["| what | value |", "| --- | --- |"]
        lines += [f"| {key.replace('_', ' ')} | {_cell(provenance[key])} |" for key in provenance if key not in lists]
    else:
        lines.append("Not recorded.")
    lines += ["", "The weights carry the terms of the text they were trained on; see there.", ""]
    for key, items in lists.items():
        lines += [f"## {key.replace('_', ' ').capitalize()}", "", *(f"- {_cell(item)}" for item in items), ""]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_cell(inner)}" for key, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split()).replace("|", "\\|")
