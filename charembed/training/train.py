"""Receives a configuration; reads the text, makes the model, and trains it in the folder that is named."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import torch

from charembed.dataset.encoded_corpus import EncodedCorpus, encode_corpus, remove_other_entries
from charembed.errors import CharEmbedError, import_extra
from charembed.pretrained.model_folder import Pretrained
from charembed.training.allocator import keep_freed_memory
from charembed.training.checkpoint import read_facts
from charembed.training.config import TrainConfig
from charembed.training.distributed import DistributedContext
from charembed.training.initial_model import load_initial, starting_model
from charembed.training.run_folder import RunFolder
from charembed.training.trainer import Trainer, TrainResult

logger = logging.getLogger(__name__)


def train(config: TrainConfig) -> TrainResult:
    """Train both directions, or one, and write model folders.

    The best model by validation and the last one are kept in `output/best` and `output/last`, written at every
    validation. Ctrl-C and SIGTERM leave a checkpoint, from which the same call goes on; what was killed goes on from
    the checkpoint before. A run whose budget is in steps or epochs gives the same weights, bit for bit, however often
    it was ended and went on.

    Freed memory stays with the process, since training takes it again at once.

    Raises:
        CharEmbedError: a corpus that cannot be read or is too small, an output folder in use or with another run, a
            loss that is no number or leaps up, a process of the run that is lost.
        MissingExtraError: TensorBoard or a data format is asked for and its package is not installed.
        OSError: the output folder cannot be written.
    """
    keep_freed_memory()
    if config.tensorboard:
        import_extra("tensorboard", extra="train", purpose="tensorboard: true")
    device = torch.device(config.device)
    with contextlib.ExitStack() as stack:
        distributed = stack.enter_context(DistributedContext.join(device, config.directions))
        if device.type == "cuda" and distributed.is_distributed:
            device = torch.device("cuda", distributed.local_rank)
            torch.cuda.set_device(device)
        if not distributed.is_main_process:
            logging.getLogger("charembed").setLevel(logging.WARNING)
        initial = load_initial(config)
        folder = RunFolder(Path(config.output))
        text = checkpoint = ""
        if distributed.is_main_process:
            folder = stack.enter_context(RunFolder.claimed(config))
            checkpoint = str(folder.earlier_run(config) or "")
            text = str(_encode(config, folder, checkpoint, initial).folder)
        encoded = EncodedCorpus.load(Path(distributed.broadcast_object(text)))
        model = starting_model(config, encoded, initial).to(device)
        trainer = Trainer(config, folder, encoded, model, distributed)
        if distributed.is_main_process:
            folder.start(config, goes_on=bool(checkpoint))
            if _place(config, folder) == folder.text:
                remove_other_entries(folder.text, encoded)
        return trainer.run(checkpoint=distributed.broadcast_object(checkpoint))


def _encode(config: TrainConfig, folder: RunFolder, checkpoint: str, initial: Pretrained | None) -> EncodedCorpus:
    """The text, encoded; the one that the run read before where it goes on."""
    place = _place(config, folder)
    encoded = encode_corpus(config.data, config.vocab, config.seed, place, None if initial is None else initial.vocab)
    logger.info(
        "%s characters to train on, %s to validate on, from %s documents; %d character ids, %.4f %% unknown",
        *(f"{n:,}" for n in (encoded.characters, len(encoded.valid), encoded.documents)),
        len(encoded.vocab),
        100 * encoded.unknown_rate,
    )
    if checkpoint and read_facts(Path(checkpoint))["text"] != encoded.digests():
        raise CharEmbedError(
            f"output {folder.path} holds a run on other text, or with another vocabulary: give the same to go on with"
            " it, name another folder, or say overwrite: true"
        )
    return encoded


def _place(config: TrainConfig, folder: RunFolder) -> Path:
    """Where the encoded text goes. The beginning of a stream is of use to this run alone."""
    return folder.text if config.data.cache is None or config.data.streaming else Path(config.data.cache)
