"""Files of vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from charembed import CharEmbedder, CharEmbedError, output
from charembed.output import write_embeddings

TEXTS = ["The quick fox.", "  ", "東 é", "lazy dogs"]


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
    assert columns["text"].tolist() == [0, 0, 0, 0, 2, 2, 3, 3]
    assert columns["word"].tolist() == ["The", "quick", "fox", ".", "東", "é", "lazy", "dogs"]
    spans = zip(columns["text"], columns["start"], columns["end"], strict=True)
    assert [TEXTS[text][start:end] for text, start, end in spans] == columns["word"].tolist()
    wanted = np.concatenate([found.vectors for found in embedder.embed(TEXTS)])
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


def test_refused(embedder: CharEmbedder, tmp_path: Path) -> None:
    with pytest.raises(CharEmbedError, match=r"vectors.csv must end in .parquet or .npz"):
        write_embeddings(embedder, TEXTS, tmp_path / "vectors.csv")
    with pytest.raises(CharEmbedError, match="there is no folder"):
        write_embeddings(embedder, TEXTS, tmp_path / "absent" / "vectors.npz")
    with pytest.raises(CharEmbedError, match="no words in the texts"):
        write_embeddings(embedder, [" "], tmp_path / "vectors.npz")
    assert not list(tmp_path.iterdir())
