"""Receives a `CharEmbedder`; hands on Flair token embeddings for taggers, and files of Flair's own language models."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.word_encoder import set_trainable, word_vectors
from charembed.errors import CharEmbedError, import_extra
from charembed.lm.model import DIRECTIONS, BiCharLM, CharLMConfig, Direction
from charembed.pretrained.model_folder import Pretrained
from charembed.recurrent.translation import torch_weights
from charembed.text.vocab import CharVocab
from charembed.util.files import atomic_file, user_path

import_extra("flair", extra="flair", purpose="charembed.integrations.flair")

import flair  # noqa: E402
from flair.data import Dictionary, Sentence  # noqa: E402
from flair.embeddings.base import TokenEmbeddings, register_embeddings  # noqa: E402
from flair.models import LanguageModel  # noqa: E402

logger = logging.getLogger(__name__)


@register_embeddings
class CharEmbedderEmbeddings(TokenEmbeddings):
    """Vectors of a `CharEmbedder` for the tokens of Flair sentences, joined by single spaces.

    Both directions come in one vector, forward half first. A tagger saved by Flair holds all it needs: import this
    module before it is loaded.
    """

    def __init__(
        self, embedder: CharEmbedder | str | os.PathLike[str], name: str | None = None, *, fine_tune: bool = False
    ) -> None:
        """
        Args:
            embedder: an embedder, or the name or folder of its model.
            name: under which Flair keeps the vectors with a token; by default one that tells models apart, since Flair
                takes vectors of the same name for the same.
            fine_tune: train the language models on with the tagger, their dropout included. Otherwise they stay as they
                are.

        Raises:
            CharEmbedError: no such model, or the embedder's models are part of a module that trains them where this one
                would not, or the other way round.
        """
        if not isinstance(embedder, CharEmbedder):
            embedder = CharEmbedder.from_pretrained(embedder, device=flair.device)
        self.name = name or f"charembed-{embedder.pretrained.digest()[:12]}"
        self.static_embeddings = not fine_tune
        self.fine_tune = fine_tune
        super().__init__()
        self.embedder = embedder
        self.model = embedder.model
        set_trainable(self.model, fine_tune, self)
        self.eval()

    @property
    def embedding_length(self) -> int:
        """Width of a token's vector."""
        return self.embedder.embedding_dim

    def train(self, mode: bool = True) -> CharEmbedderEmbeddings:
        """Nothing without `fine_tune`: dropout would make the vectors depend on chance."""
        super().train(mode and self.fine_tune)
        return self

    def _everything_embedded(self, data_points: Sequence[Sentence]) -> bool:
        """Weights that are trained on make vectors of before wrong."""
        return not self.fine_tune and super()._everything_embedded(data_points)

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        texts = [[token.text for token in sentence] for sentence in sentences]
        found = word_vectors(self.embedder, texts, trainable=self.fine_tune)
        for sentence, vectors in zip(sentences, found, strict=True):
            for token, vector in zip(sentence, vectors.to(flair.device).unbind(), strict=True):
                # By this Flair knows vectors that it must not store.
                token.set_embedding(self.name, vector.requires_grad_() if self.fine_tune else vector)
        return sentences

    def to_params(self) -> dict[str, Any]:
        """What a saved tagger holds beside the weights, all of it plain values."""
        pretrained = self.embedder.pretrained
        return {
            "name": self.name,
            "fine_tune": self.fine_tune,
            "precision": self.embedder.precision,
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
        # The first taggers were saved without these two.
        embedder = CharEmbedder(pretrained, device=flair.device, precision=params.get("precision", "float32"))
        return cls(embedder, name=params["name"], fine_tune=params.get("fine_tune", False))


def export_flair(
    embedder: CharEmbedder, forward_pt: str | os.PathLike[str], backward_pt: str | os.PathLike[str]
) -> None:
    """Write a pair as files of Flair's own language models, which `FlairEmbeddings(file)` loads.

    They give the same vectors where the embedder's readout is "separator"; where it is "word", as with models trained
    here, do so with `FlairEmbeddings(file, with_whitespace=False)`, and a warning says so. Files that are there are
    replaced.

    Args:
        embedder: of LSTMs, or of GRUs with `reset_after`: Flair has no other recurrences.
        forward_pt: file of the model that reads from left to right.
        backward_pt: file of the one that reads from right to left.

    Raises:
        CharEmbedError: Flair has no such recurrence, a direction is missing, or both files are the same.
        OSError: a file cannot be written. Nothing is written then, in either place.
    """
    models = [flair_language_model(embedder.pretrained, direction) for direction in DIRECTIONS]
    paths = [user_path(path) for path in (forward_pt, backward_pt)]
    if paths[0].resolve() == paths[1].resolve():
        raise CharEmbedError(f"the two models go into two files, got {paths[0]} twice")
    with atomic_file(paths[0]) as first, atomic_file(paths[1]) as second:
        for model, aside in zip(models, (first, second), strict=True):
            with aside.open("wb"):  # PyTorch has errors of its own for what cannot be written
                pass
            model.save(aside)
    if embedder.pretrained.readout == "word":
        logger.warning("to have these vectors in Flair: FlairEmbeddings(%r, with_whitespace=False)", str(paths[0]))


def flair_language_model(pretrained: Pretrained, direction: Direction) -> LanguageModel:
    """One direction as Flair's own language model.

    Raises:
        CharEmbedError: Flair has no such recurrence, or the direction is missing.
    """
    lm, config = pretrained.model.direction(direction), pretrained.model.config
    if config.cell not in ("lstm", "gru") or (config.cell == "gru" and not config.reset_after):
        raise CharEmbedError(f"Flair has no language model of {config.cell}: it has lstm, and gru with reset_after")
    dictionary = Dictionary(add_unk=True)  # <unk> is row 0 there too
    for character in pretrained.vocab.characters:
        dictionary.add_item(character)
    sizes = (config.hidden_size, config.num_layers, config.embedding_dim, config.proj_size)
    model = LanguageModel(
        dictionary, direction == "forward", *sizes, pretrained.delimiter, config.dropout, recurrent_type=config.cell
    )
    weights = {f"rnn.{name}": weight for name, weight in torch_weights(lm.rnn).items()}
    for name, module in (("encoder", lm.embedding), ("proj", lm.proj), ("decoder", lm.decoder)):
        if module is not None:
            weights |= {f"{name}.{part}": weight for part, weight in module.state_dict().items()}
    model.load_state_dict(weights)
    return model
