"""Compute the word vectors of passages: short ones together in windows, long ones in parts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from charembed.embedding.batching import make_batches
from charembed.embedding.engine import Vectors
from charembed.embedding.engine_choice import EngineChooser, EngineSetup
from charembed.embedding.limits import EmbeddingLimits
from charembed.embedding.long_text import PartReader, can_be_split
from charembed.embedding.passage import Passage, Reading
from charembed.embedding.reduction import project_texts
from charembed.embedding.state_reader import StateReader
from charembed.embedding.vector_cache import VectorCache
from charembed.embedding.vector_layout import VectorLayout
from charembed.embedding.word_embeddings import EmbeddedPart, WordEmbeddings
from charembed.lm.model import Direction
from charembed.pretrained.model_folder import Pretrained
from charembed.projection import Projection
from charembed.util.forks import reset_after_fork


@dataclass(frozen=True)
class MemoryBudget:
    """How much memory vectors may take, in bytes."""

    window: int
    """Vectors of one window, beyond which no more texts are read ahead."""
    cache: int
    """Vectors kept for later calls."""


@dataclass
class _Window:
    """Consecutive passages that are embedded together."""

    passages: list[Passage] = field(default_factory=list)
    characters: int = 0
    words: int = 0

    def add(self, passage: Passage) -> None:
        self.passages.append(passage)
        self.characters += passage.characters
        self.words += len(passage.spans)


class PassageEmbedder:
    """Embeds a stream of passages with bounded memory.

    Consecutive passages are read ahead into windows, so that those of similar length share a batch and equal ones are
    computed once. A passage that is too long for a window is embedded in parts. Threads may share an embedder.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        layout: VectorLayout,
        engines: EngineChooser,
        memory: MemoryBudget,
        limits: EmbeddingLimits,
        projection: Projection | None = None,
    ) -> None:
        """
        Args:
            pretrained: the models, their vocabulary, and how they read text.
            layout: the parts of a vector.
            engines: chooses the engine.
            memory: how much memory vectors may take.
            limits: how much text is read ahead and computed at a time.
            projection: reduces the vectors; None keeps all dimensions.
        """
        self._pretrained = pretrained
        self._layout = layout
        self._projection = projection
        self._engines = engines
        self._memory = memory
        self._limits = limits
        self.reset_after_fork()
        reset_after_fork(self)

    def reset_after_fork(self) -> None:
        """Make a new lock and a new cache, which has a lock too."""
        self._lock = threading.Lock()
        self.cache = VectorCache(self._memory.cache)
        """Vectors of the texts used last, computed with the current weights."""

    def iter_parts(self, passages: Iterable[Passage]) -> Iterator[EmbeddedPart]:
        """Embed passages in order, reading ahead no further than one window."""
        window = _Window()
        for passage in passages:
            if self._is_long(passage):
                # The passages before it come first.
                yield from self._embed_window(window.passages)
                yield from self._embed_long(passage)
                window = _Window()
                continue
            window.add(passage)
            if self._is_full(window):
                yield from self._embed_window(window.passages)
                window = _Window()
        yield from self._embed_window(window.passages)

    def _is_full(self, window: _Window) -> bool:
        return (
            len(window.passages) >= self._limits.window_texts
            or window.characters >= self._limits.window_characters
            or window.words * self._bytes_per_word >= self._memory.window
        )

    def _is_long(self, passage: Passage) -> bool:
        words = len(passage.spans)
        exceeds_window = (
            passage.characters > self._limits.window_characters or words * self._bytes_per_word > self._memory.window
        )
        return exceeds_window and words > 0 and can_be_split(passage.spans)

    @property
    def _bytes_per_word(self) -> int:
        reduced = 0 if self._projection is None else self._projection.dim
        return (self._layout.dim + reduced) * np.dtype(np.float32).itemsize

    def _refresh(self) -> tuple[EngineSetup, VectorCache]:
        """Return the engine and the cache for the model as it is now.

        After a change of weights the cache is replaced, not emptied: another thread that is still computing with the
        old weights adds its vectors to the old cache.
        """
        with self._lock:
            # Without language models among the parts, none are prepared.
            if self._layout.directions and self._engines.refresh():
                self.cache = VectorCache(self._memory.cache)
            return self._engines.setup, self.cache

    def _embed_window(self, window: Sequence[Passage]) -> Iterator[EmbeddedPart]:
        if not window:
            return
        setup, cache = self._refresh()
        # Compute each distinct passage that is not in the cache, once.
        keys: list[Hashable] = [(p.text, p.spans.tobytes(), p.before, p.after) for p in window]
        distinct = dict(zip(keys, window, strict=True))
        vectors = cache.get(distinct)
        missing = {key: passage for key, passage in distinct.items() if key not in vectors}
        computed = dict(zip(missing, self._compute(list(missing.values()), setup), strict=True))
        # Another thread may have changed the weights, even for a moment, since the engine was prepared.
        if computed and cache.is_enabled and setup.engine.is_current():
            cache.add(computed)
        vectors |= computed
        # Return every passage in order. Arrays that are used again are copied: the caller may change what it receives.
        remaining = Counter(keys)
        for key, passage in zip(keys, window, strict=True):
            remaining[key] -= 1
            own = vectors[key].copy() if remaining[key] or cache.is_enabled else vectors.pop(key)
            yield EmbeddedPart(_word_embeddings(passage, slice(None), own), ends_text=True)

    def _compute(self, passages: Sequence[Passage], setup: EngineSetup) -> list[Vectors]:
        """Return the vectors of passages, computed batch by batch on all threads."""
        directions, slices = self._layout.directions, self._layout.slices
        vectors = [np.empty((len(p.spans), self._layout.dim), dtype=np.float32) for p in passages]
        self._fill_in_words([passage.words for passage in passages], vectors)
        reader = StateReader(setup.engine, self._pretrained.vocab.encode, self._limits)
        # Plan the batches of each direction: enough of them for all threads.
        readings = {direction: [self._reading(p, direction) for p in passages] for direction in directions}
        at_least = -(-setup.threads // max(1, len(directions)))
        batches = {
            (direction, number): members
            for direction in directions
            for number, members in enumerate(
                make_batches(readings[direction], setup.batch_size, at_least, self._limits.column_multiple)
            )
        }

        def readings_of(batch: tuple[Direction, int]) -> list[Reading]:
            return [readings[batch[0]][k] for k in batches[batch]]

        def write(batch: tuple[Direction, int], states: list[Vectors]) -> None:
            """Write the states of one batch into its direction's part of the vectors."""
            for k, of_passage in zip(batches[batch], states, strict=True):
                vectors[k][:, slices[batch[0]]] = of_passage

        def read(batch: tuple[Direction, int]) -> None:
            write(batch, reader.read_batch(batch[0], readings_of(batch)))

        # The directions alternate, and the longest batches, which come first in each, start first.
        ordered = sorted(batches, key=lambda batch: batch[1])
        # Without batches, neither the pool nor the device is used.
        if setup.device_reader is None or not ordered:
            setup.pool.map(read, ordered)
        else:
            queued = ((batch[0], readings_of(batch)) for batch in ordered)
            states = setup.device_reader.read_batches(queued, self._pretrained.vocab.encode, self._limits)
            for batch, of_batch in zip(ordered, states, strict=True):
                write(batch, of_batch)
        return self._reduce(vectors)

    def _fill_in_words(self, words: Sequence[list[str]], vectors: Sequence[Vectors]) -> None:
        """Write the static vectors of the words of each text into their part of the vectors, if there is one."""
        if not self._layout.has_words:
            return
        assert self._pretrained.static is not None
        # All texts at once, since each lookup has fixed costs.
        static = self._pretrained.static.lookup([word for text in words for word in text])
        start = 0
        for array in vectors:
            array[:, self._layout.slices["words"]] = static[start : start + len(array)]
            start += len(array)

    def _embed_long(self, passage: Passage) -> Iterator[EmbeddedPart]:
        setup, _ = self._refresh()
        parts = PartReader(
            StateReader(setup.engine, self._pretrained.vocab.encode, self._limits),
            setup.pool,
            {direction: self._reading(passage, direction) for direction in self._layout.directions},
            passage.spans,
            # A quarter of the memory, since a part exists several times: its states, the whole, and the caller's.
            max_words=max(1, self._memory.window // 4 // self._bytes_per_word),
            part_characters=self._limits.part_characters,
        )
        for part, states in parts:
            vectors = np.empty((part.stop - part.start, self._layout.dim), dtype=np.float32)
            self._fill_in_words([passage.words_at(part)], [vectors])
            for direction, array in states.items():
                vectors[:, self._layout.slices[direction]] = array
            [reduced] = self._reduce([vectors])
            yield EmbeddedPart(_word_embeddings(passage, part, reduced), ends_text=part.stop == len(passage.spans))

    def _reduce(self, vectors: list[Vectors]) -> list[Vectors]:
        """Return the vectors of texts with the dimensions that are asked for."""
        return vectors if self._projection is None else project_texts(self._projection, vectors)

    def _reading(self, passage: Passage, direction: Direction) -> Reading:
        return passage.reading(direction, self._pretrained.delimiter, self._pretrained.readout)


def _word_embeddings(passage: Passage, part: slice, vectors: Vectors) -> WordEmbeddings:
    given = passage.original or passage
    spans = [(start, end) for start, end in given.spans[part].tolist()]
    return WordEmbeddings(given.words_at(part), spans, vectors)
