"""Train the language model of one direction, one optimizer step at a time."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from charembed.dataset.windows import EpochText, WindowStream
from charembed.errors import CharEmbedError
from charembed.lm.model import CharLM, Direction, tensors_under
from charembed.recurrent import State, map_state
from charembed.recurrent.float32_precision import float32_products
from charembed.training.config import StepOptions
from charembed.training.distributed import DistributedContext
from charembed.training.objective import Objective, WindowLoss, WordHead
from charembed.util.streams import send


class StepResult(NamedTuple):
    """The result of one optimizer step, still on the device."""

    bits_per_character: Tensor
    """Mean loss over the windows of this process. Shape: ()"""
    gradient_norm: Tensor
    """Norm of the gradient before it was clipped. Shape: ()"""
    word_nats: Tensor | None = None
    """Sum of the losses of the words that were predicted; None if only characters are. Shape: ()"""
    word_count: Tensor | None = None
    """Number of these words. Shape: ()"""


class DirectionTrainer:
    """The model, the optimizer, the windows and the carried state of one direction."""

    def __init__(
        self,
        lm: CharLM,
        direction: Direction,
        options: StepOptions,
        distributed: DistributedContext,
        head: WordHead | None = None,
    ) -> None:
        """
        Args:
            lm: the language model, on the device to train on and in training mode.
            direction: the direction that it reads in.
            options: batch, optimizer, precision and seed.
            distributed: the processes that train the model together.
            head: predicts words, on the device of the model; None if only characters are predicted.
        """
        self.lm = lm
        self.precision = options.precision
        self._direction = direction
        self._options = options
        self._distributed = distributed
        self._device = lm.decoder.weight.device
        self._state: State | None = None
        self._windows: WindowStream
        # Each direction of each process drops units of its own.
        seeds = np.random.SeedSequence([options.seed, direction == "backward", distributed.rank])
        lm.seed_dropout(int(seeds.generate_state(1)[0]))
        self._head = head
        objective = Objective(lm, options.objective, head)
        self._module: Any = objective
        if distributed.is_distributed:
            self._module = DistributedDataParallel(objective, process_group=distributed.group(direction))
        self._parameters = [*lm.parameters(), *(() if head is None else head.parameters())]
        self.optimizer = _make_optimizer(self._parameters, options)

    def start_epoch(self, text: EpochText) -> None:
        """Move to the beginning of an epoch's text, with the zero state.

        Raises:
            CharEmbedError: the text is too short for the windows of one step in each lane.
        """
        self._windows = WindowStream(
            text,
            self._options.batch_size,
            self._options.seq_len,
            backward=self._direction == "backward",
            rank=self._distributed.rank,
            world_size=self._distributed.world_size,
            words=self._options.objective.prediction,
        )
        if not self.steps_per_epoch:
            raise CharEmbedError(
                f"the corpus is too small for accumulation_steps {self._options.accumulation_steps}: each lane has"
                f" {self._windows.windows} windows in an epoch; lower accumulation_steps, batch_size or seq_len"
            )
        self._state = None

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in the epoch."""
        return self._windows.windows // self._options.accumulation_steps

    def step(self, number: int, lr: float) -> StepResult:
        """Take one step of truncated back-propagation through time (Williams & Peng 1990).

        Args:
            number: number of the step in the epoch, from 0.
            lr: learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()

        # Forward and backward; processes average their gradients once, with the last window.
        accumulation_steps = self._options.accumulation_steps
        characters = torch.zeros((), device=self._device)
        word_nats, word_count = torch.zeros((), device=self._device), 0
        for k in range(accumulation_steps):
            is_last = k == accumulation_steps - 1
            with nullcontext() if is_last or not self._distributed.is_distributed else self._module.no_sync():
                loss = self._backpropagate(number * accumulation_steps + k)
            characters += loss.characters.detach() / accumulation_steps
            word_nats += loss.words.detach()
            word_count += loss.word_count

        # Update the weights.
        norm = nn.utils.clip_grad_norm_(self._parameters, self._options.optimizer.clip_norm)
        self.optimizer.step()
        bits = characters / math.log(2)
        if self._head is None:
            return StepResult(bits, norm)
        return StepResult(bits, norm, word_nats, torch.full((), float(word_count), device=self._device))

    def _backpropagate(self, number: int) -> WindowLoss:
        """Return the losses of a window after adding their gradients, and carry the state to the next window."""
        window = self._windows.window(number)
        inputs, targets = send(window.inputs, self._device), send(window.targets, self._device)
        state = None if self._state is None else map_state(torch.detach, self._state)
        loss: WindowLoss
        with float32_products(self._device, self.precision):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                loss, self._state = self._module(inputs, targets, window.words, state)
            (loss.total / self._options.accumulation_steps).backward()  # type: ignore[no-untyped-call]
        return loss

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, except the text.

        These are the weights and the optimizer's moments, and the carried states and random generators of all
        processes.
        """
        tensors = {f"model.{name}": tensor for name, tensor in self.lm.state_dict().items()}
        if self._head is not None:
            tensors |= {f"head.{name}": tensor for name, tensor in self._head.state_dict().items()}
        for k, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{k}.{name}": tensor for name, tensor in moments.items()}
        if self._state is not None:
            for name, tensor in self._state._asdict().items():
                tensors[f"state.{name}"] = torch.cat(self._distributed.all_gather(tensor.detach()), dim=1)
        assert self.lm.dropout.generator is not None
        tensors["random"] = torch.stack(self._distributed.all_gather(self.lm.dropout.generator.get_state()))
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned; `start_epoch` must have been called with the text of that moment."""
        self.lm.load_state_dict(tensors_under("model.", tensors))
        if self._head is not None:
            self._head.load_state_dict(tensors_under("head.", tensors))

        # Optimizer: PyTorch numbers the parameters over all groups. There are no moments before the first step.
        saved = self.optimizer.state_dict()
        parameters = sum(len(group["params"]) for group in saved["param_groups"])
        moments = {k: tensors_under(f"optimizer.{k}.", tensors) for k in range(parameters)}
        state = {k: values for k, values in moments.items() if values}
        self.optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})

        # Carried state: the lanes of this process.
        self._state = None
        if carried := tensors_under("state.", tensors):
            first = self._distributed.rank * self._options.batch_size
            lanes = slice(first, first + self._options.batch_size)
            own = {name: tensor[:, lanes].contiguous().to(self._device) for name, tensor in carried.items()}
            self._state = self.lm.rnn.state_type(**own)

        # Random generator, as a copy: PyTorch reads the state of a view from where its storage begins.
        assert self.lm.dropout.generator is not None
        self.lm.dropout.generator.set_state(tensors["random"][self._distributed.rank].clone())


def _make_optimizer(parameters: list[nn.Parameter], options: StepOptions) -> torch.optim.AdamW:
    """Return AdamW over all weights, with weight decay on the matrices alone. Each step sets the learning rate."""
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    biases = [parameter for parameter in parameters if parameter.dim() == 1]
    optimizer = options.optimizer
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": optimizer.weight_decay}, {"params": biases, "weight_decay": 0.0}],
        lr=0.0,
        betas=(optimizer.beta1, optimizer.beta2),
        fused=True,
    )
