"""Use word vectors as Flair token embeddings, and export language models in Flair's own format."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any, Unpack

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.options import EmbedderOptions, load_embedder
from charembed.embedding.word_encoder import set_trainable, word_vectors
from charembed.errors import CharEmbedError, import_extra
from charembed.lm.model import DIRECTIONS, BiCharLM, CharLMConfig, Direction
from charembed.pretrained.model_folder import Pretrained
from charembed.projection import Projection
from charembed.recurrent.translation import torch_weights
from charembed.static_vectors import StaticVectors
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
    """Vectors of a `CharEmbedder` for the tokens of Flair sentences, which are joined by single spaces.

    A single vector contains all parts: the states of both directions, the forward state first, and the static vector of
    the token if the model has static vectors. A tagger that Flair saves contains the language models and the static
    vectors: import this module before you load it.
    """

    def __init__(
        self,
        embedder: CharEmbedder | str | os.PathLike[str],
        name: str | None = None,
        *,
        fine_tune: bool = False,
        **options: Unpack[EmbedderOptions],
    ) -> None:
        """
        Args:
            embedder: an embedder, or the name or folder of its model.
            name: name under which Flair stores the vectors in a token. Flair considers vectors of the same name equal,
                so the default is different for each model.
            fine_tune: train the language models together with the tagger, in float32 and with dropout. Otherwise their
                weights stay fixed.
            options: options of `CharEmbedder.from_pretrained`, if `embedder` is a name or folder: device (by default
                `flair.device`, to which Flair also moves the models of a tagger), engine, precision, readout, parts,
                threads, batch_size, memory_mb, cache_mb, dim.

        Raises:
            CharEmbedError: no such model; an invalid option, or options for an embedder, which has its own; or the
                language models are part of another module with a different setting of training.
        """
        if not isinstance(embedder, CharEmbedder):
            options.setdefault("device", flair.device)
        embedder = load_embedder(embedder, **options)
        # Flair's base class reads these three attributes.
        self.name = name or _default_name(embedder)
        self.static_embeddings = not fine_tune
        self.fine_tune = fine_tune
        super().__init__()
        # A submodule, so that Flair saves, loads and moves the weights with the tagger.
        self.embedder = embedder
        self.model = embedder.model
        set_trainable(self.model, fine_tune, self, embedder.directions)
        self.eval()

    @property
    def embedding_length(self) -> int:
        """Number of dimensions of a token's vector."""
        return self.embedder.embedding_dim

    def train(self, mode: bool = True) -> CharEmbedderEmbeddings:
        """Set training mode; without `fine_tune`, do nothing, since dropout would make the vectors random."""
        super().train(mode and self.fine_tune)
        return self

    def _everything_embedded(self, data_points: Sequence[Sentence]) -> bool:
        """Return whether stored vectors can be reused: never while training changes the weights."""
        return not self.fine_tune and super()._everything_embedded(data_points)

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        texts = [[token.text for token in sentence] for sentence in sentences]
        results = word_vectors(self.embedder, texts, trainable=self.fine_tune)
        # The type that the tagger was converted to, as by half() or double().
        dtype = next(self.model.parameters()).dtype
        for sentence, vectors in zip(sentences, results, strict=True):
            for token, vector in zip(sentence, vectors.to(flair.device, dtype).unbind(), strict=True):
                # Flair does not store vectors that require gradients after a batch.
                token.set_embedding(self.name, vector.requires_grad_() if self.fine_tune else vector)
        return sentences

    def to_params(self) -> dict[str, Any]:
        """Return what a saved tagger contains in addition to the weights, as plain values."""
        pretrained, projection = self.embedder.pretrained, self.embedder.projection
        # Not the device: a tagger may be loaded on another machine.
        return {
            "name": self.name,
            "fine_tune": self.fine_tune,
            "precision": self.embedder.precision,
            "options": self.embedder.options,
            "architecture": dataclasses.asdict(self.model.config),
            "directions": self.model.directions,
            "tokenizer": pretrained.vocab.to_json(),
            "readout": pretrained.readout,
            "delimiter": pretrained.delimiter,
            "provenance": pretrained.provenance,
            "static_vectors": None if pretrained.static is None else pretrained.static.to_bytes(),
            "projection": None if projection is None else projection.to_bytes("float16"),
        }

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> CharEmbedderEmbeddings:
        """Return the embeddings that `to_params` described; Flair loads the weights afterwards."""
        static = params.get("static_vectors")
        projection = params.get("projection")
        pretrained = Pretrained(
            BiCharLM(CharLMConfig(**params["architecture"]), params["directions"]),
            CharVocab.from_json(params["tokenizer"]),
            params["readout"],
            params["delimiter"],
            params["provenance"],
            None if static is None else StaticVectors.from_bytes(static, "the saved tagger"),
            None if projection is None else Projection.from_bytes(projection, "the saved tagger"),
        )
        # Taggers saved by early versions have neither options nor precision nor fine_tune, and no static vectors.
        options = {"precision": params.get("precision", "float32")} | params.get("options", {})
        embedder = CharEmbedder(pretrained, device=flair.device, **options)
        return cls(embedder, name=params["name"], fine_tune=params.get("fine_tune", False))


def _default_name(embedder: CharEmbedder) -> str:
    """Return a name that tells vectors apart which differ in their model, parts or dimensions."""
    parts = "" if embedder.parts == embedder.pretrained.parts else "-" + "-".join(embedder.parts)
    reduced = "" if embedder.projection is None else f"-{embedder.projection.dim}"
    return f"charembed-{embedder.pretrained.digest()[:12]}{parts}{reduced}"


def export_flair(
    embedder: CharEmbedder, forward_pt: str | os.PathLike[str], backward_pt: str | os.PathLike[str]
) -> None:
    """Write the models of both directions as files of Flair language models, which `FlairEmbeddings(file)` loads.

    Static vectors are left out: Flair has `WordEmbeddings` for them.

    If the embedder's readout is "separator", Flair computes the same vectors. If it is "word", as for models trained
    with charembed, `FlairEmbeddings(file, with_whitespace=False)` does; a warning says so. Flair's vectors have all
    dimensions, whatever the embedder's `dim`. Existing files are replaced.

    Args:
        embedder: embedder with LSTMs, or GRUs with `reset_after`; Flair supports no other recurrences.
        forward_pt: file for the model that reads from left to right.
        backward_pt: file for the model that reads from right to left.

    Raises:
        CharEmbedError: Flair does not support the recurrence, a direction is missing, both files are the same, or one
            is a folder, a device, a pipe or a socket.
        OSError: a file cannot be written. In this case neither file is written.
    """
    models = [flair_language_model(embedder.pretrained, direction) for direction in DIRECTIONS]
    paths = [user_path(path) for path in (forward_pt, backward_pt)]
    if paths[0].resolve() == paths[1].resolve():
        raise CharEmbedError(f"the two models need two files, got {paths[0]} twice")
    with atomic_file(paths[0]) as first, atomic_file(paths[1]) as second:
        for model, temporary in zip(models, (first, second), strict=True):
            # Opening the file raises OSError if it cannot be written; PyTorch would raise errors of its own.
            with temporary.open("wb"):
                pass
            model.save(temporary)
    if embedder.pretrained.readout == "word":
        logger.warning("for the same vectors in Flair, use FlairEmbeddings(%r, with_whitespace=False)", str(paths[0]))


def flair_language_model(pretrained: Pretrained, direction: Direction) -> LanguageModel:
    """Return one direction as a Flair language model.

    Raises:
        CharEmbedError: Flair does not support the recurrence, or the direction is missing.
    """
    lm, config = pretrained.model.direction(direction), pretrained.model.config
    if config.cell not in ("lstm", "gru") or (config.cell == "gru" and not config.reset_after):
        raise CharEmbedError(f"Flair has no language model of {config.cell}, only of lstm, and of gru with reset_after")
    # <unk> has index 0 in Flair's dictionary, as in ours.
    dictionary = Dictionary(add_unk=True)
    for character in pretrained.vocab.characters:
        dictionary.add_item(character)
    sizes = (config.hidden_size, config.num_layers, config.embedding_dim, config.proj_size)
    model = LanguageModel(
        dictionary, direction == "forward", *sizes, pretrained.delimiter, config.dropout, recurrent_type=config.cell
    )
    # Flair uses PyTorch's recurrences, and other names than ours for the other modules.
    weights = {f"rnn.{name}": weight for name, weight in torch_weights(lm.rnn).items()}
    for name, module in (("encoder", lm.embedding), ("proj", lm.proj), ("decoder", lm.decoder)):
        if module is not None:
            weights |= {f"{name}.{part}": weight for part, weight in module.state_dict().items()}
    model.load_state_dict(weights)
    return model
