"""Contextual character embeddings: train character language models on your own text, embed words with them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from charembed.context import Context
    from charembed.embedder import CharEmbedder, WordEmbeddings
    from charembed.errors import CharEmbedError
    from charembed.language_model import BiCharLM, CharLM, CharLMConfig
    from charembed.train_config import TrainConfig
    from charembed.trainer import train
    from charembed.vocab import CharVocab
    from charembed.word_encoder import WordEncoder

# Loaded when first used: embedding imports no training code, and `import charembed` does not wait for PyTorch.
_HOMES = {
    "BiCharLM": "language_model",
    "CharEmbedder": "embedder",
    "CharEmbedError": "errors",
    "CharLM": "language_model",
    "CharLMConfig": "language_model",
    "CharVocab": "vocab",
    "Context": "context",
    "TrainConfig": "train_config",
    "WordEmbeddings": "embedder",
    "WordEncoder": "word_encoder",
    "train": "trainer",
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
    if name in _HOMES:
        return getattr(importlib.import_module(f"charembed.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'charembed' has no attribute {name!r}")
