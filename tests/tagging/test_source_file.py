"""Labelled files that cannot be decoded, never end, or are something else."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from charembed import CharEmbedError
from charembed.tagging.labelled_text import read_labelled

CONTENT = "Málaga\tB-LOC\nes\tO\n\n"


@pytest.mark.parametrize("name", ["a.conll", "a.conllu", "a.jsonl"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"a\tO\n\n" + CONTENT.encode("latin-1"),
            r", line 3: byte 6 \(0xe1\) is not UTF-8: convert the file to UTF-8$",
        ),
        (CONTENT.encode("utf-16"), ": it looks like UTF-16 or a binary file: convert it to UTF-8"),
        (b"x\0\n" + CONTENT.encode() * 100, r", line 1: byte 1 is a null byte, .*: convert it$"),
    ],
)
def test_other_encodings(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CharEmbedError, match=f"{name}{message}"):
        read_labelled(tmp_path / name)
    compressed = tmp_path / f"{name}.gz"
    compressed.write_bytes(gzip.compress(content))
    with pytest.raises(CharEmbedError, match=rf"{name}\.gz \(decompressed\){message}"):
        read_labelled(compressed)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.conll.gz", CONTENT),
        ("a.conllu.gz", "1\tboat\tboat\tNOUN\n\n"),
        ("a.jsonl.gz", '{"text": "a", "label": []}\n'),
        ("a.spacy.gz", "x"),
    ],
)
def test_truncated_and_missing_files(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(CharEmbedError, match=f"{name}: cannot be read: No such file"):
        read_labelled(tmp_path / name)
    (tmp_path / name).write_bytes(gzip.compress(content.encode() * 50)[:-10])
    with pytest.raises(CharEmbedError, match=f"{name}: cannot be read: Compressed file ended before"):
        read_labelled(tmp_path / name)


def test_compressed_columns(tmp_path: Path) -> None:
    (tmp_path / "a.conll.gz").write_bytes(gzip.compress(CONTENT.encode()))
    (sentence,) = read_labelled(tmp_path / "a.conll.gz").sentences
    assert (sentence.words, sentence.tags) == (["Málaga", "es"], {"entities": ["B-LOC", "O"]})


NAMES = ["a.conll", "a.conllu", "a.jsonl", "a.json", "a.spacy"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", NAMES)
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)  # nobody ever writes to it
    with pytest.raises(CharEmbedError, match=f"{name} is not a regular file"):
        read_labelled(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(CharEmbedError, match=f"{name} is not a regular file"):
        read_labelled(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_claims_to_be_huge_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(100 * 10**9)
    with pytest.raises(CharEmbedError, match=f"{name}: it looks like UTF-16 or a binary file|{name} is not a DocBin"):
        read_labelled(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "beginning", "where"),
    [
        ("a.conll.gz", "", r"a.conll.gz \(decompressed\), line 1"),
        ("a.conllu.gz", "# text = a\n", r"a.conllu.gz \(decompressed\), line 2"),
        ("a.jsonl.gz", '{"text": "', r"a.jsonl.gz \(decompressed\), line 1"),
        ("a.json.gz", '[{"text": "', r"a.json.gz, record 1 \(line 1\)"),
    ],
)
def test_a_line_that_expands_is_an_error_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, beginning: str, where: str
) -> None:
    monkeypatch.setattr("charembed.tagging.source_file.MAX_BYTES", 1_000_000)
    monkeypatch.setattr("charembed.tagging.annotations.MAX_BYTES", 1_000_000)
    (tmp_path / name).write_bytes(gzip.compress(beginning.encode() + b"a" * 30_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(CharEmbedError, match=rf"{where}: longer than 1 MB.*: divide it$"):
            read_labelled(tmp_path / name)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000, f"{peak / 1e6:.0f} MB for a limit of 1 MB"


def test_offsets_count_marks_within_a_line(tmp_path: Path) -> None:
    record = {"text": "no\ufeff Paris", "spans": [{"start": 4, "end": 9, "label": "LOC"}]}
    (tmp_path / "a.jsonl").write_text("\ufeff" + json.dumps(record, ensure_ascii=False), encoding="utf-8")
    (sentence,) = read_labelled(tmp_path / "a.jsonl").sentences
    assert (sentence.words[-1], sentence.tags["entities"][-1]) == ("Paris", "B-LOC")


def test_lines_of_windows_do_not_divide_sentences(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_bytes(CONTENT.replace("\n", "\r\r\n").encode())
    (sentence,) = read_labelled(tmp_path / "a.conll").sentences
    assert sentence.words == ["Málaga", "es"]


def test_prose_is_not_a_labelled_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        "The boat sails.\n\nIt sails home to the harbour.\nThere it stays.\nNobody sees it go\n"
    )
    with pytest.raises(CharEmbedError, match=r"a.txt does not look like a labelled file: its lines have from 3 to 6"):
        read_labelled(tmp_path / "a.txt")


def test_an_underscore_as_a_tag_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("The DET\nboat _\n\nIt PRON\n")
    (note,) = read_labelled(tmp_path / "a.conll").notes
    assert note == "a.conll: 1 words have _ in layer tags, which is learnt like any other tag"
