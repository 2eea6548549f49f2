"""Read labelled sentences from spaCy's `DocBin` files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from charembed.errors import CharEmbedError, import_extra
from charembed.tagging.annotated_text import ENTITY_LAYER, AnnotatedText, Annotation, AnnotationCounts
from charembed.tagging.source_file import SourceFile, SourceSentence, check_labelled
from charembed.text.opening import open_binary, read_errors

DOC_BIN_SUFFIX = ".spacy"
_ZLIB_HEADER = b"x"
"""First byte of a `DocBin`, which is compressed with zlib."""


def read_doc_bin(path: Path) -> SourceFile:
    """Read the documents of a `DocBin`: a layer of entities, and layers `tag` and `pos`, if any word has them.

    Sentences are those of the documents that have sentence boundaries; others are divided into lines.

    Raises:
        CharEmbedError: the file is not a `DocBin`, or its documents have neither entities nor tags.
        MissingExtraError: spaCy is not installed.
    """
    spacy: Any = import_extra("spacy", extra="spacy", purpose=f"reading {path}")
    check_labelled(path)
    with read_errors(path), open_binary(path) as content:
        data = content.read(1)
        if data != _ZLIB_HEADER:  # before all of it is read
            raise CharEmbedError(f"{path} is not a DocBin, or it is damaged: it is not compressed with zlib")
        data += content.read()
    try:
        # The vocabulary needs nothing of a language: the file contains all strings.
        docs = list(spacy.tokens.DocBin().from_bytes(data).get_docs(spacy.vocab.Vocab()))
    except Exception as error:  # zlib, msgpack and spaCy have errors of their own for damaged files
        raise CharEmbedError(f"{path} is not a DocBin, or it is damaged: {type(error).__name__}: {error}") from error

    has_entities = any(doc.ents for doc in docs)
    values: dict[str, Callable[[Any], str]] = {"tag": lambda token: token.tag_, "pos": lambda token: token.pos_}
    layers = {
        name: value for name, value in values.items() if any(map(value, (token for doc in docs for token in doc)))
    }
    if any(len(doc) for doc in docs) and not has_entities and not layers:
        raise CharEmbedError(f"{path} has no tags: its documents have neither entities nor tags")

    counts = AnnotationCounts()
    sentences: list[SourceSentence] = []
    for document, doc in enumerate(docs):
        tokens = [token for token in doc if not token.text.isspace()]
        used = 0
        for sentence in _annotated_text(doc, tokens).sentences(document, counts, _breaks(doc)):
            own = tokens[used : used + len(sentence.words)]
            used += len(own)
            tags = sentence.tags if has_entities else {}
            for name, value in layers.items():
                tags = tags | {name: [value(token) or None for token in own]}
            sentences.append(replace(sentence, tags=tags))
    return SourceFile(sentences, {ENTITY_LAYER: "entities"} if has_entities else {}, counts.notes())


def _annotated_text(doc: Any, tokens: list[Any]) -> AnnotatedText:
    words = [(token.idx, token.idx + len(token)) for token in tokens]
    annotations = [Annotation(span.start_char, span.end_char, span.label_) for span in doc.ents if span.label_]
    return AnnotatedText(doc.text, words, annotations)


def _breaks(doc: Any) -> list[tuple[int, int]] | None:
    """Return the characters between sentences; None if the document has no sentence boundaries."""
    if not doc.has_annotation("SENT_START"):
        return None
    spans = [(sentence.start_char, sentence.end_char) for sentence in doc.sents]
    return [(end, start) for (_, end), (start, _) in pairwise(spans)]
