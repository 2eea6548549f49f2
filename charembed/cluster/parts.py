"""The folder of Parquet files that the machines of a cluster write, one file per unit of work."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from charembed.errors import CharEmbedError, import_extra
from charembed.output.folder import OutputFolder, check_names
from charembed.output.manifest import START_OVER, Manifest
from charembed.output.projection import PROJECTION
from charembed.output.shards import REPEATED_COLUMNS
from charembed.util.files import MANIFEST
from charembed.util.shared_folder import SharedFolder

logger = logging.getLogger(__name__)

_ROW_GROUP = 4096
"""Rows that a Parquet file has in one group, and that are in memory at a time."""


class PartsFolder:
    """Files that are named by the content of their units, so that a repeated unit writes the same file again."""

    def __init__(self, name: str) -> None:
        """
        Args:
            name: path on storage that all machines share, or an address that `fsspec` opens.

        Raises:
            CharEmbedError: the folder contains files of other programs, or its address cannot be opened.
        """
        self.files = SharedFolder(name)
        self._local = OutputFolder(self.files.name) if self.files.is_local else None
        if self._local is None:
            check_names(self.files.names(), name)

    def __str__(self) -> str:
        return self.files.name

    def in_use(self) -> AbstractContextManager[None]:
        """Keep other runs out of a local folder. An address has no locks; two runs would write the same files."""
        return nullcontext() if self._local is None else self._local.in_use()

    def earlier(self, made_of: dict[str, Any], *, overwrite: bool) -> Manifest | None:
        """Return the manifest of an earlier output that can be resumed; None if there is none or it is to be replaced.

        Args:
            made_of: inputs and options that all files depend on.
            overwrite: whether to replace an earlier output.

        Raises:
            CharEmbedError: the earlier output was made with other options, or on one machine.
        """
        content = None if overwrite else self.files.read(MANIFEST)
        if content is None:
            return None
        manifest = Manifest.parse(content, f"{self}/{MANIFEST}")
        if "cluster" not in manifest.made_of:
            raise CharEmbedError(
                f"output {self} was begun without --cluster: finish it without, name another folder, or {START_OVER}"
            )
        manifest.check_same_inputs(made_of, str(self))
        return manifest

    def start(self, made_of: dict[str, Any]) -> Manifest:
        """Delete an earlier output, and return the manifest of a new one."""
        self.files.remove({name for name in self.files.names() if name.startswith("part-")} | {PROJECTION})
        # The manifest comes first: it marks all other files as charembed's own.
        manifest = Manifest(made_of)
        self.save(manifest)
        return manifest

    def save(self, manifest: Manifest) -> None:
        """Write the manifest."""
        self.files.write(MANIFEST, manifest.to_json().encode())

    def finish(self, manifest: Manifest, expected: set[str]) -> None:
        """Mark the output as complete, after checking that all files are there and removing those of changed text.

        Args:
            manifest: the record of the output.
            expected: names of the files.

        Raises:
            CharEmbedError: a file is missing.
        """
        names = self.files.names()
        written = {name for name in names if name.startswith("part-")}
        if missing := sorted(expected - written):
            raise CharEmbedError(
                f"output {self}: {missing[0]} has disappeared: all machines must share this folder; run the same"
                " command again"
            )
        if changed := written - expected:
            logger.info("%s: removing %s of text that has changed", self, _files(len(changed)))
        self.files.remove(changed | {name for name in names if name.endswith(".tmp")})
        manifest.files, manifest.complete = len(expected), True
        self.save(manifest)


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def row_count(folder: SharedFolder, name: str) -> int | None:
    """Return the number of rows of a complete file; None if it is not there."""
    parquet = import_extra("pyarrow.parquet", extra="parquet", purpose="--cluster")
    try:
        with folder.open(name) as file:
            return int(parquet.read_metadata(file).num_rows)
    except FileNotFoundError:
        return None


def write_tables(tables: Iterable[Any], schema: Any, folder: SharedFolder, name: str) -> int:
    """Write tables to one file, with few rows in memory at a time.

    Args:
        tables: tables of PyArrow.
        schema: their schema, for a file without rows.
        folder: where to write.
        name: name of the file.

    Returns:
        The number of rows.

    Raises:
        OSError: the file cannot be written.
    """
    parquet = import_extra("pyarrow.parquet", extra="parquet", purpose="--cluster")
    rows = 0
    repeated = REPEATED_COLUMNS if "vector" in schema.names else True
    with (
        folder.file(name) as path,
        path.open("wb") as file,  # a file, because PyArrow opens no name that is not UTF-8
        parquet.ParquetWriter(file, schema, use_dictionary=repeated) as writer,
    ):
        for table in _row_groups(tables):
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _row_groups(tables: Iterable[Any]) -> Iterator[Any]:
    """Yield the rows of tables in larger tables, each of which becomes a group of rows."""
    arrow = import_extra("pyarrow", extra="parquet", purpose="--cluster")
    collected: list[Any] = []
    for table in tables:
        collected.append(table)
        if sum(part.num_rows for part in collected) >= _ROW_GROUP:
            yield arrow.concat_tables(collected)
            collected = []
    if collected:
        yield arrow.concat_tables(collected)
