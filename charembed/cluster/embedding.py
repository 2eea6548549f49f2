"""Write the vectors of a corpus to files on a cluster: what `write_embeddings` does on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from charembed.cluster.execution import is_on_gpu, run_units
from charembed.cluster.parts import PartsFolder
from charembed.cluster.session import joined_cluster
from charembed.cluster.unit_reader import UnitReader
from charembed.cluster.units import Unit
from charembed.embedding.context import Context
from charembed.embedding.embedder import CharEmbedder
from charembed.errors import CharEmbedError
from charembed.output import OutputConfig
from charembed.output.manifest import Manifest, Position
from charembed.output.projection import PROJECTION, summary
from charembed.output.row_reader import RowReader, VectorFormat
from charembed.output.sample import CorpusSample
from charembed.output.shards import ROW_BYTES, Rows, rows_table
from charembed.output.writer import CHARACTERS_PER_WORD, choose_projection, describe_inputs
from charembed.projection import Projection
from charembed.text.corpus import Corpus, SourceText

_MB = 1_000_000


@dataclass(frozen=True)
class _UnitTexts:
    """The texts of a unit with their context, where `RowReader` expects a corpus."""

    unit: Unit

    def texts(self) -> Iterator[SourceText]:
        return iter(self.unit.all_texts())


@dataclass(frozen=True)
class EmbeddingTask:
    """Embeds the texts of units."""

    embedder: CharEmbedder
    context: Context | None
    vector_format: VectorFormat

    @property
    def dim(self) -> int:
        """Dimensions of the vectors in the files."""
        projection = self.vector_format.projection
        return self.embedder.embedding_dim if projection is None else projection.dim

    @property
    def schema(self) -> Any:
        """Schema of PyArrow of the rows."""
        no_vectors = np.zeros((0, self.dim), dtype=self.vector_format.dtype)
        return rows_table(Rows([], [], [], np.zeros((0, 2), dtype=np.int64), no_vectors)).schema

    def tables(self, unit: Unit) -> Iterator[Any]:
        """Yield the rows of a unit in tables of PyArrow."""
        reader = RowReader(self.embedder, _UnitTexts(unit), self.context, self.vector_format)
        unfinished = _items(unit.texts)
        for text in reader.iter_rows(Position(texts=_items(unit.before)), None):
            if text.rows is not None and len(text.rows):
                yield rows_table(text.rows)
            unfinished -= text.ends_text
            if not unfinished:  # only the context after them follows
                return


def _items(texts: list[SourceText]) -> int:
    """Return how many items the reader counts: a document start is one."""
    return sum(1 + text.begins_document for text in texts)


def embed_on_cluster(
    embedder: CharEmbedder,
    corpus: Corpus,
    folder: str,
    config: OutputConfig,
    context: Context | None = None,
    *,
    address: str,
    unit_characters: int | None = None,
) -> Manifest:
    """Embed the texts of a corpus on all cores, or GPUs, of a Ray cluster, and write one row per word.

    The rows are those of `write_embeddings`, in Parquet files that sort in the order of the text. Each file belongs to
    some consecutive texts and is named by their content: a file that exists is not computed again, neither when Ray
    repeats the work of a lost worker nor when the whole command is repeated.

    Args:
        embedder: computes the vectors; it is sent to each worker.
        corpus: the texts; all machines must be able to read them.
        folder: where to write: a path on shared storage, or an address that `fsspec` opens.
        config: options of the output; its format must be parquet.
        context: neighboring texts to read with each text, as for `write_embeddings`.
        address: the cluster, as for `joined_cluster`.
        unit_characters: characters in a file, instead of `config.shard_mb`; for tests.

    Returns:
        The manifest of the complete output.

    Raises:
        CharEmbedError: as for `write_embeddings`; or the cluster cannot be reached.
        MissingExtraError: Ray or pyarrow is not installed.
        OSError: a file cannot be written.
    """
    if config.format != "parquet":
        raise CharEmbedError(f"a cluster writes parquet, got format {config.format}: add --format parquet")
    output = PartsFolder(folder)
    # The text is not part of it: the names of the files depend on their text.
    made_of = describe_inputs(embedder, corpus, config, context) | {"cluster": "vectors", "digests": []}
    with output.in_use(), joined_cluster(address) as ray:
        # What is wrong with the options is found before an earlier output is deleted.
        manifest = output.earlier(made_of, overwrite=config.overwrite)
        projection = _choose_projection(embedder, corpus, config, None if manifest is None else output)
        manifest = manifest or output.start(made_of)
        if projection is not None:
            manifest.projected = summary(projection)
            output.files.write(PROJECTION, projection.to_bytes())
        task = EmbeddingTask(embedder, context, VectorFormat(projection, config.dtype))
        reader = UnitReader.of(corpus, unit_characters or _unit_characters(task, config), context)
        written = run_units(ray, reader, task, output.files, gpus=is_on_gpu(embedder.model))
        if not written.rows:
            raise CharEmbedError("there are no words in the texts to embed")
        manifest.words, manifest.texts = written.rows, written.texts
        output.finish(manifest, written.parts)
        return manifest


def _unit_characters(task: EmbeddingTask, config: OutputConfig) -> int:
    """Return how many characters of text fill a file of the size that the options ask for."""
    row_bytes = task.dim * np.dtype(config.dtype).itemsize + ROW_BYTES
    return max(1, int(config.shard_mb * _MB / row_bytes * CHARACTERS_PER_WORD))


def _choose_projection(
    embedder: CharEmbedder, corpus: Corpus, config: OutputConfig, earlier: PartsFolder | None
) -> Projection | None:
    """Return the projection of the output that is resumed, the one that the options name, or a new one."""
    content = None if earlier is None else earlier.files.read(PROJECTION)
    stored = None if content is None else Projection.from_bytes(content, f"{earlier}/{PROJECTION}")
    # The same sample as on one machine, so that the projection is the same, too.
    sample = CorpusSample.draw(corpus) if config.dim is not None and stored is None else None
    return choose_projection(embedder, config, sample, stored)
