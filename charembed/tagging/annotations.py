"""Read labelled sentences from records with annotated spans, as doccano, Label Studio and Prodigy export them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charembed.errors import CharEmbedError
from charembed.tagging.annotated_text import ENTITY_LAYER, AnnotatedText, Annotation, AnnotationCounts
from charembed.tagging.source_file import (
    MAX_BYTES,
    SourceFile,
    SourceSentence,
    check_labelled,
    read_lines,
    read_pieces,
)
from charembed.text.json_values import JsonValues
from charembed.text.lines import read_head
from charembed.text.opening import JSON_SUFFIX, JSONL_SUFFIXES
from charembed.text.words import Span, find_words

ANNOTATION_SUFFIXES = (*JSONL_SUFFIXES, JSON_SUFFIX)
_SPAN_KEYS = ("spans", "entities", "label", "labels")
"""Keys of a record for its list of spans: those of Prodigy, then those of doccano."""

Record = dict[str, Any]


def read_annotations(path: Path) -> SourceFile:
    """Read a file of records, one JSON object per line or one JSON array. Each record is a document.

    A record has its text in `text`, or in `data.text` (Label Studio), and its spans in `spans`, `entities`, `label` or
    `labels`, as lists `[start, end, kind]` or as objects, or in `annotations[].result[].value` (Label Studio). Words
    are those of `tokens` (Prodigy) or of `charembed.text.words.find_words`.

    Raises:
        CharEmbedError: a record is not JSON or lacks something, a span is not within the text, no record has spans, or
            the file cannot be read.
    """
    counts = AnnotationCounts()
    sentences: list[SourceSentence] = []
    rejected = unlabelled = 0
    has_spans = False
    for document, (where, record) in enumerate(_records(path)):
        if record.get("answer") in ("reject", "ignore"):  # by an annotator, in Prodigy
            rejected += 1
            continue
        annotations = _annotations(record, where)
        if annotations is None:
            if _is_label_studio(record):
                unlabelled += 1
                continue
        else:
            has_spans = True
        text = _text(record, where)
        for annotation in annotations or []:
            _check_span(annotation.start, annotation.end, text, where)
        words = _words(record, text, where)
        sentences += AnnotatedText(text, words, annotations or []).sentences(document, counts)
    if sentences and not has_spans:
        raise CharEmbedError(
            f"{path} has no tags: no record has spans; expected them in {', '.join(_SPAN_KEYS)} or annotations"
        )
    notes = counts.notes()
    if rejected:
        notes.append(f"{rejected} records that an annotator rejected or ignored were left out")
    if unlabelled:
        notes.append(f"{unlabelled} records without annotations were left out")
    return SourceFile(sentences, {ENTITY_LAYER: "entities"}, notes)


def _records(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield the records and where each of them is, for errors."""
    check_labelled(path)
    beginning = read_head(path).decode("utf-8-sig", "replace").lstrip()
    # An array, or one object over several lines: neither begins with a line that is a record.
    if beginning.startswith("[") or beginning.partition("\n")[0].strip() == "{":
        for where, record in JsonValues(read_pieces(path), MAX_BYTES, str(path), ""):
            yield where, _check_record(record, where)
        return
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _check_record(_parse_json(line, where), where)


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise CharEmbedError(f"{where}: not JSON: {error.msg} at character {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise CharEmbedError(f"{where}: not JSON: {error}") from error


def _check_record(record: Any, where: str) -> Record:
    if not isinstance(record, dict):
        raise CharEmbedError(f"{where}: expected a JSON object, got {type(record).__name__}")
    return record


def _is_label_studio(record: Record) -> bool:
    return isinstance(record.get("data"), dict)


def _text(record: Record, where: str) -> str:
    data = record["data"] if _is_label_studio(record) else record
    text = data.get("text")
    if text is None and _is_label_studio(record):
        # The name of the field is that of the labelling interface; without another one there is no doubt.
        texts = [value for value in data.values() if isinstance(value, str)]
        text = texts[0] if len(texts) == 1 else None
    if not isinstance(text, str):
        keys = ", ".join(sorted(map(str, data)))
        raise CharEmbedError(f"{where}: no text: expected a string in 'text', and there are {keys or 'no keys'}")
    return text


def _words(record: Record, text: str, where: str) -> list[Span]:
    tokens = record.get("tokens")
    if not isinstance(tokens, list):
        return [(start, end) for start, end in find_words(text).tolist()]
    words: list[Span] = []
    for token in tokens:
        if not isinstance(token, dict):
            raise CharEmbedError(f"{where}: a token must be an object with start and end, got {token!r}")
        start, end = _offsets(token.get("start"), token.get("end"), where)
        _check_span(start, end, text, where)
        if words and start < words[-1][1]:
            raise CharEmbedError(f"{where}: the token at ({start}, {end}) begins before the one before it ends")
        if text[start:end].strip():  # some tokenizers make tokens of white space
            words.append((start, end))
    return words


def _annotations(record: Record, where: str) -> list[Annotation] | None:
    """Return the annotations of a record; None if it has no key for them."""
    if _is_label_studio(record):
        results = _label_studio_results(record, where)
        if results is None:
            return None
        text = _text(record, where)
        return [annotation for result in results for annotation in _label_studio_annotations(result, text, where)]
    values = [record[key] for key in _SPAN_KEYS if record.get(key) is not None]
    # JSON-MIN of Label Studio names the list like the control of the labelling interface.
    values += [value for value in record.values() if _holds_label_studio_values(value)]
    # Prodigy has spans and, where a question is about one kind, this kind as the label.
    lists = [value for value in values if isinstance(value, list)]
    if values and not lists:
        raise CharEmbedError(f"{where}: the spans must be a list, got {values[0]!r}")
    if not lists:
        return [] if any(key in record for key in _SPAN_KEYS) else None
    items = next(filter(None, lists), [])
    if _holds_label_studio_values(items):
        text = _text(record, where)
        return [annotation for value in items for annotation in _label_studio_annotations(value, text, where)]
    return [_annotation(item, where) for item in items]


def _annotation(item: Any, where: str) -> Annotation:
    """Return a span that is `[start, end, kind]` or an object."""
    if isinstance(item, list) and len(item) == 3:
        start, end, kind = item
    elif isinstance(item, dict) and "label" in item:
        kind = item["label"]
        start, end = (item.get(name, item.get(f"{name}_offset")) for name in ("start", "end"))
    else:
        raise CharEmbedError(
            f"{where}: a span must be [start, end, label] or an object with start, end and label, got {item!r}"
        )
    return Annotation(*_offsets(start, end, where), _kind(kind, where))


def _label_studio_results(record: Record, where: str) -> list[Any] | None:
    """Return the values of the first complete annotation of a task; None if it has none."""
    annotations = record.get("annotations", record.get("completions")) or []
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise CharEmbedError(f"{where}: annotations must be a list of objects; export with the format JSON or JSON_MIN")
    for annotation in annotations:
        if not annotation.get("was_cancelled"):
            results = annotation.get("result") or []
            return [
                result["value"] for result in results if isinstance(result, dict) and _is_value(result.get("value"))
            ]
    return None


def _is_value(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("labels"), list)


def _holds_label_studio_values(items: Any) -> bool:
    return isinstance(items, list) and bool(items) and all(map(_is_value, items))


def _label_studio_annotations(value: Record, text: str, where: str) -> Iterator[Annotation]:
    start, end = _offsets(value.get("start"), value.get("end"), where)
    marked = value.get("text")
    if isinstance(marked, str) and text[start:end] != marked:
        # Some versions count as JavaScript does, where a character beyond U+FFFF has two units.
        units = text.encode("utf-16-le", "surrogatepass")
        before, inside = units[: 2 * start], units[2 * start : 2 * end]
        if inside == marked.encode("utf-16-le", "surrogatepass"):
            start = len(before.decode("utf-16-le", "surrogatepass"))
            end = start + len(marked)
    for kind in value["labels"]:
        yield Annotation(start, end, _kind(kind, where))


def _offsets(start: Any, end: Any, where: str) -> Span:
    if type(start) is not int or type(end) is not int:
        raise CharEmbedError(f"{where}: start and end of a span must be character offsets, got {start!r} and {end!r}")
    return start, end


def _check_span(start: int, end: int, text: str, where: str) -> None:
    if not 0 <= start < end <= len(text):
        reason = "empty" if start == end else f"not within the text of {len(text)} characters"
        raise CharEmbedError(f"{where}: span ({start}, {end}) is {reason}")


def _kind(kind: Any, where: str) -> str:
    if not isinstance(kind, str) or not kind:
        raise CharEmbedError(f"{where}: the label of a span must be a string that is not empty, got {kind!r}")
    return kind
