"""Tag texts with a trained tagger."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.options import EmbedderOptions
from charembed.embedding.word_embeddings import EmbeddedPart, WordEmbeddings
from charembed.errors import CharEmbedError
from charembed.pretrained.hub import SCHEME, upload
from charembed.recurrent.float32_precision import float32_products
from charembed.static_vectors import StaticVectors
from charembed.tagging.network import TaggerNetwork
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagged_text import Entity, TaggedText
from charembed.tagging.tagger_folder import (
    ModelStorage,
    TaggerFiles,
    load_tagger_files,
    save_tagger,
    tagger_from_contents,
)
from charembed.tagging.word_tags import WordTags, most_probable_tags
from charembed.text.words import SpannedText, TextInput

MAX_WORDS = 256
"""Number of words that the network reads at once. Longer texts are cut, at the end of a sentence if there is one."""
BATCH_WORDS = 4096
"""Number of words, with padding, that the network reads in one batch."""
POOL_WORDS = 8192
"""Number of words that are collected before they are divided into batches of similar length."""
_SENTENCE_ENDS = frozenset(".!?…。！？؟।")


@dataclass
class _PartialText:
    """A text while its words are tagged."""

    text: str
    words: list[str] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    tags: dict[str, list[str]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)
    entities: list[Entity] = field(default_factory=list)

    def add(self, embeddings: WordEmbeddings, tags: Mapping[str, WordTags]) -> None:
        """Append words and their tags, by layer."""
        self.words += embeddings.words
        self.spans += embeddings.spans
        for layer, word_tags in tags.items():
            self.tags[layer] += word_tags.tags
            self.scores[layer] += word_tags.scores
            for entity in word_tags.entities:
                start, end = embeddings.spans[entity.start][0], embeddings.spans[entity.end - 1][1]
                self.entities.append(Entity(start, end, entity.label, self.text[start:end], entity.score, layer))

    def finished(self) -> TaggedText:
        self.entities.sort(key=lambda entity: (entity.start, entity.end))
        return TaggedText(self.text, self.words, self.spans, self.tags, self.scores, self.entities)


@dataclass(frozen=True)
class _Piece:
    """Consecutive words of a text that the network reads together."""

    text: _PartialText
    embeddings: WordEmbeddings
    ends_text: bool

    def __len__(self) -> int:
        return len(self.embeddings)


class Tagger:
    """Finds entities, parts of speech and any other tags in texts.

    Word vectors of a `CharEmbedder` are read by a `TaggerNetwork`. Each text is read on its own, so its tags do not
    depend on the texts beside it.
    """

    def __init__(
        self,
        embedder: CharEmbedder,
        network: TaggerNetwork,
        static: StaticVectors | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        """
        Args:
            embedder: computes the word vectors.
            network: the trained network.
            static: static vectors that follow those of the embedder in the input of the network.
            provenance: what the tagger was trained on and its scores. JSON values.

        Raises:
            CharEmbedError: the network is for vectors of another size.
        """
        size = input_size(embedder, static)
        if network.config.input_size != size:
            raise CharEmbedError(
                f"the tagger is for word vectors of {network.config.input_size} dimensions, but these have {size}"
            )
        self.embedder = embedder
        self.network = network.eval()
        self.static = static
        self.provenance = provenance or {}

    def __repr__(self) -> str:
        layers = ", ".join(f"{layer.name}: {' '.join(layer.labels)}" for layer in self.layers)
        return f"Tagger({layers})"

    @property
    def layers(self) -> tuple[TagLayer, ...]:
        """The layers of tags."""
        return self.network.layers

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str], **options: Unpack[EmbedderOptions]) -> Tagger:
        """Load a tagger. Nothing in its folder is ever unpickled.

        Args:
            name_or_path: path of a tagger folder, name of a bundled tagger such as "en-ner", or `hf://owner/name` for a
                tagger on the Hugging Face Hub.
            options: options of `CharEmbedder.from_pretrained` that do not change what the vectors mean: device, engine,
                precision, threads, batch_size, memory_mb, cache_mb.

        Raises:
            CharEmbedError: no such tagger, a missing or damaged file, a newer format, or a language model that is not
                the one that the tagger was trained with.
            MissingExtraError: ONNX Runtime is requested but not installed.
        """
        return cls._from_files(load_tagger_files(name_or_path, options.get("device")), options)

    @classmethod
    def from_contents(cls, contents: Mapping[str, bytes], source: str, **options: Unpack[EmbedderOptions]) -> Tagger:
        """Load a tagger from the contents of its files, which `files().contents(…)` returns.

        Args:
            contents: contents by path in the folder.
            source: where they come from, for error messages.
            options: as for `load`.

        Raises:
            CharEmbedError: as for `load`.
            MissingExtraError: ONNX Runtime is requested but not installed.
        """
        return cls._from_files(tagger_from_contents(contents, source), options)

    @classmethod
    def _from_files(cls, files: TaggerFiles, options: EmbedderOptions) -> Tagger:
        fixed = sorted({"readout", "parts", "dim"} & options.keys())
        if fixed:
            raise CharEmbedError(f"{', '.join(fixed)} cannot be set: the tagger was trained with its own")
        device = options.pop("device", None)
        embedder = CharEmbedder(files.pretrained, device, **{**options, **files.embedder_options})
        return cls(embedder, files.network.to(device), files.static, files.provenance)

    def save(self, folder: str | os.PathLike[str], model: ModelStorage = "auto") -> None:
        """Write the tagger folder atomically. An existing tagger folder is replaced.

        Args:
            folder: path of the folder.
            model: how the language model is stored: "float32" or "float16" put it into the folder, "reference" stores
                the name of a bundled model and a digest of its weights. "auto" is "reference" for a bundled model and
                "float32" for any other.

        Raises:
            CharEmbedError: the folder contains anything else, or the model is no bundled one and cannot be referred to.
            OSError: the folder cannot be written; an existing one is left unchanged.
        """
        save_tagger(self.files(), folder, model)

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, commit_message: str = "Upload a charembed tagger"
    ) -> str:
        """Upload the tagger folder to the Hugging Face Hub; `Tagger.load("hf://owner/name")` loads it from there.

        Log in with `hf auth login` or set the environment variable HF_TOKEN.

        Args:
            repo_id: repository, as owner/name. It is created if it does not exist.
            private: whether a new repository is private; by default the owner's setting.
            commit_message: message of the commit.

        Returns:
            The URL of the commit.

        Raises:
            CharEmbedError: the Hub refuses the upload or cannot be reached.
        """
        repo_id = repo_id.removeprefix(SCHEME)
        files = self.files().contents("auto", address=SCHEME + repo_id)
        return upload(files, repo_id, private=private, message=commit_message)

    def predict(self, texts: Iterable[TextInput]) -> list[TaggedText]:
        """Tag texts.

        Args:
            texts: texts in any form that `CharEmbedder.embed` accepts: `str`, lists of words, or pairs of a text and
                the spans of its words.

        Raises:
            CharEmbedError: a span lies outside its text or ends before it starts, or words overlap or are out of order.
            TypeError: `texts` is a single `str`, or an item has another form.
        """
        return list(self.iter_predict(texts))

    def iter_predict(self, texts: Iterable[TextInput]) -> Iterator[TaggedText]:
        """Yield what `predict` returns, text by text and in order, without keeping the texts in memory."""
        pool: list[_Piece] = []
        words = 0
        for piece in self._pieces(texts):
            pool.append(piece)
            words += len(piece)
            if words >= POOL_WORDS or len(pool) == POOL_WORDS:  # texts may have no words
                yield from self._tag(pool)
                pool, words = [], 0
        yield from self._tag(pool)

    def files(self) -> TaggerFiles:
        """Return the content of the tagger folder."""
        embedder = self.embedder
        dim = None if embedder.projection is None else embedder.embedding_dim
        options = {"parts": list(embedder.parts), "dim": dim}
        return TaggerFiles(embedder.pretrained, self.network, self.static, options, self.provenance)

    def _pieces(self, texts: Iterable[TextInput]) -> Iterator[_Piece]:
        """Yield the embedded words of the texts in pieces that the network can read at once."""
        if isinstance(texts, str):
            raise TypeError("texts must be a list of texts, got a single str: put it in a list")
        # The embedder reads ahead: keep the texts until their words arrive.
        ahead: deque[str] = deque()

        def remember() -> Iterator[SpannedText]:
            for item in texts:
                spanned = SpannedText.of(item)
                _check_order(spanned)
                ahead.append(spanned.text)
                yield spanned

        partial: _PartialText | None = None
        for part in self.embedder.iter_parts(remember()):
            if partial is None:
                names = [layer.name for layer in self.layers]
                partial = _PartialText(
                    ahead.popleft(), tags={name: [] for name in names}, scores={name: [] for name in names}
                )
            yield from _cut(part, partial)
            if part.ends_text:
                partial = None

    def _tag(self, pieces: list[_Piece]) -> Iterator[TaggedText]:
        """Tag the words of consecutive pieces, and yield the texts that are complete."""
        tags: list[dict[str, WordTags]] = [{} for _ in pieces]
        for batch in _batches([len(piece) for piece in pieces]):
            vectors = [self.input_vectors(pieces[number].embeddings) for number in batch]
            with float32_products(self.network.center.device, self.embedder.precision):
                lattices = self.network.lattices(vectors)
            for layer, lattice in zip(self.layers, lattices, strict=True):
                for number, word_tags in zip(batch, most_probable_tags(layer, lattice), strict=True):
                    tags[number][layer.name] = word_tags
        for piece, layers in zip(pieces, tags, strict=True):
            piece.text.add(piece.embeddings, layers)
            if piece.ends_text:
                yield piece.text.finished()

    def input_vectors(self, embeddings: WordEmbeddings) -> Tensor:
        """Return the vectors that the network reads: those of the embedder, then the static ones.

        Shape: (words, input_size)
        """
        return torch.from_numpy(with_static(embeddings, self.static)).to(self.network.center.device)


def input_size(embedder: CharEmbedder, static: StaticVectors | None) -> int:
    """Return the number of dimensions of the vectors that `with_static` returns."""
    return embedder.embedding_dim + (0 if static is None else static.dim)


def with_static(embeddings: WordEmbeddings, static: StaticVectors | None) -> NDArray[np.float32]:
    """Return the vectors of words, followed by their static vectors if there are any. Shape: (words, input_size)"""
    if static is None:
        return embeddings.vectors
    return np.concatenate([embeddings.vectors, static.lookup(embeddings.words)], axis=1)


def _check_order(text: SpannedText) -> None:
    """Refuse words that overlap or are out of order: a vector has no need of an order, but tags are a sequence.

    Raises:
        CharEmbedError: there are such words.
    """
    starts, ends = text.spans.T
    wrong = np.flatnonzero(ends[:-1] > starts[1:])
    if len(wrong):
        before, after = (tuple(text.spans[k].tolist()) for k in (wrong[0], wrong[0] + 1))
        raise CharEmbedError(
            f"the words of a text to tag must be in its order and must not overlap, got span {after} after {before}"
        )


def _cut(part: EmbeddedPart, text: _PartialText) -> Iterator[_Piece]:
    """Cut the words of a text into pieces of at most `MAX_WORDS`, after the last end of a sentence in each."""
    embeddings = part.embeddings
    starts = [0]
    while len(embeddings) - starts[-1] > MAX_WORDS:
        limit = starts[-1] + MAX_WORDS
        # The second half only: pieces should not be short.
        ends = [k + 1 for k in range(limit - MAX_WORDS // 2, limit) if embeddings.words[k][-1:] in _SENTENCE_ENDS]
        starts.append(ends[-1] if ends else limit)
    for start, end in itertools.pairwise([*starts, len(embeddings)]):
        words = slice(start, end)
        piece = WordEmbeddings(embeddings.words[words], embeddings.spans[words], embeddings.vectors[words])
        yield _Piece(text, piece, part.ends_text and end == len(embeddings))


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the numbers of pieces of similar length, at most `BATCH_WORDS` words with padding; none without words."""
    order = sorted((number for number, length in enumerate(lengths) if length), key=lambda number: lengths[number])
    batch: list[int] = []
    for number in order:
        if batch and lengths[number] * (len(batch) + 1) > BATCH_WORDS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
