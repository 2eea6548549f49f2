"""Train a character language model: the public function `train`."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import torch

from charembed.dataset.encoded_corpus import EncodedCorpus, remove_other_entries
from charembed.dataset.frequent_words import remove_other_words
from charembed.errors import CharEmbedError, import_extra
from charembed.pretrained.model_folder import Pretrained
from charembed.static_vectors import StaticVectors
from charembed.training.allocator import keep_freed_memory
from charembed.training.checkpoint import read_state
from charembed.training.config import TrainConfig, as_fields
from charembed.training.device_settings import describe_settings, resolve_settings
from charembed.training.distributed import DistributedContext
from charembed.training.initial_model import load_initial
from charembed.training.mirror import Mirror
from charembed.training.model_trainer import ModelTrainer, encode_text
from charembed.training.result import TrainResult
from charembed.training.run_folder import RunFolder
from charembed.training.run_state import RunState
from charembed.training.static_vectors import RunVectors, check_words, make_static_vectors
from charembed.training.trainer import Trainer
from charembed.util.files import atomic_write
from charembed.util.reading import read_file

logger = logging.getLogger(__name__)


def train(config: TrainConfig) -> TrainResult:
    """Train a language model in both directions, or in one, and write model folders.

    The best model by validation and the latest one are written to `output/best` and `output/last` at every validation.
    Ctrl-C and SIGTERM save a checkpoint and end the run; the same call resumes it. A run that was killed resumes from
    its last checkpoint. If the budget is in steps or epochs, the weights are the same, bit for bit, however often the
    run was stopped and resumed.

    The process keeps the memory that it frees from then on, because training needs it again at once.

    Raises:
        CharEmbedError: the corpus cannot be read or is too small; the output folder is in use, or contains another run;
            the loss diverges or becomes NaN; another process of the run is lost.
        MissingExtraError: TensorBoard or a data format is requested and its package is not installed.
        OSError: the output folder cannot be written.
    """
    keep_freed_memory()
    if config.tensorboard:
        import_extra("tensorboard", extra="train", purpose="tensorboard: true")
    with contextlib.ExitStack() as stack:
        device = torch.device(config.device)
        distributed = stack.enter_context(DistributedContext.join(device, config.directions))
        if not distributed.is_main_process:
            logging.getLogger("charembed").setLevel(logging.WARNING)

        # The main process claims the folder and encodes the text, while the others wait.
        folder = RunFolder(Path(config.output))
        initial = load_initial(config.init, config.directions)
        mirror = None if config.mirror is None else Mirror(config.mirror, folder)
        checkpoint: Path | None = None
        earlier: RunState | None = None
        encoded: EncodedCorpus | None = None
        if distributed.is_main_process:
            if mirror is not None and not config.overwrite:
                mirror.fetch()
            stack.enter_context(folder.claim(as_fields(config), overwrite=config.overwrite))
            checkpoint = folder.resumable_checkpoint(overwrite=config.overwrite)
            earlier = None if checkpoint is None else read_state(checkpoint)
            if earlier is None:
                check_words(config.words)
            encoded = _encode(config, folder, earlier, initial)
            config = _resolve(config, folder, earlier, encoded, distributed.world_size)
        checkpoint, config = distributed.broadcast_object((checkpoint, config))
        text = distributed.broadcast_object(Path() if encoded is None else encoded.folder)
        encoded = EncodedCorpus.load(text) if encoded is None else encoded

        # Every process makes the same model. Only then, when nothing can be wrong with the configuration any more, is
        # an earlier run in the folder replaced.
        model_trainer = ModelTrainer(config, encoded, initial, distributed)
        if distributed.is_main_process:
            vectors = _static_vectors(config, folder, earlier, encoded, initial)
            model_trainer.static_vectors = vectors
            folder.start(as_fields(config), resumes=checkpoint is not None)
            if vectors is not None and not folder.static_vectors.exists():
                atomic_write(folder.static_vectors, vectors.vectors.to_bytes())
            if _text_folder(config, folder) == folder.text:
                remove_other_entries(folder.text, encoded)
                remove_other_words(encoded, config.objective.words)
        distributed.broadcast_object(None)  # the other processes wait here, for as long as it takes
        return Trainer(config, folder, model_trainer, distributed, mirror).run(checkpoint)


def _encode(
    config: TrainConfig, folder: RunFolder, earlier: RunState | None, initial: Pretrained | None
) -> EncodedCorpus:
    """Return the encoded text, after checking that a run to resume has read the same.

    Raises:
        CharEmbedError: the text cannot be read, or differs from the text of the run to resume.
    """
    encoded = encode_text(config, _text_folder(config, folder), initial)
    logger.info(
        f"{encoded.characters:,} characters to train on, {len(encoded.valid):,} to validate on, from"
        f" {encoded.documents:,} document{'' if encoded.documents == 1 else 's'};"
        f" vocabulary of {len(encoded.vocab):,} ids,"
        f" {encoded.unknown_rate:.4%} of the text unknown"
    )
    if earlier is not None and not encoded.digests().items() <= earlier.text.items():
        raise CharEmbedError(
            f"output {folder.path} contains a run on other text, or with another vocabulary: to resume it, use the same"
            " text and vocabulary; otherwise choose another folder, or start over with --overwrite"
        )
    return encoded


def _resolve(
    config: TrainConfig, folder: RunFolder, earlier: RunState | None, encoded: EncodedCorpus, world_size: int
) -> TrainConfig:
    """Return the configuration with nothing left open: chosen for the device, or as it was in the run to resume."""
    # A run keeps the precision that it was started with, perhaps on another machine.
    kept = None if earlier is None else folder.configuration() | {"precision": earlier.precision}
    resolved = resolve_settings(config, encoded.characters, world_size, kept)
    logger.info(f"steps with {describe_settings(config, resolved, resumes=earlier is not None)}")
    return resolved


def _static_vectors(
    config: TrainConfig,
    folder: RunFolder,
    earlier: RunState | None,
    encoded: EncodedCorpus,
    initial: Pretrained | None,
) -> RunVectors | None:
    """Return the static vectors of the run: those that it has been using, if it resumes.

    Raises:
        CharEmbedError: they cannot be made or read.
        MissingExtraError: gensim is not installed and has to train them.
        OSError: the folder cannot be written.
    """
    used = None if earlier is None else earlier.static_vectors
    if earlier is not None and used is None:
        return None
    if used is not None and folder.static_vectors.exists():
        content = StaticVectors.from_bytes(read_file(folder.static_vectors), str(folder.static_vectors))
        vectors: RunVectors | None = RunVectors(content, used["source"])
    else:
        vectors = make_static_vectors(
            config.words, config.static_vectors, encoded, initial, folder.scratch, config.seed
        )
    if used is not None and (None if vectors is None else vectors.identity()) != used:
        raise CharEmbedError(
            f"{folder.static_vectors} is not the file that the run in {folder.path} has been using: restore it, or"
            " start over with --overwrite"
        )
    return vectors


def _text_folder(config: TrainConfig, folder: RunFolder) -> Path:
    """Return where the encoded text is kept. The beginning of a stream is never shared with other runs."""
    return folder.text if config.data.cache is None or config.data.streaming else Path(config.data.cache)
