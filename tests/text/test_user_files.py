"""Tests of the files that users have: other formats, line ends, links, folders, damage, and files that expand."""

from __future__ import annotations

import bz2
import glob
import gzip
import json
import logging
import lzma
import os
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
import zstandard

from charembed import CharEmbedError
from charembed.dataset.encoding import open_corpora
from charembed.text.corpus import Corpus, CorpusConfig, check_text_column
from charembed.text.folders import find_files

RECORDS = [{"id": n, "text": f'Лодка номер {n}\nвышла, "в море".'} for n in range(3)]
TEXTS = [str(record["text"]) for record in RECORDS]
TABLE = "id,text\n" + "".join(f'{n},"{text.replace(chr(34), chr(34) * 2)}"\n' for n, text in enumerate(TEXTS))


def texts_of(path: Path, **options: object) -> list[str]:
    return [text.text for text in Corpus(path, **options).texts()]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("array.json", json.dumps(RECORDS)),
        ("pretty.json", json.dumps(RECORDS, indent=2)),
        ("lines.JSON", "\n".join(map(json.dumps, RECORDS))),
        ("table.csv", TABLE),
        ("windows.csv", "\ufeff" + TABLE.replace("\n", "\r\n")),
        ("semicolons.csv", TABLE.replace("id,text", "id;text").replace(',"Л', ';"Л')),
        ("tabs.tsv", TABLE.replace("id,text", "id\ttext").replace(',"Л', '\t"Л')),
    ],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_records_are_not_read_as_raw_text(tmp_path: Path, name: str, content: str, compress: object) -> None:
    path = tmp_path / (name if compress is bytes else f"{name}.gz")
    path.write_bytes(compress(content.encode()))
    assert texts_of(path) == TEXTS
    with pytest.raises(CharEmbedError, match=r"no column 'body', there are: id, text"):
        texts_of(path, text_column="body")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.json", '[{"text": "a"},\n{"text": "b', r"cut.json, line 2: not JSON: Unterminated string"),
        ("open.json", '[{"text": "a"}', "open.json, line 1: not JSON: the array has no end"),
        ("more.json", '[{"text": "a"}]\n[]', "more.json, line 2: not JSON: there is more after the end"),
        ("deep.json", "[" * 100_000, "deep.json, line 1: not JSON"),
        ("texts.json", '["a"]', r"texts.json, record 1 \(line 1\): expected a JSON object, got str"),
        ("latin.json", b'[\n{"text": "caf\xe9"}]', "latin.json, line 2: byte 0xe9 is not UTF-8"),
        ("squad.json", '{"version": 1, "data": []}', "no column 'text', there are: data, version"),
        ("array.jsonl", '[{"text": "a"}]', "got list: rename a file with one array or object to end in .json"),
        ("short.csv", "id,text\n1,a\n2\n", "short.csv, line 3: 1 columns, but the first line names 2"),
        ("comma.csv", "id,text\n1,a, b\n", "comma.csv, line 2: 3 columns, but the first line names 2"),
        ("quote.csv", 'id,text\n1,"a\n', "quote.csv, line 2: not a table with columns: unexpected end of data"),
        ("twice.csv", "text,text\na,b\n", "there are several columns 'text'"),
    ],
)
def test_records_with_another_schema_are_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CharEmbedError, match=message):
        texts_of(path)


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        ('{"text": "a"}\n', ".jsonl"),
        ('\n{"body": "a"}\n{"body": "b"}\n', ".jsonl"),
        ('{"body": "a"}\n' * 10_000, ".jsonl"),
        (json.dumps(RECORDS), ".json"),
        (json.dumps(RECORDS, indent=2), ".json"),
        (json.dumps(RECORDS * 2000, indent=2), ".json"),
        (json.dumps({"type": "FeatureCollection", "features": RECORDS * 2000}, indent=1), ".json"),
        (json.dumps({"type": "FeatureCollection", "features": RECORDS}, indent=1), ".json"),
        (TABLE, ".csv"),
        (TABLE * 1000, ".csv"),
        (TABLE.replace("id,", '"id";').replace(',"Л', ';"Л'), ".csv"),
        (TABLE.replace("id,", "id\t").replace(',"Л', '\t"Л'), ".tsv"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "text", "a.geojson"])
def test_records_in_a_file_named_like_text_are_refused(tmp_path: Path, name: str, content: str, suffix: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(CharEmbedError, match=rf"{name}, line \d: .*: rename it to end in {suffix};"):
        texts_of(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        "[1] The boat sails, and\n[2] comes home.\n",
        "[{1}] and more\n",
        "[]\n",
        "{}\n",
        "{citation needed}\nThe boat, text, and sentence.\n",
        '{"text": "an example"}\nis a record in JSON.\n',
        '{"text": "an example"}\n{braces}, and so on\n',
        '[{"text": "an example"}] is an array.\n',
        '{\n    "name": "boat"\n}\n\nint main() {\n}\n',
        '{\n    "name": "boat",\n    size: 3,\n' + "    // a comment\n" * 9000,
        "text,content\nwords, words, words\nmore words\nand one, two\n",
        "text, content\na, b\nc, d\ne, f\n",
        "text,content\na,b\n",
        "Sentence|content\n\nNothing of this is a table\n",
        "id,name\n1,a\n2,b\n",
        "import text\nfrom content import a, b\n",
        "= Boats =\n\nA boat is a watercraft , smaller than a ship .\n",
        "[[Boat]]s are ships | text\n{| class=wikitable\n! text !! content\n|}\n",
    ],
)
def test_text_that_resembles_records_is_text(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    assert texts_of(tmp_path / "a.txt") == [line for line in content.split("\n") if line.strip()]


@pytest.mark.parametrize(
    "paths",
    [
        ("train/a", "dev.txt", "test.txt"),
        ("train/a.txt", "valid.txt"),
        ("train/a.txt", "valid.txt.gz", "test.txt.gz"),
        ("train.txt", "valid.txt", "test.txt"),
        ("train/a.txt", "valid/a.txt", "test/a.txt"),
        ("Train/a.txt", "Test/a.txt"),
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
    ],
)
@pytest.mark.parametrize("below", ["", "corpus"])
def test_divided_corpora_are_not_trained_on(tmp_path: Path, paths: tuple[str, ...], below: str) -> None:
    for path in paths:
        (tmp_path / below / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / below / path).write_text("The boat sails.\n")
    train, *others = (tmp_path / below / path.split("/")[0] for path in paths)
    with pytest.raises(CharEmbedError, match="is divided into training, validation and test text: train on") as caught:
        open_corpora(CorpusConfig(train=str(tmp_path)))
    assert all(str(path) in str(caught.value) for path in (train, *others))


@pytest.mark.parametrize(
    "paths",
    [("a.txt", "test.txt"), ("test/a.txt", "valid.txt"), ("train/a.txt", "b.txt"), ("train.txt", "testing.txt")],
)
def test_folders_with_one_such_name_are_not_divided(tmp_path: Path, paths: tuple[str, ...]) -> None:
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("The boat sails.\n")
    train, _ = open_corpora(CorpusConfig(train=str(tmp_path)))
    assert len(train.sources) == 2


def test_a_divided_corpus_is_trained_on_without_its_validation_text(tmp_path: Path) -> None:
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_text("The boat sails.\n")
    train, _ = open_corpora(CorpusConfig(train=str(tmp_path), valid=str(tmp_path / "valid.txt")))
    assert train.sources == [tmp_path / "train.txt"]


def test_a_text_column_that_cannot_apply_is_an_error(tmp_path: Path) -> None:
    text, records = tmp_path / "a.txt", tmp_path / "b.jsonl"
    text.write_text("One.\n")
    records.write_text('{"body": "Two."}\n')
    with pytest.raises(CharEmbedError, match=r"text_column 'body' does not apply: .*a.txt is read as text"):
        check_text_column(Corpus(text, text_column="body"))
    with pytest.raises(CharEmbedError, match="text_column 'body' does not apply"):
        open_corpora(CorpusConfig(train=str(text), text_column="body"))
    open_corpora(CorpusConfig(train=str(text), valid=str(records), text_column="body"))


@pytest.mark.parametrize("end", ["\r", "\r\n", "\r\r\n", "\n"])
def test_lines_end_as_on_any_system(tmp_path: Path, end: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(end.join(["first line", "second line", "", "third paragraph", ""]).encode())
    texts = list(Corpus(path).texts())
    assert [(text.number, text.text) for text in texts] == [
        (1, "first line"),
        (2, "second line"),
        (4, "third paragraph"),
    ]
    assert list(Corpus(path)) == ["first line\nsecond line", "third paragraph"]


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\n"])
def test_lines_are_the_same_wherever_blocks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    path = tmp_path / "text.txt"
    lines = ["é" * n for n in range(1, 30)]
    path.write_bytes(end.join(line.encode() for line in lines))
    for size in range(1, 12):
        monkeypatch.setattr("charembed.text.lines._BLOCK", size)
        assert texts_of(path) == lines, f"blocks of {size} bytes"


def test_byte_order_marks_of_joined_files_are_not_text(tmp_path: Path) -> None:
    marked = b"\xef\xbb\xbfThe boat.\n"
    (tmp_path / "both.txt").write_bytes(marked + b"\n" + marked + b"no end" + marked)
    assert texts_of(tmp_path / "both.txt") == ["The boat.", "The boat.", "no endThe boat."]
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(marked) * 2)
    assert texts_of(tmp_path / "c.txt.gz") == ["The boat."] * 2


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32-le"])
@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_utf16_is_never_read_as_utf8(tmp_path: Path, encoding: str, errors: str) -> None:
    path = tmp_path / "text.txt"
    path.write_text("The boat sailed.\nЛодка вышла в море.\n", encoding=encoding)
    with pytest.raises(CharEmbedError, match="it looks like UTF-16 or a binary file"):
        texts_of(path, errors=errors)


def test_null_bytes(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"fine\n" * 100 + b"a\0b\n")
    with pytest.raises(CharEmbedError, match=r"text.txt, line 101: byte 501 is a null byte"):
        texts_of(path)
    assert texts_of(path, errors="replace")[-1] == "a\ufffdb"


def test_xz_padding_and_streams(tmp_path: Path) -> None:
    one, two = lzma.compress(b"one\n"), lzma.compress(b"two\n")
    path = tmp_path / "text.txt.xz"
    path.write_bytes(one + b"\0" * 8 + two + b"\0" * 4)
    assert texts_of(path) == ["one", "two"]
    path.write_bytes(one + b"\0" * 3 + two)
    with pytest.raises(CharEmbedError, match="there are 3 null bytes after a compressed stream"):
        texts_of(path)


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress), ("zst", zstandard.compress)],
)
def test_a_damaged_later_stream_is_not_the_end(tmp_path: Path, suffix: str, compress: object) -> None:
    second = bytearray(compress(b"two\n"))
    path = tmp_path / f"text.txt.{suffix}"
    for position in (0, 3, len(second) // 2):
        damaged = second.copy()
        damaged[position] ^= 0xFF
        path.write_bytes(compress(b"one\n") + damaged)
        with pytest.raises(CharEmbedError, match="cannot be read"):
            texts_of(path)


def test_compression_is_recognized_by_content(tmp_path: Path) -> None:
    content = {
        "a.txt": gzip.compress(b"text\n"),
        "a.tgz": gzip.compress(b"text\n"),
        "a.txt.lzma": lzma.compress(b"text\n", format=lzma.FORMAT_ALONE),
        "a.txt.zstd": zstandard.compress(b"text\n"),
        "a.gz": bz2.compress(b"text\n"),
    }
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
        assert texts_of(tmp_path / name) == ["text"], name


def test_archives_and_documents_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    tar = b"a.txt".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0")
    others = {
        "a.tar.gz": (gzip.compress(tar), "a tar archive"),
        "a.7z": (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        "a.txt": (b"%PDF-1.4", "a PDF document"),
        "page.txt": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
        "page.jsonl": (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
        "b.txt.gz": (gzip.compress(gzip.compress(b"text")), "compressed twice, with gzip and gzip"),
    }
    for name, (data, _) in others.items():
        (tmp_path / name).write_bytes(data)
    for name, what in {"a.zip": "a ZIP archive", **{name: what for name, (_, what) in others.items()}}.items():
        with pytest.raises(CharEmbedError, match=f"{name} is {what}"):
            texts_of(tmp_path / name)


needs_links = pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")


@needs_links
def test_linked_subfolders_are_read_once_without_loops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus, store = tmp_path / "corpus", tmp_path / "store"
    for folder in (corpus, store):
        folder.mkdir()
    (store / "a.txt").write_text("A")
    (corpus / "b.txt").write_text("B")
    (corpus / "linked").symlink_to(store)
    (store / "loop").symlink_to(corpus)
    (corpus / "gone.txt").symlink_to(tmp_path / "nothing.txt")
    with caplog.at_level(logging.INFO):
        assert texts_of(corpus) == ["B", "A"]
    assert "loop, a link to a folder that it is in" in caplog.text
    assert "gone.txt, a link to a file that does not exist" in caplog.text
    assert texts_of(corpus / "**" / "*.txt") == ["B", "A"]


@needs_links
def test_a_glob_ends_where_links_form_several_loops(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.txt").write_text("A")
    (corpus / "up").symlink_to(tmp_path)
    (corpus / "self").symlink_to(corpus)
    assert texts_of(tmp_path / "**" / "*.txt") == ["A"]
    assert texts_of(tmp_path / "*" / "**") == ["A"]


def test_globs_match_as_those_of_python(tmp_path: Path) -> None:
    for path in ("a.txt", "b/c.txt", "b/d/e.txt", "b/d/[f].txt", ".g.txt", ".h/i.txt", "j/k.md", "b/.l/m.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    for pattern in (
        *("*.txt", "**/*.txt", "**", "b/**", "*/*", "**/d/*", "*/d/e.txt", "**/**/*.txt", ".*", ".h/*", "*/.l/*"),
        *("b/d/[[]f].txt", "?/[ck].*", "**/e.*", "**/b/**/e.txt"),
    ):
        found = {Path(path) for path in glob.glob(str(tmp_path / pattern), recursive=True)}
        files = sorted(path for path in found if path.is_file())
        assert find_files(str(tmp_path / pattern)) == files, pattern


@needs_links
def test_a_link_to_a_device_is_skipped_for_what_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_text("A")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    assert texts_of(tmp_path) == ["A"]
    assert "zero.txt, not a regular file" in caplog.text


@needs_links
def test_both_names_of_one_file_are_embedded_and_one_is_trained_on(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("The boat sails.")
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).symlink_to("blob")
    sources = [Path(text.source).name for text in Corpus(tmp_path).texts()]
    assert sources == ["a.txt", "b.txt"]
    assert list(Corpus(tmp_path)) == ["The boat sails."]
    assert len(Corpus([str(tmp_path / "a.txt"), f"{tmp_path}/./a.txt"]).sources) == 1


def test_most_of_a_folder_is_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "train_split_1").write_text("The training text.\n" * 10)
    (tmp_path / "valid.txt").write_text("Valid.\n")
    with pytest.raises(CharEmbedError, match=r"most of the text in this folder would be left out.*train_split_1"):
        Corpus(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\x00" * 1000)
    (tmp_path / "train" / "train_split_1").write_text("x")
    assert texts_of(tmp_path) == ["Valid."]
    (tmp_path / "test.txt").write_text("Test.\n")
    with pytest.raises(CharEmbedError, match=r"train on '.*train/\*', validate on .*valid.txt, and keep .*test.txt"):
        open_corpora(CorpusConfig(train=str(tmp_path)))


def test_brackets_of_a_folder_are_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "data[1]"
    folder.mkdir()
    (folder / "a.txt").write_text("A")
    assert texts_of(folder / "*.txt") == ["A"]
    with pytest.raises(CharEmbedError, match=r"to name brackets, write \[\[\] for \["):
        Corpus(str(tmp_path / "*" / "b[1].txt"))


@pytest.mark.parametrize("suffix", ["gz", "xz", "bz2", "zst"])
def test_a_line_that_expands_is_an_error_in_bounded_memory(tmp_path: Path, suffix: str) -> None:
    compressor = {
        "gz": lambda: zlib.compressobj(wbits=31),
        "xz": lambda: lzma.LZMACompressor(preset=0),
        "bz2": bz2.BZ2Compressor,
        "zst": lambda: zstandard.ZstdCompressor().compressobj(),
    }[suffix]()
    path = tmp_path / f"bomb.txt.{suffix}"
    path.write_bytes(
        b"".join(
            [*(compressor.compress(b"a" * 1_000_000) for _ in range(20 if suffix != "zst" else 80)), compressor.flush()]
        )
    )
    tracemalloc.start()
    try:
        with pytest.raises(CharEmbedError, match=rf"bomb.txt.{suffix} \(decompressed\), line 1: longer than 2 MB"):
            texts_of(path, max_text_mb=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Zstandard makes 32 MB of what is read at a time.
    assert peak < (10_000_000 if suffix != "zst" else 40_000_000), f"{peak / 1e6:.0f} MB for a limit of 2 MB"
    with pytest.raises(CharEmbedError, match="max_text_mb must be at least 1, got 0"):
        texts_of(path, max_text_mb=0)


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{"text": "' + b"a" * 1_500_000, "a.jsonl, line 2"),
        ("a.json", b'[{"text": "' + b"a" * 1_500_000, r"a.json, record 1 \(line 1\)"),
        ("a.csv", b'text\n"' + b"a\n" * 750_000, "a.csv, line"),
        ("a.txt", b"fine\n" + b"a" * 1_500_000 + b"\n", "a.txt, line 2"),
    ],
)
def test_a_record_beyond_the_limit_is_named(tmp_path: Path, name: str, content: bytes, where: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CharEmbedError, match=where):
        texts_of(path, max_text_mb=1)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_a_device_without_end_is_refused() -> None:
    with pytest.raises(CharEmbedError, match="/dev/zero: it looks like UTF-16 or a binary file"):
        texts_of(Path("/dev/zero"))


def test_a_hole_is_refused_before_all_of_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "hole.txt").open("wb") as file:
        file.truncate(100 * 10**9)
    with pytest.raises(CharEmbedError, match=r"hole.txt: it looks like UTF-16 or a binary file"):
        Corpus(tmp_path / "hole.txt").digests()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data", b"PAR1\x15\x04\x15\x10", "data is a Parquet file: rename it to end in .parquet"),
        ("data.zz", zlib.compress(b"The boat sails.\n" * 50), "data.zz is compressed with zlib, which cannot be read"),
        ("a.txt.br", b"\x1b\x0f\x00\xf8\x8d\x94\x6e", "a.txt.br is compressed with Brotli, which cannot be read"),
    ],
)
def test_binary_formats_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CharEmbedError, match=message):
        texts_of(tmp_path / name)


@pytest.mark.parametrize("text", ["x^2 is a square.", "x\u0680 is a letter.", "PAR1 is a magic number."])
def test_text_that_begins_like_a_binary_format_is_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.br").write_text(text, encoding="utf-8")
    assert texts_of(tmp_path / "a.br") == [text]
