"""Receives character ids; hands on hidden states and the scores of the next character. One direction, and the pair."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from charembed.errors import CharEmbedError
from charembed.recurrent import GRU, LSTM, MGU, ElmanRNN, PeepholeLSTM, Recurrence, State, VariationalDropout
from charembed.util.checks import check_choice

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")
Readout = Literal["word", "separator"]
Cell = Literal["elman", "lstm", "peephole_lstm", "gru", "mgu"]


@dataclass
class CharLMConfig:
    """The architecture of one language model; both directions share it."""

    cell: Cell = "lstm"
    """Recurrence: elman, lstm, peephole_lstm, gru or mgu."""
    reset_after: bool = False
    """Of a GRU: the reset gate acts after the matrix product, as in PyTorch and cuDNN."""
    embedding_dim: int = 64
    """Width of a character's embedding, the input of the recurrence."""
    hidden_size: int = 512
    """Width of the hidden state. A word vector is twice as wide, forward and backward side by side."""
    num_layers: int = 1
    """Layers of the recurrence; word vectors are read from the top one."""
    dropout: float = 0.0
    """Probability with which units of the character embedding and of each layer's output are zeroed in training, the
    same units at every character of a window. It helps where a run reads its text many times."""
    proj_size: int | None = None
    """Width of a linear projection above the top layer, for narrower word vectors; none by default."""
    vocab_size: int | None = None
    """Number of character ids. Training takes it from the vocabulary."""

    def __post_init__(self) -> None:
        for name in ("embedding_dim", "hidden_size", "num_layers", "proj_size", "vocab_size"):
            value = getattr(self, name)
            if value is None and name in ("proj_size", "vocab_size"):
                continue
            try:
                value = operator.index(value)  # int, or NumPy's
            except TypeError as error:
                raise CharEmbedError(f"model.{name} must be a whole number, got {value!r}") from error
            if value < 1:
                raise CharEmbedError(f"model.{name} must be positive, got {value}")
            setattr(self, name, value)
        check_choice("model.cell", self.cell, get_args(Cell))
        if not isinstance(self.reset_after, bool) or (self.reset_after and self.cell != "gru"):
            raise CharEmbedError(
                "model.reset_after must be true or false, and true for gru alone: "
                f"got {self.reset_after!r} for {self.cell}"
            )
        if not isinstance(self.dropout, (int, float)) or not 0.0 <= self.dropout < 1.0:
            raise CharEmbedError(f"model.dropout must be at least 0 and below 1, got {self.dropout}")

    @property
    def output_size(self) -> int:
        """Width of the states that word vectors are read from."""
        return self.proj_size or self.hidden_size


def _recurrence(config: CharLMConfig) -> Recurrence[Any]:
    sizes = (config.embedding_dim, config.hidden_size, config.num_layers)
    match config.cell:
        case "elman":
            return ElmanRNN(*sizes, dropout=config.dropout)
        case "lstm":
            return LSTM(*sizes, dropout=config.dropout)
        case "peephole_lstm":
            return PeepholeLSTM(*sizes, dropout=config.dropout)
        case "gru":
            return GRU(*sizes, dropout=config.dropout, reset_after=config.reset_after)
        case "mgu":
            return MGU(*sizes, dropout=config.dropout)


class CharLM(nn.Module):
    """Character language model of one direction: embedding, recurrence, optional projection, decoder.

    It reads ids in the order given; a backward model is one that is given reversed text.
    """

    def __init__(self, config: CharLMConfig) -> None:
        """
        Raises:
            CharEmbedError: `config.vocab_size` is not set.
        """
        super().__init__()
        if config.vocab_size is None:
            raise CharEmbedError("CharLMConfig.vocab_size is not set: give it len(vocab)")
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.rnn = _recurrence(config)
        self.proj = nn.Linear(config.hidden_size, config.proj_size) if config.proj_size else None
        self.decoder = nn.Linear(config.output_size, config.vocab_size)
        self.dropout = VariationalDropout(config.dropout)
        nn.init.zeros_(self.decoder.bias)

    def seed_dropout(self, seed: int) -> None:
        """Draw dropout masks from a generator of this model's own."""
        generator = torch.Generator(self.decoder.weight.device).manual_seed(seed)
        for module in self.modules():
            if isinstance(module, VariationalDropout):
                module.generator = generator

    def hidden_states(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """States after each character, from which word vectors are read.

        Args:
            ids: Shape: (seq_len, batch)
            state: where to start; the zero state by default.

        Returns:
            The states, and the recurrence's state after the last character. Shape: (seq_len, batch, output_size)
        """
        output, state = self.rnn(self.dropout(self.embedding(ids)), state)
        return (output if self.proj is None else self.proj(output)), state

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits of the character that follows each one.

        Args:
            ids: Shape: (seq_len, batch)
            state: where to start; the zero state by default.

        Returns:
            The logits, and the recurrence's state after the last character. Shape: (seq_len, batch, vocab_size)
        """
        states, state = self.hidden_states(ids, state)
        logits: Tensor = self.decoder(self.dropout(states))
        return logits, state


@dataclass(frozen=True)
class BiCharLMOutput:
    """Logits of both models, each at the place of the last character it has read."""

    forward_logits: Tensor
    """At t: scores of character t + 1, given those up to t. Shape: (seq_len, batch, vocab_size)"""
    backward_logits: Tensor
    """At t: scores of character t - 1, given those from t on. Shape: (seq_len, batch, vocab_size)"""


class BiCharLM(nn.Module):
    """A forward and a backward language model over one vocabulary, or one of the two alone.

    They share no weights: a model that saw both sides of a character would not have to predict it.
    """

    def __init__(self, config: CharLMConfig, directions: Sequence[Direction] = DIRECTIONS) -> None:
        """
        Args:
            config: of each.
            directions: which there are.

        Raises:
            CharEmbedError: a direction is neither forward nor backward, or there is none.
        """
        super().__init__()
        if not directions or set(directions) - set(DIRECTIONS):
            raise CharEmbedError(f"directions must be among {', '.join(DIRECTIONS)}, got {directions!r}")
        self.config = config
        self.forward_lm = CharLM(config) if "forward" in directions else None
        self.backward_lm = CharLM(config) if "backward" in directions else None

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Which there are, forward first."""
        models = {"forward": self.forward_lm, "backward": self.backward_lm}
        return tuple(name for name in DIRECTIONS if models[name] is not None)

    def direction(self, name: Direction) -> CharLM:
        """The model of one direction.

        Raises:
            CharEmbedError: it is not there.
        """
        lm = self.forward_lm if name == "forward" else self.backward_lm
        if lm is None:
            raise CharEmbedError(f"this model has no {name} direction: it was trained {self.directions[0]} alone")
        return lm

    @property
    def embedding_dim(self) -> int:
        """Width of a word vector: the directions side by side."""
        return len(self.directions) * self.config.output_size

    def forward(self, ids: Tensor) -> BiCharLMOutput:
        """Run both models over whole sequences from the zero state.

        Args:
            ids: in reading order. Shape: (seq_len, batch)

        Raises:
            CharEmbedError: there is one direction alone.
        """
        forward_logits, _ = self.direction("forward")(ids)
        backward_logits, _ = self.direction("backward")(ids.flip(0))
        return BiCharLMOutput(forward_logits, backward_logits.flip(0))

    @torch.no_grad()
    def parameter_count(self) -> int:
        """Number of weights of all directions."""
        return sum(parameter.numel() for parameter in self.parameters())


def tensors_under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
