"""Output folders: their contents, and how they are resumed after an interruption."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from helpers import assert_same_vectors, flip_bit, small_model, with_projection

from charembed import CharEmbedder, CharEmbedError, Context
from charembed.embedding.limits import EmbeddingLimits
from charembed.output import OutputConfig, write_embeddings
from charembed.output.manifest import Manifest
from charembed.output.projection import PROJECTION, load_projection, save_projection
from charembed.output.shards import ROW_BYTES
from charembed.pretrained.model_folder import Pretrained
from charembed.projection import Projection
from charembed.text.corpus import Corpus
from charembed.text.word_boundaries import HAS_WORD_RULES_1
from charembed.util.digests import DIGEST, seal_json, unseal_json
from charembed.util.files import MANIFEST

FILES = {"a.txt": "The quick fox.\n\u200b\n\n東 é\n", "b.txt": "\n\n\nlazy dogs\n"}
WORDS = ["The", "quick", "fox", ".", "東", "é", "lazy", "dogs"]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "text").mkdir()
    for name, text in FILES.items():
        (tmp_path / "text" / name).write_text(text, encoding="utf-8")
    return Corpus(tmp_path / "text")


def as_arrays(table: Any) -> dict[str, np.ndarray]:
    dtype = table.schema.field("vector").type.value_type.to_pandas_dtype()
    return {
        name: np.array(values, dtype=dtype if name == "vector" else None) for name, values in table.to_pydict().items()
    }


def read(folder: Path) -> dict[str, np.ndarray]:
    """Return the columns of all files, in order."""
    columns: dict[str, list] = {}
    for path in sorted(folder.glob("part-*")):
        if path.suffix == ".npz":
            part = dict(np.load(path, allow_pickle=False))
            part["source"] = part.pop("sources")[part["source"]]
        elif path.suffix == ".parquet":
            import pyarrow.parquet

            part = as_arrays(pyarrow.parquet.read_table(path))
        else:
            import pyarrow.ipc

            with pyarrow.ipc.open_file(path) as file:
                part = as_arrays(file.read_all())
        for name, values in part.items():
            columns.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in columns.items()}


def many_lines(folder: Path, lines: int = 300) -> Corpus:
    path = folder / "lines.txt"
    path.write_text("".join(f"line {k} of the lazy dog\n" for k in range(lines)))
    return Corpus(path)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["npz", "parquet", "arrow"])
def test_there_is_one_row_per_word(embedder: CharEmbedder, corpus: Corpus, tmp_path: Path, kind, dtype) -> None:
    written = write_embeddings(embedder, corpus, tmp_path / "out", OutputConfig(format=kind, dtype=dtype))
    assert (written.words, written.files, written.complete) == (8, 1, True)
    columns = read(tmp_path / "out")
    a, b = (str(tmp_path / "text" / name) for name in FILES)
    assert columns["source"].tolist() == 6 * [a] + 2 * [b]
    assert columns["number"].tolist() == [1, 1, 1, 1, 4, 4, 4, 4]
    assert columns["word"].tolist() == WORDS
    given = {(text.source, text.number): text.text for text in corpus.texts()}
    rows = zip(columns["source"], columns["number"], columns["start"], columns["end"], strict=True)
    assert [given[source, number][start:end] for source, number, start, end in rows] == WORDS
    expected = np.concatenate([text.vectors for text in embedder.embed([text.text for text in corpus.texts()])])
    assert columns["vector"].dtype == dtype
    assert_same_vectors(
        columns["vector"].astype(np.float32), expected, WORDS, tolerance=1e-3 if "16" in dtype else 1e-6
    )
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"part-00000.{kind}", MANIFEST, ".embeddings.lock"}


def test_files_have_the_requested_size(embedder: CharEmbedder, tmp_path: Path) -> None:
    size = (96 + ROW_BYTES) * 100  # 100 words
    written = write_embeddings(embedder, many_lines(tmp_path), tmp_path / "out", shard_bytes=size)
    assert (written.words, written.files) == (1800, 18)
    sizes = [len(np.load(path)["word"]) for path in sorted((tmp_path / "out").glob("part-*"))]
    assert sizes == [100] * 18


class BrokenError(Exception):
    pass


def fails_after(embedder: CharEmbedder, parts: int) -> CharEmbedder:
    """Return an embedder that yields that many parts and then fails."""
    iter_all_parts = embedder.iter_parts

    def iter_some_parts(*arguments, **options):
        for number, part in enumerate(iter_all_parts(*arguments, **options)):
            if number == parts:
                raise BrokenError
            yield part

    embedder.iter_parts = iter_some_parts  # type: ignore[method-assign]
    return embedder


@pytest.mark.parametrize("context", [None, Context(sentences=1)])
@pytest.mark.parametrize("parts", [0, 1, 50, 299])
def test_an_interrupted_run_resumes(tmp_path: Path, parts: int, context: Context | None) -> None:
    corpus = many_lines(tmp_path)
    pretrained = small_model()

    def write(embedder: CharEmbedder, folder: str) -> None:
        shard_bytes = (96 + ROW_BYTES) * 7  # files end within lines
        write_embeddings(embedder, corpus, tmp_path / folder, context=context, shard_bytes=shard_bytes)

    write(CharEmbedder(pretrained), "whole")
    with pytest.raises(BrokenError):
        write(fails_after(CharEmbedder(pretrained), parts), "out")
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    assert len(done) == max(0, 6 * (parts - 1) - 1) // 7
    write(CharEmbedder(pretrained), "out")
    assert all(path.stat().st_mtime_ns == written for path, written in done.items()), "complete files were rewritten"
    whole, resumed = read(tmp_path / "whole"), read(tmp_path / "out")
    for name in ("number", "word", "start", "end"):
        assert resumed[name].tolist() == whole[name].tolist(), name
    assert_same_vectors(resumed["vector"], whole["vector"], list(whole["word"]))


def test_a_long_line_is_resumed_in_its_middle(tmp_path: Path) -> None:
    (tmp_path / "line.txt").write_text("The lazy dog jumps. " * 300 + "\nshort\n")
    corpus, pretrained = Corpus(tmp_path / "line.txt"), small_model()
    limits = EmbeddingLimits(window_characters=200, part_characters=200)
    size = (96 + ROW_BYTES) * 50
    write_embeddings(CharEmbedder(pretrained, limits=limits), corpus, tmp_path / "whole", shard_bytes=size)
    broken = fails_after(CharEmbedder(pretrained, limits=limits), 11)
    with pytest.raises(BrokenError):
        write_embeddings(broken, corpus, tmp_path / "out", shard_bytes=size)
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["words_of_next"] > 0
    write_embeddings(CharEmbedder(pretrained, limits=limits), corpus, tmp_path / "out", shard_bytes=size)
    whole, resumed = read(tmp_path / "whole"), read(tmp_path / "out")
    assert resumed["start"].tolist() == whole["start"].tolist()
    assert_same_vectors(resumed["vector"], whole["vector"], list(whole["word"]))


@pytest.mark.slow
def test_a_killed_command_leaves_no_incomplete_file_and_resumes(embedder: CharEmbedder, tmp_path: Path) -> None:
    embedder.save_pretrained(tmp_path / "model")
    many_lines(tmp_path, 60_000)
    command = [sys.executable, "-m", "charembed", "embed", "--model", str(tmp_path / "model")]
    command += [str(tmp_path / "lines.txt"), "-o", str(tmp_path / "out"), "--shard_mb", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and len(list((tmp_path / "out").glob("part-*"))) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "out" / "part-00070.npz").exists(), "the command ended before it could be killed"
    before = len(list((tmp_path / "out").glob("part-*")))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    afters = [f"resuming after {files * 5102:,} words in {files} files" for files in (before - 1, before)]
    assert any(after in done.stderr for after in afters), done.stderr
    columns = read(tmp_path / "out")
    assert columns["number"].tolist() == [number for number in range(1, 60_001) for _ in range(6)]
    assert not list((tmp_path / "out").glob(".part*"))


def test_a_complete_output_is_not_changed(embedder: CharEmbedder, corpus: Corpus, tmp_path: Path) -> None:
    write_embeddings(embedder, corpus, tmp_path / "out")
    path = tmp_path / "out" / "part-00000.npz"
    before = path.stat().st_mtime_ns
    assert write_embeddings(embedder, corpus, tmp_path / "out").complete
    assert path.stat().st_mtime_ns == before
    write_embeddings(embedder, corpus, tmp_path / "out", OutputConfig(overwrite=True))
    assert path.stat().st_mtime_ns > before


def test_an_output_is_not_resumed_with_other_options_or_text(
    embedder: CharEmbedder, corpus: Corpus, tmp_path: Path
) -> None:
    write_embeddings(embedder, corpus, tmp_path / "out")
    with pytest.raises(
        CharEmbedError,
        match="made with dtype float32, not float16: name another folder, or start over with --overwrite",
    ):
        write_embeddings(embedder, corpus, tmp_path / "out", OutputConfig(dtype="float16"))
    with pytest.raises(CharEmbedError, match="made with another model"):
        write_embeddings(CharEmbedder(small_model(seed=8)), corpus, tmp_path / "out")
    (tmp_path / "text" / "a.txt").write_text("changed")
    with pytest.raises(CharEmbedError, match="made with another digest"):
        write_embeddings(embedder, corpus, tmp_path / "out")


def test_a_missing_or_damaged_file_is_reported(embedder: CharEmbedder, corpus: Corpus, tmp_path: Path) -> None:
    write_embeddings(embedder, corpus, tmp_path / "out")
    (tmp_path / "out" / "part-00000.npz").unlink()
    with pytest.raises(CharEmbedError, match=r"part-00000.npz is missing: restore it, or start over"):
        write_embeddings(embedder, corpus, tmp_path / "out")
    (tmp_path / "out" / MANIFEST).write_text('{"made_of"')
    with pytest.raises(CharEmbedError, match="is damaged"):
        write_embeddings(embedder, corpus, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("made_of", []),
        ("files", "1"),
        ("files", -1),
        ("texts", 1.5),
        ("words", None),
        ("words_of_next", True),
        ("projected", []),
        ("complete", "no"),
        ("texts", 10**9),
        ("words_of_next", 10**9),
    ],
)
def test_an_invalid_manifest_is_reported(
    embedder: CharEmbedder, corpus: Corpus, tmp_path: Path, name: str, value: object
) -> None:
    write_embeddings(embedder, corpus, tmp_path / "out")
    path = tmp_path / "out" / MANIFEST
    fields = unseal_json(path.read_bytes()) | {"complete": False, "texts": 0, name: value}
    path.write_text(seal_json(fields))
    with pytest.raises(CharEmbedError, match=r"is damaged.*start over with --overwrite"):
        write_embeddings(embedder, corpus, tmp_path / "out")
    path.write_text("[" * 200_000)
    with pytest.raises(CharEmbedError, match="is damaged"):
        write_embeddings(embedder, corpus, tmp_path / "out")


@pytest.mark.parametrize("name", [MANIFEST, PROJECTION])
def test_a_flipped_bit_is_noticed_when_an_output_resumes(
    embedder: CharEmbedder, corpus: Corpus, tmp_path: Path, name: str
) -> None:
    options = OutputConfig(dim=2)
    dataclasses.replace(write_embeddings(embedder, corpus, tmp_path / "out", options), complete=False).save(
        tmp_path / "out"
    )
    path = tmp_path / "out" / name
    intact = path.read_bytes()
    for bit in range(3, 8 * len(intact), len(intact)):
        flip_bit(path, bit)
        with pytest.raises(CharEmbedError, match=rf"{name} is damaged .*start over with --overwrite"):
            write_embeddings(embedder, corpus, tmp_path / "out", options)
        path.write_bytes(intact)


def test_what_a_run_killed_before_its_first_file_left_is_replaced(
    embedder: CharEmbedder, corpus: Corpus, tmp_path: Path
) -> None:
    """Killed while it wrote the manifest, then killed before it wrote the projection."""
    out, options = tmp_path / "out", OutputConfig(dim=2)
    out.mkdir()
    (out / f".{MANIFEST}.123.tmp").write_text("{")
    manifest = write_embeddings(embedder, corpus, out, options)
    expected = {path.name for path in out.iterdir()}
    assert not any(name.endswith(".tmp") for name in expected)
    dataclasses.replace(manifest, complete=False, files=0, words=0, texts=0, words_of_next=0).save(out)
    for path in (out / PROJECTION, *out.glob("part-*")):
        path.unlink()
    write_embeddings(embedder, corpus, out, options)
    assert {path.name for path in out.iterdir()} == expected


def test_a_mistake_in_the_options_deletes_nothing(embedder: CharEmbedder, corpus: Corpus, tmp_path: Path) -> None:
    write_embeddings(embedder, corpus, tmp_path / "out", OutputConfig(dim=2))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for options in ({"dim": 99}, {"projection": "absent"}):
        with pytest.raises(CharEmbedError):
            write_embeddings(embedder, corpus, tmp_path / "out", OutputConfig(overwrite=True, **options))
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    again = OutputConfig(overwrite=True, projection=str(tmp_path / "out"))
    assert write_embeddings(embedder, corpus, tmp_path / "out", again).projected["dim"] == 2


def test_an_output_folder_inside_the_source_is_not_read(embedder: CharEmbedder, corpus: Corpus, tmp_path: Path) -> None:
    for _ in range(2):
        corpus = Corpus(tmp_path / "text")
        written = write_embeddings(embedder, corpus, tmp_path / "text" / "out", OutputConfig(format="parquet"))
        assert written.words == 8


def test_one_long_word_does_not_inflate_a_file(embedder: CharEmbedder, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 5000 + "\n" + "a b c d e\n" * 2000)
    write_embeddings(embedder, Corpus(tmp_path / "a.txt"), tmp_path / "out", OutputConfig(dim=2))
    assert (tmp_path / "out" / "part-00000.npz").stat().st_size < 10_001 * 450


def test_two_runs_at_once_are_refused(embedder: CharEmbedder, corpus: Corpus, tmp_path: Path) -> None:
    write_embeddings(embedder, corpus, tmp_path / "out")
    with FileLock(tmp_path / "out" / ".embeddings.lock"), pytest.raises(CharEmbedError, match="another run is writing"):
        write_embeddings(embedder, corpus, tmp_path / "out")


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_a_projection_is_saved_and_reused(embedder: CharEmbedder, tmp_path: Path, kind) -> None:
    corpus = many_lines(tmp_path)
    written = write_embeddings(embedder, corpus, tmp_path / "out", OutputConfig(format=kind, dim=5))
    assert written.projected["dim"] == 5
    assert 0.5 < written.projected["explained_variance"] < 1
    vectors = np.concatenate([text.vectors for text in embedder.embed([text.text for text in corpus.texts()])])
    projection = load_projection(tmp_path / "out")
    words = ["?"] * len(vectors)
    assert_same_vectors(read(tmp_path / "out")["vector"], projection(vectors), words, tolerance=1e-4)
    # The text is smaller than the maximum sample, so the projection is fitted to all of it.
    assert_same_vectors(projection(vectors), Projection.fit(vectors, 5)(vectors), words, tolerance=1e-3)
    (tmp_path / "other.txt").write_text("another text")
    config = OutputConfig(format=kind, projection=str(tmp_path / "out"))
    write_embeddings(embedder, Corpus(tmp_path / "other.txt"), tmp_path / "other", config)
    (text,) = embedder.embed(["another text"])
    assert_same_vectors(read(tmp_path / "other")["vector"], projection(text.vectors), text.words, tolerance=1e-4)


@pytest.mark.parametrize("pipe", [False, True])
def test_the_projection_of_the_model_is_used(
    pipe: bool, pretrained: Pretrained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    embedder = CharEmbedder(with_projection(pretrained))
    corpus = many_lines(tmp_path)
    if pipe:  # text that can be read only once needs no sample
        corpus.digests = lambda: [None]  # type: ignore[method-assign]
    with caplog.at_level("INFO"):
        written = write_embeddings(embedder, corpus, tmp_path / "out", OutputConfig(dim=5))
    assert "reducing to 5 dimensions with the projection of the model" in caplog.text
    projection = pretrained_projection = embedder.pretrained.projection.first(5)
    assert written.projected["dim"] == 5
    assert written.projected["explained_variance"] == round(projection.explained, 4)
    assert np.array_equal(load_projection(tmp_path / "out").components, pretrained_projection.components)
    vectors = np.concatenate([text.vectors for text in embedder.embed([text.text for text in corpus.texts()])])
    words = ["?"] * len(vectors)
    assert_same_vectors(read(tmp_path / "out")["vector"], projection(vectors), words, tolerance=1e-5)
    # An embedder that reduces its vectors itself writes the same.
    write_embeddings(CharEmbedder(embedder.pretrained, dim=5), corpus, tmp_path / "own")
    assert_same_vectors(read(tmp_path / "own")["vector"], projection(vectors), words, tolerance=1e-5)


@pytest.mark.parametrize(("dim", "readout"), [(9, "word"), (5, "separator")])
def test_a_projection_is_fitted_if_that_of_the_model_does_not_do(
    dim: int, readout, pretrained: Pretrained, tmp_path: Path
) -> None:
    corpus, embedder = many_lines(tmp_path), CharEmbedder(with_projection(pretrained, dim=7, readout=readout))
    write_embeddings(embedder, corpus, tmp_path / "out", OutputConfig(dim=dim))
    write_embeddings(CharEmbedder(pretrained), corpus, tmp_path / "fitted", OutputConfig(dim=dim))
    expected = load_projection(tmp_path / "fitted").components
    assert np.array_equal(load_projection(tmp_path / "out").components, expected)


def test_an_output_with_other_dimensions_of_the_embedder_is_not_resumed(pretrained: Pretrained, tmp_path: Path) -> None:
    reducible, corpus = with_projection(pretrained), many_lines(tmp_path, lines=3)
    write_embeddings(CharEmbedder(reducible, dim=4), corpus, tmp_path / "out")
    with pytest.raises(CharEmbedError, match="contains vectors made with embedder_dim 4, not 5"):
        write_embeddings(CharEmbedder(reducible, dim=5), corpus, tmp_path / "out")


def test_a_projection_of_another_width_is_refused(embedder: CharEmbedder, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "narrow").mkdir()
    narrow = Projection(np.zeros(7, np.float32), np.eye(3, 7, dtype=np.float32), np.zeros(3, np.float32))
    save_projection(narrow, tmp_path / "narrow")
    with pytest.raises(CharEmbedError, match="from 7 to 3 dimensions, but the model's vectors have 24: use"):
        write_embeddings(embedder, corpus, tmp_path / "out", OutputConfig(projection=str(tmp_path / "narrow")))


def test_long_words_and_lone_surrogates(embedder: CharEmbedder, tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": "x" * 5000 + " lone"}) + "\n")
    for kind, length in (("npz", 100), ("parquet", 5000)):
        write_embeddings(embedder, Corpus(tmp_path / "text.jsonl"), tmp_path / kind, OutputConfig(format=kind))
        columns = read(tmp_path / kind)
        assert columns["word"].tolist() == ["x" * length, "lone"]
        assert columns["end"].tolist() == [5000, 5005]


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_text_is_read_from_a_pipe(embedder: CharEmbedder, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("lazy dogs\n"))
    writer.start()
    assert write_embeddings(embedder, Corpus(pipe), tmp_path / "out").words == 2
    writer.join()
    assert read(tmp_path / "out")["word"].tolist() == ["lazy", "dogs"]
    with pytest.raises(CharEmbedError, match="dim needs to read the text twice"):
        write_embeddings(embedder, Corpus(pipe), tmp_path / "other", OutputConfig(dim=3))
    assert not (tmp_path / "other").exists()


def test_context_stays_within_documents(embedder: CharEmbedder, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The dog.\nIt jumps.\n\nThe fox.\n")
    (tmp_path / "b.txt").write_text("Another.\n")
    corpus = Corpus([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    write_embeddings(embedder, corpus, tmp_path / "out", context=Context(characters=100))
    texts = embedder.embed(["The dog.", "It jumps.", "", "The fox.", "", "Another."], Context(characters=100))
    vectors = np.concatenate([text.vectors for text in texts])
    assert_same_vectors(read(tmp_path / "out")["vector"], vectors, [word for text in texts for word in text.words])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "out.npz",
            r"out.npz must be a folder, which will contain several files: leave out .npz and set the format to npz",
        ),
        ("text/a.txt", r"a.txt is a file: name a folder"),
        ("text", r"text contains a.txt, which charembed has not written"),
    ],
)
def test_unsuitable_folders_are_refused(
    embedder: CharEmbedder, corpus: Corpus, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(CharEmbedError, match=message):
        write_embeddings(embedder, corpus, tmp_path / name)


@pytest.mark.parametrize("name", ["part-00000.parquet", "part-notes.txt", ".part-00000.npz.tmp"])
def test_files_of_other_programs_are_not_touched(
    embedder: CharEmbedder, corpus: Corpus, tmp_path: Path, name: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("of another program")
    with pytest.raises(CharEmbedError, match=f"out contains {name}, which charembed has not written"):
        write_embeddings(embedder, corpus, tmp_path / "out", OutputConfig(overwrite=True))
    assert (tmp_path / "out" / name).read_text() == "of another program"


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are bytes")
def test_file_names_that_are_not_text(embedder: CharEmbedder, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    Path(os.fsdecode(path)).write_text("lazy dogs\n")
    for _ in range(2):
        write_embeddings(embedder, Corpus(os.fsdecode(path)), tmp_path / "out")
    assert read(tmp_path / "out")["source"].tolist() == [f"{tmp_path}/caf\\udce9.txt"] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are bytes")
@pytest.mark.parametrize("kind", ["parquet", "arrow", "npz"])
def test_an_output_whose_name_is_not_text(embedder: CharEmbedder, corpus: Corpus, tmp_path: Path, kind) -> None:
    for name in (os.fsdecode(b"l\xe4uf"), "out"):
        write_embeddings(embedder, corpus, tmp_path / name, OutputConfig(format=kind))
    shards = [tmp_path / name / f"part-00000.{kind}" for name in (os.fsdecode(b"l\xe4uf"), "out")]
    if kind != "npz":  # whose archive has the time in it
        assert shards[0].read_bytes() == shards[1].read_bytes()
    assert shards[0].stat().st_size == shards[1].stat().st_size > 0


@pytest.mark.parametrize("text", ["", "\n \n", "\u200b\n"])
def test_text_without_words_leaves_no_folder(embedder: CharEmbedder, tmp_path: Path, text: str) -> None:
    (tmp_path / "blank.txt").write_text(text)
    with pytest.raises(CharEmbedError, match=r"there (is no text|are no words in the texts) to embed"):
        write_embeddings(embedder, Corpus(tmp_path / "blank.txt"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "csv"}, "format must be one of parquet, arrow, npz, got 'csv'"),
        ({"dtype": "int8"}, "dtype must be one of float32, float16, got 'int8'"),
        ({"shard_mb": 0}, "shard_mb must be positive, got 0"),
        ({"dim": 3, "projection": "x"}, "give only one of the two"),
    ],
)
def test_options_are_checked(options: dict, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        OutputConfig(**options)


@pytest.mark.skipif(not HAS_WORD_RULES_1, reason="needs regex < 2026.11.18")
def test_an_output_is_finished_with_the_word_rules_that_it_was_begun_with(embedder, tmp_path: Path) -> None:
    """Version 0.1.0 stored no version of its rules, by which an apostrophe before a vowel belonged to the word."""
    text = tmp_path / "text.txt"
    text.write_text("an 'apple\nit's 'only one\n")
    corpus = Corpus([str(text)])
    complete = write_embeddings(embedder, corpus, tmp_path / "new")
    assert complete.words == 7
    begun = tmp_path / "begun"
    begun.mkdir()
    made_of = {name: value for name, value in complete.made_of.items() if name != "word_rules"}
    Manifest(made_of).save(begun)
    assert write_embeddings(embedder, corpus, begun).words == 5
    with np.load(begun / "part-00000.npz") as arrays:
        assert arrays["word"].tolist() == ["an", "'apple", "it's", "'only", "one"]


def test_an_output_of_words_that_the_installed_regex_does_not_find_is_not_resumed(
    embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("an 'apple\n")
    made_of = write_embeddings(embedder, Corpus([str(text)]), tmp_path / "new").made_of
    begun = Manifest({name: value for name, value in made_of.items() if name != "word_rules"})
    monkeypatch.setattr("charembed.output.manifest.HAS_WORD_RULES_1", False)
    with pytest.raises(CharEmbedError, match=r"begun by charembed 0\.1\.0, .*: pip install 'regex<2026\.11\.18' until"):
        begun.check_same_inputs(made_of, "out")
    begun.complete = True
    begun.check_same_inputs(made_of, "out")  # no words are left to find


def test_an_output_of_later_word_rules_is_not_resumed(embedder, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("an 'apple\n")
    corpus = Corpus([str(text)])
    made_of = write_embeddings(embedder, corpus, tmp_path / "new").made_of
    later = tmp_path / "later"
    later.mkdir()
    Manifest(made_of | {"word_rules": 99}).save(later)
    with pytest.raises(CharEmbedError, match="word_rules 99, not 2"):
        write_embeddings(embedder, corpus, later)


def test_an_output_of_other_parts_is_not_resumed(with_words: Pretrained, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The lazy dog.\n")
    corpus = Corpus([str(tmp_path / "text.txt")])
    whole = CharEmbedder(with_words, parts=["words"])
    write_embeddings(whole, corpus, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "_embeddings.json").read_text())["made_of"]["parts"] == "words"
    write_embeddings(whole, corpus, tmp_path / "out")  # complete already
    for parts, name in ((None, "forward,backward,words"), (["forward", "words"], "forward,words")):
        with pytest.raises(CharEmbedError, match=f"made with parts words, not {name}"):
            write_embeddings(CharEmbedder(with_words, parts=parts), corpus, tmp_path / "out")


def test_the_parts_of_an_output_of_0_1_0_are_all_states(pretrained: Pretrained, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The lazy dog.\n")
    corpus = Corpus([str(tmp_path / "text.txt")])
    write_embeddings(CharEmbedder(pretrained), corpus, tmp_path / "out")
    path = tmp_path / "out" / "_embeddings.json"
    content = json.loads(path.read_text())
    del content["made_of"]["parts"], content[DIGEST]
    path.write_text(json.dumps(content))
    write_embeddings(CharEmbedder(pretrained), corpus, tmp_path / "out")
    write_embeddings(CharEmbedder(pretrained, parts=["forward", "backward"]), corpus, tmp_path / "out")
    with pytest.raises(CharEmbedError, match="made with parts forward,backward, not forward"):
        write_embeddings(CharEmbedder(pretrained, parts=["forward"]), corpus, tmp_path / "out")
