"""Tag a corpus on a cluster: what `charembed tag predict` does on one machine."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from charembed.cluster.execution import is_on_gpu, run_units
from charembed.cluster.parts import PartsFolder
from charembed.cluster.session import joined_cluster
from charembed.cluster.unit_reader import UnitReader
from charembed.cluster.units import Unit
from charembed.errors import CharEmbedError, import_extra
from charembed.output.manifest import Manifest
from charembed.tagging.records import tagged_record, word_layers
from charembed.tagging.tagger import Tagger
from charembed.text.corpus import Corpus
from charembed.text.words import WORD_RULES
from charembed.util.files import escape_undecodable

_UNIT_CHARACTERS = 50_000
"""Characters of the texts in one file: a core tags them within a minute."""
_TABLE_TEXTS = 256
"""Texts that are converted at a time."""


@dataclass(frozen=True)
class TaggingTask:
    """Tags the texts of units."""

    tagger: Tagger
    min_score: float = 0.0
    """Entities with a lower score are left out."""

    @property
    def schema(self) -> Any:
        """Schema of PyArrow of the rows: the records of `charembed tag predict`."""
        arrow = import_extra("pyarrow", extra="parquet", purpose="--cluster")
        span = [("start", arrow.int64()), ("end", arrow.int64())]
        entity = [*span, *((name, arrow.string()) for name in ("label", "text")), ("score", arrow.float64())]
        columns = [("source", arrow.string()), ("number", arrow.int64()), ("text", arrow.string())]
        columns.append(("entities", arrow.list_(arrow.struct([*entity, ("layer", arrow.string())]))))
        if names := word_layers(self.tagger.layers):
            tags = arrow.struct([(name, arrow.string()) for name in names])
            scores = arrow.struct([(name, arrow.float64()) for name in names])
            token = [*span, ("text", arrow.string()), ("tags", tags), ("scores", scores)]
            columns.append(("tokens", arrow.list_(arrow.struct(token))))
        return arrow.schema(columns)

    def tables(self, unit: Unit) -> Iterator[Any]:
        """Yield the rows of a unit in tables of PyArrow."""
        arrow = import_extra("pyarrow", extra="parquet", purpose="--cluster")
        tagged = self.tagger.iter_predict(text.text for text in unit.texts)
        records = (
            tagged_record(result.without_doubtful(self.min_score), text.source, text.number, self.tagger.layers)
            for text, result in zip(unit.texts, tagged, strict=True)
        )
        while batch := list(itertools.islice(records, _TABLE_TEXTS)):
            yield arrow.Table.from_pylist(batch, schema=self.schema)


def tag_on_cluster(
    tagger: Tagger,
    corpus: Corpus,
    folder: str,
    *,
    address: str,
    min_score: float = 0.0,
    overwrite: bool = False,
    unit_characters: int = _UNIT_CHARACTERS,
) -> Manifest:
    """Tag the texts of a corpus on all cores, or GPUs, of a Ray cluster, and write one row per text.

    The rows are the records that `charembed tag predict` writes, in Parquet files that sort in the order of the text.
    The folder can be resumed like that of `embed_on_cluster`.

    Args:
        tagger: finds the tags; it is sent to each worker.
        corpus: the texts; all machines must be able to read them.
        folder: where to write: a path on storage that all machines share, or an address that `fsspec` opens.
        address: the cluster, as for `joined_cluster`.
        min_score: entities with a lower score are left out.
        overwrite: whether to delete an earlier output instead of resuming it.
        unit_characters: characters of the texts in one file; for tests.

    Returns:
        The manifest of the complete output.

    Raises:
        CharEmbedError: the folder contains other files or an output made with other options, or the cluster cannot be
            reached.
        MissingExtraError: Ray or pyarrow is not installed.
        OSError: a file cannot be written.
    """
    output = PartsFolder(folder)
    made_of = {
        "model": _digest(tagger),
        "precision": tagger.embedder.precision,
        "sources": [escape_undecodable(str(source)) for source in corpus.sources],
        "text_column": corpus.text_column,
        "errors": corpus.errors,
        "word_rules": WORD_RULES,
        "min_score": min_score,
        "cluster": "tags",
    }
    with output.in_use(), joined_cluster(address) as ray:
        manifest = output.earlier(made_of, overwrite=overwrite) or output.start(made_of)
        reader = UnitReader.of(corpus, unit_characters, None)
        gpus = is_on_gpu(tagger.embedder.model)
        written = run_units(ray, reader, TaggingTask(tagger, min_score), output.files, gpus=gpus)
        if not written.rows:
            raise CharEmbedError("there is no text to tag")
        manifest.texts = written.texts
        output.finish(manifest, written.parts)
        return manifest


def _digest(tagger: Tagger) -> str:
    """Return a hash of everything that tags depend on."""
    digest = hashlib.sha256()
    for name, content in sorted(tagger.files().contents("float32").items()):
        digest.update(name.encode() + content)
    return digest.hexdigest()
