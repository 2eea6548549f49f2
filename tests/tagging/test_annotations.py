"""Records with annotated spans: the forms of three tools, words, lines and wrong records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedError
from charembed.tagging.annotated_text import AnnotatedText, Annotation, AnnotationCounts
from charembed.tagging.labelled_text import LabelledFile, read_labelled
from charembed.tagging.tag_schemes import entity_spans
from charembed.text.words import find_words

TEXT = "Anna Weiß sails to Malta."
SPANS = [(0, 9, "PER"), (19, 24, "LOC")]
TAGS = ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
TRIPLES = [list(span) for span in SPANS]
RESULTS = [
    {"type": "labels", "value": {"start": start, "end": end, "text": TEXT[start:end], "labels": [kind]}}
    for start, end, kind in SPANS
]


def read(path: Path, *records: Any) -> LabelledFile:
    path.write_text("".join(json.dumps(record) + "\n\n" for record in records))
    return read_labelled(path)


def tagged(labelled: LabelledFile) -> list[tuple[list[str], list[str]]]:
    return [(sentence.words, sentence.tags["entities"]) for sentence in labelled.sentences]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


FORMS: dict[str, dict[str, Any]] = {
    "doccano": {"id": 1, "text": TEXT, "label": TRIPLES},
    "doccano-labels": {"text": TEXT, "labels": TRIPLES, "meta": {}},
    "doccano-relations": {
        "text": TEXT,
        "entities": [{"id": 1, "label": kind, "start_offset": a, "end_offset": b} for a, b, kind in SPANS],
        "relations": [],
    },
    "spacy": {"text": TEXT, "entities": TRIPLES, "label": None},
    "prodigy": {
        "text": TEXT,
        "_input_hash": 1,
        "spans": [{"start": a, "end": b, "label": kind} for a, b, kind in SPANS],
        "answer": "accept",
    },
    "label-studio": {
        "data": {"text": TEXT},
        "annotations": [
            {"was_cancelled": True, "result": []},
            {"result": [*RESULTS, {"type": "choices", "value": {}}]},
        ],
    },
    "label-studio-other-field": {"data": {"body": TEXT, "id": 3}, "annotations": [{"result": RESULTS}]},
    "json-min": {"text": TEXT, "id": 3, "ner": [result["value"] for result in RESULTS], "annotator": 1},
    "json-min-label": {"text": TEXT, "label": [result["value"] for result in RESULTS]},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(file: Path, form: str) -> None:
    labelled = read(file, FORMS[form], {**FORMS[form]})
    assert (labelled.kinds, labelled.notes) == ({"entities": "entities"}, [])
    first, second = labelled.sentences
    assert (first.words, first.tags) == (["Anna", "Weiß", "sails", "to", "Malta", "."], {"entities": TAGS})
    assert first.text.text == TEXT
    assert first.text.words == first.words
    assert (first.document, second.document) == (0, 1)


@pytest.mark.parametrize("indent", [None, 2])
def test_arrays_and_objects_over_several_lines(file: Path, indent: int | None) -> None:
    records = [FORMS["label-studio"], FORMS["doccano"]]
    file.with_suffix(".json").write_text("\ufeff" + json.dumps(records, indent=indent))
    assert [tags for _, tags in tagged(read_labelled(file.with_suffix(".json")))] == [TAGS, TAGS]
    file.write_text(json.dumps(records[0], indent=2))
    assert [tags for _, tags in tagged(read_labelled(file))] == [TAGS]
    file.with_suffix(".json").write_text("\n".join(map(json.dumps, records)))
    assert len(read_labelled(file.with_suffix(".json")).sentences) == 2


def test_a_record_without_entities_is_a_sentence_outside(file: Path) -> None:
    labelled = read(file, {"text": "No one.", "label": []}, {"text": "\n"}, {"text": "Nor you"}, FORMS["json-min"])
    assert [tags for _, tags in tagged(labelled)] == [["O"] * 3, ["O"] * 2, TAGS]
    assert [sentence.document for sentence in labelled.sentences] == [0, 2, 3]
    binary = {"text": "No one.", "spans": [], "label": "PER", "answer": "accept"}
    assert tagged(read(file, binary)) == [(["No", "one", "."], ["O"] * 3)]
    assert read(file, {"text": "No one.", "spans": []}).kinds == {"entities": "entities"}


def test_records_that_annotators_did_not_accept(file: Path) -> None:
    rejected = [FORMS["prodigy"] | {"answer": answer} for answer in ("reject", "ignore")]
    open_tasks = [
        {"data": {"text": TEXT}, "annotations": []},
        FORMS["label-studio"] | {"annotations": [{"was_cancelled": 1}]},
    ]
    labelled = read(file, *rejected, FORMS["prodigy"], *open_tasks)
    assert [tags for _, tags in tagged(labelled)] == [TAGS]
    assert labelled.notes == [
        "a.jsonl: 2 records that an annotator rejected or ignored were left out",
        "a.jsonl: 2 records without annotations were left out",
    ]


def test_tokens_of_prodigy(file: Path) -> None:
    text = "don't  go"
    tokens = [{"text": text[a:b], "start": a, "end": b} for a, b in ((0, 2), (2, 5), (6, 7), (7, 9))]
    labelled = read(file, {"text": text, "tokens": tokens, "spans": [{"start": 2, "end": 9, "label": "X"}]})
    assert tagged(labelled) == [(["do", "n't", "go"], ["O", "B-X", "I-X"])]


def test_offsets_in_utf_16_units(file: Path) -> None:
    """As JavaScript counts them; the text of the span shows it."""
    text = "\U0001f600 Malta \U0001f600 Rome"
    spans = [
        {"start": 3, "end": 8, "text": "Malta", "labels": ["LOC"]},
        {"start": 10, "end": 14, "text": "Rome", "labels": ["LOC"]},
    ]
    labelled = read(file, {"text": text, "label": spans})
    assert tagged(labelled) == [(["\U0001f600", "Malta", "\U0001f600", "Rome"], ["O", "B-LOC", "O", "B-LOC"])]


def test_one_sentence_per_line_unless_an_entity_crosses_its_end(file: Path) -> None:
    text = "One.\n\n  Two New\r\nYork three.\rFour\u2028five"
    start = text.index("New")
    labelled = read(file, {"text": text, "label": [[start, start + 9, "LOC"]]})
    assert tagged(labelled) == [
        (["One", "."], ["O", "O"]),
        (["Two", "New", "York", "three", "."], ["O", "B-LOC", "I-LOC", "O", "O"]),
        (["Four", "five"], ["O", "O"]),
    ]
    assert [sentence.text.text for sentence in labelled.sentences] == [
        "One.",
        "  Two New\r\nYork three.",
        "Four\u2028five",
    ]
    for sentence in labelled.sentences:
        assert sentence.text.words == sentence.words


def test_spans_that_do_not_fit_words_are_widened_or_left_out_and_counted(file: Path) -> None:
    text = "Washingtonians love New York City"
    labelled = read(
        file,
        {"text": text, "label": [[0, 10, "LOC"], [14, 15, "X"], [20, 29, "CITY"], [20, 33, "LOC"], [24, 28, "DUKE"]]},
        {"text": text, "label": [[14, 20, "X"], [14, 20, "X"]]},  # white space around is no part, twice is once
    )
    assert tagged(labelled)[0][1] == ["B-LOC", "O", "B-LOC", "I-LOC", "I-LOC"]
    assert tagged(labelled)[1][1] == ["O", "B-X", "O", "O", "O"]
    assert labelled.notes == [
        "a.jsonl: 1 spans that cut a word were widened to whole words",
        "a.jsonl: 2 spans that overlap a longer one were left out",
        "a.jsonl: 1 spans without a word were left out",
    ]


@given(
    text=st.text(alphabet="ab .\n\U0001f600'", max_size=20),
    offsets=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6), st.sampled_from("AB")), max_size=4),
)
def test_every_annotation_is_kept_or_counted(text: str, offsets: list[tuple[int, int, str]]) -> None:
    annotations = {
        Annotation(start, min(start + length, len(text)), kind) for start, length, kind in offsets if start < len(text)
    }
    words = [(start, end) for start, end in find_words(text).tolist()]
    counts = AnnotationCounts()
    sentences = list(AnnotatedText(text, words, list(annotations)).sentences(0, counts))
    assert [word for sentence in sentences for word in sentence.words] == [text[start:end] for start, end in words]
    entities = sum(len(entity_spans([str(tag) for tag in one.tags["entities"]])) for one in sentences)
    assert entities + counts.overlapping + counts.without_words == len(annotations)
    assert counts.widened <= entities


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "not JSON: Expecting property name"),
        ('{"text": "a"', "not JSON: Expecting ',' delimiter at character 13"),
        ("[" * 100_000, "not JSON"),
        ('"text"', "expected a JSON object, got str"),
        ({"label": []}, "no text: expected a string in 'text', and there are label"),
        ({"text": 3, "label": []}, "no text: expected a string in 'text'"),
        ({"data": {"a": "x", "b": "y"}, "annotations": [{"result": []}]}, "no text: .* there are a, b"),
        ({"text": "abc", "label": [[0, 4, "X"]]}, r"span \(0, 4\) is not within the text of 3 characters"),
        ({"text": "abc", "label": [[-1, 2, "X"]]}, r"span \(-1, 2\) is not within the text of 3 characters"),
        ({"text": "abc", "label": [[2, 1, "X"]]}, r"span \(2, 1\) is not within the text of 3 characters"),
        ({"text": "abc", "label": [[1, 1, "X"]]}, r"span \(1, 1\) is empty"),
        ({"text": "abc", "label": [["0", 1, "X"]]}, "start and end of a span must be character offsets, got '0' and 1"),
        (
            {"text": "abc", "label": [[0, True, "X"]]},
            "start and end of a span must be character offsets, got 0 and True",
        ),
        ({"text": "abc", "label": [[0, 1, ""]]}, "the label of a span must be a string that is not empty, got ''"),
        ({"text": "abc", "label": [[0, 1, 7]]}, "the label of a span must be a string that is not empty, got 7"),
        ({"text": "abc", "label": ["positive"]}, r"a span must be \[start, end, label\] .*, got 'positive'"),
        ({"text": "abc", "label": "positive"}, "the spans must be a list, got 'positive'"),
        ({"text": "abc", "spans": [{"start": 0, "label": "X"}]}, "must be character offsets, got 0 and None"),
        ({"text": "abc", "spans": [], "tokens": ["abc"]}, "a token must be an object with start and end, got 'abc'"),
        (
            {"text": "abc", "spans": [], "tokens": [{"start": 0, "end": 2}, {"start": 1, "end": 3}]},
            r"the token at \(1, 3\) begins before the one before it ends",
        ),
        ({"data": {"text": "abc"}, "annotations": [7]}, "annotations must be a list of objects; export with"),
    ],
)
def test_wrong_records_are_named(file: Path, record: Any, message: str) -> None:
    content = record if isinstance(record, str) else json.dumps(record)
    file.write_text(f"{json.dumps(FORMS['doccano'])}\n{content}\n")
    with pytest.raises(CharEmbedError, match=rf"a\.jsonl, line 2: .*{message}"):
        read_labelled(file)
    if isinstance(record, dict):
        file.write_text(f"[{json.dumps(FORMS['doccano'])},\n{content}]")
        with pytest.raises(CharEmbedError, match=rf"a\.jsonl, record 2 \(line 2\): .*{message}"):
            read_labelled(file)


def test_wrong_arrays_are_named(file: Path) -> None:
    file.write_text('[{"text": "a",\n "label": [}]')
    with pytest.raises(CharEmbedError, match=r"a\.jsonl, line 2: not JSON: Expecting value"):
        read_labelled(file)


def test_files_without_tags_or_sentences(file: Path) -> None:
    with pytest.raises(CharEmbedError, match=r"a\.jsonl has no tags: no record has spans; expected them in spans, ent"):
        read(file, {"text": "Anna"}, {"text": "sails"})
    for records in ([], [{"text": "", "label": []}], [FORMS["prodigy"] | {"answer": "reject"}]):
        with pytest.raises(CharEmbedError, match=r"a\.jsonl has no labelled sentences"):
            read(file, *records)
