"""The file of a projection in an output folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from charembed import CharEmbedError
from charembed.output.projection import PROJECTION, load_projection, save_projection
from charembed.projection import Projection


def test_it_is_found_by_its_folder_or_file(tmp_path: Path) -> None:
    projection = Projection(np.ones(4, np.float32), np.eye(2, 4, dtype=np.float32), np.full(2, 0.25, np.float32))
    save_projection(projection, tmp_path)
    for name in (tmp_path, tmp_path / PROJECTION):
        again = load_projection(name)
        assert np.array_equal(again.mean, projection.mean)
        assert np.array_equal(again.components, projection.components)
        assert again.explained == 0.5


def test_a_folder_without_a_projection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CharEmbedError, match="contains no projection: its vectors were written without --dim"):
        load_projection(tmp_path)


@pytest.mark.parametrize("content", [b"not safetensors", None])
def test_other_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CharEmbedError, match="file is not a projection: "):
        load_projection(path)
