"""Tag documents in spaCy with a trained tagger.

An entry point announces the component to spaCy, so this module need not be imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Unpack

from charembed.embedding.engine_choice import EngineName, EnginePrecision
from charembed.embedding.options import EmbedderOptions
from charembed.errors import CharEmbedError, import_extra
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagged_text import TaggedText
from charembed.tagging.tagger import Tagger
from charembed.text.words import Span as Offsets

import_extra("spacy", extra="spacy", purpose="charembed.integrations.spacy_tagger")

import srsly  # noqa: E402
from spacy.language import Language  # noqa: E402
from spacy.parts_of_speech import IDS as UNIVERSAL_TAGS  # type: ignore[import-not-found]  # noqa: E402
from spacy.tokens import Doc, Span  # noqa: E402
from spacy.util import filter_spans, minibatch  # noqa: E402

from charembed.integrations.spacy import saved_files  # noqa: E402

Attribute = Literal["ents", "tag_", "pos_"]
_WHITE_SPACE: dict[Attribute, str] = {"tag_": "_SP", "pos_": "SPACE"}
"""Tags of tokens of white space, which taggers do not read: those of spaCy's own pipelines."""


class CharEmbedTagger:
    """The component `charembed_tagger`: sets `doc.ents`, `token.tag_` and `token.pos_`.

    Layers of entities set `doc.ents`: entities that are there already are kept, and of new ones that overlap each other
    the longest. A layer named upos or pos sets `token.pos_` if its tags are the universal parts of speech. Any other
    layer sets `token.tag_`.
    """

    def __init__(
        self, tagger: str | os.PathLike[str], layers: Sequence[str] | None = None, **options: Unpack[EmbedderOptions]
    ) -> None:
        """
        Args:
            tagger: name or folder of the tagger, which is loaded on first use.
            layers: names of the layers of tags to set; None for all.
            options: options of `Tagger.load`: device, engine, precision, threads, batch_size, memory_mb, cache_mb.
        """
        self._name = tagger
        self._layers = layers
        self._options = options
        self._tagger: Tagger | None = None

    @property
    def tagger(self) -> Tagger:
        """The tagger.

        Raises:
            CharEmbedError: no such tagger, or an invalid option.
        """
        if self._tagger is None:
            self._use(Tagger.load(self._name, **self._options))
        assert self._tagger is not None
        return self._tagger

    def __call__(self, doc: Doc) -> Doc:
        """Tag a document.

        Raises:
            CharEmbedError: no such tagger, or an invalid option.
        """
        return next(self.pipe([doc]))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Tag many documents, `batch_size` at a time.

        Raises:
            CharEmbedError: no such tagger, or an invalid option.
        """
        attributes = _attributes(self.tagger.layers, self._layers)
        for docs in minibatch(stream, size=batch_size):  # type: ignore[no-untyped-call]
            results = self.tagger.iter_predict((doc.text, _word_offsets(doc)) for doc in docs)
            for doc, result in zip(docs, results, strict=True):
                _set_annotations(doc, result, attributes)
                yield doc

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:  # noqa: ARG002 (spaCy passes it)
        """Return the files of the tagger as bytes. The options are part of the pipeline's configuration."""
        data: bytes = srsly.msgpack_dumps(self.tagger.files().contents("auto"))
        return data

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> CharEmbedTagger:  # noqa: ARG002
        """Load the tagger from the result of `to_bytes`.

        Raises:
            CharEmbedError: the bytes contain no tagger, or a damaged one.
        """
        self._use(Tagger.from_contents(saved_files(data), "the saved pipeline", **self._options))
        return self

    def to_disk(self, path: str | os.PathLike[str], *, exclude: Iterable[str] = ()) -> None:  # noqa: ARG002
        """Write the tagger folder as part of the pipeline's folder."""
        self.tagger.save(path)

    def from_disk(self, path: str | os.PathLike[str], *, exclude: Iterable[str] = ()) -> CharEmbedTagger:  # noqa: ARG002
        """Load the tagger from the result of `to_disk`.

        Raises:
            CharEmbedError: not a tagger folder, or a damaged one.
        """
        self._use(Tagger.load(path, **self._options))
        return self

    def _use(self, tagger: Tagger) -> None:
        """Replace the tagger.

        Raises:
            CharEmbedError: it lacks a layer, or two of its layers would set the same attribute.
        """
        _attributes(tagger.layers, self._layers)
        self._tagger = tagger


@Language.factory(
    "charembed_tagger",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type", "token.tag", "token.pos"],
    default_config={
        "layers": None,
        "device": None,
        "engine": "auto",
        "precision": "float32",
        "threads": 2,
        "batch_size": None,
        "memory_mb": 128,
        "cache_mb": 0,
    },
)
def make_char_embed_tagger(
    nlp: Language,  # noqa: ARG001 (spaCy passes both)
    name: str,  # noqa: ARG001
    tagger: str,
    layers: list[str] | None,
    device: str | None,
    engine: EngineName,
    precision: EnginePrecision,
    threads: int,
    batch_size: int | None,
    memory_mb: int,
    cache_mb: int,
) -> CharEmbedTagger:
    """Create the component for `nlp.add_pipe("charembed_tagger", config={"tagger": …})`."""
    return CharEmbedTagger(
        tagger,
        layers,
        device=device,
        engine=engine,
        precision=precision,
        threads=threads,
        batch_size=batch_size,
        memory_mb=memory_mb,
        cache_mb=cache_mb,
    )


def _attributes(layers: Sequence[TagLayer], chosen: Sequence[str] | None) -> dict[str, Attribute]:
    """Return which attribute each layer sets, by its name.

    Args:
        layers: the layers of the tagger.
        chosen: names of those to set; None for all.

    Raises:
        CharEmbedError: a chosen layer does not exist, or two of them would set the same attribute of a token.
    """
    names = [layer.name for layer in layers]
    if unknown := sorted({*(chosen or [])} - {*names}):
        raise CharEmbedError(f"layers: the tagger has no layer {', '.join(unknown)}, only {', '.join(names)}")
    attributes: dict[str, Attribute] = {}
    for layer in layers:
        if chosen is not None and layer.name not in chosen:
            continue
        attribute = _attribute(layer)
        rivals = [name for name, other in attributes.items() if other == attribute]
        if rivals and attribute != "ents":
            raise CharEmbedError(
                f"both layer {rivals[0]} and layer {layer.name} of the tagger would set token.{attribute}: name the"
                ' layers to use with the option "layers"'
            )
        attributes[layer.name] = attribute
    return attributes


def _attribute(layer: TagLayer) -> Attribute:
    if layer.kind == "entities":
        return "ents"
    is_universal = layer.name.lower() in ("upos", "pos") and UNIVERSAL_TAGS.keys() >= {*layer.tags}
    return "pos_" if is_universal else "tag_"


def _word_offsets(doc: Doc) -> list[Offsets]:
    """Return the offsets of the tokens that the tagger reads: all but white space."""
    return [(token.idx, token.idx + len(token)) for token in doc if not token.is_space]


def _set_annotations(doc: Doc, result: TaggedText, attributes: dict[str, Attribute]) -> None:
    """Set the attributes of a document.

    Args:
        doc: the document.
        result: its tags, one per token that is not white space.
        attributes: the attribute that each layer sets.
    """
    entities: list[Span] = []
    firsts = {token.idx: token.i for token in doc}
    ends = {token.idx + len(token): token.i + 1 for token in doc}
    for name, attribute in attributes.items():
        if attribute == "ents":
            entities += [
                Span(doc, firsts[entity.start], ends[entity.end], entity.label)
                for entity in result.entities
                if entity.layer == name
            ]
            continue
        tags = iter(result.tags[name])
        for token in doc:
            setattr(token, attribute, _WHITE_SPACE[attribute] if token.is_space else next(tags))
    if "ents" in attributes.values():
        _add_entities(doc, entities)


def _add_entities(doc: Doc, entities: list[Span]) -> None:
    """Add entities to those of a document, except where there are some or where entities are blocked."""
    blocked: list[Any] = [doc[token.i : token.i + 1] for token in doc if token.ent_iob == 3 and not token.ent_type]
    existing = list(doc.ents)
    taken = {token.i for span in (*existing, *blocked) for token in span}
    free = [span for span in entities if taken.isdisjoint(range(span.start, span.end))]
    doc.set_ents([*existing, *filter_spans(free)], blocked=blocked, default="outside")
