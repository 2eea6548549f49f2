"""Receives a model and its provenance; hands on the model card that goes into its folder."""

from __future__ import annotations

from typing import Any

from charembed.language_model import BiCharLM


def model_card(model: BiCharLM, provenance: dict[str, Any], address: str) -> str:
    """Text of the README.md of a model folder, with the YAML header that model hubs read.

    Args:
        model: what it is of.
        provenance: where the weights come from.
        address: from where it is loaded.
    """
    config = model.config
    above = f", projected to {config.proj_size}" if config.proj_size else ""
    lines = [
        "---",
        "library_name: charembed",
        "tags: [character-language-model, contextual-string-embeddings, token-embeddings]",
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
    if provenance:
        lines += ["| what | value |", "| --- | --- |"]
        lines += [f"| {key.replace('_', ' ')} | {_cell(value)} |" for key, value in provenance.items()]
    else:
        lines.append("Not recorded.")
    lines += ["", "The weights carry the terms of the text they were trained on; see there.", ""]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_cell(inner)}" for key, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
