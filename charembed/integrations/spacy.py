"""Use word vectors in spaCy: as a `tok2vec` architecture for trained components, and as a component that sets vectors.

Entry points announce both to spaCy, so this module need not be imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.engine_choice import EngineName, EnginePrecision
from charembed.embedding.options import EmbedderOptions
from charembed.errors import CharEmbedError, import_extra
from charembed.lm.model import Readout
from charembed.pretrained.model_folder import Pretrained
from charembed.pretrained.parts import Part
from charembed.text.words import TextInput

import_extra("spacy", extra="spacy", purpose="charembed.integrations.spacy")

import srsly  # noqa: E402
from spacy.language import Language  # noqa: E402
from spacy.tokens import Doc, Span, Token  # noqa: E402
from spacy.util import minibatch  # noqa: E402
from thinc.api import Maxout, Model, Shim, chain, with_array  # noqa: E402
from thinc.types import Floats2d  # noqa: E402

Vectors = NDArray[np.float32]


# spaCy's configuration system reads the names, types and defaults of the options from these signatures: the options of
# CharEmbedder are spelt out in each of them.
def char_embed_tok2vec(
    model: str = "en",
    width: int | None = None,
    precision: EnginePrecision = "float32",
    cache_mb: int = 1000,
    readout: Readout | None = None,
    threads: int = 2,
    device: str | None = None,
    engine: EngineName = "auto",
    batch_size: int | None = None,
    memory_mb: int = 128,
    parts: list[Part] | None = None,
    dim: int | None = None,
) -> Model[list[Doc], list[Floats2d]]:
    """Create the architecture `charembed.CharEmbedTok2Vec.v1`: vectors of the tokens of a document, read in its text.

    The weights of the language models stay fixed. The models are loaded when the pipeline is initialised and are part
    of it from then on: a saved pipeline needs no other file.

    Args:
        model: name or folder of the model.
        width: width of a Maxout layer (three pieces, with layer normalisation) that is applied to the vectors and
            trained; None for the unchanged vectors.
        precision: precision of the computation, as in `CharEmbedder`.
        cache_mb: size in megabytes of the cache for vectors of texts that appear again, as in every epoch. It should
            hold the vectors of the whole training text: four bytes per dimension and token.
        readout: characters at which states are read, as in `CharEmbedder`; None for the model folder's setting.
        threads: number of batches computed at the same time on a CPU, as in `CharEmbedder`.
        device: device of the language models, for example "cuda"; None for "cpu". spaCy's own device is independent.
        engine: software that runs the language models, as in `CharEmbedder`.
        batch_size: maximum number of texts in a batch, as in `CharEmbedder`.
        memory_mb: maximum size in megabytes of the vectors held in memory at once, as in `CharEmbedder`.
        parts: parts of which a vector consists, as in `CharEmbedder`; None for all that the model has.
        dim: number of dimensions, as in `CharEmbedder`; None for all.

    Raises:
        CharEmbedError: no such model or an invalid option, raised when the pipeline is initialised.
    """
    shim = _LanguageModels(
        model,
        precision=precision,
        cache_mb=cache_mb,
        readout=readout,
        threads=threads,
        device=device,
        engine=engine,
        batch_size=batch_size,
        memory_mb=memory_mb,
        parts=parts,
        dim=dim,
    )
    vectors: Model[list[Doc], list[Floats2d]] = Model(
        "charembed_vectors", _forward, init=_initialize, dims={"nO": None}, shims=[shim]
    )
    # Without a layer of its own, the components that use this architecture read the vectors themselves.
    if width is None:
        return vectors
    return chain(vectors, with_array(Maxout(width, nP=3, normalize=True, dropout=0.0)))


def saved_files(data: bytes) -> Any:
    """Return the contents of files by name that a pipeline has saved.

    Raises:
        CharEmbedError: they cannot be read.
    """
    try:
        return srsly.msgpack_loads(data)
    except Exception as error:  # msgpack's errors have no common base class
        raise CharEmbedError(f"the saved pipeline is damaged: {error}") from error


class _LazyEmbedder:
    """An embedder that is loaded by its name on first use, or comes from a saved pipeline."""

    def __init__(self, name: str, options: EmbedderOptions) -> None:
        self._name = name
        self._options = options
        self._embedder: CharEmbedder | None = None

    def get(self) -> CharEmbedder:
        if self._embedder is None:
            self._embedder = CharEmbedder.from_pretrained(self._name, **self._options)
        return self._embedder

    def use(self, pretrained: Pretrained) -> None:
        """Replace the embedder by one of a loaded model, with the same options."""
        self._embedder = CharEmbedder(pretrained, **self._options)

    def to_bytes(self) -> bytes:
        return cast(bytes, srsly.msgpack_dumps(self.get().pretrained.files()))

    def from_bytes(self, data: bytes) -> None:
        self.use(Pretrained.from_files(saved_files(data), "the saved pipeline"))


class _LanguageModels(Shim):
    """The language models as the part of a Thinc model that is neither a parameter nor a setting."""

    def __init__(self, name: str, **options: Unpack[EmbedderOptions]) -> None:
        super().__init__(None)
        self._embedder = _LazyEmbedder(name, options)

    @property
    def embedder(self) -> CharEmbedder:
        return self._embedder.get()

    def finish_update(self, optimizer: Any) -> None:
        """Do nothing: the language models are not trained."""

    def to_device(self, device_type: str, device_id: int) -> None:
        """Do nothing: the option `device` chooses the device of the language models."""

    def to_bytes(self) -> bytes:
        return self._embedder.to_bytes()

    def from_bytes(self, data: bytes) -> _LanguageModels:
        self._embedder.from_bytes(data)
        return self


def _initialize(model: Model[Any, Any], X: Any = None, Y: Any = None) -> None:  # noqa: ARG001, N803 (Thinc's names)
    model.set_dim("nO", _embedder_of(model).embedding_dim)


def _forward(
    model: Model[Any, Any],
    docs: list[Doc],
    is_train: bool,  # noqa: ARG001 (Thinc passes it)
) -> tuple[list[Floats2d], Callable[[Any], list[Any]]]:
    results = _embedder_of(model).iter_embed(map(_text_with_spans, docs))
    # The language models are not trained, so there are no gradients to pass back.
    return [model.ops.asarray2f(cast(Any, result.vectors)) for result in results], lambda _: []


def _embedder_of(model: Model[Any, Any]) -> CharEmbedder:
    return cast(_LanguageModels, model.shims[0]).embedder


def _text_with_spans(doc: Doc) -> TextInput:
    # Tokens are read at their offsets in the raw text, whose spaces say more than the tokens alone.
    return doc.text, [(token.idx, token.idx + len(token)) for token in doc]


class CharEmbedVectors:
    """The component `charembed`: sets `doc.tensor`, from which documents, spans and tokens get their `vector`.

    In a pipeline that also has static vectors, spaCy uses `doc.tensor` for `vector` only until a document is sent to
    another process or saved; `doc.tensor` itself is kept.
    """

    def __init__(self, model: str | os.PathLike[str] = "en", **options: Unpack[EmbedderOptions]) -> None:
        """
        Args:
            model: name or folder of the model, which is loaded on first use.
            options: options of `CharEmbedder.from_pretrained`: device, engine, precision, readout, parts, threads,
                batch_size, memory_mb, cache_mb, dim.
        """
        self._embedder = _LazyEmbedder(os.fspath(model), options)

    @property
    def embedder(self) -> CharEmbedder:
        """The embedder that computes the vectors."""
        return self._embedder.get()

    def __call__(self, doc: Doc) -> Doc:
        """Set the vectors of a document.

        Raises:
            CharEmbedError: no such model, or an invalid option.
        """
        return next(self.pipe([doc]))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Set the vectors of many documents, `batch_size` at a time.

        Raises:
            CharEmbedError: no such model, or an invalid option.
        """
        for docs in minibatch(stream, size=batch_size):  # type: ignore[no-untyped-call]
            results = self.embedder.iter_embed(map(_text_with_spans, docs))
            for doc, result in zip(docs, results, strict=True):
                doc.tensor = result.vectors
                if doc.vocab.vectors.size:  # spaCy would use static vectors instead; other processes lose these hooks
                    doc.user_token_hooks |= {"vector": _token_vector, "has_vector": _has_vector}
                    doc.user_span_hooks |= {"vector": _span_vector, "has_vector": _has_vector}
                    doc.user_hooks |= {"vector": _doc_vector, "has_vector": _has_vector}
                yield doc

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:  # noqa: ARG002 (spaCy passes it)
        """Return the language models as bytes. The options are part of the pipeline's configuration."""
        return self._embedder.to_bytes()

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> CharEmbedVectors:  # noqa: ARG002
        """Load the language models from the result of `to_bytes`.

        Raises:
            CharEmbedError: the bytes contain no model, or a damaged one.
        """
        self._embedder.from_bytes(data)
        return self

    def to_disk(self, path: str | os.PathLike[str], *, exclude: Iterable[str] = ()) -> None:  # noqa: ARG002
        """Write the model folder as part of the pipeline's folder."""
        self.embedder.save_pretrained(path)

    def from_disk(self, path: str | os.PathLike[str], *, exclude: Iterable[str] = ()) -> CharEmbedVectors:  # noqa: ARG002
        """Load the language models from the result of `to_disk`.

        Raises:
            CharEmbedError: not a model folder, or a damaged one.
        """
        self._embedder.use(Pretrained.load(path))
        return self


@Language.factory(
    "charembed",
    assigns=["doc.tensor", "token.vector"],
    default_config={
        "model": "en",
        "device": None,
        "engine": "auto",
        "precision": "float32",
        "readout": None,
        "parts": None,
        "threads": 2,
        "batch_size": None,
        "memory_mb": 128,
        "cache_mb": 0,
        "dim": None,
    },
)
def make_char_embed_vectors(
    nlp: Language,  # noqa: ARG001 (spaCy passes both)
    name: str,  # noqa: ARG001
    model: str,
    device: str | None,
    engine: EngineName,
    precision: EnginePrecision,
    readout: Readout | None,
    parts: list[Part] | None,
    threads: int,
    batch_size: int | None,
    memory_mb: int,
    cache_mb: int,
    dim: int | None,
) -> CharEmbedVectors:
    """Create the component for `nlp.add_pipe("charembed", config={"model": …})`."""
    return CharEmbedVectors(
        model,
        device=device,
        engine=engine,
        precision=precision,
        readout=readout,
        parts=parts,
        threads=threads,
        batch_size=batch_size,
        memory_mb=memory_mb,
        cache_mb=cache_mb,
        dim=dim,
    )


def _token_vector(token: Token) -> Vectors:
    return cast(Vectors, token.doc.tensor[token.i])


def _span_vector(span: Span) -> Vectors:
    return _mean_vector(span.doc, slice(span.start, span.end))


def _doc_vector(doc: Doc) -> Vectors:
    return _mean_vector(doc, slice(None))


def _mean_vector(doc: Doc, tokens: slice) -> Vectors:
    """Return the mean of the vectors of some tokens, and zeros if there are none."""
    vectors = cast(Vectors, doc.tensor)[tokens]
    total: Vectors = vectors.sum(axis=0)
    return total / np.float32(max(1, len(vectors)))


def _has_vector(_: Token | Span | Doc) -> bool:
    return True
