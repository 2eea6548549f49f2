"""Receives the name of a model; hands on a spaCy `tok2vec` architecture for trained components, and a component that
gives documents and tokens their vectors. spaCy finds both by itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.engine_choice import EnginePrecision
from charembed.errors import CharEmbedError, import_extra
from charembed.pretrained.model_folder import Pretrained
from charembed.text.words import TextInput

import_extra("spacy", extra="spacy", purpose="charembed.integrations.spacy")

import srsly  # noqa: E402
from spacy.language import Language  # noqa: E402
from spacy.tokens import Doc, Span, Token  # noqa: E402
from spacy.util import minibatch  # noqa: E402
from thinc.api import Maxout, Model, Shim, chain, with_array  # noqa: E402
from thinc.types import Floats2d  # noqa: E402

Vectors = NDArray[np.float32]


def char_embed_tok2vec(
    model: str = "en", width: int | None = None, precision: EnginePrecision = "float32", cache_mb: int = 1000
) -> Model[list[Doc], list[Floats2d]]:
    """The architecture `charembed.CharEmbedTok2Vec.v1`: vectors of a document's tokens, read in its own text.

    The language models are not trained on. They are read when the pipeline is initialised, and are part of it from then
    on: one that was saved needs no other file.

    Args:
        model: name or folder of the model.
        width: of a Maxout layer (three pieces, with layer normalisation) above the vectors, which is trained; none by
            default, for the vectors as they are.
        precision: of the computation, as in `CharEmbedder`.
        cache_mb: size, in megabytes, of the vectors kept: those of a text that comes again, as in every epoch, are not
            computed anew. It should hold the whole training text: 4 bytes times the vectors' width for each token.

    Raises:
        CharEmbedError: no such model, when the pipeline is initialised.
    """
    options: dict[str, Any] = {"precision": precision, "cache_mb": cache_mb}
    vectors: Model[list[Doc], list[Floats2d]] = Model(
        "charembed_vectors", _forward, init=_init, dims={"nO": None}, shims=[_LanguageModels(model, options)]
    )
    if width is None:
        return vectors
    return chain(vectors, with_array(Maxout(width, nP=3, normalize=True, dropout=0.0)))


class _LanguageModels(Shim):
    """The part of a Thinc model that is neither its parameters nor its settings."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        super().__init__(None)
        self._source = _Source(name, options)

    @property
    def embedder(self) -> CharEmbedder:
        return self._source.embedder

    def finish_update(self, optimizer: Any) -> None:
        """Nothing: they are not trained on."""

    def to_device(self, device_type: str, device_id: int) -> None:
        """Nothing: spaCy moves arrays to the CPU and back by itself."""

    def to_bytes(self) -> bytes:
        return self._source.to_bytes()

    def from_bytes(self, data: bytes) -> _LanguageModels:
        self._source.from_bytes(data)
        return self


class _Source:
    """An embedder that is loaded by name when it is first used, or comes out of a saved pipeline."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self._name = name
        self._options = options
        self._embedder: CharEmbedder | None = None

    @property
    def embedder(self) -> CharEmbedder:
        if self._embedder is None:
            self._embedder = CharEmbedder.from_pretrained(self._name, **self._options)
        return self._embedder

    def put(self, pretrained: Pretrained) -> None:
        self._embedder = CharEmbedder(pretrained, **self._options)

    def to_bytes(self) -> bytes:
        return cast(bytes, srsly.msgpack_dumps(self.embedder.pretrained.files()))

    def from_bytes(self, data: bytes) -> None:
        try:
            files = srsly.msgpack_loads(data)
        except Exception as error:  # of whatever kind: msgpack has several, and no base for them
            raise CharEmbedError(f"the saved pipeline is damaged: {error}") from error
        self.put(Pretrained.from_files(files, "the saved pipeline"))


def _init(model: Model[Any, Any], X: Any = None, Y: Any = None) -> None:  # noqa: ARG001, N803 (Thinc passes them by name)
    model.set_dim("nO", _embedder(model).embedding_dim)


def _forward(
    model: Model[Any, Any],
    docs: list[Doc],
    is_train: bool,  # noqa: ARG001 (Thinc passes it)
) -> tuple[list[Floats2d], Callable[[Any], list[Any]]]:
    found = _embedder(model).iter_embed(map(_text, docs))
    return [model.ops.asarray2f(cast(Any, each.vectors)) for each in found], lambda _: []


def _embedder(model: Model[Any, Any]) -> CharEmbedder:
    return cast(_LanguageModels, model.shims[0]).embedder


def _text(doc: Doc) -> TextInput:
    return doc.text, [(token.idx, token.idx + len(token)) for token in doc]


class CharEmbedVectors:
    """The component `charembed`: fills `doc.tensor`, and makes it what `vector` of a token, span and document give.

    In a pipeline that has static vectors too, spaCy forgets this last part when a document is sent to another process
    or saved; `doc.tensor` it keeps.
    """

    def __init__(self, model: str | os.PathLike[str] = "en", precision: EnginePrecision = "float32") -> None:
        """
        Args:
            model: name or folder of the model, which is loaded when it is first used.
            precision: of the computation, as in `CharEmbedder`.
        """
        self._source = _Source(str(model), {"precision": precision})

    @property
    def embedder(self) -> CharEmbedder:
        """What computes the vectors."""
        return self._source.embedder

    def __call__(self, doc: Doc) -> Doc:
        """
        Raises:
            CharEmbedError: no such model.
        """
        return next(self.pipe([doc]))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Many documents, so many of them side by side."""
        for docs in minibatch(stream, size=batch_size):  # type: ignore[no-untyped-call]
            for doc, found in zip(docs, self.embedder.iter_embed(map(_text, docs)), strict=True):
                doc.tensor = found.vectors
                if doc.vocab.vectors.size:  # which spaCy prefers to the tensor; several processes lose these hooks
                    doc.user_token_hooks |= {"vector": _of_token, "has_vector": _yes}
                    doc.user_span_hooks |= {"vector": _of_span, "has_vector": _yes}
                    doc.user_hooks |= {"vector": _of_doc, "has_vector": _yes}
                yield doc

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:  # noqa: ARG002 (spaCy passes it)
        """The models, for a pipeline that is kept in memory."""
        return self._source.to_bytes()

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> CharEmbedVectors:  # noqa: ARG002
        """
        Raises:
            CharEmbedError: it holds no model, or a damaged one.
        """
        self._source.from_bytes(data)
        return self

    def to_disk(self, path: str | os.PathLike[str], *, exclude: Iterable[str] = ()) -> None:  # noqa: ARG002
        """The model folder, as part of the pipeline's."""
        self.embedder.save_pretrained(path)

    def from_disk(self, path: str | os.PathLike[str], *, exclude: Iterable[str] = ()) -> CharEmbedVectors:  # noqa: ARG002
        """
        Raises:
            CharEmbedError: no model folder, or a damaged one.
        """
        self._source.put(Pretrained.load(path))
        return self


@Language.factory(
    "charembed", assigns=["doc.tensor", "token.vector"], default_config={"model": "en", "precision": "float32"}
)
def make_char_embed_vectors(nlp: Language, name: str, model: str, precision: EnginePrecision) -> CharEmbedVectors:  # noqa: ARG001
    """`nlp.add_pipe("charembed", config={"model": …})`."""
    return CharEmbedVectors(model, precision)


def _of_token(token: Token) -> Vectors:
    return cast(Vectors, token.doc.tensor[token.i])


def _of_span(span: Span) -> Vectors:
    return _mean(span.doc, slice(span.start, span.end))


def _of_doc(doc: Doc) -> Vectors:
    return _mean(doc, slice(None))


def _mean(doc: Doc, which: slice) -> Vectors:
    """Of no words: zeros."""
    vectors = cast(Vectors, doc.tensor)[which]
    total: Vectors = vectors.sum(axis=0)
    return total / np.float32(max(1, len(vectors)))


def _yes(_: Token | Span | Doc) -> bool:
    return True
