"""Units of work: how texts are divided, and what becomes of a unit that is done twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cluster_helpers import assert_same_rows, read_rows

from charembed import CharEmbedder, CharEmbedError, Context
from charembed.cluster.embedding import EmbeddingTask
from charembed.cluster.execution import UnitWorker
from charembed.cluster.parts import PartsFolder
from charembed.cluster.unit_reader import UnitReader
from charembed.cluster.units import cut_units
from charembed.output import OutputConfig, write_embeddings
from charembed.output.row_reader import VectorFormat
from charembed.text.corpus import Corpus, SourceText
from charembed.util.shared_folder import SharedFolder

CONTEXTS = [None, Context(sentences=1), Context(sentences=3), Context(characters=30), Context(characters=1000)]


def texts(documents: list[list[str]]) -> list[SourceText]:
    lines = [(line, k == 0) for document in documents for k, line in enumerate(document)]
    return [SourceText("a.txt", number, line, begins) for number, (line, begins) in enumerate(lines, start=1)]


@pytest.mark.parametrize("context", CONTEXTS, ids=str)
@pytest.mark.parametrize("characters", [1, 10, 25, 1000])
def test_units_hold_each_text_once(characters: int, context: Context | None) -> None:
    lines = texts([["one", "two and three"], ["four"], ["five", "six", "seven", "eight", "nine", "ten"]])
    units = list(cut_units(lines, characters, context))
    assert [text for unit in units for text in unit.texts] == lines
    assert all(sum(len(text.text) for text in unit.texts[:-1]) < characters for unit in units)


def test_a_unit_has_the_context_of_its_document_only() -> None:
    lines = texts([["one", "two"], ["three", "four", "five", "six"], ["seven"]])
    units = list(cut_units(lines, 1, Context(sentences=2)))
    around = {
        unit.texts[0].text: ([text.text for text in unit.before], [text.text for text in unit.after]) for unit in units
    }
    assert around == {
        "one": ([], ["two"]),
        "two": (["one"], []),
        "three": ([], ["four", "five"]),
        "four": (["three"], ["five", "six"]),
        "five": (["three", "four"], ["six"]),
        "six": (["four", "five"], []),
        "seven": ([], []),
    }


def test_few_texts_are_read_ahead() -> None:
    read = []

    def source():
        for text in texts([["a line of text"] * 1000]):
            read.append(text)
            yield text

    next(cut_units(source(), 100, Context(sentences=5)))
    assert len(read) < 20


def test_the_name_of_a_file_tells_its_content() -> None:
    lines = texts([["one", "two"], ["three"]])
    (unit,) = cut_units(lines, 100, None)
    assert unit.to_row(3, 7)["part"] == f"part-00003-000007-{unit.digest()}.parquet"
    assert type(unit).from_row(unit.to_row(0, 0)) == unit
    others = [lines[:-1], [*lines[:-1], SourceText("a.txt", 3, "three", False)], texts([["one", "two"], ["there"]])]
    assert len({unit.digest(), *(next(cut_units(other, 100, None)).digest() for other in others)}) == 4


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "text").mkdir()
    lines = [f"line {k} of the lazy dog{' jumps' * (k % 7)}\n" + "\n" * (k % 5 == 0) for k in range(60)]
    (tmp_path / "text" / "a.txt").write_text("".join(lines))
    records = '{"text": "東 é"}\n\n{"text": "\u200b"}\n{"text": "The quick\\n\\nfox"}\n'
    (tmp_path / "text" / "b.jsonl").write_text(records, encoding="utf-8")
    return Corpus(tmp_path / "text")


def work(worker: UnitWorker, reader: UnitReader) -> list[dict]:
    """Do by hand what Ray does."""
    rows = [row for number in range(len(reader.sources)) for row in reader.read({"source": number})]
    return [worker(row) for row in rows]


@pytest.mark.parametrize("context", CONTEXTS, ids=str)
def test_all_units_together_have_the_rows_of_one_machine(
    embedder: CharEmbedder, corpus: Corpus, tmp_path: Path, context: Context | None
) -> None:
    write_embeddings(embedder, corpus, tmp_path / "one", OutputConfig(format="parquet"), context)
    (tmp_path / "many").mkdir()
    task = EmbeddingTask(embedder, context, VectorFormat(None, "float32"))
    worker = UnitWorker(lambda: task, SharedFolder(str(tmp_path / "many")))
    done = work(worker, UnitReader.of(corpus, 200, context))
    assert len(done) > 5
    assert sum(result["texts"] for result in done) == 63
    assert_same_rows(read_rows(tmp_path / "many"), read_rows(tmp_path / "one"))


def test_a_unit_without_words_has_a_file_without_rows(embedder: CharEmbedder, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\u200b\n")
    task = EmbeddingTask(embedder, None, VectorFormat(None, "float16"))
    worker = UnitWorker(lambda: task, SharedFolder(str(tmp_path)))
    (done,) = work(worker, UnitReader.of(Corpus(tmp_path / "a.txt"), 100, None))
    assert done["rows"] == 0
    assert pq.read_table(tmp_path / done["part"]).num_rows == 0
    assert pq.read_schema(tmp_path / done["part"]) == task.schema


def test_a_file_that_exists_is_not_computed_again(embedder: CharEmbedder, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    task = EmbeddingTask(embedder, None, VectorFormat(None, "float32"))
    worker, reader = UnitWorker(lambda: task, SharedFolder(str(tmp_path / "out"))), UnitReader.of(corpus, 200, None)
    done = work(worker, reader)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert work(worker, reader) == done
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == files


def test_rows_are_written_in_groups_of_bounded_size(embedder: CharEmbedder, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a b c d e f g h i j\n" * 1500)
    task = EmbeddingTask(embedder, None, VectorFormat(None, "float16"))
    worker = UnitWorker(lambda: task, SharedFolder(str(tmp_path)))
    (done,) = work(worker, UnitReader.of(Corpus(tmp_path / "a.txt"), 10**9, None))
    file = pq.read_metadata(tmp_path / done["part"])
    sizes = [file.row_group(k).num_rows for k in range(file.num_row_groups)]
    assert sum(sizes) == 15_000
    assert max(sizes) < 4096 + 10


def test_an_output_of_one_machine_or_of_another_program_is_refused(
    embedder: CharEmbedder, corpus: Corpus, tmp_path: Path
) -> None:
    write_embeddings(embedder, corpus, tmp_path / "one", OutputConfig(format="parquet"))
    with pytest.raises(CharEmbedError, match="was begun without --cluster: finish it without"):
        PartsFolder(str(tmp_path / "one")).earlier({}, overwrite=False)
    for name in (str(tmp_path / "text"), "memory://foreign"):
        SharedFolder(name).write("a.txt", b"")
        with pytest.raises(CharEmbedError, match=r"contains a.txt, which charembed has not written"):
            PartsFolder(name)


def test_an_output_of_a_cluster_is_not_resumed_with_other_options(tmp_path: Path) -> None:
    made_of = {"model": "abc", "dtype": "float32", "cluster": "vectors", "word_rules": 2}
    for name in (str(tmp_path / "out"), "memory://out"):
        output = PartsFolder(name)
        with output.in_use():
            output.start(made_of)
            assert PartsFolder(name).earlier(made_of, overwrite=False) is not None
            assert PartsFolder(name).earlier(made_of, overwrite=True) is None
            with pytest.raises(CharEmbedError, match="made with dtype float32, not float16"):
                PartsFolder(name).earlier(made_of | {"dtype": "float16"}, overwrite=False)


def test_files_of_changed_text_are_removed_and_missing_ones_reported(tmp_path: Path) -> None:
    output = PartsFolder(str(tmp_path / "out"))
    names = [f"part-00000-00000{k}-{k:016x}.parquet" for k in range(3)]
    with output.in_use():
        manifest = output.start({"cluster": "vectors"})
        for name in names[:2]:
            output.files.write(name, b"rows")
        with pytest.raises(CharEmbedError, match=r"2\.parquet has disappeared: all machines must share this folder"):
            output.finish(manifest, {names[0], names[2]})
        assert not manifest.complete
        output.finish(manifest, {names[0]})
    assert (manifest.files, manifest.complete) == (1, True)
    assert {name for name in output.files.names() if name.startswith("part")} == {names[0]}


def test_a_cluster_writes_parquet_only(embedder: CharEmbedder, corpus: Corpus, tmp_path: Path) -> None:
    from charembed.cluster.embedding import embed_on_cluster

    with pytest.raises(CharEmbedError, match="a cluster writes parquet, got format npz: add --format parquet"):
        embed_on_cluster(embedder, corpus, str(tmp_path / "out"), OutputConfig(), address="auto")
    assert not (tmp_path / "out").exists()


def test_vectors_are_reduced_as_on_one_machine(embedder: CharEmbedder, corpus: Corpus, tmp_path: Path) -> None:
    write_embeddings(embedder, corpus, tmp_path / "one", OutputConfig(format="parquet", dim=5))
    from charembed.output.projection import load_projection

    task = EmbeddingTask(embedder, None, VectorFormat(load_projection(tmp_path / "one"), "float32"))
    assert task.dim == 5
    (tmp_path / "many").mkdir()
    work(UnitWorker(lambda: task, SharedFolder(str(tmp_path / "many"))), UnitReader.of(corpus, 200, None))
    one, many = read_rows(tmp_path / "one"), read_rows(tmp_path / "many")
    assert np.array(many["vector"].to_pylist()).shape[1] == 5
    assert_same_rows(many, one)
