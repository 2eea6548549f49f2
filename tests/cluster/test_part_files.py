"""The files that the workers of a cluster write, without a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from charembed.cluster.parts import row_count, write_tables
from charembed.util.shared_folder import SharedFolder

arrow = pytest.importorskip("pyarrow")


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are bytes")
@pytest.mark.parametrize("name", ["out", "l\udce4uf"])
def test_the_name_of_the_folder_need_not_be_text(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    folder, table = SharedFolder(str(tmp_path / name)), arrow.table({"word": ["two", "words"]})
    assert write_tables([table], table.schema, folder, "part-00000.parquet") == 2
    assert folder.names() == {"part-00000.parquet"}
    assert row_count(folder, "part-00000.parquet") == 2
