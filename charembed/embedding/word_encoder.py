"""A PyTorch module that computes word vectors of sentences, with gradients if the language models are trained."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Unpack
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from charembed.embedding.batching import iter_chunks
from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.options import EmbedderOptions, load_embedder
from charembed.embedding.passage import Passage, Reading
from charembed.embedding.text_preparation import TextPreparation
from charembed.embedding.torch_engine import first_readings
from charembed.embedding.vector_layout import VectorLayout
from charembed.errors import CharEmbedError
from charembed.lm.model import BiCharLM, CharLM, Direction
from charembed.pretrained.model_folder import Pretrained
from charembed.pretrained.parts import Part
from charembed.projection import Projection
from charembed.recurrent.float32_precision import float32_products
from charembed.text.words import SpannedText, TextInput
from charembed.util.checks import MAX_DIM, check_integer


class WordEncoder(nn.Module):
    """Computes the vectors of a `CharEmbedder` as a layer of a network.

    The `state_dict` contains the weights of the language models and how they read text: it cannot be loaded into an
    encoder that reads text differently, or that has other parts or static vectors. Static vectors are never trained.
    `torch.compile` compiles the network around this module, but not the module itself, because its input is text; for
    the same reason it cannot be compiled with `fullgraph=True` or exported. To export the language models, use
    `charembed export-onnx`.
    """

    def __init__(
        self,
        embedder: CharEmbedder | str | os.PathLike[str],
        *,
        trainable: bool = False,
        projection_size: int | None = None,
        **options: Unpack[EmbedderOptions],
    ) -> None:
        """
        Args:
            embedder: an embedder, or the name or folder of its model. Its language models become part of this module.
            trainable: whether the language models are trained with the network, in float32 and with dropout. Otherwise
                their weights stay fixed, and vectors are computed without gradients, which is several times faster.
            projection_size: width of a linear layer that is applied to the vectors and always trained; none by default.
            options: options of `CharEmbedder.from_pretrained`, if `embedder` is a name or folder: device, engine,
                precision, readout, parts, threads, batch_size, memory_mb, cache_mb, dim.

        Raises:
            CharEmbedError: the model does not exist, `projection_size` is out of range, an option is invalid, there are
                options for an embedder, which has its own, or the language models are already part of another module
                with another value of `trainable`.
        """
        super().__init__()
        if projection_size is not None:
            check_integer("projection_size", projection_size, maximum=MAX_DIM)
        self.embedder = load_embedder(embedder, **options)
        self.model = self.embedder.model
        self.trainable = trainable
        set_trainable(self.model, trainable, self, self.embedder.directions)
        self.projection = None if projection_size is None else nn.Linear(self.embedder.embedding_dim, projection_size)

    @property
    def output_size(self) -> int:
        """Number of dimensions of a word's vector."""
        return self.embedder.embedding_dim if self.projection is None else self.projection.out_features

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, trainable={self.trainable}"

    def train(self, mode: bool = True) -> WordEncoder:
        """Set training mode; language models that are not trained stay in evaluation mode, without dropout."""
        super().train(mode)
        self.model.train(mode and self.trainable)
        return self

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, sentences: Sequence[TextInput]) -> tuple[Tensor, Tensor]:
        """Compute the word vectors of sentences.

        Args:
            sentences: texts in any form that `CharEmbedder.embed` accepts, for example lists of words.

        Returns:
            The vectors, with zeros as padding, and a mask that is true for words. Shape: (batch, words, output_size),
            (batch, words)

        Raises:
            CharEmbedError: a span lies outside its text.
            TypeError: `sentences` is a single `str`, or an item has another form.
        """
        weight = next(self.model.parameters())
        embedded = word_vectors(self.embedder, sentences, trainable=self.trainable)
        vectors = [sentence.to(weight) for sentence in embedded]
        lengths = torch.tensor([len(sentence) for sentence in vectors], dtype=torch.long, device=weight.device)
        if vectors:
            padded = pad_sequence(vectors, batch_first=True)
        else:
            padded = weight.new_zeros(0, 0, self.embedder.embedding_dim)
        mask = torch.arange(padded.shape[1], device=weight.device) < lengths[:, None]
        with float32_products(weight.device, self.embedder.precision):
            projected = padded if self.projection is None else self.projection(padded)
        return projected * mask[:, :, None], mask  # the projection's bias is not for padding

    def get_extra_state(self) -> Tensor:
        """Return the part of the `state_dict` that is not weights: how the language models read text."""
        return torch.tensor(list(json.dumps(_text_settings(self.embedder)).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """Check that weights to be loaded are of language models that read text in the same way.

        Raises:
            CharEmbedError: they read text differently.
        """
        loaded = json.loads(bytes(state.tolist()))
        expected = _text_settings(self.embedder)
        differing = [name for name in {**expected, **loaded} if loaded.get(name) != expected.get(name)]
        if differing:
            raise CharEmbedError(
                f"these weights cannot be loaded: their language models have another {', '.join(differing)} than this"
                " encoder's"
            )


def _text_settings(embedder: CharEmbedder) -> dict[str, Any]:
    """Return everything that the vectors depend on, except for weights."""
    pretrained, projection = embedder.pretrained, embedder.projection
    settings = {
        "vocabulary": "".join(pretrained.vocab.characters),
        "readout": pretrained.readout,
        "delimiter": pretrained.delimiter,
    }
    # The states of all language models are what earlier versions computed, and they stored nothing about it.
    if embedder.parts != pretrained.model.directions:
        settings["parts"] = ",".join(embedder.parts)
    if "words" in embedder.parts and pretrained.static is not None:
        settings["static vectors"] = pretrained.static.digest()
    if projection is not None:
        settings["projection"] = hashlib.sha256(projection.to_bytes()).hexdigest()
    return settings


_OWNERS: WeakKeyDictionary[BiCharLM, tuple[ref[nn.Module], bool]] = WeakKeyDictionary()
"""The module that a pair of language models is part of, and whether the module trains them."""


def set_trainable(model: BiCharLM, trainable: bool, owner: nn.Module, directions: Collection[Direction]) -> None:
    """Make a module train the weights on which word vectors depend, or none.

    Args:
        model: the language models.
        trainable: whether the module trains them.
        owner: the module of which they become part.
        directions: those on which the vectors depend: weights of others would never get a gradient.

    Raises:
        CharEmbedError: the language models are already part of another module with another value of `trainable`.
    """
    other, trained_there = _OWNERS.get(model, (None, trainable))
    is_shared = other is not None and other() is not None
    if is_shared and trained_there != trainable:
        raise CharEmbedError(
            "these language models are already part of another module, which"
            f" {'trains' if trained_there else 'does not train'} them: load them again for this module"
        )
    _OWNERS[model] = ref(owner), trainable
    # The decoder is left out: no word vector depends on it. Another module may train the other direction.
    if not (is_shared and trainable):
        model.requires_grad_(False)
    for direction in directions:
        lm = model.direction(direction)
        for module in (lm.embedding, lm.rnn, lm.proj):
            if module is not None:
                module.requires_grad_(trainable)


def word_vectors(embedder: CharEmbedder, texts: Iterable[TextInput], *, trainable: bool) -> Iterable[Tensor]:
    """Return the vectors of each text, for use in a network.

    They have gradients if the language models are trained and gradients are enabled. Otherwise the embedder's engine
    computes them. On CUDA, PyTorch's own setting decides whether the backward pass uses TF32: it runs in the caller.

    Shape: (words, embedding_dim) each
    """
    if trainable and torch.is_grad_enabled():
        device = next(embedder.model.parameters()).device
        with float32_products(device, embedder.precision):
            return vectors_with_gradients(embedder.pretrained, texts, embedder.parts, embedder.projection)
    return (torch.from_numpy(text.vectors) for text in embedder.iter_embed(texts))


def vectors_with_gradients(
    pretrained: Pretrained,
    texts: Iterable[TextInput],
    parts: Sequence[Part] | None = None,
    projection: Projection | None = None,
) -> list[Tensor]:
    """Return the vectors of `CharEmbedder.embed` with gradients for the weights, computed as a single batch.

    Dropout is applied if the models are in training mode.

    Args:
        pretrained: the models, their vocabulary, and how they read text.
        texts: texts in any form that `CharEmbedder.embed` accepts.
        parts: parts of a vector, as in `CharEmbedder`.
        projection: reduces the vectors; None keeps all dimensions.

    Returns:
        Shape: (words, embedding_dim) each
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a list of texts, got a single str: put it in a list")
    compose = TextPreparation(pretrained.vocab).compose
    passages = [Passage(spanned.text, spanned.spans) for spanned in map(compose, map(SpannedText.of, texts))]
    layout = VectorLayout.of(pretrained, parts)
    columns = []
    for direction in layout.directions:
        readings = [passage.reading(direction, pretrained.delimiter, pretrained.readout) for passage in passages]
        columns.append(_states(pretrained.model.direction(direction), readings, pretrained))
    if layout.has_words:
        columns.append(_static_vectors(passages, pretrained))
    vectors = [torch.cat(of_text, dim=1) for of_text in zip(*columns, strict=True)]
    if projection is None or not vectors:
        return vectors
    mean, components = (torch.from_numpy(array).to(vectors[0]) for array in (projection.mean, projection.components))
    return [(whole - mean) @ components.T for whole in vectors]


def _static_vectors(passages: Sequence[Passage], pretrained: Pretrained) -> list[Tensor]:
    """Return the static vectors of the words of each passage. Shape: (words, dim) each"""
    assert pretrained.static is not None
    weight = next(pretrained.model.parameters())
    return [torch.from_numpy(pretrained.static.lookup(passage.words)).to(weight) for passage in passages]


def _states(lm: CharLM, readings: Sequence[Reading], pretrained: Pretrained) -> list[Tensor]:
    """Return the states of each reading at its positions. Shape: (words, output_size) each"""
    weight = lm.embedding.weight
    result = [weight.new_zeros(0, lm.config.output_size)] * len(readings)
    order = sorted((k for k, reading in enumerate(readings) if reading.length), key=lambda k: -readings[k].length)
    if not order:
        return result
    # Read chunk by chunk, the longest readings first; readings that have ended are dropped from the state.
    selected_states, selected, state = [], [], None
    for chunk in iter_chunks([readings[k] for k in order], pretrained.vocab.encode):
        if state is not None:
            state = first_readings(state, chunk.ids.shape[1])
        states, state = lm.hidden_states(torch.from_numpy(chunk.ids.astype(np.int64)).to(weight.device), state)
        positions = torch.from_numpy(chunk.flat_positions).to(weight.device)
        selected_states.append(states.flatten(0, 1).index_select(0, positions))
        selected.append(chunk.selected)
    # Chunks give states in the order of reading: sort them by reading and position.
    inverse = torch.from_numpy(np.argsort(np.concatenate(selected))).to(weight.device)
    counts = [len(readings[k].positions) for k in order]
    by_reading = torch.split(torch.cat(selected_states).index_select(0, inverse), counts)
    for k, states in zip(order, by_reading, strict=True):
        result[k] = states
    return result
