"""The options of `CharEmbedder` that classes which load a model by its name pass on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypedDict, Unpack

import torch

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.engine_choice import EngineName, EnginePrecision
from charembed.errors import CharEmbedError
from charembed.lm.model import Readout
from charembed.pretrained.parts import Part


class EmbedderOptions(TypedDict, total=False):
    """The options of `CharEmbedder.from_pretrained`, with its defaults for those left out."""

    device: torch.device | str | None
    engine: EngineName
    precision: EnginePrecision
    readout: Readout | None
    parts: Sequence[Part] | None
    threads: int
    batch_size: int | None
    memory_mb: int
    cache_mb: int
    dim: int | None


def load_embedder(embedder: CharEmbedder | str | os.PathLike[str], **options: Unpack[EmbedderOptions]) -> CharEmbedder:
    """Return an embedder, loaded with the options if its name or folder is given.

    Args:
        embedder: an embedder, or the name or folder of its model.
        options: options of `CharEmbedder.from_pretrained`; none for an embedder, which has its own.

    Raises:
        CharEmbedError: no such model, an invalid option, or options for an embedder.
        MissingExtraError: ONNX Runtime is requested but not installed.
    """
    if not isinstance(embedder, CharEmbedder):
        return CharEmbedder.from_pretrained(embedder, **options)
    if options:
        raise CharEmbedError(
            f"{', '.join(options)} cannot be set for an existing CharEmbedder: set them when you create it, or give the"
            " name or folder of its model instead"
        )
    return embedder
