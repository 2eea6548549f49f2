"""The index of words, compared with a search of all of them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import AWKWARD_TEXTS, EXCERPT, small_model

if importlib.util.find_spec("usearch") is None:  # importing it before ONNX Runtime would crash the latter
    pytest.skip("needs usearch", allow_module_level=True)

from charembed import CharEmbedder, CharEmbedError, Corpus
from charembed.cli.main import main
from charembed.embedding.index_files import FILES, TEXT_ENDS, TEXTS
from charembed.embedding.occurrence_index import OccurrenceIndex, open_index


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "text.jsonl"
    lines = dict.fromkeys([*AWKWARD_TEXTS, *EXCERPT.read_text(encoding="utf-8")[:30_000].splitlines()])
    path.write_text(
        "".join(json.dumps({"text": line}) + "\n" for line in lines if len(line) < 1000 and "\ud800" not in line)
    )
    return path


@pytest.fixture(scope="module")
def index(text: Path, tmp_path_factory: pytest.TempPathFactory) -> OccurrenceIndex:
    return open_index(CharEmbedder(small_model()), Corpus(str(text)), tmp_path_factory.mktemp("index") / "i")


def test_it_has_every_word_where_it_is(index: OccurrenceIndex, text: Path) -> None:
    embeddings = CharEmbedder(small_model()).embed(line.text for line in Corpus(str(text)).texts())
    words = [word for one in embeddings for word in one.words]
    assert len(index.occurrences) == len(words) > 4000
    assert index.occurrences.words_at(range(len(words))) == words
    for number in range(0, len(words), 97):
        found = index.occurrences.at(number)
        assert found.text[found.start : found.end] == words[number]
    assert [words[k] for k in index.occurrences.of_word("THE")] == [w for w in words if w.casefold() == "the"]
    assert len(index.occurrences.of_word("not a word")) == 0


def test_it_finds_the_nearest(index: OccurrenceIndex, text: Path) -> None:
    embedder = CharEmbedder(small_model())
    embeddings = embedder.embed(line.text for line in Corpus(str(text)).texts())
    words = [word for one in embeddings for word in one.words]
    vectors = np.concatenate([one.vectors for one in embeddings])
    found, expected = 0, 0
    for number in range(5, len(words), 400):
        # All but one of 24 dimensions are kept, and the mean is that of the texts: cosines differ little.
        centered = vectors - vectors.mean(axis=0)
        cosines = centered @ centered[number] / np.linalg.norm(centered, axis=1) / np.linalg.norm(centered[number])
        ranked = [words[k] for k in np.argsort(-cosines) if words[k].casefold() != words[number].casefold()]
        nearest = index.neighbors(vectors[number], words[number], count=5)
        similarities = [neighbor.similarity for neighbor in nearest]
        assert similarities == sorted(similarities, reverse=True)
        assert all(one.text[slice(*one.span)] == one.word for one in nearest)
        found += len(set(list(dict.fromkeys(ranked))[:5]) & {neighbor.word for neighbor in nearest})
        expected += 5
    assert found >= 0.9 * expected


def test_a_word_that_is_everywhere_does_not_hide_others(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join("fox " * k + "\n" for k in range(1, 50)) + "A lazy dog.\nA lazy dog.\n")
    embedder = CharEmbedder(small_model())
    index = open_index(embedder, Corpus(str(path)), tmp_path / "index")
    vector = embedder.embed(["fox fox"])[0].vectors[1]
    assert len(index.occurrences) == 49 * 50 / 2 + 4, "equal texts are indexed once"
    assert {one.word for one in index.neighbors(vector, "FOX", count=4)} == {"A", "lazy", "dog", "."}


def test_it_is_built_once_for_one_corpus_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = tmp_path / "text.txt", tmp_path / "index"
    path.write_text("The quick fox.\n")
    progress: list[tuple[int, int]] = []
    open_index(CharEmbedder(small_model()), Corpus(str(path)), folder, lambda *done: progress.append(done))
    assert progress[-1] == (14, 14)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    monkeypatch.setattr(CharEmbedder, "iter_embed", None)
    open_index(CharEmbedder(small_model()), Corpus(str(path)), folder)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    with pytest.raises(CharEmbedError, match="is one of other texts or of another model"):
        open_index(CharEmbedder(small_model(seed=4)), Corpus(str(path)), folder)
    path.write_text("Another text.\n")
    with pytest.raises(CharEmbedError, match="is one of other texts or of another model"):
        open_index(CharEmbedder(small_model()), Corpus(str(path)), folder)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_noticed(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog.\n")
    folder = tmp_path / "index"
    open_index(CharEmbedder(small_model()), Corpus(str(tmp_path / "text.txt")), folder)
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    OccurrenceIndex(tmp_path / "copy")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    for _ in range(2):  # once with a changed bit, once without the file
        with pytest.raises(CharEmbedError, match=r"cannot be read.*; remove it to build it again|is not an index"):
            OccurrenceIndex(folder)
        (folder / name).unlink(missing_ok=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_its_place_is_refused_at_once(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog.\n")
    folder = tmp_path / "index"
    open_index(CharEmbedder(small_model()), Corpus(str(tmp_path / "text.txt")), folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CharEmbedError, match=f"{name} is not a regular file"):
        OccurrenceIndex(folder)


@pytest.mark.parametrize("name", [TEXTS, TEXT_ENDS])
def test_a_file_that_is_cut_while_it_is_open_is_noticed(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog.\n")
    folder = tmp_path / "index"
    index = open_index(CharEmbedder(small_model()), Corpus(str(tmp_path / "text.txt")), folder)
    vector = index.vectors([0])[0]
    assert index.occurrences.at(0).text
    os.truncate(folder / name, 1)
    for search in (
        lambda: index.occurrences.at(0),
        lambda: index.occurrences.of_word("fox"),
        lambda: index.vectors([0]),
        lambda: index.neighbors(vector, "fox", 1),
    ):
        with pytest.raises(CharEmbedError, match=f"{name} has changed while it was open: 1 of"):
            search()


def test_texts_without_words_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("  \n\n")
    with pytest.raises(CharEmbedError, match=r"there are no words to index in .*text\.txt"):
        open_index(CharEmbedder(small_model()), Corpus(str(path)), tmp_path / "index")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "thesis.txt").write_text("mine")
    with pytest.raises(CharEmbedError, match=r"holds thesis.txt, which would be lost"):
        open_index(CharEmbedder(small_model()), Corpus(str(path)), tmp_path / "index")


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the fox")
    with pytest.raises(CharEmbedError, match=r"l\\udce4uf: the name is not UTF-8, so that USearch could not open"):
        open_index(CharEmbedder(small_model()), Corpus(str(tmp_path / "text.txt")), tmp_path / "l\udce4uf")
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_the_command_uses_an_index(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_model().save(tmp_path / "model")
    options = ["--model", str(tmp_path / "model"), str(text), "--sentence", "The lazy dog", "--word", "lazy"]
    assert main(["neighbors", *options, "--index", str(tmp_path / "index"), "--count", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert (tmp_path / "index" / "vectors.usearch").exists()
