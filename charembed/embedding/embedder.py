"""Receives texts; hands on their words, offsets and contextual vectors."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray

from charembed.embedding.batching import make_batches
from charembed.embedding.context import Context, iter_passages
from charembed.embedding.engine import Engine, TorchEngine, read_batch
from charembed.embedding.long_text import PartReader, stand_apart
from charembed.embedding.onnx_engine import OnnxEngine
from charembed.embedding.passage import Passage, Reading
from charembed.embedding.word_embeddings import EmbeddedPart, WordEmbeddings
from charembed.errors import CharEmbedError
from charembed.lm.model import Direction, Readout
from charembed.pretrained.flair_checkpoint import read_flair
from charembed.pretrained.hub import SCHEME, upload
from charembed.pretrained.model_folder import Pretrained, StoredType
from charembed.text.words import SpannedText, TextInput
from charembed.util.checks import check_choice, check_integer
from charembed.util.devices import check_device
from charembed.util.workers import WorkerPool

logger = logging.getLogger(__name__)

EngineName = Literal["auto", "torch", "onnx"]
EnginePrecision = Literal["float32", "int8", "bfloat16"]

WINDOW_TEXTS = 8192
"""Texts looked at together, so that those of like length run side by side; fewer where their vectors take more memory
than they may."""
WINDOW_CHARACTERS = 1_000_000
_MB = 1_000_000


class CharEmbedder:
    """Turns texts into contextual word vectors (Akbik, Blythe & Vollgraf 2018).

    A word's vector is the forward model's state at its last character beside the backward model's at its first. Both
    models read each text on its own from the zero state, so the same text always gives the same vectors.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        device: torch.device | str | None = None,
        engine: EngineName = "auto",
        precision: EnginePrecision = "float32",
        *,
        readout: Readout | None = None,
        threads: int = 2,
        batch_size: int | None = None,
        memory_mb: int = 128,
        cache_mb: int = 0,
    ) -> None:
        """
        Args:
            pretrained: models, vocabulary and how to read them. Not copied.
            device: where to run; where the models are, by default.
            engine: what runs the models. "torch", "onnx" (ONNX Runtime, on a CPU), or "auto": ONNX Runtime on a CPU
                where it is installed, which is as fast on many texts and faster on one, and PyTorch otherwise.
            precision: of the computation; "int8" is several times faster on a CPU, "bfloat16" on a GPU, and both are
                less exact.
            readout: "word" or "separator", as in the model folder, which says what is right; as said there, by default.
            threads: batches computed at the same time on a CPU, each by one thread.
            batch_size: texts side by side; 128 on a CPU, 512 on a GPU by default.
            memory_mb: size, in megabytes, of the vectors held at once: how far texts are read ahead.
            cache_mb: size of the vectors kept for texts that come again in later calls, the latest used ones.

        Raises:
            CharEmbedError: an option out of range, or an engine that cannot do what is asked of it.
            MissingExtraError: ONNX Runtime is asked for and not installed.
        """
        self._options: dict[str, Any] = {
            "engine": engine,
            "precision": precision,
            "threads": check_integer("threads", threads),
            "batch_size": None if batch_size is None else check_integer("batch_size", batch_size),
            "memory_mb": check_integer("memory_mb", memory_mb),
            "cache_mb": check_integer("cache_mb", cache_mb, minimum=0),
        }
        self.pretrained = pretrained if readout is None else dataclasses.replace(pretrained, readout=readout)
        self.model = pretrained.model if device is None else pretrained.model.to(check_device(device))
        self.model.eval()
        self.precision: EnginePrecision = precision
        self._threads = threads
        self._place()
        self._cache: LRUCache[Any, NDArray[np.float32]] = LRUCache(cache_mb * _MB, getsizeof=lambda v: v.nbytes)
        self._cache_lock = threading.Lock()

    def _place(self) -> None:
        """Choose what suits the device that the models are on."""
        self._device = self._device_now
        self.engine: Literal["torch", "onnx"] = _chosen(self._options["engine"], self.precision, self._device)
        """What runs the models."""
        self._batch_size = self._options["batch_size"] or (128 if self._device.type == "cpu" else 512)
        self._pool = WorkerPool(self._threads, caller_works=self.engine == "onnx")
        self._engine: Engine
        if self.engine == "onnx":
            self._engine = OnnxEngine(self.model, "int8" if self.precision == "int8" else "float32")
        else:
            dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
            self._engine = TorchEngine(self.model, dtype)

    @property
    def _device_now(self) -> torch.device:
        return next(self.model.parameters()).device

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles have threads, an engine and a cache of their own."""
        return _restored, (self.pretrained, self._options)

    def __repr__(self) -> str:
        config = self.model.config
        return (
            f"CharEmbedder({config.cell}, embedding_dim={self.embedding_dim}, readout={self.pretrained.readout!r},"
            f" engine={self.engine!r}, precision={self.precision!r}, threads={self._threads})"
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] = "en",
        device: torch.device | str | None = None,
        engine: EngineName = "auto",
        precision: EnginePrecision = "float32",
        **options: Any,
    ) -> CharEmbedder:
        """Load a model folder.

        Args:
            name_or_path: a model that comes along, such as "en" (English); a folder that `charembed train` or
                `save_pretrained` wrote; `hf://owner/name` or `hf://owner/name@revision` for one on the Hugging Face
                Hub.
            device: "cpu" (the default), "cuda", …
            engine: what runs the models, as in `CharEmbedder`.
            precision: of the computation, as in `CharEmbedder`.
            options: further ones of `CharEmbedder`: readout, threads, batch_size, memory_mb, cache_mb.

        Raises:
            CharEmbedError: no such model, a damaged folder, an unknown engine or precision.
            MissingExtraError: ONNX Runtime is asked for and not installed.
        """
        pretrained = Pretrained.load(name_or_path, device="cpu" if device is None else device)
        embedder = cls(pretrained, engine=engine, precision=precision, **options)
        logger.info("%s", embedder)
        return embedder

    @classmethod
    def from_flair(
        cls,
        forward_pt: str | os.PathLike[str],
        backward_pt: str | os.PathLike[str],
        readout: Readout = "separator",
        **options: Any,
    ) -> CharEmbedder:
        """Load a pair of Flair's language models, whose vectors are those of `FlairEmbeddings`. Flair is not needed.

        Args:
            forward_pt: the model that reads from left to right; final models and checkpoints of a training.
            backward_pt: the one that reads from right to left.
            readout: "separator" for `with_whitespace=True`, Flair's default; "word" for `with_whitespace=False`, which
                models trained here want.
            options: further ones of `CharEmbedder`.

        Raises:
            CharEmbedError: a file is no such model or holds anything else, none of which is run; the two are no pair.
            OSError: a file cannot be read.
        """
        return cls(read_flair(forward_pt, backward_pt, readout), **options)

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: StoredType = "float32") -> None:
        """Write the model folder.

        Args:
            folder: where; a model folder that is there is replaced.
            dtype: of the stored weights: "float16" takes half the space, and changes vectors by less than 0.001 as a
                rule.

        Raises:
            CharEmbedError: the folder exists and holds something else; weights too large for float16.
            OSError: it cannot be written.
        """
        self.pretrained.save(folder, dtype)

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, commit_message: str = "Upload a charembed model"
    ) -> str:
        """Put the model folder on the Hugging Face Hub, from where `from_pretrained("hf://owner/name")` loads it.

        Who you are is what `hf auth login` or the environment variable HF_TOKEN says.

        Args:
            repo_id: owner/name. A repository that does not exist is made.
            private: whether a new one is private; as the owner has it set, by default.
            commit_message: of the change.

        Returns:
            The address of the change.

        Raises:
            CharEmbedError: the Hub refuses, or cannot be reached.
        """
        repo_id = repo_id.removeprefix(SCHEME)
        return upload(self.pretrained.files(address=SCHEME + repo_id), repo_id, private=private, message=commit_message)

    @property
    def embedding_dim(self) -> int:
        """Width of a word vector."""
        return self.model.embedding_dim

    def embed(self, texts: Iterable[TextInput], context: Context | None = None) -> list[WordEmbeddings]:
        """Words and vectors of each text, all held in memory.

        Args:
            texts: each a `str`, whose words are found; a sequence of words, which are joined by single spaces; or a
                pair `(text, spans)` with the offsets of its words.
            context: what to read of the texts before and after each one; nothing by default.

        Raises:
            CharEmbedError: a span that lies outside its text.
            TypeError: a single `str` instead of a list of them, or items of another form.
        """
        return list(self.iter_embed(texts, context))

    def iter_embed(self, texts: Iterable[TextInput], context: Context | None = None) -> Iterator[WordEmbeddings]:
        """`embed`, text by text in the order given, reading ahead no further than `memory_mb` allows."""
        parts = self.iter_parts(texts, context)
        return self._whole(parts)

    def iter_parts(
        self, texts: Iterable[TextInput], context: Context | None = None, *, skip: int = 0
    ) -> Iterator[EmbeddedPart]:
        """`iter_embed` for texts whose vectors may not fit into memory, which come in several parts.

        The backward model reads such a text twice: from its end to its start first, and once more for each part.

        Args:
            texts: as in `embed`.
            context: as in `embed`.
            skip: texts at the beginning that are context alone; nothing comes of them.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a list of texts, got one str: put it in a list")
        return self._parts(itertools.islice(iter_passages(map(SpannedText.of, texts), context), skip, None))

    def mapper(self, column: str = "text", context: Context | None = None) -> Callable[..., Any]:
        """A function for `datasets.Dataset.map(…, batched=True)` that adds the columns words, starts, ends, vectors.

        Args:
            column: of the texts or lists of words.
            context: as in `embed`; a document must not go on in the next batch.
        """
        from charembed.embedding.mapper import Mapper  # which comes after this module

        return Mapper(self, column, context)

    def _whole(self, parts: Iterator[EmbeddedPart]) -> Iterator[WordEmbeddings]:
        held: list[WordEmbeddings] = []
        for part in parts:
            if part.ends_text and not held:
                yield part.embeddings
                continue
            held.append(part.embeddings)
            if part.ends_text:
                yield WordEmbeddings(
                    [word for found in held for word in found.words],
                    [span for found in held for span in found.spans],
                    np.concatenate([found.vectors for found in held]),
                )
                held = []

    def _parts(self, passages: Iterator[Passage]) -> Iterator[EmbeddedPart]:
        window: list[Passage] = []
        characters = words = 0
        for passage in passages:
            if self._is_long(passage):
                yield from self._embed_window(window)
                yield from self._embed_long(passage)
                window, characters, words = [], 0, 0
                continue
            window.append(passage)
            characters += passage.characters
            words += len(passage.spans)
            full = len(window) >= WINDOW_TEXTS or characters >= WINDOW_CHARACTERS
            if full or self._bytes(words) >= self._options["memory_mb"] * _MB:
                yield from self._embed_window(window)
                window, characters, words = [], 0, 0
        yield from self._embed_window(window)

    def _bytes(self, words: int) -> int:
        return words * self.embedding_dim * np.dtype(np.float32).itemsize

    def _is_long(self, passage: Passage) -> bool:
        large = self._bytes(len(passage.spans)) > self._options["memory_mb"] * _MB
        long = large or passage.characters > WINDOW_CHARACTERS
        return long and len(passage.spans) > 0 and stand_apart(passage.spans)

    def _embed_window(self, window: list[Passage]) -> Iterator[EmbeddedPart]:
        """Texts side by side; those that are the same are computed once."""
        if not window:
            return
        keys = [(p.text, p.spans.tobytes(), p.before, p.after) for p in window]
        found: dict[Any, NDArray[np.float32]] = {}
        new: dict[Any, Passage] = {}
        self._refresh()
        with self._cache_lock:
            for key, passage in zip(keys, window, strict=True):
                if key in self._cache:
                    found[key] = self._cache[key]
                elif key not in new:
                    new[key] = passage
        computed = dict(zip(new, self._compute(list(new.values())), strict=True))
        if self._cache.maxsize:
            with self._cache_lock:
                for key, vectors in computed.items():
                    if vectors.nbytes <= self._cache.maxsize:
                        self._cache[key] = vectors
        found |= computed
        to_come = Counter(keys)
        for key, passage in zip(keys, window, strict=True):
            to_come[key] -= 1
            # Whoever changes an array changes that alone.
            vectors = found[key].copy() if to_come[key] or self._cache.maxsize else found.pop(key)
            yield EmbeddedPart(_named(passage, slice(None), vectors), ends_text=True)

    def _refresh(self) -> None:
        """Take notice of models that have been moved, and of weights that have changed: what was kept is of others."""
        if self._device_now != self._device:
            self._place()
        if self._engine.refresh():
            with self._cache_lock:
                self._cache.clear()

    def _compute(self, passages: Sequence[Passage]) -> list[NDArray[np.float32]]:
        """Vectors of passages, batch by batch on all threads."""
        vectors = [np.empty((len(p.spans), self.embedding_dim), dtype=np.float32) for p in passages]
        directions = self.model.directions
        width = self.model.config.output_size
        readings = {direction: [self._reading(p, direction) for p in passages] for direction in directions}
        at_least = -(-self._threads // len(directions))
        planned = {
            (direction, number): members
            for direction in directions
            for number, members in enumerate(make_batches(readings[direction], self._batch_size, at_least))
        }

        def read(batch: tuple[Direction, int]) -> None:
            direction, _ = batch
            columns = slice(width, None) if direction == "backward" and len(directions) == 2 else slice(0, width)
            wanted = [readings[direction][k] for k in planned[batch]]
            states = read_batch(self._engine, direction, wanted, self.pretrained.vocab.encode)
            for k, found in zip(planned[batch], states, strict=True):
                vectors[k][:, columns] = found

        self._pool.map(read, sorted(planned, key=lambda batch: batch[1]))
        return vectors

    def _embed_long(self, passage: Passage) -> Iterator[EmbeddedPart]:
        self._refresh()
        readings = {direction: self._reading(passage, direction) for direction in self.model.directions}
        words = max(1, self._options["memory_mb"] * _MB // 4 // self._bytes(1))
        encode = self.pretrained.vocab.encode
        for which, vectors in PartReader(self._engine, self._pool, encode, readings, passage.spans, words):
            yield EmbeddedPart(_named(passage, which, vectors), ends_text=which.stop == len(passage.spans))

    def _reading(self, passage: Passage, direction: Direction) -> Reading:
        return passage.reading(direction, self.pretrained.delimiter, self.pretrained.readout)


def _restored(pretrained: Pretrained, options: dict[str, Any]) -> CharEmbedder:
    return CharEmbedder(pretrained, **options)


def _named(passage: Passage, which: slice, vectors: NDArray[np.float32]) -> WordEmbeddings:
    spans = [(start, end) for start, end in passage.spans[which].tolist()]
    return WordEmbeddings(passage.words_at(which), spans, vectors)


def _chosen(engine: str, precision: str, device: torch.device) -> Literal["torch", "onnx"]:
    check_choice("engine", engine, get_args(EngineName))
    check_choice("precision", precision, get_args(EnginePrecision))
    if engine == "torch" and precision == "int8":
        raise CharEmbedError("the engine torch has no int8: use the engine onnx, or auto")
    if engine == "onnx" and precision == "bfloat16":
        raise CharEmbedError("the engine onnx has no bfloat16: use the engine torch, or int8")
    if engine == "auto" and precision == "float32" and device.type == "cpu":
        installed = all(importlib.util.find_spec(package) for package in ("onnx", "onnxruntime"))
        return "onnx" if installed else "torch"
    chosen: Literal["torch", "onnx"] = "onnx" if engine == "onnx" or precision == "int8" else "torch"
    if chosen == "onnx" and device.type != "cpu":
        raise CharEmbedError(f"the engine onnx runs on the CPU, the model is on {device}: use the engine torch")
    return chosen
