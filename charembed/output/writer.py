"""Embed a corpus into a folder of files, and resume after an interruption."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import Any

import numpy as np
from tqdm import tqdm

from charembed.embedding.context import Context
from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.reduction import is_for
from charembed.errors import CharEmbedError
from charembed.output.config import OutputConfig
from charembed.output.folder import OutputFolder
from charembed.output.manifest import START_OVER, Manifest
from charembed.output.projection import PROJECTION, load_projection, save_projection, summary
from charembed.output.row_reader import RowReader, VectorFormat
from charembed.output.sample import CorpusSample, fit_projection
from charembed.output.shard_writer import ShardWriter
from charembed.output.shards import check_format
from charembed.projection import Projection
from charembed.text.corpus import Corpus
from charembed.text.words import WORD_RULES
from charembed.util.digests import check_file
from charembed.util.files import escape_undecodable, user_path

logger = logging.getLogger(__name__)

_MB = 1_000_000
CHARACTERS_PER_WORD = 5.5
"""Average of English text, including spaces, with punctuation marks counted as words."""


def write_embeddings(
    embedder: CharEmbedder,
    corpus: Corpus,
    folder: str | os.PathLike[str],
    config: OutputConfig | None = None,
    context: Context | None = None,
    *,
    shard_bytes: int | None = None,
) -> Manifest:
    """Embed the texts of a corpus and write one row per word.

    The columns are `source` (file or data set; in npz files an index into the additional array `sources`), `number`
    (line or record in the source, from 1), `word` (in npz files its first 100 characters), `start` and `end` (offsets
    of its first character and of one past its last, in the line or record) and `vector`. The folder contains the files
    part-00000 and so on, each written atomically, and _embeddings.json. If the function is interrupted, call it again
    with the same arguments: it resumes after the last complete file.

    Args:
        embedder: computes the vectors.
        corpus: the texts.
        folder: where to write.
        config: options of the output; by default npz files of float32 vectors.
        context: neighboring texts to read with each text, as in `CharEmbedder.embed`. Consecutive lines belong to the
            same document until a blank line; a record is a document of its own.
        shard_bytes: approximate size of a file instead of `config.shard_mb`; for tests.

    Returns:
        The manifest of the complete output.

    Raises:
        CharEmbedError: the folder contains other files or vectors made with other options, another run is writing to
            it, or the corpus contains no words.
        MissingExtraError: the format is Parquet or Arrow and pyarrow is not installed.
        OSError: a file cannot be written.
    """
    config = config or OutputConfig()
    output = OutputFolder(folder)
    check_format(config.format)
    made_of = describe_inputs(embedder, corpus, config, context) | {"digests": corpus.digests()}
    can_read_twice = None not in made_of["digests"]
    with output.in_use():
        # Continue an earlier output, unless it is complete or to be replaced.
        manifest = None if config.overwrite else _load_manifest(output, embedder, made_of, can_read_twice)
        if manifest is not None and manifest.complete:
            logger.info("%s is already complete: nothing to do", output.path)
            return manifest
        # Read all texts once, for the progress bar and the projection.
        sample = _draw_sample(corpus) if can_read_twice else None
        stored = None if manifest is None else _stored_projection(output, manifest)
        projection = choose_projection(embedder, config, sample, stored)
        # Start a new output only now: a mistake in the options deletes nothing.
        if manifest is None:
            manifest = _start_output(output, made_of, projection)
            _log_size(sample, projection.dim if projection else embedder.embedding_dim, config)
        reader = RowReader(embedder, corpus, context, VectorFormat(projection, config.dtype), manifest.word_rules)
        writer = ShardWriter(output, manifest, config.format, shard_bytes or config.shard_mb * _MB)
        for rows in reader.iter_rows(manifest.position, None if sample is None else sample.characters):
            writer.add(rows)
        writer.finish()
        return manifest


def describe_inputs(
    embedder: CharEmbedder, corpus: Corpus, config: OutputConfig, context: Context | None
) -> dict[str, Any]:
    """Return the inputs and options that the vectors depend on, as the manifest stores them, without the text."""
    projection = None if config.projection is None else os.fspath(user_path(config.projection).resolve())
    return {
        "model": embedder.pretrained.digest(),
        "precision": embedder.precision,
        "parts": ",".join(embedder.parts),
        "sources": [escape_undecodable(str(source)) for source in corpus.sources],
        "text_column": corpus.text_column,
        "errors": corpus.errors,
        "context": None if context is None else dataclasses.asdict(context),
        "format": config.format,
        "dtype": config.dtype,
        "dim": config.dim,
        "projection": None if projection is None else escape_undecodable(projection),
        "embedder_dim": None if embedder.projection is None else embedder.projection.dim,
        "shard_mb": config.shard_mb,
        "word_rules": WORD_RULES,
    }


def _load_manifest(
    output: OutputFolder, embedder: CharEmbedder, made_of: dict[str, Any], can_read_twice: bool
) -> Manifest | None:
    """Return the manifest of an earlier output that can be resumed; None if there is nothing to resume.

    Files that a killed run has left unfinished are removed.

    Args:
        output: the folder.
        embedder: computes the vectors.
        made_of: the inputs and options now.
        can_read_twice: whether no source is a pipe.
    """
    manifest = Manifest.load(output.path)
    if manifest is None:
        return None
    # Version 0.1.0 did not state the parts: its vectors have the states of all language models.
    manifest.made_of.setdefault("parts", ",".join(embedder.model.directions))
    manifest.check_same_inputs(made_of, output.path)
    if not can_read_twice and not manifest.complete:
        raise CharEmbedError(f"output {output.path} cannot be resumed: a pipe cannot be read again; {START_OVER}")
    # All complete files must still exist: the rows in them are not computed again.
    paths = (output.file_path(number, made_of["format"]) for number in range(manifest.files))
    missing = next((path.name for path in paths if not path.exists()), None)
    if manifest.projected and not (output.path / PROJECTION).exists():
        if not manifest.files:
            return None  # killed before the projection was written
        missing = PROJECTION
    if missing is not None:
        raise CharEmbedError(f"output {output.path}: {missing} is missing: restore it, or {START_OVER}")
    output.remove_unfinished_files()
    if manifest.files and not manifest.complete:
        logger.info("%s: resuming after %s", output.path, manifest.size)
    return manifest


def _start_output(output: OutputFolder, made_of: dict[str, Any], projection: Projection | None) -> Manifest:
    """Delete the earlier output, if there is one, and return the manifest of a new one."""
    output.clear()
    # The manifest comes first: it marks all other files as charembed's own.
    manifest = Manifest(made_of)
    if projection is not None:
        manifest.projected = summary(projection)
    manifest.save(output.path)
    if projection is not None:
        save_projection(projection, output.path)
    return manifest


def _draw_sample(corpus: Corpus) -> CorpusSample:
    sample = CorpusSample.draw(corpus)
    if not sample.characters:
        raise CharEmbedError("there is no text to embed")
    return sample


def _stored_projection(output: OutputFolder, manifest: Manifest) -> Projection | None:
    """Return the projection of an output that is resumed; None if its vectors are not reduced.

    Raises:
        CharEmbedError: its file is damaged.
    """
    path = output.path / PROJECTION
    if not manifest.projected:
        return None
    try:
        if "sha256" in manifest.projected:  # not in version 0.1.0
            check_file(path, manifest.projected["sha256"])
    except (ValueError, OSError) as error:
        raise CharEmbedError(f"{path} is damaged ({error}): restore it, or {START_OVER}") from error
    return load_projection(path)


def choose_projection(
    embedder: CharEmbedder, config: OutputConfig, sample: CorpusSample | None, stored: Projection | None
) -> Projection | None:
    """Return the projection of the output that is resumed, the one that the options name, or a new one.

    Args:
        embedder: computes the vectors.
        config: the options.
        sample: sample of the text to fit a new projection to; None if the text can be read only once.
        stored: projection of the output that is resumed; None for a new output.

    Returns:
        The projection; None if the vectors are not reduced.

    Raises:
        CharEmbedError: the projection does not fit the model or the options, or cannot be read or fitted.
    """
    if config.dim is None and config.projection is None:
        return None
    if stored is not None:
        projection = stored
    elif config.projection is not None:
        projection = load_projection(config.projection)
    else:
        projection = _projection_to(config.dim or 0, embedder, sample)
    # A projection of another model, or one whose file was replaced since the output was started.
    width = projection.components.shape[1]
    if width != embedder.embedding_dim or projection.dim != (config.dim or projection.dim):
        raise CharEmbedError(
            f"the projection reduces vectors from {width} to {projection.dim} dimensions, but the model's vectors have"
            f" {embedder.embedding_dim}: use the projection of an output of the same model"
        )
    return projection


def _projection_to(dim: int, embedder: CharEmbedder, sample: CorpusSample | None) -> Projection:
    """Return the projection of the model to a number of dimensions if it has one, and a new one otherwise."""
    pretrained, stored = embedder.pretrained, embedder.pretrained.projection
    if stored is not None and embedder.projection is None and 1 <= dim <= stored.dim:
        if is_for(stored, pretrained, embedder.parts):
            logger.info("reducing to %s dimensions with the projection of the model", dim)
            return stored.first(dim)
        logger.info("the projection of the model is for another readout or other parts")
    return fit_projection(embedder, dim, sample)


def _log_size(sample: CorpusSample | None, dim: int, config: OutputConfig) -> None:
    if sample is not None:
        size = sample.characters / CHARACTERS_PER_WORD * dim * np.dtype(config.dtype).itemsize
        logger.info(f"{sample.characters:,} characters; the vectors will take about {tqdm.format_sizeof(size, 'B')}")
