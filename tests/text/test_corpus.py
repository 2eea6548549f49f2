"""Tests of reading text in every format, and of the errors for text that cannot be read."""

from __future__ import annotations

import bz2
import gzip
import importlib
import json
import logging
import lzma
import os
import sys
import threading
from pathlib import Path

import fsspec
import pytest

from charembed import CharEmbedError
from charembed.errors import MissingExtraError
from charembed.text.corpus import Corpus, CorpusConfig, SourceText
from charembed.text.sources import DatasetName

TEXT = "First paragraph, é.\nSecond paragraph.\n\nSecond document.\n\n\n \nThird.\n"
DOCUMENTS = ["First paragraph, é.\nSecond paragraph.", "Second document.", "Third."]


COMPRESSORS = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: importlib.import_module("zstandard").compress(content),
}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_text_file(tmp_path: Path, suffix: str, line_end: str) -> None:
    path = tmp_path / f"text.txt{suffix}"
    path.write_bytes(COMPRESSORS[suffix](TEXT.replace("\n", line_end).encode()))
    assert list(Corpus(str(path))) == DOCUMENTS
    assert list(Corpus(str(tmp_path))) == DOCUMENTS, "files of a folder may be compressed"


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_compressed_streams_that_follow_each_other(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text.txt{suffix}"
    lines = [f"line {k}\n" * 5000 for k in range(3)]
    path.write_bytes(b"".join(COMPRESSORS[suffix](line.encode()) for line in lines))
    assert "".join(text.text + "\n" for text in Corpus(path).texts()) == "".join(lines)


def test_zstandard_frames_of_every_kind(tmp_path: Path) -> None:
    import zstandard

    path = tmp_path / "text.txt.zst"
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00meta"
    without_size = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True)
    path.write_bytes(skippable + without_size.compress(b"one\n") + zstandard.compress(b"") + zstandard.compress(b"two"))
    assert [text.text for text in Corpus(path).texts()] == ["one", "two"]
    path.write_bytes(b"")
    assert list(Corpus(path)) == []


def test_zstandard_needs_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zstandard

    monkeypatch.setitem(sys.modules, "zstandard", None)
    path = tmp_path / "text.txt.zst"
    path.write_bytes(zstandard.compress(b"text"))
    with pytest.raises(MissingExtraError, match=r"reading .zst files needs zstandard: .*'charembed\[zstd\]'"):
        list(Corpus(path))


@pytest.fixture
def memory() -> fsspec.AbstractFileSystem:
    """A file system that only exists in this process, as a stand-in for remote ones."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_remote_text_file(memory: fsspec.AbstractFileSystem, suffix: str) -> None:
    memory.pipe(f"/texts/text.txt{suffix}", COMPRESSORS[suffix](TEXT.encode()))
    corpus = Corpus(f"memory://texts/text.txt{suffix}")
    assert list(corpus) == DOCUMENTS
    assert list(corpus) == DOCUMENTS, "it can be read again"
    assert next(corpus.texts()).source == f"memory://texts/text.txt{suffix}"


def test_remote_records(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    memory.pipe("/notes.jsonl.gz", gzip.compress(b'{"text": "One"}\n{"text": "Two"}\n'))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["Three"]}), tmp_path / "notes.parquet")
    memory.pipe("/notes.parquet", (tmp_path / "notes.parquet").read_bytes())
    assert list(Corpus(["memory://notes.jsonl.gz", "memory://notes.parquet"])) == ["One", "Two", "Three"]
    with pytest.raises(CharEmbedError, match=r"memory://notes.parquet: no column 'body'"):
        list(Corpus("memory://notes.parquet", text_column="body"))
    assert list(
        Corpus(["memory://notes.parquet", str(tmp_path)], exclude=Corpus("memory://notes.parquet").sources)
    ) == ["Three"], "the local file is another source"


def test_digest_of_a_remote_file_is_that_of_its_content(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    memory.pipe("/text.txt", TEXT.encode())
    remote = Corpus("memory://text.txt")
    before = remote.digests()
    assert before == Corpus(tmp_path / "text.txt").digests()
    memory.pipe("/text.txt", TEXT.replace("Third", "Other").encode())
    assert remote.digests() != before


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://absent.txt", "memory://absent.txt: cannot be read"),
        ("nosuchprotocol://a/b.txt", "nosuchprotocol://a/b.txt: cannot be read: ValueError: Protocol not known"),
    ],
)
def test_remote_files_that_cannot_be_read(address: str, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        list(Corpus(address))
    with pytest.raises(CharEmbedError, match=message):
        Corpus(address).digests()


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_text_from_a_pipe(tmp_path: Path, suffix: str) -> None:
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    content = COMPRESSORS[suffix](TEXT.encode())  # skips before anything waits, where its package is missing
    writer = threading.Thread(target=pipe.write_bytes, args=[content])
    writer.start()
    assert list(Corpus(pipe)) == DOCUMENTS
    writer.join()
    assert Corpus(pipe).digests() == [None]


def test_texts_have_their_positions(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.\n\n Two \r\n", encoding="utf-8")
    (tmp_path / "b.ndjson").write_text('{"text": "Three\\n\\nthree"}\n\n{"text": ""}\n{"text": "Four"}\n')
    a, b = str(tmp_path / "a.txt"), str(tmp_path / "b.ndjson")
    assert list(Corpus(tmp_path).texts()) == [
        SourceText(a, 1, "One."),
        SourceText(a, 3, " Two "),
        SourceText(b, 1, "Three\n\nthree"),
        SourceText(b, 4, "Four"),
    ]


def test_a_file_without_blank_lines_is_read_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("12345\n67890\nabc\n\nde\n")
    assert list(Corpus(path, max_block=8)) == ["12345\n67890", "abc", "de"]


def test_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert list(Corpus(str(path))) == DOCUMENTS


def test_only_line_feeds_and_carriage_returns_end_lines(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one\x0bline\x85\u2028still\n", encoding="utf-8")
    assert [text.text for text in Corpus(path).texts()] == ["one\x0bline\x85\u2028still"]


def test_folder_glob_and_list_in_order_without_duplicates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    for name, text in {"b.txt": "B", "a.txt": "A", "sub/c.txt": "C", "photo.jpg": "no", ".git/d.txt": "no"}.items():
        (tmp_path / name).write_text(text)
    with caplog.at_level(logging.INFO):
        assert list(Corpus(str(tmp_path))) == ["A", "B", "C"]
    assert f"skipped 1 file ({tmp_path / 'photo.jpg'}) with other suffixes" in caplog.text
    assert list(Corpus(str(tmp_path / "*.txt"))) == ["A", "B"]
    assert list(Corpus(str(tmp_path / "**" / "*.txt"))) == ["A", "B", "C"]
    assert list(Corpus([str(tmp_path / "sub"), str(tmp_path / "b.txt"), str(tmp_path)])) == ["C", "B", "A"]
    assert list(Corpus(str(tmp_path), exclude=[tmp_path / "a.txt"])) == ["B", "C"]
    assert Corpus("dataset:a", exclude=[DatasetName("b")]).sources == [DatasetName("a")]
    with pytest.raises(CharEmbedError, match="no text to read in 'dataset:a'"):
        Corpus("dataset:a", exclude=[DatasetName("a")])


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl.gz"
    records = [{"text": "One\r\n\r\ntwo é"}, {"text": "\U0001f469\u200d"}, {"text": None}, {"text": " "}]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode() + b"\n\n"))
    assert list(Corpus(str(path))) == ["One\ntwo é", "\U0001f469\u200d"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "notes.jsonl, line 2: not JSON"),
        ("[" * 100_000, "notes.jsonl, line 2: not JSON"),
        ('{"text": ' + "9" * 5000 + "}", "notes.jsonl, line 2: not JSON"),
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
    categories = pyarrow.table({"text": pyarrow.array(["A", "B", "A"]).dictionary_encode()})
    pyarrow.parquet.write_table(categories, tmp_path / "categories.parquet")
    assert list(Corpus(tmp_path / "categories.parquet")) == ["A", "B", "A"]
    twice = pyarrow.Table.from_arrays([pyarrow.array(["A"]), pyarrow.array(["B"])], names=["text", "text"])
    pyarrow.parquet.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(CharEmbedError, match="there are several columns 'text'"):
        list(Corpus(tmp_path / "twice.parquet"))
    with pytest.raises(CharEmbedError, match=r"no column 'body', there are: id, text"):
        list(Corpus(str(path), text_column="body"))
    pyarrow.parquet.write_table(pyarrow.table({"text": [["a", "list"]]}), path)
    with pytest.raises(CharEmbedError, match="column 'text' must hold text, got list"):
        list(Corpus(path))
    invalid = pyarrow.StringArray.from_buffers(2, *pyarrow.array([b"ok", b"caf\xe9"]).buffers()[1:])
    pyarrow.parquet.write_table(pyarrow.table({"text": invalid}), path)
    with pytest.raises(CharEmbedError, match=r"row 2: byte 3 \(0xe9\) is not UTF-8"):
        list(Corpus(path))
    assert list(Corpus(path, errors="replace")) == ["ok", "caf\ufffd"]
    path.write_bytes(b"not a Parquet file")
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

    texts = datasets.Dataset.from_dict({"text": ["One", "Two"]})
    texts.save_to_disk(str(tmp_path / "saved"))
    assert list(Corpus(f"dataset:{tmp_path / 'saved'}")) == ["One", "Two"]
    assert DatasetName.parse(f"dataset:{tmp_path}/./saved") == DatasetName.parse(f"dataset:{tmp_path / 'saved'}")
    with pytest.raises(CharEmbedError, match="it is one split saved alone: leave split=test out"):
        list(Corpus(f"dataset:{tmp_path / 'saved'},split=test"))
    datasets.DatasetDict({"train": texts, "more": texts.select([1])}).save_to_disk(str(tmp_path / "splits"))
    assert list(Corpus(f"dataset:{tmp_path / 'splits'},split=more")) == ["Two"]
    with pytest.raises(CharEmbedError, match="no split 'valid', there are: train, more"):
        list(Corpus(f"dataset:{tmp_path / 'splits'},split=valid"))
    (tmp_path / "plain").mkdir()
    texts.to_json(tmp_path / "plain" / "train.jsonl")
    assert list(Corpus(f"dataset:{tmp_path / 'plain'}")) == ["One", "Two"]
    with pytest.raises(CharEmbedError, match="absent cannot be read"):
        list(Corpus(f"dataset:{tmp_path / 'absent'}"))
    with (tmp_path / "plain" / "train.jsonl").open("a") as file:
        file.write('{"text": "broken')
    with pytest.raises(CharEmbedError, match="plain cannot be read"):
        list(Corpus(f"dataset:{tmp_path / 'plain'}"))


def test_dataset_names() -> None:
    assert DatasetName.parse("dataset:org/name,config=en,split=test") == DatasetName("org/name", "en", "test")
    for wrong in ("dataset:a,spilt=train", "dataset:a,split", "dataset:"):
        with pytest.raises(CharEmbedError, match=wrong):
            DatasetName.parse(wrong)


def test_invalid_utf8_is_an_error_with_file_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("fine: é\n".encode() + "caf\xe9 au lait\n".encode("latin-1"))
    with pytest.raises(CharEmbedError, match=r"latin.txt, line 2: byte 12 \(0xe9\) is not UTF-8"):
        list(Corpus(str(path)))
    packed = tmp_path / "latin.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(CharEmbedError, match=r"\(decompressed\), line 2: byte 12 \(0xe9\)"):
        list(Corpus(str(packed)))


def test_byte_offset_counts_the_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfab\xff")
    with pytest.raises(CharEmbedError, match="byte 5 "):
        list(Corpus(str(path)))


def test_utf16_is_recognized(tmp_path: Path) -> None:
    path = tmp_path / "word.txt"
    path.write_text("Export of an office program", encoding="utf-16")
    with pytest.raises(CharEmbedError, match=r"word.txt: it looks like UTF-16 or a binary file: convert it to UTF-8"):
        list(Corpus(str(path)))


def test_replacement_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("\ufffd was here, ".encode() + "caf\xe9 na\xefve".encode("latin-1"))
    replacing = Corpus(str(path), errors="replace")
    assert list(replacing) == ["\ufffd was here, caf\ufffd na\ufffdve"]
    assert list(replacing) == ["\ufffd was here, caf\ufffd na\ufffdve"]
    assert replacing.replaced == 2, "counted from zero in each pass, without the U+FFFD of the file itself"
    assert "2 invalid UTF-8 sequences" in caplog.text
    escaped = tmp_path / "escaped.jsonl"
    escaped.write_text('{"text": "a\\ud800b"}')
    replacing = Corpus(str(escaped), errors="replace")
    assert list(replacing) == ["a\ufffdb"]
    assert replacing.replaced == 1


def test_unreadable_sources(tmp_path: Path) -> None:
    with pytest.raises(CharEmbedError, match=r"absent.txt: no such file or folder"):
        Corpus(str(tmp_path / "absent.txt"))
    with pytest.raises(CharEmbedError, match=r"no file in this folder ends in .txt"):
        Corpus(str(tmp_path))
    with pytest.raises(CharEmbedError, match="no text to read"):
        Corpus([])
    with pytest.raises(CharEmbedError, match="the name of a file or folder is empty"):
        Corpus("")
    with pytest.raises(CharEmbedError, match=r"~nosuchuser/a.txt: Could not determine home directory"):
        Corpus("~nosuchuser/a.txt")
    for suffix in ("gz", "xz", "bz2", "zst"):
        broken = tmp_path / f"broken.txt.{suffix}"
        broken.write_bytes(b"this is not compressed at all")
        with pytest.raises(CharEmbedError, match=f"broken.txt.{suffix}: cannot be read"):
            list(Corpus(str(broken)))
    middle = bytearray(gzip.compress(bytes(range(256)) * 100))
    middle[60:90] = b"\xff" * 30
    (tmp_path / "middle.txt.gz").write_bytes(middle)
    with pytest.raises(CharEmbedError, match=r"middle.txt.gz: cannot be read"):
        list(Corpus(tmp_path / "middle.txt.gz", errors="replace"))
    for suffix in (".gz", ".xz", ".bz2", ".zst"):
        for content in (b"", COMPRESSORS[suffix](b"first stream")):
            truncated = tmp_path / f"truncated.txt{suffix}"
            truncated.write_bytes(content + COMPRESSORS[suffix](b"text " * 1000)[:-5])
            with pytest.raises(CharEmbedError, match=f"truncated.txt{suffix}: cannot be read"):
                list(Corpus(str(truncated)))


def test_held_out_share_is_a_share() -> None:
    with pytest.raises(CharEmbedError, match="held_out must be between 0 and 1, got 2"):
        CorpusConfig(train="x", held_out=2)
