"""Choose the engine, batch size, threads and queues that suit the device of a model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from charembed.embedding.device_reader import DeviceReader
from charembed.embedding.engine import Engine
from charembed.embedding.onnx_engine import OnnxEngine
from charembed.embedding.torch_engine import TorchEngine
from charembed.errors import CharEmbedError
from charembed.lm.model import BiCharLM, Direction
from charembed.recurrent.onednn_lstm import runs_on_onednn
from charembed.util.checks import check_choice
from charembed.util.devices import has_bfloat16_units
from charembed.util.streams import DeviceQueue
from charembed.util.workers import WorkerPool

EngineName = Literal["auto", "torch", "onnx"]
EnginePrecision = Literal["auto", "float32", "tf32", "int8", "bfloat16"]
ChosenEngine = Literal["torch", "onnx"]
ChosenPrecision = Literal["float32", "tf32", "int8", "bfloat16"]
CPU_BATCH_SIZE = 128
"""Default maximum number of readings in a batch on a CPU."""
GPU_BATCH_SIZE = 1024
"""The same on a GPU, where the steps of a batch take nearly the same time for few readings and for many."""
MIN_BFLOAT16_HIDDEN_SIZE = 256
"""On a CPU, PyTorch in bfloat16 is slower than ONNX Runtime in float32 below this."""


@dataclass(frozen=True)
class EngineOptions:
    """What the user asks for; see `CharEmbedder`."""

    engine: EngineName
    precision: ChosenPrecision
    threads: int
    batch_size: int | None


@dataclass(frozen=True)
class EngineSetup:
    """An engine for one device, with the batch size and threads that suit it."""

    device: torch.device
    name: ChosenEngine
    engine: Engine
    batch_size: int
    """Maximum number of readings in a batch."""
    threads: int
    """Number of batches that run at the same time."""
    pool: WorkerPool
    """Threads that run the batches."""
    device_reader: DeviceReader | None = None
    """Reads the batches on a GPU instead, from a single thread."""


class EngineChooser:
    """Holds the engine that suits the device of a model, and chooses again after the model has moved."""

    def __init__(self, model: BiCharLM, directions: Sequence[Direction], options: EngineOptions) -> None:
        """
        Args:
            model: the language models. Their weights and device may change later: call `refresh` before each use.
            directions: those whose states are needed; perhaps none.
            options: what the user asks for.

        Raises:
            CharEmbedError: the options are invalid or do not fit together or the device.
            MissingExtraError: ONNX Runtime is requested but not installed.
        """
        self._model = model
        self._directions = directions
        self._options = options
        self.setup = self._set_up()
        """The current engine."""

    def refresh(self) -> bool:
        """Notice whether the model has moved to another device or its weights have changed.

        Returns:
            Whether vectors computed before may be out of date.

        Raises:
            CharEmbedError: the requested engine does not run on the device to which the model has moved.
        """
        if self._current_device() != self.setup.device:
            self.setup = self._set_up()
        return self.setup.engine.refresh()

    def _current_device(self) -> torch.device:
        return next(self._model.parameters()).device

    def _set_up(self) -> EngineSetup:
        device = self._current_device()
        precision = self._options.precision
        name = choose_engine(self._options.engine, precision, device)
        engine: Engine
        reader = None
        if name == "onnx":
            engine = OnnxEngine(self._model, self._directions, "int8" if precision == "int8" else "float32")
        else:
            engine = TorchEngine(self._model, self._directions, precision)
            if device.type == "cuda":
                queues = {direction: DeviceQueue(device) for direction in self._directions}
                reader = DeviceReader(engine, queues)
        batch_size = self._options.batch_size or (CPU_BATCH_SIZE if device.type == "cpu" else GPU_BATCH_SIZE)
        # The calling thread runs batches too, except with PyTorch, whose operators would use several threads in it.
        threads = self._options.threads
        pool = WorkerPool(threads, caller_works=name == "onnx")
        return EngineSetup(device, name, engine, batch_size, threads, pool, reader)


def choose_precision(precision: EnginePrecision, engine: EngineName, model: BiCharLM) -> ChosenPrecision:
    """Return the precision to compute in.

    Args:
        precision: the precision requested. "auto" is bfloat16 for an LSTM on a device with units for it, on a CPU from
            hidden size 256, if PyTorch may run; it is float32 elsewhere.
        engine: the engine requested.
        model: the language models, on the device that will run them.

    Raises:
        CharEmbedError: the precision is unknown.
    """
    check_choice("precision", precision, get_args(EnginePrecision))
    if precision != "auto":
        return precision
    device = next(model.parameters()).device
    if engine == "onnx" or model.config.cell != "lstm" or not has_bfloat16_units(device):
        return "float32"
    rnn = model.direction(model.directions[0]).rnn  # the other direction has the same architecture
    is_faster_on_cpu = model.config.hidden_size >= MIN_BFLOAT16_HIDDEN_SIZE and runs_on_onednn(rnn, torch.bfloat16)
    return "bfloat16" if device.type != "cpu" or is_faster_on_cpu else "float32"


def choose_engine(engine: EngineName, precision: ChosenPrecision, device: torch.device) -> ChosenEngine:
    """Return the engine for a precision and a device.

    Args:
        engine: the engine requested. "auto" is ONNX Runtime on a CPU if it is installed, and PyTorch otherwise.
        precision: precision of the computation. "tf32" is "float32" on a CPU.
        device: where the model is.

    Raises:
        CharEmbedError: the engine is unknown, or they do not fit together or the device.
    """
    check_choice("engine", engine, get_args(EngineName))
    if engine == "torch" and precision == "int8":
        raise CharEmbedError("the engine torch does not support int8: use the engine onnx or auto")
    if engine == "onnx" and precision == "bfloat16":
        raise CharEmbedError("the engine onnx does not support bfloat16: use the engine torch, or the precision int8")
    if engine == "auto" and precision in ("float32", "tf32") and device.type == "cpu":
        installed = all(importlib.util.find_spec(package) for package in ("onnx", "onnxruntime"))
        return "onnx" if installed else "torch"
    # What remains of "auto": int8 is ONNX Runtime's alone, bfloat16 and other devices are PyTorch's.
    chosen: ChosenEngine = "onnx" if engine == "onnx" or precision == "int8" else "torch"
    if chosen == "onnx" and device.type != "cpu":
        raise CharEmbedError(
            f"the engine onnx runs on the CPU only, but the model is on {device}: use the engine torch"
        )
    return chosen
