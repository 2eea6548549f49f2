"""Files of vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from charembed import CharEmbedder, CharEmbedError, output
from charembed.corpus import SourceText
from charembed.output import write_embeddings

TEXTS = [
    SourceText("a.txt", 1, "The quick fox."),
    SourceText("a.txt", 2, "\u200b"),
    SourceText("b.txt", 1, "東 é"),
    SourceText("b.txt", 7, "lazy dogs"),
]


@pytest.mark.parametrize("rows_per_group", [2, 4096])
@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_rows_are_the_words(
    embedder: CharEmbedder, tmp_path: Path, suffix: str, rows_per_group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "ROWS_PER_GROUP", rows_per_group)
    path = tmp_path / f"vectors{suffix}"
    counts = write_embeddings(embedder, TEXTS, path)
    assert (counts.texts, counts.words) == (4, 8)
    if suffix == ".npz":
        columns = dict(np.load(path, allow_pickle=False))
    else:
        table = pyarrow.parquet.read_table(path).to_pydict()
        columns = {name: np.array(values) for name, values in table.items()}
    if suffix == ".npz":
        columns["source"] = columns["sources"][columns["source"]]
    assert columns["source"].tolist() == 4 * ["a.txt"] + 4 * ["b.txt"]
    assert columns["number"].tolist() == [1, 1, 1, 1, 1, 1, 7, 7]
    assert columns["word"].tolist() == ["The", "quick", "fox", ".", "東", "é", "lazy", "dogs"]
    given = {(text.source, text.number): text.text for text in TEXTS}
    rows = zip(columns["source"], columns["number"], columns["start"], columns["end"], strict=True)
    assert [given[source, number][start:end] for source, number, start, end in rows] == columns["word"].tolist()
    wanted = np.concatenate([found.vectors for found in embedder.embed([text.text for text in TEXTS])])
    assert np.array_equal(columns["vector"].astype(np.float32), wanted)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_an_error_in_the_middle_leaves_nothing(embedder: CharEmbedder, tmp_path: Path, suffix: str) -> None:
    def breaking():
        yield from TEXTS
        raise CharEmbedError("unreadable")

    (tmp_path / f"vectors{suffix}").write_text("what was there")
    with pytest.raises(CharEmbedError, match="unreadable"):
        write_embeddings(embedder, breaking(), tmp_path / f"vectors{suffix}")
    assert (tmp_path / f"vectors{suffix}").read_text() == "what was there"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_long_word_in_parquet(embedder: CharEmbedder, tmp_path: Path) -> None:
    texts = [SourceText("a", 1, "x" * 5000), SourceText("a", 2, "lone \ud800")]
    write_embeddings(embedder, texts, tmp_path / "vectors.parquet")
    words = pyarrow.parquet.read_table(tmp_path / "vectors.parquet")["word"].to_pylist()
    assert words == ["x" * 5000, "lone", "?"]


def test_refused(embedder: CharEmbedder, tmp_path: Path) -> None:
    with pytest.raises(CharEmbedError, match=r"vectors.csv must end in .parquet or .npz"):
        write_embeddings(embedder, TEXTS, tmp_path / "vectors.csv")
    with pytest.raises(CharEmbedError, match="there is no folder"):
        write_embeddings(embedder, TEXTS, tmp_path / "absent" / "vectors.npz")
    with pytest.raises(CharEmbedError, match="no words in the texts"):
        write_embeddings(embedder, [SourceText("a", 1, " ")], tmp_path / "vectors.npz")
    with pytest.raises(CharEmbedError, match=r"a word has 5,000 characters, .npz holds words of up to 1,000"):
        write_embeddings(embedder, [SourceText("a", 1, "x" * 5000)], tmp_path / "vectors.npz")
    assert not list(tmp_path.iterdir())
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(CharEmbedError, match=r"folder.npz is a folder"):
        write_embeddings(embedder, TEXTS, tmp_path / "folder.npz")
