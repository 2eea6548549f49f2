"""Receives sentences in a network; hands on their word vectors as one padded tensor, with gradients where asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.engine import first_readings, iter_chunks
from charembed.embedding.passage import Passage, Reading
from charembed.errors import CharEmbedError
from charembed.lm.model import BiCharLM, CharLM
from charembed.pretrained.model_folder import Pretrained
from charembed.text.words import SpannedText, TextInput
from charembed.util.checks import check_integer


class WordEncoder(nn.Module):
    """From sentences to `(batch, words, output_size)`: the vectors of a `CharEmbedder` as a layer of a network.

    Its `state_dict` holds the language models' weights, and what tells their characters: it does not load into an
    encoder that reads text in another way. `torch.compile` leaves it as it is, since text is no tensor, and compiles
    what stands around it; it cannot be part of a graph without breaks (`fullgraph=True`), nor be exported: for that
    there is `charembed export-onnx`.
    """

    def __init__(
        self,
        embedder: CharEmbedder | str | os.PathLike[str],
        *,
        trainable: bool = False,
        projection_size: int | None = None,
    ) -> None:
        """
        Args:
            embedder: an embedder, or the name or folder of its model. Its models become part of this module.
            trainable: whether the language models are trained on with the network, in float32, their dropout included;
                otherwise they stay as they are, and their vectors are computed without gradients, several times faster.
            projection_size: width of a linear layer above the vectors, which is trained in any case; none by default.

        Raises:
            CharEmbedError: no such model, a width below 1, or the embedder's models are part of a module that trains
                them where this one would not, or the other way round.
        """
        super().__init__()
        if projection_size is not None:
            check_integer("projection_size", projection_size)
        self.embedder = embedder if isinstance(embedder, CharEmbedder) else CharEmbedder.from_pretrained(embedder)
        self.model = self.embedder.model
        self.trainable = trainable
        set_trainable(self.model, trainable, self)
        self.projection = None if projection_size is None else nn.Linear(self.embedder.embedding_dim, projection_size)

    @property
    def output_size(self) -> int:
        """Width of a word's vector."""
        return self.embedder.embedding_dim if self.projection is None else self.projection.out_features

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, trainable={self.trainable}"

    def train(self, mode: bool = True) -> WordEncoder:
        """As of any module; language models that are not trained have no dropout either."""
        super().train(mode)
        self.model.train(mode and self.trainable)
        return self

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, sentences: Sequence[TextInput]) -> tuple[Tensor, Tensor]:
        """
        Args:
            sentences: in any form that `CharEmbedder.embed` takes, lists of words among them.

        Returns:
            The vectors, zero beside the words, and whether there is a word. Shape: (batch, words, output_size), (batch,
            words)

        Raises:
            CharEmbedError: a span that lies outside its text.
            TypeError: a single `str` instead of a list of them, or items of another form.
        """
        weight = next(self.model.parameters())
        vectors = [found.to(weight) for found in word_vectors(self.embedder, sentences, trainable=self.trainable)]
        lengths = torch.tensor([len(found) for found in vectors], dtype=torch.long, device=weight.device)
        if vectors:
            padded = pad_sequence(vectors, batch_first=True)
        else:
            padded = weight.new_zeros(0, 0, self.embedder.embedding_dim)
        mask = torch.arange(padded.shape[1], device=weight.device) < lengths[:, None]
        projected = padded if self.projection is None else self.projection(padded)
        return projected * mask[:, :, None], mask

    def get_extra_state(self) -> Tensor:
        """How text is read, which no weight says: part of the `state_dict`."""
        return torch.tensor(list(json.dumps(_reading_of(self.embedder.pretrained)).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """
        Raises:
            CharEmbedError: the weights are of models that read text in another way.
        """
        given = json.loads(bytes(state.tolist()))
        mine = _reading_of(self.embedder.pretrained)
        differing = [name for name in mine if given.get(name) != mine[name]]
        if differing:
            raise CharEmbedError(f"these weights are of models with another {', '.join(differing)} than this encoder's")


def _reading_of(pretrained: Pretrained) -> dict[str, Any]:
    characters = "".join(pretrained.vocab.characters)
    return {"vocabulary": characters, "readout": pretrained.readout, "delimiter": pretrained.delimiter}


_USERS: WeakKeyDictionary[BiCharLM, tuple[ref[nn.Module], bool]] = WeakKeyDictionary()
"""The module that has a pair of language models for a part, and whether it trains them."""


def set_trainable(model: BiCharLM, trainable: bool, user: nn.Module) -> None:
    """Say which weights are to have gradients: those that word vectors depend on, or none.

    Args:
        model: the language models.
        trainable: whether they are trained.
        user: the module that they become a part of.

    Raises:
        CharEmbedError: another module has them, and wants otherwise.
    """
    other, wants = _USERS.get(model, (None, trainable))
    if other is not None and other() is not None and wants != trainable:
        raise CharEmbedError(
            f"these language models are part of another module already, which {'trains' if wants else 'does not train'}"
            " them: load them once more for this one"
        )
    _USERS[model] = ref(user), trainable
    model.requires_grad_(False)
    for direction in model.directions:
        lm = model.direction(direction)
        for part in (lm.embedding, lm.rnn, lm.proj):
            if part is not None:
                part.requires_grad_(trainable)


def word_vectors(embedder: CharEmbedder, texts: Iterable[TextInput], *, trainable: bool) -> Iterable[Tensor]:
    """What a part of a network gives for the texts: with gradients where its language models are trained and gradients
    are asked for, and from the engine otherwise.

    Shape: (words, embedding_dim) each
    """
    if trainable and torch.is_grad_enabled():
        return vectors_with_gradients(embedder.pretrained, texts)
    return (torch.from_numpy(found.vectors) for found in embedder.iter_embed(texts))


def vectors_with_gradients(pretrained: Pretrained, texts: Iterable[TextInput]) -> list[Tensor]:
    """What `CharEmbedder.embed` gives for the texts, all side by side, with gradients for the weights; with dropout
    where the models are in training mode.

    Shape: (words, embedding_dim) each
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a list of texts, got one str: put it in a list")
    spanned = [SpannedText.of(text) for text in texts]
    passages = [Passage(one.text, one.spans) for one in spanned]
    halves = []
    for direction in pretrained.model.directions:
        readings = [passage.reading(direction, pretrained.delimiter, pretrained.readout) for passage in passages]
        halves.append(_states(pretrained.model.direction(direction), readings, pretrained))
    return [torch.cat(both, dim=1) for both in zip(*halves, strict=True)]


def _states(lm: CharLM, readings: Sequence[Reading], pretrained: Pretrained) -> list[Tensor]:
    """The wanted states of each reading. Shape: (words, output_size) each"""
    weight = lm.embedding.weight
    found = [weight.new_zeros(0, lm.config.output_size)] * len(readings)
    order = sorted((k for k, reading in enumerate(readings) if reading.length), key=lambda k: -readings[k].length)
    if not order:
        return found
    pieces, numbers, state = [], [], None
    for ids, here, places in iter_chunks([readings[k] for k in order], pretrained.vocab.encode):
        if state is not None:
            state = first_readings(state, ids.shape[1])
        states, state = lm.hidden_states(torch.from_numpy(ids.astype(np.int64)).to(weight.device), state)
        pieces.append(states.flatten(0, 1).index_select(0, torch.from_numpy(places).to(weight.device)))
        numbers.append(here)
    back = torch.from_numpy(np.argsort(np.concatenate(numbers))).to(weight.device)
    counts = [len(readings[k].positions) for k in order]
    for k, states in zip(order, torch.split(torch.cat(pieces).index_select(0, back), counts), strict=True):
        found[k] = states
    return found
