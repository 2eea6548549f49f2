"""Receives a `CharEmbedder`; hands on Flair token embeddings, for `SequenceTagger` and `StackedEmbeddings`."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import torch

from charembed.embedder import CharEmbedder
from charembed.errors import import_extra
from charembed.language_model import BiCharLM, CharLMConfig
from charembed.pretrained import Pretrained
from charembed.vocab import CharVocab

import_extra("flair", extra="flair", purpose="charembed.integrations.flair")

import flair  # noqa: E402
from flair.data import Sentence  # noqa: E402
from flair.embeddings.base import TokenEmbeddings, register_embeddings  # noqa: E402


@register_embeddings
class CharEmbedderEmbeddings(TokenEmbeddings):
    """Vectors of a `CharEmbedder` for the tokens of Flair sentences, joined by single spaces.

    Both directions come in one vector. The weights are not trained further. A tagger saved by Flair holds all it needs:
    import this module before it is loaded.
    """

    def __init__(self, embedder: CharEmbedder | str | os.PathLike[str], name: str | None = None) -> None:
        """
        Args:
            embedder: an embedder, or the folder of its model.
            name: under which Flair keeps the vectors with a token; by default one that tells models apart, since Flair
                takes vectors of the same name for the same.
        """
        if not isinstance(embedder, CharEmbedder):
            embedder = CharEmbedder.from_pretrained(embedder, device=flair.device)
        self.name = name or f"charembed-{embedder.pretrained.digest()[:12]}"
        self.static_embeddings = True
        super().__init__()
        self.embedder = embedder
        self.model = embedder.model.requires_grad_(False)
        self.eval()

    @property
    def embedding_length(self) -> int:
        """Width of a token's vector."""
        return self.embedder.embedding_dim

    def train(self, mode: bool = True) -> CharEmbedderEmbeddings:  # noqa: ARG002 (the language model stays as it is)
        """Does nothing: the weights are frozen, and dropout would make the vectors depend on chance."""
        super().train(False)
        return self

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        texts = [[token.text for token in sentence] for sentence in sentences]
        for sentence, found in zip(sentences, self.embedder.iter_embed(texts), strict=True):
            vectors = torch.from_numpy(found.vectors).to(flair.device)
            for token, vector in zip(sentence, vectors, strict=True):
                token.set_embedding(self.name, vector)
        return sentences

    def to_params(self) -> dict[str, Any]:
        """What a saved tagger holds beside the weights, all of it plain values."""
        pretrained = self.embedder.pretrained
        return {
            "name": self.name,
            "architecture": dataclasses.asdict(self.model.config),
            "directions": self.model.directions,
            "tokenizer": pretrained.vocab.to_json(),
            "readout": pretrained.readout,
            "delimiter": pretrained.delimiter,
            "provenance": pretrained.provenance,
        }

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> CharEmbedderEmbeddings:
        """The embeddings that `to_params` described, with weights to be loaded by Flair."""
        pretrained = Pretrained(
            BiCharLM(CharLMConfig(**params["architecture"]), params["directions"]),
            CharVocab.from_json(params["tokenizer"]),
            params["readout"],
            params["delimiter"],
            params["provenance"],
        )
        return cls(CharEmbedder(pretrained, device=flair.device), name=params["name"])
