"""Measure how well language models predict text, in bits per character."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from charembed.errors import CharEmbedError
from charembed.lm.model import BiCharLM, CharLM, Direction
from charembed.recurrent.float32_precision import float32_products
from charembed.text.corpus import Corpus, document_texts
from charembed.text.vocab import CODE_POINTS, UNKNOWN_ID, CharVocab, Ids
from charembed.util.workers import WorkerPool

_PADDING = -1
"""Target that is not scored."""


@dataclass(frozen=True)
class ScoringLimits:
    """How a text is cut to score it in batches."""

    lane: int = 4096
    """Characters of a lane, at least: each begins in a state that has read a single character."""
    lanes: int = 64
    """Lanes that are read side by side, at most."""
    chunk: int = 128
    """Characters of each lane that are scored at a time, to bound memory."""
    segment: int = 4_000_000
    """Characters that `evaluate` scores at a time, to bound memory."""

    def lanes_of(self, characters: int) -> tuple[int, int]:
        """Return the number of lanes for a stream, and their length. The last lane may be shorter."""
        lanes = max(1, min(self.lanes, characters // self.lane))
        return lanes, -(-characters // lanes)


DEFAULT_LIMITS = ScoringLimits()

Observer = Callable[[Tensor], None]
"""Is given the states of each chunk in turn. Lane by lane, the state at index i is the one after character i - 1 of the
stream, which predicts character i. Shape: (characters, lanes, output_size)"""


@dataclass(frozen=True)
class Score:
    """How well a language model predicts a text."""

    bits_per_character: float
    """Mean of -log2 p(character). An unknown character costs the bits of <unk> plus those that tell one code point from
    all others outside the vocabulary (20.1 bits for small vocabularies), so a smaller vocabulary never scores better
    for leaving characters out."""
    characters: int
    """Number of characters scored, which is all of them."""
    unknown_rate: float
    """Share of the characters that are <unk>."""


@dataclass(frozen=True)
class Evaluation:
    """How well the directions of a model predict the same text."""

    bits_per_character: dict[Direction, float]
    """Bits per character of each direction, as in `Score`."""
    characters: int
    """Number of characters scored: those of the documents and the blank line after each."""
    unknown_rate: float
    """Share of the characters that are not in the vocabulary."""


class ModelWithVocab(Protocol):
    """Anything that holds a model and its vocabulary, such as `Pretrained`."""

    @property
    def model(self) -> BiCharLM:
        """The model."""

    @property
    def vocab(self) -> CharVocab:
        """Its vocabulary."""


def evaluate(
    pretrained: ModelWithVocab | BiCharLM,
    corpus: Iterable[str],
    vocab: CharVocab | None = None,
    limits: ScoringLimits = DEFAULT_LIMITS,
) -> Evaluation:
    """Measure how well a model predicts text, in memory that does not grow with the text.

    Args:
        pretrained: a model with its vocabulary, or a model alone.
        corpus: the documents: a `Corpus`, or any strings.
        vocab: the vocabulary of a model that is given alone; by default that of `pretrained`.
        limits: how the text is cut; for tests.

    Raises:
        CharEmbedError: there is no text, a source cannot be read, or a model is given without a vocabulary.
    """
    if isinstance(pretrained, BiCharLM):
        if vocab is None:
            raise CharEmbedError("evaluate needs the vocabulary of a model that is given alone: pass vocab")
        model = pretrained
    else:
        model = pretrained.model
        vocab = pretrained.vocab if vocab is None else vocab
    pool = WorkerPool()
    characters = unknown = 0
    bits = dict.fromkeys(model.directions, 0.0)
    for ids in _segments((vocab.encode(text) for text in document_texts(corpus)), limits.segment):
        characters += len(ids)
        unknown += int(np.count_nonzero(ids == UNKNOWN_ID))
        for direction, result in score_all(model, ids, vocab, pool).items():
            bits[direction] += result.bits_per_character * len(ids)
    if not characters:
        names = f" in {', '.join(map(str, corpus.sources))}" if isinstance(corpus, Corpus) else ""
        raise CharEmbedError(f"no text{names}")
    return Evaluation(
        bits_per_character={direction: total / characters for direction, total in bits.items()},
        characters=characters,
        unknown_rate=unknown / characters,
    )


def _segments(texts: Iterable[Ids], size: int) -> Iterator[Ids]:
    """Join encoded texts into segments of a length, the last of which may be shorter."""
    segment: list[Ids] = []
    missing = size
    for ids in texts:
        start = 0
        while start < len(ids):
            segment.append(ids[start : start + missing].copy())  # a view would keep the whole text in memory
            start += len(segment[-1])
            missing -= len(segment[-1])
            if not missing:
                yield np.concatenate(segment)
                segment, missing = [], size
    if segment:
        yield np.concatenate(segment)


def score(
    lm: CharLM,
    ids: Ids,
    vocab: CharVocab,
    limits: ScoringLimits = DEFAULT_LIMITS,
    observe: Observer | None = None,
) -> Score:
    """Return the bits per character of one direction on a stream, each character of which is scored once.

    The stream is cut into lanes of about 4,096 characters, which are read side by side. The first lane begins in the
    zero state after a newline, each other lane in the zero state after the last character of the lane before it.

    Args:
        lm: the model; it is scored in evaluation mode and returned to the mode it was in.
        ids: the stream in the model's reading order, not empty. Shape: (characters,)
        vocab: the model's vocabulary.
        limits: how the stream is cut.
        observe: is given the states from which characters are predicted.
    """
    # Lanes of equal length; the last one is padded.
    count = len(ids)
    lanes, length = limits.lanes_of(count)
    stream = np.full(lanes * length + 1, _PADDING, dtype=np.int32)
    stream[:1] = vocab.encode("\n")
    stream[1 : count + 1] = ids
    # Each character is predicted from the one before it in the stream, also across the bounds of lanes.
    inputs, targets = (array.reshape(lanes, length).T for array in (stream[:-1], stream[1:]))
    device = lm.decoder.weight.device
    training = lm.training
    lm.eval()
    nats = 0.0
    state = None
    with torch.inference_mode(), float32_products(device, "float32"):
        for start in range(0, length, limits.chunk):
            chunk = slice(start, start + limits.chunk)
            x, y = (
                torch.from_numpy(array[chunk].astype(np.int64, order="C")).to(device) for array in (inputs, targets)
            )
            states, state = lm.hidden_states(x.clamp(min=0), state)
            logits = lm.decoder(states)
            expected = y.flatten()
            losses = functional.cross_entropy(logits.flatten(0, 1), expected, ignore_index=_PADDING, reduction="sum")
            nats += losses.item()
            if observe is not None:
                observe(states)
    lm.train(training)
    # Name each unknown character among all that the vocabulary lacks.
    unknown_rate = float(np.mean(np.asarray(ids) == UNKNOWN_ID))
    naming_bits = unknown_rate * math.log2(CODE_POINTS - len(vocab.characters))
    return Score(nats / math.log(2) / count + naming_bits, count, unknown_rate)


def score_all(
    model: BiCharLM,
    ids: Ids,
    vocab: CharVocab,
    pool: WorkerPool,
    observers: Mapping[Direction, Observer] | None = None,
) -> dict[Direction, Score]:
    """Return the `score` of each direction of a model on the same text.

    Args:
        model: both directions, or one of them.
        ids: the text in reading order. Shape: (characters,)
        vocab: the model's vocabulary.
        pool: the threads on which the directions are scored at the same time.
        observers: what is given the states of a direction, as in `score`.
    """

    def score_direction(direction: Direction) -> Score:
        observe = None if observers is None else observers.get(direction)
        stream = ids if direction == "forward" else ids[::-1]
        return score(model.direction(direction), stream, vocab, observe=observe)

    return pool.map(score_direction, model.directions)
