"""Reading text: every form it comes in, and what is said of text that cannot be read."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import lzma
from pathlib import Path

import pytest

from charembed import CharEmbedError
from charembed.corpus import Corpus, CorpusConfig, DatasetName

TEXT = "First paragraph, é.\nSecond paragraph.\n\nSecond document.\n\n\n \nThird.\n"
DOCUMENTS = ["First paragraph, é.\nSecond paragraph.", "Second document.", "Third."]


PACKED = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", PACKED)
def test_text_file(tmp_path: Path, suffix: str, line_end: str) -> None:
    path = tmp_path / f"text.txt{suffix}"
    path.write_bytes(PACKED[suffix](TEXT.replace("\n", line_end).encode()))
    assert list(Corpus(str(path))) == DOCUMENTS


def test_lines_are_those_of_all_documents(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text(TEXT, encoding="utf-8")
    assert list(Corpus(str(path)).lines()) == "\n".join(DOCUMENTS).split("\n")


def test_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert list(Corpus(str(path))) == DOCUMENTS


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one\x0bline\x85\u2028still\n", encoding="utf-8")
    assert list(Corpus(str(path)).lines()) == ["one\x0bline\x85\u2028still"]


def test_folder_glob_and_list_in_order_without_doubles(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    for name, text in {"b.txt": "B", "a.txt": "A", "sub/c.txt": "C", "photo.jpg": "no", ".git/d.txt": "no"}.items():
        (tmp_path / name).write_text(text)
    with caplog.at_level(logging.INFO):
        assert list(Corpus(str(tmp_path))) == ["A", "B", "C"]
    assert "1 files left out" in caplog.text
    assert list(Corpus(str(tmp_path / "*.txt"))) == ["A", "B"]
    assert list(Corpus(str(tmp_path / "**" / "*.txt"))) == ["A", "B", "C"]
    assert list(Corpus([str(tmp_path / "sub"), str(tmp_path / "b.txt"), str(tmp_path)])) == ["C", "B", "A"]
    assert list(Corpus(str(tmp_path), exclude=[tmp_path / "a.txt"])) == ["B", "C"]


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl.gz"
    records = [{"text": "One\r\n\r\ntwo é"}, {"text": "\U0001f469\u200d"}, {"text": None}, {"text": " "}]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode() + b"\n\n"))
    assert list(Corpus(str(path))) == ["One\ntwo é", "\U0001f469\u200d"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "notes.jsonl, line 2: not JSON"),
        ("[1]", "line 2: expected a JSON object, got list"),
        ('{"body": "a", "title": "b"}', "line 2: no column 'text', there are: body, title"),
        ('{"text": 5}', "line 2: column 'text' must hold text, got int"),
        ('{"text": "a\\ud800"}', "line 2: character 1 of the text is a lone surrogate"),
    ],
)
def test_jsonl_errors_name_the_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(CharEmbedError, match=message):
        list(Corpus(str(path)))


def test_text_column_is_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"body": "a", "text": "b"}\n')
    assert list(Corpus(str(path), text_column="body")) == ["a"]


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "notes.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["One", None, "Two\n\ntwo"], "id": [1, 2, 3]}), path)
    assert list(Corpus(str(path))) == ["One", "Two\ntwo"]
    with pytest.raises(CharEmbedError, match=r"no column 'body', there are: id, text"):
        list(Corpus(str(path), text_column="body"))
    path.write_bytes(b"no parquet at all")
    with pytest.raises(CharEmbedError, match=r"notes.parquet: cannot be read"):
        list(Corpus(str(path)))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("offline")
def test_hugging_face_datasets_from_local_folders(tmp_path: Path) -> None:
    import datasets

    one = datasets.Dataset.from_dict({"text": ["One", "Two"]})
    one.save_to_disk(tmp_path / "saved")
    assert list(Corpus(f"dataset:{tmp_path / 'saved'}")) == ["One", "Two"]
    datasets.DatasetDict({"train": one, "more": one.select([1])}).save_to_disk(tmp_path / "splits")
    assert list(Corpus(f"dataset:{tmp_path / 'splits'},split=more")) == ["Two"]
    with pytest.raises(CharEmbedError, match="no split 'valid', there are: train, more"):
        list(Corpus(f"dataset:{tmp_path / 'splits'},split=valid"))
    (tmp_path / "plain").mkdir()
    one.to_json(tmp_path / "plain" / "train.jsonl")
    assert list(Corpus(f"dataset:{tmp_path / 'plain'}")) == ["One", "Two"]
    with pytest.raises(CharEmbedError, match="cannot be opened"):
        list(Corpus(f"dataset:{tmp_path / 'absent'}"))


def test_dataset_names() -> None:
    assert DatasetName.parse("dataset:org/name,config=en,split=test") == DatasetName("org/name", "en", "test")
    for wrong in ("dataset:a,spilt=train", "dataset:a,split", "dataset:"):
        with pytest.raises(CharEmbedError, match=wrong):
            DatasetName.parse(wrong)


def test_invalid_utf8_is_an_error_with_file_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("fine: é\n".encode() + "caf\xe9 au lait\n".encode("latin-1"))
    with pytest.raises(CharEmbedError, match=r"latin.txt: byte 12 \(0xe9\) is not UTF-8"):
        list(Corpus(str(path)))
    packed = tmp_path / "latin.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(CharEmbedError, match=r"byte 12 of the unpacked text \(0xe9\)"):
        list(Corpus(str(packed)))


def test_byte_offset_counts_the_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfab\xff")
    with pytest.raises(CharEmbedError, match="byte 5 "):
        list(Corpus(str(path)))


def test_utf16_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "word.txt"
    path.write_text("Export of an office program", encoding="utf-16")
    with pytest.raises(CharEmbedError, match=r"byte 0 .*it looks like UTF-16"):
        list(Corpus(str(path)))


def test_replacement_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("\ufffd was here, ".encode() + "caf\xe9 na\xefve".encode("latin-1"))
    corpus = Corpus(str(path), errors="replace")
    assert list(corpus) == ["\ufffd was here, caf\ufffd na\ufffdve"]
    assert list(corpus) == ["\ufffd was here, caf\ufffd na\ufffdve"]
    assert corpus.replaced == 2, "counted anew in each pass, characters that were U+FFFD already left out"
    assert "2 invalid UTF-8 sequences" in caplog.text
    escaped = tmp_path / "escaped.jsonl"
    escaped.write_text('{"text": "a\\ud800b"}')
    corpus = Corpus(str(escaped), errors="replace")
    assert list(corpus) == ["a\ufffdb"]
    assert corpus.replaced == 1


def test_unreadable_sources(tmp_path: Path) -> None:
    with pytest.raises(CharEmbedError, match=r"absent.txt: no such file or folder"):
        Corpus(str(tmp_path / "absent.txt"))
    with pytest.raises(CharEmbedError, match=r"no file in this folder ends in .txt"):
        Corpus(str(tmp_path))
    with pytest.raises(CharEmbedError, match="no text to read"):
        Corpus([])
    for suffix in ("gz", "xz", "bz2"):
        broken = tmp_path / f"broken.txt.{suffix}"
        broken.write_bytes(b"this is not packed at all")
        with pytest.raises(CharEmbedError, match=f"broken.txt.{suffix}: cannot be read"):
            list(Corpus(str(broken)))
    cut = tmp_path / "cut.txt.gz"
    cut.write_bytes(gzip.compress(b"text " * 1000)[:-10])
    with pytest.raises(CharEmbedError, match=r"cut.txt.gz: cannot be read"):
        list(Corpus(str(cut)))


def test_held_out_share_is_a_share() -> None:
    with pytest.raises(CharEmbedError, match="held_out must be between 0 and 1, got 2"):
        CorpusConfig(train="x", held_out=2)
