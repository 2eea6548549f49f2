"""Train a tagger from labelled files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm import tqdm

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.word_encoder import WordEncoder
from charembed.errors import CharEmbedError
from charembed.lm.model import Readout
from charembed.pretrained.hub import bundled_models
from charembed.static_vectors import StaticVectors, load_static_vectors
from charembed.tagging.fitting import FitConfig, Fitter, LabelledVectors, predict_split, score_split
from charembed.tagging.labelled_text import Columns, LabelledSentence
from charembed.tagging.network import EncoderName, NetworkConfig, TaggerNetwork
from charembed.tagging.splits import LabelledSplits, read_splits, sentences_digest
from charembed.tagging.stored_vectors import SentenceVectors, StoredVectors, TrainedVectors
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagger import Tagger, input_size, with_static
from charembed.tagging.tagger_folder import (
    CONFIG,
    TRAINING,
    ModelStorage,
    bundled_name,
    check_tagger_replaceable,
    save_tagger,
)
from charembed.tagging.training_report import SplitReport, TaggerReport
from charembed.util.checks import MAX_THREADS, check_integer
from charembed.util.files import atomic_write, user_path

logger = logging.getLogger(__name__)

_RUN, _CHECKPOINT, _LOCK = "run.yaml", "checkpoint.safetensors", "lock"
_WITHOUT_EFFECT = ("output", "threads", "overwrite")
"""Options that a run may change when it resumes."""


@dataclass(frozen=True)
class TaggerConfig:
    """One training run of a tagger."""

    train: str
    """Labelled file to train on: CoNLL columns, CoNLL-U (.conllu), JSONL with character spans (.jsonl, .json) or a
    DocBin of spaCy (.spacy); it may be compressed."""
    output: str
    """Folder to write: the tagger and report.json. If the run stops early, the same command resumes it."""
    model: str = "en"
    """Language model whose word vectors the tagger reads: a bundled model (en), a model folder or hf://owner/name."""
    dev: str | None = None
    """Labelled file that chooses the best epoch; a tenth of the training documents (or sentences) by default."""
    test: str | None = None
    """Labelled file to report the scores on; a quarter of the training documents (or sentences) by default."""
    token_column: int = 0
    """Column of the word in files of columns, from 0; negative numbers count from the last one."""
    tag_columns: dict[str, int | str] | None = None
    """Layers of tags: the name of each and its column (from 0), or its field in CoNLL-U, such as upos. By default one
    layer, from column 1, or upos in CoNLL-U."""
    words: str | None = None
    """Static word vectors beside those of the model: a text file of word2vec, GloVe or fastText, a folder of model2vec
    or a model folder."""
    readout: Readout | None = None
    """Characters at which states are read; by default the setting of the model."""
    dim: int | None = None
    """Reduce the vectors of the model to this number of dimensions by its projection; all by default."""
    encoder: EncoderName = "bilstm"
    """bilstm: a bidirectional LSTM; linear: none, which is faster and less accurate."""
    projection_size: int = 256
    """Dimensions to which a linear layer reduces the word vectors."""
    hidden_size: int = 128
    """Units of the LSTM in each direction."""
    dropout: float = 0.3
    """Probability of dropping units in training."""
    fit: FitConfig = field(default_factory=FitConfig)
    """How the network is trained."""
    fine_tune: bool = False
    """Also train the language model, at a tenth of the learning rate. Much slower: vectors cannot be stored."""
    model_storage: ModelStorage = "auto"
    """How the language model is stored in the folder: reference (to a bundled model), float32 or float16; auto is
    reference for a bundled model and float32 for any other."""
    threads: int = 1
    """CPU threads."""
    overwrite: bool = False
    """Replace a tagger or an unfinished run in the output folder."""

    def __post_init__(self) -> None:
        check_integer("threads", self.threads, maximum=MAX_THREADS)
        if self.tag_columns == {}:
            raise CharEmbedError("tag_columns must name at least one layer")


def train_tagger(config: TaggerConfig) -> tuple[Tagger, TaggerReport]:
    """Train a tagger and write its folder.

    Args:
        config: the run.

    Returns:
        The tagger and the report, which is in report.json too.

    Raises:
        CharEmbedError: a labelled file is wrong, the model does not exist, an option is invalid, or the output folder
            is in use or contains something else.
        OSError: a file cannot be read or written.
    """
    folder = user_path(config.output).resolve()
    _check_output(folder, config)
    labelled = _without_empty(
        read_splits(config.train, config.dev, config.test, Columns(config.token_column, config.tag_columns))
    )
    for note in labelled.notes:
        logger.info("%s", note)
    embedder = CharEmbedder.from_pretrained(
        config.model, threads=config.threads, readout=config.readout, dim=config.dim
    )
    if config.model_storage == "reference" and bundled_name(embedder.pretrained) is None:
        raise CharEmbedError(f"{config.model} is not a bundled model: set model_storage to float32 or float16")
    static = None if config.words is None else load_static_vectors(config.words)
    size = input_size(embedder, static)
    architecture = NetworkConfig(size, config.encoder, config.projection_size, config.hidden_size, config.dropout)
    is_new = not folder.exists()
    state = folder / TRAINING
    state.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(state / _LOCK, timeout=0):
            return _Run(config, folder, labelled, embedder, static, architecture).finish()
    except Timeout as error:
        raise CharEmbedError(f"output {folder} is in use by another run: choose another folder") from error
    finally:
        if is_new and not (state / _RUN).exists() and not (folder / CONFIG).exists():
            shutil.rmtree(folder, ignore_errors=True)  # the run could not start


class _Run:
    """The stages of one training run, in its folder."""

    def __init__(
        self,
        config: TaggerConfig,
        folder: Path,
        labelled: LabelledSplits,
        embedder: CharEmbedder,
        static: StaticVectors | None,
        architecture: NetworkConfig,
    ) -> None:
        self._architecture = architecture
        self._config, self._folder, self._state = config, folder, folder / TRAINING
        self._labelled, self._embedder, self._static = labelled, embedder, static
        self._claim()

    def finish(self) -> tuple[Tagger, TaggerReport]:
        """Train from the beginning or the last checkpoint, score the tagger and write its folder."""
        config, embedder = self._config, self._embedder
        train, dev, test = self._labelled.splits

        # The network, with the seed of the run.
        layers = [TagLayer.of(name, kind, train) for name, kind in self._labelled.kinds.items()]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.fit.seed)
            network = TaggerNetwork(self._architecture, layers)

        # The vectors of the training sentences give the scale; those of dev and test are stored unless they change.
        stored = self._store("train", train)
        center, variance = stored.moments()
        network.set_scale(torch.from_numpy(center), variance)
        language_model = None
        vectors: list[SentenceVectors]
        if config.fine_tune:
            language_model = WordEncoder(embedder, trainable=True).model
            vectors = [TrainedVectors(embedder, split, self._static) for split in (train, dev, test)]
        else:
            vectors = [stored, self._store("dev", dev), self._store("test", test)]
        splits = [LabelledVectors(*pair) for pair in zip((train, dev, test), vectors, strict=True)]

        # Train, then score the best epoch.
        fitter = Fitter(
            network,
            splits[0],
            splits[1],
            config.fit,
            language_model=language_model,
            checkpoint=self._state / _CHECKPOINT,
        )
        fitter.fit()
        dev_report, test_report = (_report(network, split) for split in splits[1:])
        report = TaggerReport(
            settings=_settings(config),
            sentences={"train": len(train), "dev": len(dev), "test": len(test)},
            notes=self._labelled.notes,
            curve=fitter.curve,
            best_epoch=fitter.best_epoch.epoch,
            dev=dev_report,
            test=test_report,
        )
        tagger = Tagger(embedder, network, self._static, self._provenance(report))
        save_tagger(tagger.files(), self._folder, config.model_storage, report.to_json())
        return tagger, report

    def _claim(self) -> None:
        """Compare the run with an unfinished one in the folder, and remove that if it is to be replaced.

        Raises:
            CharEmbedError: the folder has an unfinished run of another configuration or of other sentences.
        """
        run = {
            "settings": _settings(self._config),
            "sentences": sentences_digest(self._labelled.splits),
            "language_model": self._embedder.pretrained.digest(),
        }
        path = self._state / _RUN
        if path.exists() and not self._config.overwrite:
            try:
                before = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise CharEmbedError(f"{path} cannot be read: {error}; set overwrite to start over") from error
            if before != run:
                raise CharEmbedError(
                    f"output {self._folder} contains an unfinished run with other options, sentences or language model:"
                    " to resume it, use the same ones; otherwise choose another folder, or set overwrite to start over"
                )
        else:
            (self._state / _CHECKPOINT).unlink(missing_ok=True)
        atomic_write(path, yaml.safe_dump(run, sort_keys=False))

    def _store(self, name: str, sentences: list[LabelledSentence]) -> StoredVectors:
        """Compute the vectors of a split, unless an earlier run has stored them."""
        content = json.dumps([sentence.words for sentence in sentences])
        options = f"{self._embedder.parts} {self._embedder.embedding_dim} {self._config.words}"
        digest = hashlib.sha256(f"{self._embedder.pretrained.digest()} {options} {content}".encode("utf-8", "replace"))
        path = self._state / f"{name}-{digest.hexdigest()[:16]}.bin"
        if not path.exists():
            embedded = self._embedder.iter_embed(sentence.text for sentence in sentences)
            vectors: Iterable[NDArray[Any]] = (with_static(embeddings, self._static) for embeddings in embedded)
            progress = tqdm(vectors, f"embed {name}", total=len(sentences), unit="sentence", leave=False)
            StoredVectors.write(path, progress)
        return StoredVectors(path, [len(sentence.words) for sentence in sentences], self._architecture.input_size)

    def _provenance(self, report: TaggerReport) -> dict[str, Any]:
        config = self._config
        return {
            "train": Path(config.train).name,
            "language_model": config.model if config.model in bundled_models() else Path(config.model).name,
            "sentences": report.sentences,
            "seed": config.fit.seed,
            "epochs": report.best_epoch,
            "scores": report.card_scores(),
        }


def _report(network: TaggerNetwork, split: LabelledVectors) -> SplitReport:
    predicted = predict_split(network, split)
    return SplitReport.of(split.sentences, predicted, score_split(network, split, predicted))


def _settings(config: TaggerConfig) -> dict[str, Any]:
    return {key: value for key, value in asdict(config).items() if key not in _WITHOUT_EFFECT}


def _check_output(folder: Path, config: TaggerConfig) -> None:
    """Refuse an output folder that has something else, or a tagger that is not to be replaced.

    Raises:
        CharEmbedError: it has.
    """
    check_tagger_replaceable(folder)
    # A run that was to replace a tagger and was stopped resumes without overwrite.
    if (folder / CONFIG).exists() and not (config.overwrite or (folder / TRAINING / _RUN).exists()):
        raise CharEmbedError(
            f"output {folder} contains a trained tagger: choose another folder, or set overwrite to replace it"
        )


def _without_empty(labelled: LabelledSplits) -> LabelledSplits:
    """Leave out sentences without words, from which nothing can be learned."""
    splits = labelled.splits
    kept = dataclasses.replace(
        splits, **{name: [one for one in getattr(splits, name) if one.words] for name in ("train", "dev", "test")}
    )
    return dataclasses.replace(labelled, splits=kept)
