"""Tests of encoding a corpus: complete, read once, and encoded again only when text or options have changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import EXCERPT, flip_bit
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedError, CharVocab
from charembed.dataset.encoded_corpus import EncodedCorpus, encode_corpus, remove_other_entries
from charembed.dataset.encoding import CorpusEncoder, CorpusLimits
from charembed.dataset.split import subtract_bounds
from charembed.text.corpus import CorpusConfig
from charembed.text.vocab import MAX_IDS, VocabConfig


def encode(path: Path, **options: object) -> EncodedCorpus:
    config = CorpusConfig(train=str(path), **options)
    return encode_corpus(config, VocabConfig(coverage=1.0), 5, path.with_name("encoded"))


def training_texts(corpus: EncodedCorpus) -> list[str]:
    return [corpus.vocab.decode(corpus.ids[start:end]) for start, end in corpus.segments]


def training_text(corpus: EncodedCorpus) -> str:
    return "".join(training_texts(corpus))


def test_separate_validation_text(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    (text / "train.txt").write_text("One.\n\nTwo.\n")
    (text / "valid.txt").write_text("Three.\n")
    corpus = encode(text, valid=str(text / "valid.txt"))
    assert training_texts(corpus) == ["One.\n\n", "Two.\n\n"]
    unknown = "T\ufffd\ufffdee.\n\n"
    assert corpus.vocab.decode(corpus.valid) == unknown, "the validation text adds no characters to the vocabulary"
    assert corpus.documents == 2
    assert corpus.characters == 12


def test_lines_and_paragraphs_of_a_document_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    documents = ["Title\nFirst paragraph.\nSecond one.", "Another."]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    corpus = encode(path, valid=str(EXCERPT))
    assert training_texts(corpus) == [text + "\n\n" for text in documents]


def test_held_out_text_is_whole_documents_and_nothing_is_lost(tmp_path: Path) -> None:
    documents = [f"Document {k} says {k * k}." for k in range(200)]
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(documents))
    corpus = encode(path, held_out=0.1)
    train = training_text(corpus).split("\n\n")[:-1]
    valid = corpus.vocab.decode(corpus.valid).split("\n\n")[:-1]
    assert sorted(train + valid) == sorted(documents)
    assert corpus.characters == len(training_text(corpus))
    assert 15 <= len(valid) <= 25
    assert [d for d in documents if d in valid] == valid, "in the order of the text"


def test_text_that_is_repeated_is_not_held_out(tmp_path: Path) -> None:
    documents = [f"Document {k}." for k in range(100)] + ["The same again."] * 100 + ["Twice over."] * 2
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(documents))
    corpus = encode(path, held_out=0.2)
    train = set(training_text(corpus).split("\n\n")[:-1])
    valid = set(corpus.vocab.decode(corpus.valid).split("\n\n")[:-1])
    assert len(valid) > 20
    assert not train & valid


def test_validation_text_is_limited_to_its_first_characters(
    tmp_path: Path,
) -> None:
    (tmp_path / "train.txt").write_text("Seen, one two three.")
    (tmp_path / "valid.txt").write_text("one\n\ntwo\n\nthree\n")
    config = CorpusConfig(train=str(tmp_path / "train.txt"), valid=str(tmp_path / "valid.txt"))
    limits = CorpusLimits(validation=10)
    corpus = encode_corpus(config, VocabConfig(coverage=1.0), 5, tmp_path / "encoded", limits=limits)
    assert corpus.vocab.decode(corpus.valid) == "one\n\ntwo\n\n"


@pytest.mark.parametrize("separator", ["\n", " "])
def test_one_long_document_is_held_out_in_passages(tmp_path: Path, separator: str) -> None:
    text = separator.join(f"word{k}" for k in range(2000))
    path = tmp_path / "text.txt"
    path.write_text(text)
    corpus = encode(path, held_out=0.1)
    assert corpus.characters + len(corpus.valid) == len(text) + 2
    assert corpus.documents == 1
    assert 0.05 * len(text) <= len(corpus.valid) <= 0.15 * len(text)
    for word in (corpus.vocab.decode(corpus.valid) + training_text(corpus)).split():
        assert word.startswith("word"), "no word is cut"


@given(st.data())
def test_subtracted_bounds_and_what_is_left_cover_everything(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    ends = np.cumsum(lengths)
    bounds = np.stack([ends - lengths, ends], axis=1)
    marks = np.array(data.draw(st.lists(st.booleans(), min_size=int(ends[-1]), max_size=int(ends[-1]))))
    held_out = [(k, k + 1) for k in np.flatnonzero(marks)]
    segments = subtract_bounds(bounds, np.array(held_out, dtype=np.int64).reshape(-1, 2))
    left = np.zeros(int(ends[-1]), dtype=bool)
    for start, end in segments:
        assert not left[start:end].any(), "no character twice"
        left[start:end] = True
        assert any(a <= start and end <= b for a, b in bounds), "no segment across the end of a document"
    assert np.array_equal(left, ~marks)


def test_fingerprint_is_the_digest_of_the_documents(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    numbers = " ".join(map(str, range(100)))
    path.write_text("\n\nOne é.\n\n\n\nTwo.\n" + numbers, encoding="utf-8")
    expected = hashlib.sha256(("One é.\n\nTwo.\n" + numbers + "\n\n").encode()).hexdigest()
    assert encode(path, held_out=0.2).fingerprint == expected


@pytest.mark.parametrize("content", ["", "\n \n\n"])
def test_empty_corpus(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.txt"
    path.write_text(content)
    with pytest.raises(CharEmbedError, match=r"the corpus is empty: no text in '.*empty.txt'"):
        encode(path)
    full = tmp_path / "full.txt"
    full.write_text("text")
    with pytest.raises(CharEmbedError, match="the validation text is empty"):
        encode(full, valid=str(path))
    assert not [p for p in (tmp_path / "encoded").iterdir() if p.is_dir()], "nothing half-written"


def test_too_little_to_hold_out(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("short")
    with pytest.raises(CharEmbedError, match=r"too small, or repeats itself too much, to hold out 2.0% of its 7 char"):
        encode(path)


def test_a_vocabulary_can_be_used_and_extended(tmp_path: Path) -> None:
    CharVocab("xyz").save(tmp_path / "tokenizer.json")
    path = str(tmp_path / "tokenizer.json")
    kept = encode_corpus(CorpusConfig(train=str(EXCERPT)), VocabConfig(path=path), 1, tmp_path / "encoded")
    assert kept.vocab == CharVocab("xyz")
    assert kept.unknown_rate > 0.9
    config = VocabConfig(path=path, grow=True)
    grown = encode_corpus(CorpusConfig(train=str(EXCERPT)), config, 1, tmp_path / "encoded")
    own = CharVocab.build([EXCERPT.read_text(encoding="utf-8")])
    assert grown.vocab.characters[:3] == ("x", "y", "z"), "known characters keep their ids"
    assert set(grown.vocab.characters) == set(own.characters) | set("xyz")
    assert grown.unknown_rate <= 1e-4


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), min_size=1, max_size=6))
def test_ids_are_those_of_the_vocabulary_for_any_text(tmp_path_factory: pytest.TempPathFactory, texts: list) -> None:
    path = tmp_path_factory.mktemp("any") / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    expected = "".join(line + "\n\n" for text in texts if (line := document_of(text)))
    if not expected:
        return
    corpus = encode(path, valid=str(EXCERPT))
    assert np.array_equal(corpus.ids, corpus.vocab.encode(expected))
    assert corpus.counts.sum() == len(expected)
    assert np.array_equal(corpus.counts, np.bincount(corpus.ids, minlength=len(corpus.vocab)))


def document_of(text: str) -> str:
    return "\n".join(line for line in re.split("\r\r\n|\r\n|\r|\n", text) if line.strip())


def test_text_is_encoded_again_only_if_text_or_options_change(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"Document {k}." for k in range(100)))
    first = encode(path, held_out=0.1)
    written = (first.folder / "ids.bin").stat().st_mtime_ns
    assert (encode(path, held_out=0.1).folder / "ids.bin").stat().st_mtime_ns == written, "loaded, not encoded again"
    before = path.stat()
    path.write_text(path.read_text().replace("99", "77"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = encode(path, held_out=0.1)
    assert changed.fingerprint != first.fingerprint, "same size and time, different text"
    others = [encode(path, held_out=0.2), encode(path, held_out=0.1, valid=str(EXCERPT))]
    config = CorpusConfig(train=str(path), held_out=0.1)
    for vocab, seed in ((VocabConfig(coverage=0.5), 5), (VocabConfig(coverage=1.0), 6)):
        others.append(encode_corpus(config, vocab, seed, path.with_name("encoded")))
    assert len({corpus.folder for corpus in [first, changed, *others]}) == 6


def test_disk_space_is_two_bytes_per_character(tmp_path: Path) -> None:
    corpus = encode_corpus(CorpusConfig(train=str(EXCERPT)), VocabConfig(), 1, tmp_path / "encoded")
    on_disk = sum(path.stat().st_size for path in corpus.folder.iterdir())
    assert on_disk <= 2 * len(corpus.ids) + 2 * len(corpus.valid) + 16 * len(corpus.segments) + 20_000
    assert isinstance(corpus.ids, np.memmap)


@pytest.mark.parametrize("name", ["ids.bin", "facts.json", "segments.npy", "valid.npy", "tokenizer.json", "counts.npy"])
def test_damaged_files_are_encoded_again(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Document {k}." for k in range(100)))
    config = CorpusConfig(train=str(text), held_out=0.1)
    first = encode_corpus(config, VocabConfig(), 1, tmp_path / "encoded")
    path = first.folder / name
    intact = path.read_bytes()

    def shorten(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-10])

    flips = [partial(flip_bit, bit=bit) for bit in (0, 4 * len(intact), 8 * len(intact) - 1)]

    def make_pipe(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    pipes = [make_pipe] if hasattr(os, "mkfifo") else []
    for damage in (*pipes, shorten, partial(Path.write_bytes, data=b""), partial(Path.write_bytes, data=b"1"), *flips):
        caplog.clear()
        damage(path)
        again = encode_corpus(config, VocabConfig(), 1, tmp_path / "encoded")
        assert "cannot be used: " in caplog.text, "nothing is said"
        assert "encoding the text again" in caplog.text
        assert path.read_bytes() == intact
        assert again.digests() == first.digests()
    assert not list((tmp_path / "encoded").glob(".*")), "nothing temporary is left"


@pytest.mark.parametrize("number", [MAX_IDS - 1, MAX_IDS])
def test_a_vocabulary_that_does_not_fit_into_two_bytes_is_refused(tmp_path: Path, number: int) -> None:
    characters = [chr(point) for point in range(number + 0x800 + 1) if not 0xD800 <= point <= 0xDFFF][:number]
    path = tmp_path / "tokenizer.json"
    CharVocab(characters).save(path)
    (tmp_path / "text.txt").write_text("\n\n".join(f"Document {chr(0x10000 - 1)} {k}." for k in range(100)))
    config, vocab = CorpusConfig(train=str(tmp_path / "text.txt"), held_out=0.1), VocabConfig(path=str(path))
    if number < MAX_IDS:
        assert len(encode_corpus(config, vocab, 1, tmp_path / "encoded").vocab) == MAX_IDS
        return
    for options, initial in ((vocab, None), (VocabConfig(), CharVocab.load(path))):
        name = "the vocabulary of the initial model" if initial else str(path)
        with pytest.raises(CharEmbedError, match=rf"{name} has 65,537 ids, and training allows at most 65,536: use"):
            encode_corpus(config, options, 1, tmp_path / "encoded", initial)


def test_concurrent_runs_encode_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"Document {k}." for k in range(100)))
    calls = []
    original = CorpusEncoder.write
    monkeypatch.setattr(CorpusEncoder, "write", lambda *arguments: (calls.append(1), original(*arguments)))
    results = []
    threads = [threading.Thread(target=lambda: results.append(encode(path, held_out=0.1))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len({corpus.folder for corpus in results}) == 1
    assert len(results) == 4


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"Document {k}." for k in range(100)))
    code = (
        "import os, signal; from pathlib import Path; from charembed.dataset import encoded_corpus, encoding\n"
        "encoding._translate = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from charembed.text.corpus import CorpusConfig; from charembed.text.vocab import VocabConfig\n"
        f"encoded_corpus.encode_corpus(CorpusConfig({str(path)!r}), VocabConfig(coverage=1.0), 5,"
        f" Path({str(tmp_path / 'encoded')!r}))"
    )
    encoded = tmp_path / "encoded"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert list(encoded.glob(".*/new/ids.bin")), "the killed run was writing"
    encode(path, held_out=0.02)
    assert not list(encoded.glob(".*"))


def test_other_entries_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"Document {k}." for k in range(100)))
    other, kept = encode(path, held_out=0.1), encode(path, held_out=0.2)
    folder = kept.folder.parent
    (folder / f".{other.folder.name}.charembed-killed").mkdir()
    for key in (other.folder.name, kept.folder.name):
        (folder / f".{key}.tmp").mkdir()  # left by a killed run of version 0.1.0
    (folder / "notes").mkdir()
    remove_other_entries(folder, kept)
    assert {path.name for path in folder.iterdir()} == {kept.folder.name, f"{kept.folder.name}.lock", "notes"}


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "\n\n".join(f"Document {k}." for k in range(100))
    writer = threading.Thread(target=lambda: pipe.write_text(text))
    writer.start()
    corpus = encode(pipe, held_out=0.1)
    writer.join()
    assert len(corpus.ids) == len(text) + 2


def test_more_characters_than_ids(tmp_path: Path) -> None:
    rare = "".join(map(chr, range(0x10000, 0x10000 + 70_000)))
    path = tmp_path / "text.txt"
    path.write_text("\n".join(["common words " * 20, rare[:35_000], rare[35_000:]]), encoding="utf-8")
    corpus = encode(path, valid=str(EXCERPT))
    assert len(corpus.vocab) == 0x10000
    assert corpus.vocab.decode(corpus.ids[:12]) == "common words"
    with pytest.raises(CharEmbedError, match=r"vocab.max_size must be at most 65536"):
        VocabConfig(max_size=70_000)


def test_a_data_set_that_changes_is_encoded_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(f'{{"text": "Document {k}."}}\n' for k in range(100)))
    config = CorpusConfig(train=f"dataset:{folder}", valid=str(EXCERPT))
    first = encode_corpus(config, VocabConfig(), 1, tmp_path / "encoded")
    assert encode_corpus(config, VocabConfig(), 1, tmp_path / "encoded").folder == first.folder
    with (folder / "train.jsonl").open("a") as file:
        file.write('{"text": "One more."}\n')
    again = encode_corpus(config, VocabConfig(), 1, tmp_path / "encoded")
    assert again.documents == 101
