"""Define the character language models: one direction, and the pair of a forward and a backward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from charembed.errors import CharEmbedError
from charembed.recurrent import GRU, LSTM, MGU, ElmanRNN, PeepholeLSTM, Recurrence, State, VariationalDropout
from charembed.util.checks import MAX_DIM, check_choice, check_integer, shown

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")
Readout = Literal["word", "separator"]
"""Which states make a word vector: "word" for those on the word's own last (forward model) and first (backward model)
character, "separator" for those on the characters just outside the word, as in Flair."""
Cell = Literal["elman", "lstm", "peephole_lstm", "gru", "mgu"]

MAX_LAYERS = 100
"""Largest number of recurrent layers."""


@dataclass
class CharLMConfig:
    """The architecture of the language model; the forward and the backward model share it."""

    cell: Cell = "lstm"
    """Recurrent cell: elman, lstm, peephole_lstm, gru or mgu."""
    reset_after: bool = False
    """For gru only: apply the reset gate after the recurrent matrix product, as PyTorch and cuDNN do, not before it."""
    embedding_dim: int = 64
    """Dimensions of a character embedding, the input of the recurrence."""
    hidden_size: int = 512
    """Dimensions of the hidden state. Word vectors have twice as many (without proj_size): those of the forward and the
    backward model, concatenated. Training time and model size grow with its square."""
    num_layers: int = 1
    """Number of recurrent layers. Word vectors are the states of the top one."""
    dropout: float = 0.0
    """Probability, from 0 up to but not including 1, of zeroing each dimension of the character embeddings and of each
    layer's output in training; the same dimensions for all characters of a window (variational dropout). Useful where a
    run reads its text many times, for example 0.2 for a few megabytes."""
    proj_size: int | None = None
    """Dimensions of a linear projection of the top layer, which word vectors are then read from: half the dimensions of
    a word vector. By default there is none."""
    vocab_size: int | None = None
    """Number of character ids. Training sets it to the size of the vocabulary."""

    def __post_init__(self) -> None:
        for name in ("embedding_dim", "hidden_size", "num_layers", "proj_size", "vocab_size"):
            value = getattr(self, name)
            if value is None and name in ("proj_size", "vocab_size"):
                continue
            maximum = MAX_LAYERS if name == "num_layers" else MAX_DIM
            setattr(self, name, check_integer(f"model.{name}", value, maximum=maximum))
        check_choice("model.cell", self.cell, get_args(Cell))
        if not isinstance(self.reset_after, bool) or (self.reset_after and self.cell != "gru"):
            raise CharEmbedError(
                f"model.reset_after must be true or false, and true only for gru, got {shown(self.reset_after)} for"
                f" {self.cell}"
            )
        if not isinstance(self.dropout, (int, float)) or not 0.0 <= self.dropout < 1.0:
            raise CharEmbedError(f"model.dropout must be at least 0 and below 1, got {shown(self.dropout)}")

    @property
    def output_size(self) -> int:
        """Dimensions of the states that word vectors consist of."""
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
    """A character language model of one direction: embedding, recurrence, optional projection, decoder.

    It reads ids in the order in which they are given; a backward model is given reversed text.
    """

    def __init__(self, config: CharLMConfig) -> None:
        """
        Raises:
            CharEmbedError: `config.vocab_size` is not set.
        """
        super().__init__()
        if config.vocab_size is None:
            raise CharEmbedError("CharLMConfig.vocab_size is not set: set it to len(vocab)")
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.rnn = _recurrence(config)
        self.proj = nn.Linear(config.hidden_size, config.proj_size) if config.proj_size else None
        self.decoder = nn.Linear(config.output_size, config.vocab_size)
        self.dropout = VariationalDropout(config.dropout)
        # Training sets it to the log frequencies of the characters.
        nn.init.zeros_(self.decoder.bias)

    def seed_dropout(self, seed: int) -> None:
        """Make dropout draw its masks from a generator of this model's own, not from the global one."""
        generator = torch.Generator(self.decoder.weight.device).manual_seed(seed)
        for module in self.modules():
            if isinstance(module, VariationalDropout):
                module.generator = generator

    def hidden_states(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the states after each character, which word vectors consist of.

        Args:
            ids: the characters. Shape: (seq_len, batch)
            state: state of the recurrence before the first character; the zero state by default.

        Returns:
            The states, and the state of the recurrence after the last character. Shape: (seq_len, batch, output_size)
        """
        output, state = self.rnn(self.dropout(self.embedding(ids)), state)
        return (output if self.proj is None else self.proj(output)), state

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the logits of the character that follows each character.

        Args:
            ids: the characters. Shape: (seq_len, batch)
            state: state of the recurrence before the first character; the zero state by default.

        Returns:
            The logits, and the state of the recurrence after the last character. Shape: (seq_len, batch, vocab_size)
        """
        states, state = self.hidden_states(ids, state)
        logits: Tensor = self.decoder(self.dropout(states))
        return logits, state


@dataclass(frozen=True)
class BiCharLMOutput:
    """The logits of both models, each at the position of the last character that the model has read."""

    forward_logits: Tensor
    """At t: logits of character t + 1, given the characters up to t. Shape: (seq_len, batch, vocab_size)"""
    backward_logits: Tensor
    """At t: logits of character t - 1, given the characters from t on. Shape: (seq_len, batch, vocab_size)"""


class BiCharLM(nn.Module):
    """A forward and a backward language model over one vocabulary, or one of the two alone.

    They share no weights: a model that sees both sides of a character does not have to predict it.
    """

    def __init__(self, config: CharLMConfig, directions: Sequence[Direction] = DIRECTIONS) -> None:
        """
        Args:
            config: the architecture of each direction.
            directions: the directions to build.

        Raises:
            CharEmbedError: a direction is neither forward nor backward, or none is given.
        """
        super().__init__()
        if not directions or set(directions) - set(DIRECTIONS):
            raise CharEmbedError(f"directions must be among {', '.join(DIRECTIONS)}, got {shown(directions)}")
        self.config = config
        self.forward_lm = CharLM(config) if "forward" in directions else None
        self.backward_lm = CharLM(config) if "backward" in directions else None

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions of this model, forward first."""
        models = {"forward": self.forward_lm, "backward": self.backward_lm}
        return tuple(name for name in DIRECTIONS if models[name] is not None)

    def direction(self, name: Direction) -> CharLM:
        """Return the model of one direction.

        Raises:
            CharEmbedError: this model lacks the direction.
        """
        lm = self.forward_lm if name == "forward" else self.backward_lm
        if lm is None:
            raise CharEmbedError(f"this model has no {name} direction: only {self.directions[0]} was trained")
        return lm

    @property
    def embedding_dim(self) -> int:
        """Dimensions of a word vector: those of all directions together."""
        return len(self.directions) * self.config.output_size

    def forward(self, ids: Tensor) -> BiCharLMOutput:
        """Run both models over whole sequences, from the zero state.

        Args:
            ids: the characters in reading order. Shape: (seq_len, batch)

        Raises:
            CharEmbedError: this model has one direction only.
        """
        forward_logits, _ = self.direction("forward")(ids)
        # The backward model reads from the end; flip its logits back to reading order.
        backward_logits, _ = self.direction("backward")(ids.flip(0))
        return BiCharLMOutput(forward_logits, backward_logits.flip(0))

    @torch.no_grad()
    def parameter_count(self) -> int:
        """Return the number of weights of all directions together."""
        return sum(parameter.numel() for parameter in self.parameters())


def tensors_under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, under their names without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
