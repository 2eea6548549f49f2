"""Train character language models on your own text, and use them as contextual word embeddings."""

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
    from charembed.lm.scoring import evaluate
    from charembed.output.config import OutputConfig
    from charembed.output.writer import write_embeddings
    from charembed.pretrained.added_words import add_words
    from charembed.pretrained.model_folder import Pretrained, join
    from charembed.projection import Projection
    from charembed.static_vectors import StaticVectors, load_static_vectors
    from charembed.tagging.tagger import Tagger
    from charembed.tagging.training import TaggerConfig, train_tagger
    from charembed.text.corpus import Corpus, CorpusConfig
    from charembed.text.vocab import CharVocab, VocabConfig
    from charembed.training.config import TrainConfig
    from charembed.training.objective import ObjectiveConfig
    from charembed.training.schedule import BudgetConfig, OptimizerConfig
    from charembed.training.train import train

# Each name is imported on first use: embedding loads no training code, and `import charembed` does not load PyTorch.
_MODULES = {
    "BiCharLM": "lm.model",
    "BudgetConfig": "training.schedule",
    "CharEmbedError": "errors",
    "CharEmbedder": "embedding.embedder",
    "CharLM": "lm.model",
    "CharLMConfig": "lm.model",
    "CharVocab": "text.vocab",
    "Context": "embedding.context",
    "Corpus": "text.corpus",
    "CorpusConfig": "text.corpus",
    "ObjectiveConfig": "training.objective",
    "OptimizerConfig": "training.schedule",
    "OutputConfig": "output.config",
    "Pretrained": "pretrained.model_folder",
    "Projection": "projection",
    "StaticVectors": "static_vectors",
    "Tagger": "tagging.tagger",
    "TaggerConfig": "tagging.training",
    "TrainConfig": "training.config",
    "VocabConfig": "text.vocab",
    "WordEmbeddings": "embedding.word_embeddings",
    "WordEncoder": "embedding.word_encoder",
    "add_words": "pretrained.added_words",
    "evaluate": "lm.scoring",
    "join": "pretrained.model_folder",
    "load_static_vectors": "static_vectors",
    "train": "training.train",
    "train_tagger": "tagging.training",
    "write_embeddings": "output.writer",
}

__all__ = [
    "BiCharLM",
    "BudgetConfig",
    "CharEmbedError",
    "CharEmbedder",
    "CharLM",
    "CharLMConfig",
    "CharVocab",
    "Context",
    "Corpus",
    "CorpusConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "OutputConfig",
    "Pretrained",
    "Projection",
    "StaticVectors",
    "Tagger",
    "TaggerConfig",
    "TrainConfig",
    "VocabConfig",
    "WordEmbeddings",
    "WordEncoder",
    "__version__",
    "add_words",
    "evaluate",
    "join",
    "load_static_vectors",
    "train",
    "train_tagger",
    "write_embeddings",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        value = getattr(importlib.import_module(f"charembed.{_MODULES[name]}"), name)
        globals()[name] = value  # the next access does not call this function
        return value
    raise AttributeError(f"module 'charembed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
