"""Contextual character embeddings: train character language models on your own text, embed words with them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from charembed.version import __version__

if TYPE_CHECKING:
    from charembed.embedding.context import Context
    from charembed.embedding.embedder import CharEmbedder
    from charembed.embedding.word_embeddings import WordEmbeddings
    from charembed.embedding.word_encoder import WordEncoder
    from charembed.errors import CharEmbedError
    from charembed.lm.model import BiCharLM, CharLM, CharLMConfig
    from charembed.text.vocab import CharVocab
    from charembed.training.config import TrainConfig
    from charembed.training.train import train

# Imported on first use, so that embedding never loads training code and `import charembed` never waits for PyTorch.
_MODULES = {
    "BiCharLM": "lm.model",
    "CharEmbedError": "errors",
    "CharEmbedder": "embedding.embedder",
    "CharLM": "lm.model",
    "CharLMConfig": "lm.model",
    "CharVocab": "text.vocab",
    "Context": "embedding.context",
    "TrainConfig": "training.config",
    "WordEmbeddings": "embedding.word_embeddings",
    "WordEncoder": "embedding.word_encoder",
    "train": "training.train",
}

__all__ = [
    "BiCharLM",
    "CharEmbedError",
    "CharEmbedder",
    "CharLM",
    "CharLMConfig",
    "CharVocab",
    "Context",
    "TrainConfig",
    "WordEmbeddings",
    "WordEncoder",
    "__version__",
    "train",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        value = getattr(importlib.import_module(f"charembed.{_MODULES[name]}"), name)
        globals()[name] = value  # later look-ups need no import
        return value
    raise AttributeError(f"module 'charembed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
