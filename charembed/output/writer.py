"""Receives a corpus and an embedder; hands on a folder of vectors, file by file, and goes on where it was ended."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from charembed.embedding.context import Context
from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.word_embeddings import EmbeddedPart
from charembed.errors import CharEmbedError
from charembed.output.manifest import ANEW, Manifest
from charembed.output.projection import PROJECTION, Projection
from charembed.output.sample import Survey, fitted
from charembed.output.shards import Format, Rows, check_format, write_shard
from charembed.text.corpus import Corpus, SourceText
from charembed.util.checks import check_choice
from charembed.util.files import MANIFEST, escape_undecodable, user_path

logger = logging.getLogger(__name__)

DType = Literal["float32", "float16"]
_LOCK = ".embeddings.lock"
_OURS = re.compile(
    rf"{re.escape(MANIFEST)}|{re.escape(_LOCK)}|{re.escape(PROJECTION)}|part-\d{{5,}}\.(npz|parquet|arrow)|\..*\.tmp"
)
_MB = 1_000_000
ROW_BYTES = 100
"""Of a word and its place, besides the vector."""
_TELL_EVERY = 60.0
"""Seconds."""
_CHARACTERS_PER_WORD = 5.5
"""With what stands between them: of English, with punctuation marks as words of their own."""


@dataclass
class OutputConfig:
    """How vectors are written."""

    format: Format = "npz"
    """npz (NumPy), parquet, or arrow (IPC files)."""
    dtype: DType = "float32"
    """Type of the numbers: float32, or float16 of half the size."""
    dim: int | None = None
    """Keep so many dimensions: principal components, fitted to a sample of the text and stored with the vectors."""
    projection: str | None = None
    """Instead of dim, the projection of an earlier output: its folder, or its file. Text to be compared needs the same
    one."""
    shard_mb: int = 64
    """Size of the vectors of one file in megabytes. A run that is ended loses the work of one file at most, and of what
    is held by memory_mb."""
    overwrite: bool = False
    """Begin anew where the folder holds vectors already: true or false."""

    def __post_init__(self) -> None:
        check_choice("format", self.format, get_args(Format))
        check_choice("dtype", self.dtype, get_args(DType))
        if self.shard_mb < 1:
            raise CharEmbedError(f"shard_mb must be positive, got {self.shard_mb}")
        if self.dim is not None and self.projection is not None:
            raise CharEmbedError("--dim fits a projection and --projection names one: give one of the two")


def write_embeddings(
    embedder: CharEmbedder,
    corpus: Corpus,
    folder: str | os.PathLike[str],
    config: OutputConfig | None = None,
    context: Context | None = None,
) -> Manifest:
    """Embed texts and write one row a word.

    The columns are `source` (file or data set; in .npz an index into the further array `sources`), `number` (line or
    record there, from 1), `word` (in .npz its first 100 characters), `start` and `end` (characters of that line or
    record, from 0, one past the last) and `vector`. The folder holds part-00000 and so on, each written whole or not at
    all, and _embeddings.json. Called again with the same arguments after it was ended, it goes on after the last file.

    Args:
        embedder: what makes the vectors.
        corpus: the texts.
        folder: where to write.
        config: how; NumPy files of float32 by default.
        context: what to read around each text, as in `CharEmbedder.embed`; a line belongs to the document of the lines
            around it up to a blank one, a record is a document of its own.

    Raises:
        CharEmbedError: the folder holds something else, another run writes there, or there are no words.
        MissingExtraError: Parquet or Arrow without pyarrow.
        OSError: a file cannot be written.
    """
    config = config or OutputConfig()
    target = user_path(folder)
    _check_target(target)
    check_format(config.format)
    digests = corpus.digests()
    made_of = _made_of(embedder, corpus, digests, config, context)
    created = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        try:
            manifest = None if config.overwrite else _found(target, made_of, config, None not in digests)
            if manifest is not None and manifest.complete:
                logger.info("%s is complete already: nothing is computed", target)
                return manifest
            survey = Survey.of(corpus) if None not in digests else None
            if survey is not None and not survey.characters:
                raise CharEmbedError("there is no text to embed")
            projection = _projection(embedder, config, survey, target if manifest else None)
            if manifest is None:  # only now: nothing that was there is lost by a mistake in the options
                manifest = _begun(target, made_of, projection)
                _tell_size(survey, projection.dim if projection else embedder.embedding_dim, config)
            writer = _Writer(target, manifest, config)
            for rows in _rows(embedder, corpus, context, manifest, survey, projection, config):
                writer.add(*rows)
            writer.finish()
        except BaseException:
            if created and not list(target.glob("part-*")):
                _clear(target)
                (target / _LOCK).unlink()
                target.rmdir()
            raise
        return manifest


def _tell_size(survey: Survey | None, width: int, config: OutputConfig) -> None:
    if survey is not None:
        size = survey.characters / _CHARACTERS_PER_WORD * width * np.dtype(config.dtype).itemsize
        logger.info("%s characters, whose vectors will take roughly %.1f GB", f"{survey.characters:,}", size / 1e9)


def _check_target(target: Path) -> None:
    if target.is_file():
        raise CharEmbedError(f"output {target} is a file: name a folder for the files of vectors")
    if target.suffix in (".parquet", ".arrow", ".npz", ".npy"):
        raise CharEmbedError(
            f"output {target} must name a folder, for several files: leave out {target.suffix} and say"
            f" format {target.suffix[1:].replace('npy', 'npz')}"
        )
    if target.is_dir():
        names = {path.name for path in target.iterdir()}
        foreign = sorted(name for name in names if not _OURS.fullmatch(name))
        if foreign or (MANIFEST not in names and names - {_LOCK}):
            first = foreign[0] if foreign else min(names - {_LOCK})
            raise CharEmbedError(f"output {target} holds {first}, which no run of ours has left: name another folder")


def _made_of(
    embedder: CharEmbedder,
    corpus: Corpus,
    digests: list[str | None],
    config: OutputConfig,
    context: Context | None,
) -> dict[str, Any]:
    projection = (
        None if config.projection is None else escape_undecodable(os.fspath(user_path(config.projection).resolve()))
    )
    return {
        "model": embedder.pretrained.digest(),
        "precision": embedder.precision,
        "sources": [escape_undecodable(str(source)) for source in corpus.sources],
        "digests": digests,
        "text_column": corpus.text_column,
        "errors": corpus.errors,
        "context": None if context is None else dataclasses.asdict(context),
        "format": config.format,
        "dtype": config.dtype,
        "dim": config.dim,
        "projection": projection,
        "shard_mb": config.shard_mb,
    }


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / _LOCK, timeout=0):
            yield
    except Timeout as error:
        raise CharEmbedError(f"output {folder}: another run is writing there") from error


def _found(folder: Path, made_of: dict[str, Any], config: OutputConfig, readable_again: bool) -> Manifest | None:
    """What was written so far, if there is any; leftovers of a run that was killed are cleared away."""
    manifest = Manifest.load(folder)
    if manifest is None:
        return None
    differing = [
        f"{name} {manifest.made_of.get(name)}, not {value}"
        if isinstance(value, (str, int, type(None))) and name != "model"
        else f"another {name.removesuffix('s')}"
        for name, value in made_of.items()
        if manifest.made_of.get(name) != value
    ]
    if differing:
        raise CharEmbedError(
            f"output {folder} holds vectors made with {', '.join(differing)}: name another folder, or {ANEW}"
        )
    if not readable_again and not manifest.complete:
        raise CharEmbedError(f"output {folder}: a pipe cannot be read again to go on: {ANEW}")
    names = (_name(number, config.format) for number in range(manifest.files))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise CharEmbedError(f"output {folder} lacks {missing[0]}: put it back, or {ANEW}")
    for path in folder.glob(".*.tmp"):
        path.unlink()
    if manifest.files and not manifest.complete:
        logger.info("%s: going on after %s", folder, manifest.so_far)
    return manifest


def _begun(folder: Path, made_of: dict[str, Any], projection: Projection | None) -> Manifest:
    """A new folder's manifest; what was there is cleared away."""
    _clear(folder)
    manifest = Manifest(made_of)
    if projection is not None:
        manifest.projected = {"dim": projection.dim, "explained_variance": round(projection.explained, 4)}
    manifest.save(folder)
    if projection is not None:
        projection.save(folder / PROJECTION)
    return manifest


def _clear(folder: Path) -> None:
    for path in [*folder.glob("part-*"), *folder.glob(".*.tmp"), folder / PROJECTION, folder / MANIFEST]:
        path.unlink(missing_ok=True)


def _name(number: int, kind: Format) -> str:
    return f"part-{number:05}.{kind}"


def _projection(
    embedder: CharEmbedder, config: OutputConfig, survey: Survey | None, begun: Path | None
) -> Projection | None:
    """The one asked for: that of the folder if it was begun, one that is named, or a new one."""
    if config.dim is None and config.projection is None:
        return None
    if begun is not None and (begun / PROJECTION).exists():
        projection = Projection.load(begun)
    elif config.projection is not None:
        projection = Projection.load(config.projection)
    else:
        projection = fitted(embedder, config.dim or 0, survey)
    width = projection.components.shape[1]
    if width != embedder.embedding_dim or projection.dim != (config.dim or projection.dim):
        raise CharEmbedError(
            f"the projection is of vectors of width {width} to {projection.dim}, this model's are"
            f" {embedder.embedding_dim} wide"
        )
    return projection


def _rows(
    embedder: CharEmbedder,
    corpus: Corpus,
    context: Context | None,
    manifest: Manifest,
    survey: Survey | None,
    projection: Projection | None,
    config: OutputConfig,
) -> Iterator[tuple[Rows | None, bool]]:
    """Rows not yet written, and whether they end a text."""
    waiting, first_words = manifest.texts, manifest.words_of_next
    read: deque[SourceText | None] = deque()  # texts whose vectors are still to come; None between documents

    def items() -> Iterator[SourceText | None]:
        for text in corpus.texts():
            if text.begins_document:
                yield None
            yield text

    with tqdm(
        total=None if survey is None else survey.characters,
        unit=" characters",
        unit_scale=True,
        disable=None,
        dynamic_ncols=True,
        smoothing=0,
    ) as bar:

        def reading() -> Iterator[str]:
            nonlocal waiting
            for text in items():
                waiting -= 1
                if waiting < 0:
                    read.append(text)
                elif text is not None:
                    bar.update(len(text.text))
                yield "" if text is None else text.text

        done = 0
        for part in embedder.iter_parts(reading(), context, skip=waiting):
            text = read[0]
            if part.ends_text:
                read.popleft()
            if text is None:
                yield None, True
                continue
            reached = len(text.text) if part.ends_text else part.embeddings.spans[-1][1]
            bar.update(reached - done)
            done = 0 if part.ends_text else reached
            yield _as_rows(text, part, projection, config.dtype)[first_words:], part.ends_text
            first_words = max(0, first_words - len(part.embeddings))
        if first_words or waiting > 0:
            raise CharEmbedError(f"{MANIFEST} is damaged: it counts more than there is to read; {ANEW}")


def _as_rows(text: SourceText, part: EmbeddedPart, projection: Projection | None, dtype: DType) -> Rows:
    found = part.embeddings
    vectors = found.vectors if projection is None else projection(found.vectors)
    return Rows(
        [text.source] * len(found),
        [text.number] * len(found),
        found.words,
        np.array(found.spans, dtype=np.int64).reshape(-1, 2),
        vectors.astype(dtype, copy=False),
    )


class _Writer:
    """Gathers rows to files of one size."""

    def __init__(self, folder: Path, manifest: Manifest, config: OutputConfig) -> None:
        self._folder, self._manifest, self._config = folder, manifest, config
        self._told = time.monotonic()
        self._held: list[Rows] = []
        self._words = 0
        self._texts = manifest.texts
        self._words_of_text = manifest.words_of_next

    def add(self, rows: Rows | None, ends_text: bool) -> None:
        """Take some rows of one text; write a file when there are enough."""
        while rows is not None and len(rows):
            width = rows.vectors.shape[1] * rows.vectors.itemsize + ROW_BYTES
            room = max(1, self._config.shard_mb * _MB // width) - self._words
            self._take(rows[:room])
            rows = rows[room:]
            if len(rows):
                self._write()
        if ends_text:
            self._texts += 1
            self._words_of_text = 0

    def _take(self, rows: Rows) -> None:
        if len(rows):
            self._held.append(rows)
            self._words += len(rows)
            self._words_of_text += len(rows)

    def finish(self) -> None:
        """Write what is left.

        Raises:
            CharEmbedError: there were no words at all.
        """
        if self._held:
            self._write()
        if not self._manifest.words:
            raise CharEmbedError("there are no words in the texts to embed")
        self._manifest.complete = True
        self._manifest.save(self._folder)

    def _write(self) -> None:
        manifest = self._manifest
        name = _name(manifest.files, self._config.format)
        write_shard(Rows.joined(self._held), self._folder / name, self._config.format)
        manifest.files += 1
        manifest.words += self._words
        manifest.texts, manifest.words_of_next = self._texts, self._words_of_text
        manifest.save(self._folder)
        self._held, self._words = [], 0
        if time.monotonic() - self._told > _TELL_EVERY:  # for logs, which have no progress bar
            self._told = time.monotonic()
            logger.info("%s: %s", self._folder, manifest.so_far)
