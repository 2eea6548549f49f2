"""Collect rows into files of similar size and keep the manifest up to date."""

from __future__ import annotations

import logging
import time

from charembed.errors import CharEmbedError
from charembed.output.folder import OutputFolder
from charembed.output.manifest import Manifest
from charembed.output.row_reader import TextRows
from charembed.output.shards import Format, Rows, write_shard

logger = logging.getLogger(__name__)

_LOG_INTERVAL = 60.0
"""Seconds between two log lines."""


class ShardWriter:
    """Writes rows to files of the same size. After each file the manifest says which rows are written."""

    def __init__(self, folder: OutputFolder, manifest: Manifest, kind: Format, shard_bytes: int) -> None:
        """
        Args:
            folder: where to write.
            manifest: the record of the files written so far; it is updated and saved after each file.
            kind: format of the files.
            shard_bytes: approximate size of a file.
        """
        self._folder = folder
        self._manifest = manifest
        self._kind = kind
        self._shard_bytes = shard_bytes
        self._buffered: list[Rows] = []
        self._buffered_words = 0
        # The position after the buffered rows; the manifest has the position after the written ones.
        self._texts = manifest.texts
        self._words_of_text = manifest.words_of_next
        self._last_log = time.monotonic()

    def add(self, text: TextRows) -> None:
        """Add rows, and write a file whenever there are enough.

        Raises:
            OSError: a file cannot be written.
        """
        rows = text.rows
        while rows is not None and len(rows):
            # Fill the current file; what does not fit into it starts the next one.
            room = max(1, self._shard_bytes // rows.bytes_per_row) - self._buffered_words
            self._buffer(rows[:room])
            rows = rows[room:]
            if len(rows):
                self._write()
        if text.ends_text:
            self._texts += 1
            self._words_of_text = 0

    def _buffer(self, rows: Rows) -> None:
        if len(rows):
            self._buffered.append(rows)
            self._buffered_words += len(rows)
            self._words_of_text += len(rows)

    def finish(self) -> None:
        """Write the remaining rows and mark the output as complete.

        Raises:
            CharEmbedError: there were no words at all.
            OSError: a file cannot be written.
        """
        if self._buffered:
            self._write()
        if not self._manifest.words:
            raise CharEmbedError("there are no words in the texts to embed")
        self._manifest.complete = True
        self._manifest.save(self._folder.path)

    def _write(self) -> None:
        manifest = self._manifest
        # First the file, then the manifest: a run that is killed in between writes the file again.
        write_shard(Rows.concatenate(self._buffered), self._folder.file_path(manifest.files, self._kind), self._kind)
        manifest.files += 1
        manifest.words += self._buffered_words
        manifest.texts, manifest.words_of_next = self._texts, self._words_of_text
        manifest.save(self._folder.path)
        self._buffered, self._buffered_words = [], 0
        if time.monotonic() - self._last_log > _LOG_INTERVAL:  # log files show no progress bar
            self._last_log = time.monotonic()
            logger.info("%s: %s", self._folder.path, manifest.size)
