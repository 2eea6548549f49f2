"""Labelled files that cannot be decoded."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from charembed import CharEmbedError
from charembed.tagging.labelled_text import read_labelled

CONTENT = "Málaga\tB-LOC\nes\tO\n\n"


@pytest.mark.parametrize("name", ["a.conll", "a.conllu", "a.jsonl"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tO\n\n" + CONTENT.encode("latin-1"), "line 3: byte 0xe1 is not UTF-8: convert the file to UTF-8"),
        (CONTENT.encode("utf-16"), r"line 1: byte 0xff is not UTF-8 \(it looks like UTF-16\): convert"),
        (CONTENT.encode("ascii", "replace") + "x\tO\n".encode("utf-16-le"), "line 4: contains a NUL character"),
    ],
)
def test_other_encodings(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CharEmbedError, match=f"{name}, {message}"):
        read_labelled(tmp_path / name)
    compressed = tmp_path / f"{name}.gz"
    compressed.write_bytes(gzip.compress(content))
    with pytest.raises(CharEmbedError, match=rf"{name}\.gz \(decompressed\), {message}"):
        read_labelled(compressed)


@pytest.mark.parametrize("name", ["a.conll.gz", "a.conllu.gz", "a.jsonl.gz", "a.spacy.gz"])
def test_truncated_and_missing_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(CharEmbedError, match=f"{name}: cannot be read: No such file"):
        read_labelled(tmp_path / name)
    (tmp_path / name).write_bytes(gzip.compress(CONTENT.encode() * 50)[:-10])
    with pytest.raises(CharEmbedError, match=f"{name}: cannot be read: Compressed file ended before"):
        read_labelled(tmp_path / name)


def test_compressed_columns(tmp_path: Path) -> None:
    (tmp_path / "a.conll.gz").write_bytes(gzip.compress(CONTENT.encode()))
    (sentence,) = read_labelled(tmp_path / "a.conll.gz").sentences
    assert (sentence.words, sentence.tags) == (["Málaga", "es"], {"entities": ["B-LOC", "O"]})
