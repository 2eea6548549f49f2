"""Receives one direction's language model and its text; hands on the model a step further."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from charembed.dataset.windows import EpochText, WindowStream
from charembed.errors import CharEmbedError
from charembed.lm.model import CharLM, Direction, tensors_under
from charembed.recurrent import State, map_state
from charembed.training.config import Precision, TrainConfig
from charembed.training.distributed import DistributedContext


class StepResult(NamedTuple):
    """What one step of the optimiser gave, still on the device."""

    bits_per_character: Tensor
    """Mean over the windows of this process. Shape: ()"""
    gradient_norm: Tensor
    """Before it was clipped. Shape: ()"""


class DirectionTrainer:
    """Model, optimiser, windows and carried state of one direction."""

    def __init__(self, lm: CharLM, direction: Direction, config: TrainConfig, distributed: DistributedContext) -> None:
        """
        Args:
            lm: where it is to be trained, in training mode.
            direction: that it reads in.
            config: of the run.
            distributed: processes that train it together.
        """
        self.lm = lm
        self._direction = direction
        self._config = config
        self._distributed = distributed
        self._device = lm.decoder.weight.device
        self.precision: Precision = config.precision_here
        self._state: State | None = None
        self._windows: WindowStream
        seeds = np.random.SeedSequence([config.seed, direction == "backward", distributed.rank])
        lm.seed_dropout(int(seeds.generate_state(1)[0]))
        self._module: Any = lm
        if distributed.is_distributed:
            self._module = DistributedDataParallel(lm, process_group=distributed.group(direction))
        matrices = [parameter for parameter in lm.parameters() if parameter.dim() > 1]
        biases = [parameter for parameter in lm.parameters() if parameter.dim() == 1]
        optimizer = config.optimizer
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": optimizer.weight_decay}, {"params": biases, "weight_decay": 0.0}],
            lr=0.0,  # each step has its own
            betas=(optimizer.beta1, optimizer.beta2),
            fused=True,
        )

    def start_epoch(self, text: EpochText) -> None:
        """Go to the beginning of an epoch's text, with the zero state.

        Raises:
            CharEmbedError: the text is too short for the windows of one step in each lane.
        """
        self._windows = WindowStream(
            text,
            self._config.batch_size,
            self._config.seq_len,
            backward=self._direction == "backward",
            rank=self._distributed.rank,
            world_size=self._distributed.world_size,
        )
        if not self.steps_per_epoch:
            raise CharEmbedError(
                f"the corpus is too small for accumulation_steps {self._config.accumulation_steps}: each lane has"
                f" {self._windows.windows} windows an epoch"
            )
        self._state = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimiser in the epoch."""
        return self._windows.windows // self._config.accumulation_steps

    def step(self, number: int, lr: float) -> StepResult:
        """One step of truncated back-propagation through time (Williams & Peng 1990).

        Args:
            number: of the step in the epoch, from 0.
            lr: learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        accumulation = self._config.accumulation_steps
        total = torch.zeros((), device=self._device)
        for k in range(accumulation):
            is_last = k == accumulation - 1
            with nullcontext() if is_last or not self._distributed.is_distributed else self._module.no_sync():
                loss = self._loss(number * accumulation + k) / accumulation
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        norm = nn.utils.clip_grad_norm_(self.lm.parameters(), self._config.optimizer.clip_norm)
        self.optimizer.step()
        return StepResult(total / math.log(2), norm)

    def _loss(self, number: int) -> Tensor:
        """Mean cross-entropy of a window, in nats. Shape: ()"""
        window = self._windows.window(number)
        inputs, targets = window.inputs.to(self._device), window.targets.to(self._device)
        state = None if self._state is None else map_state(torch.detach, self._state)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits, self._state = self._module(inputs, state)
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def tensors(self) -> dict[str, Tensor]:
        """All that a step depends on, but for the text: weights, the optimiser's moments, the carried states and random
        generators of all processes."""
        found = {f"model.{name}": tensor for name, tensor in self.lm.state_dict().items()}
        for k, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{k}.{name}": tensor for name, tensor in moments.items()}
        if self._state is not None:
            for name, tensor in self._state._asdict().items():
                found[f"state.{name}"] = torch.cat(self._distributed.all_gather(tensor.detach()), dim=1)
        assert self.lm.dropout.generator is not None
        found["random"] = torch.stack(self._distributed.all_gather(self.lm.dropout.generator.get_state()))
        return found

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go back to where `tensors` was called, after `start_epoch` with the text of that moment."""
        self.lm.load_state_dict(tensors_under("model.", tensors))
        saved = self.optimizer.state_dict()
        moments = {}
        for k in range(sum(len(group["params"]) for group in saved["param_groups"])):
            if found := tensors_under(f"optimizer.{k}.", tensors):
                moments[k] = found
        self.optimizer.load_state_dict({"state": moments, "param_groups": saved["param_groups"]})
        carried = tensors_under("state.", tensors)
        self._state = None
        if carried:
            rank, batch = self._distributed.rank, self._config.batch_size
            own = {name: tensor[:, rank * batch : (rank + 1) * batch] for name, tensor in carried.items()}
            self._state = self.lm.rnn.state_type(**{name: t.contiguous().to(self._device) for name, t in own.items()})
        assert self.lm.dropout.generator is not None
        # A copy: PyTorch reads the state of a view from where its storage begins.
        self.lm.dropout.generator.set_state(tensors["random"][self._distributed.rank].clone())
