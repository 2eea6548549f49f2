"""Train a tagger from labelled files."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.word_encoder import WordEncoder
from charembed.errors import CharEmbedError
from charembed.pretrained.hub import bundled_models
from charembed.static_vectors import StaticVectors
from charembed.tagging.fitting import LabelledVectors, fit_network, predict_split, score_split
from charembed.tagging.network import NetworkConfig, TaggerNetwork
from charembed.tagging.options import TaggerOptions
from charembed.tagging.splits import LabelledSplits, sentences_digest
from charembed.tagging.stored_vectors import SentenceVectors, TrainedVectors, VectorFolder
from charembed.tagging.tagger import Tagger, input_size
from charembed.tagging.tagger_folder import (
    CONFIG,
    TRAINING,
    ModelStorage,
    bundled_name,
    check_tagger_replaceable,
    save_tagger,
)
from charembed.tagging.training_report import SplitReport, TaggerReport
from charembed.util.files import atomic_write, remove_leftovers, run_path, user_path
from charembed.util.reading import MAX_JSON_BYTES, read_file
from charembed.util.yaml_text import load_yaml

_RUN, _CHECKPOINT, _LOCK = "run.yaml", "checkpoint.safetensors", "lock"
_WITHOUT_EFFECT = ("output", "threads", "overwrite")
"""Options that a run may change when it resumes."""


@dataclass(frozen=True, kw_only=True)
class TaggerConfig(TaggerOptions):
    """One training run of a tagger."""

    output: str
    """Folder to write: the tagger and report.json. If the run stops early, the same command resumes it."""
    model: str = "en"
    """Language model whose word vectors the tagger reads: a bundled model (en), a model folder or hf://owner/name."""
    fine_tune: bool = False
    """Also train the language model, at a tenth of the learning rate. Much slower: vectors cannot be stored."""
    model_storage: ModelStorage = "auto"
    """How the language model is stored in the folder: reference (to a bundled model), float32 or float16; auto is
    reference for a bundled model and float32 for any other."""
    overwrite: bool = False
    """Replace a tagger or an unfinished run in the output folder."""


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
    folder = run_path(user_path(config.output).resolve())
    _check_output(folder, config)
    labelled = config.read_splits()
    embedder = config.load_embedder(config.model)
    if config.model_storage == "reference" and bundled_name(embedder.pretrained) is None:
        raise CharEmbedError(f"{config.model} is not a bundled model: set model_storage to float32 or float16")
    static = config.load_words()
    architecture = config.network(input_size(embedder, static))
    is_new = not folder.exists()
    state = folder / TRAINING
    state.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(state / _LOCK, timeout=0):
            remove_leftovers(state)
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

        # The vectors of the training sentences give the scale; those of dev and test are stored unless they change.
        folder = VectorFolder(self._state, embedder, self._static)
        stored = folder.vectors("train", train)
        language_model = None
        vectors: list[SentenceVectors]
        if config.fine_tune:
            language_model = WordEncoder(embedder, trainable=True).model
            vectors = [TrainedVectors(embedder, split, self._static) for split in (train, dev, test)]
        else:
            vectors = [stored, folder.vectors("dev", dev), folder.vectors("test", test)]
        splits = [LabelledVectors(*pair) for pair in zip((train, dev, test), vectors, strict=True)]

        # Train, then score the best epoch.
        fitter = fit_network(
            self._architecture,
            self._labelled.layers(),
            splits[0],
            splits[1],
            stored.moments(),
            config.fit,
            language_model=language_model,
            checkpoint=self._state / _CHECKPOINT,
        )
        dev_report, test_report = (_report(fitter.network, split) for split in splits[1:])
        report = TaggerReport(
            settings=_settings(config),
            sentences=self._labelled.splits.sizes(),
            notes=self._labelled.notes,
            curve=fitter.curve,
            best_epoch=fitter.best_epoch.epoch,
            dev=dev_report,
            test=test_report,
        )
        tagger = Tagger(embedder, fitter.network, self._static, self._provenance(report))
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
                before = load_yaml(read_file(path, MAX_JSON_BYTES).decode())
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise CharEmbedError(f"{path} cannot be read: {error}; start over with --overwrite") from error
            if before != run:
                raise CharEmbedError(
                    f"output {self._folder} contains an unfinished run with other options, sentences or language model:"
                    " to resume it, use the same ones; otherwise choose another folder, or start over with --overwrite"
                )
        else:
            (self._state / _CHECKPOINT).unlink(missing_ok=True)
        atomic_write(path, yaml.safe_dump(run, sort_keys=False))

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
            f"output {folder} contains a trained tagger: choose another folder, or replace it with --overwrite"
        )
