"""Write the model card of a model folder, the README.md that model hubs display."""

from __future__ import annotations

import os
import re
from typing import Any

from charembed.lm.model import BiCharLM
from charembed.pretrained.card_text import card, example, list_section, properties_table
from charembed.projection import Projection
from charembed.static_vectors import StaticVectors
from charembed.text.sources import DATASET_PREFIX

_TAGS = ["character-language-model", "contextual-string-embeddings", "token-embeddings"]
_HEADER_KEYS = ("base_model", "datasets", "language", "license")
"""Provenance keys that model hubs read from the YAML header."""
_HUB_DATASET = re.compile(rf"{DATASET_PREFIX}(?P<name>[\w.-]+/[\w.-]+)(,.*)?")
"""A source of training text that is a data set on the Hugging Face Hub, unless a local folder has this name."""
_CELL_NAMES = {
    "elman": "Elman RNN",
    "lstm": "LSTM",
    "peephole_lstm": "peephole LSTM",
    "gru": "GRU",
    "mgu": "MGU",
}


def model_card(
    model: BiCharLM,
    provenance: dict[str, Any],
    address: str,
    static: StaticVectors | None = None,
    projection: Projection | None = None,
) -> str:
    """Return the text of a model card: a YAML header for model hubs, followed by Markdown.

    Args:
        model: the model that the card describes.
        provenance: where the weights come from. `base_model`, `datasets`, `language` and `license` also go into the
            header; any other list becomes a section of its own.
        address: name from which the example on the card loads the model.
        static: static vectors of words in the same folder.
        projection: projection to fewer dimensions in the same folder.
    """
    # Lists, such as attributions and scores, are too long for a table.
    known = {key: value for key, value in provenance.items() if value is not None}
    sections = {key: value for key, value in known.items() if isinstance(value, list) and key not in _HEADER_KEYS}
    properties = {key: value for key, value in known.items() if key not in sections}
    lines = [
        *_introduction(model, address, static),
        "## Architecture",
        "",
        _architecture(model),
        "",
        *_additions(static, projection),
        "## Provenance",
        "",
        *(properties_table(properties) if properties else ["Not recorded."]),
        "",
        "The terms of use of the training text apply to the weights.",
        "",
    ]
    for key, items in sections.items():
        lines += list_section(key, items)
    return card(_header(known), lines)


def _header(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata that model hubs read."""
    # A run records its sources as the user named them; only those on the Hub are links there.
    corpus = provenance.get("corpus")
    sources = corpus if isinstance(corpus, list) else [corpus]
    matches = [_HUB_DATASET.fullmatch(source) for source in sources if isinstance(source, str)]
    datasets = [match["name"] for match in matches if match and not os.path.exists(match["name"])]
    values = {"datasets": datasets} | provenance
    return {
        "pipeline_tag": "feature-extraction",
        "tags": _TAGS,
        **{key: values[key] for key in _HEADER_KEYS if key in values},
    }


def _introduction(model: BiCharLM, address: str, static: StaticVectors | None) -> list[str]:
    """Return the lines that say what the model is and how to load it."""
    dimensions = f"{model.embedding_dim} dimensions."
    if static is not None:
        dimensions = f"{model.embedding_dim} dimensions,\nand of its static vector, with {static.dim} dimensions."
    if len(model.directions) == 2:
        description = [
            "A forward and a backward character-level language model for `charembed`. The vector of a word is the",
            f"concatenation of the forward and the backward model's hidden states at that word, with {dimensions}",
        ]
    else:
        description = [
            f"A {model.directions[0]} character-level language model for `charembed`. The vector of a word is the",
            f"hidden state at that word, with {dimensions}",
        ]
    return [
        "# Contextual character embeddings",
        "",
        *description,
        "",
        *example(
            "CharEmbedder",
            "embedder = CharEmbedder.from_pretrained",
            address,
            'print(embedder.embed(["Words in context."])[0].vectors.shape)',
        ),
    ]


def _additions(static: StaticVectors | None, projection: Projection | None) -> list[str]:
    """Return the lines about what the folder contains besides language models."""
    lines = []
    if static is not None:
        lines += [
            f"Static vectors of {len(static):,} words and, for all other words, of {static.buckets:,} buckets of"
            f" character n-grams, {static.dim} dimensions each, as 8-bit numbers with a scale for each row.",
            "",
        ]
    if projection is not None:
        lines += [
            f"A projection of the vectors to {projection.dim} dimensions or fewer (`dim=`), which keeps"
            f" {projection.explained:.1%} of the variance of the text it was fitted to.",
            "",
        ]
    return lines


def _architecture(model: BiCharLM) -> str:
    config = model.config
    layers = "1 layer" if config.num_layers == 1 else f"{config.num_layers} layers"
    projection = f", projected to {config.proj_size} dimensions" if config.proj_size else ""
    return (
        f"{_CELL_NAMES[config.cell]} with {layers}, hidden size {config.hidden_size}{projection}, character embeddings"
        f" with {config.embedding_dim} dimensions, a vocabulary of {config.vocab_size} characters;"
        f" {model.parameter_count():,} parameters."
    )
