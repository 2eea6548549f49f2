"""Receives checkpoints of Flair's language models; hands on the pair they hold. Flair is not needed for it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.lm.model import DIRECTIONS, BiCharLM, CharLM, CharLMConfig, Direction, Readout, tensors_under
from charembed.pretrained.model_folder import Pretrained
from charembed.pretrained.torch_file import Instance, TorchFile, read_torch_file, shown
from charembed.recurrent.translation import load_torch_weights
from charembed.text.vocab import CharVocab
from charembed.util.files import user_path

_CELLS: dict[str, dict[str, Any]] = {"lstm": {"cell": "lstm"}, "gru": {"cell": "gru", "reset_after": True}}
"""Flair's recurrences, which are PyTorch's, as ours."""
_DICTIONARY = "flair.data.Dictionary"


def read_flair(
    forward: str | os.PathLike[str], backward: str | os.PathLike[str], readout: Readout = "separator"
) -> Pretrained:
    """The pair of two Flair language models, final ones or checkpoints of a training.

    Args:
        forward: file of the model that reads from left to right.
        backward: file of the one that reads from right to left.
        readout: "separator" for the vectors of `FlairEmbeddings(with_whitespace=True)`, Flair's default; "word" for
            those of `with_whitespace=False`.

    Raises:
        CharEmbedError: a file is no such checkpoint, holds anything that has no place in one, is damaged, or is of the
            other direction; or the two are of different sizes. Nothing a file asks for is run.
        OSError: a file cannot be read.
    """
    models = {
        name: _FlairModel.read(user_path(path)) for name, path in zip(DIRECTIONS, (forward, backward), strict=True)
    }
    for name, model in models.items():
        if model.direction != name:
            raise CharEmbedError(
                f"{model.path} is a {model.direction} model, expected the {name} one: give forward first"
            )
    first, second = models.values()
    like = dataclasses.replace(second.config, dropout=first.config.dropout)
    for one, other in ((first.config, like), (first.delimiter, second.delimiter)):
        if one != other:
            raise CharEmbedError(f"{first.path} and {second.path} are no pair: {one!r} and {other!r}")
    vocab = CharVocab(sorted(first.rows.keys() | second.rows.keys()))
    pair = BiCharLM(dataclasses.replace(first.config, vocab_size=len(vocab)))
    for name, model in models.items():
        model.copy_into(pair.direction(name), vocab)
    provenance = {"imported_from": "Flair"} | {name: model.provenance for name, model in models.items()}
    return Pretrained(pair.eval(), vocab, readout, first.delimiter, provenance)


@dataclass(frozen=True)
class _FlairModel:
    """One direction, as its file has it."""

    path: Path
    direction: Direction
    config: CharLMConfig
    """Without the vocabulary's size."""
    delimiter: str
    rows: dict[str, int]
    """Row of each character in the tables below; row 0 is that of all others."""
    weights: dict[str, Tensor]
    """By Flair's names."""
    provenance: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> _FlairModel:
        """
        Raises:
            CharEmbedError: it is no checkpoint, or its weights are not those of the model that it describes.
        """
        read = read_torch_file(path, [_DICTIONARY])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            return cls._of_file(read, path, {"file": path.name, "sha256": digest})
        except CharEmbedError as error:
            raise CharEmbedError(f"{path}: {error}") from error

    @classmethod
    def _of_file(cls, file: TorchFile, path: Path, provenance: dict[str, Any]) -> _FlairModel:
        state = file.saved
        needed = ("state_dict", "dictionary", "is_forward_lm", "hidden_size", "nlayers", "embedding_size")
        missing = [name for name in needed if not isinstance(state, Mapping) or name not in state]
        if missing:
            raise CharEmbedError(f"it is no language model of Flair: it has no {', '.join(missing)}")
        recurrence = state.get("recurrent_type", "LSTM")
        if not isinstance(recurrence, str) or recurrence.lower() not in _CELLS:
            raise CharEmbedError(f"the recurrence {shown(recurrence)} is not known, expected LSTM or GRU")
        if type(state["is_forward_lm"]) is not bool:
            raise CharEmbedError(f"is_forward_lm must be true or false, got {shown(state['is_forward_lm'])}")
        delimiter = state.get("document_delimiter", "\n")
        if not isinstance(delimiter, str) or not delimiter:
            raise CharEmbedError(f"document_delimiter must be text, got {shown(delimiter)}")
        sizes = {"embedding_dim": "embedding_size", "hidden_size": "hidden_size", "num_layers": "nlayers"}
        for name in (*sizes.values(), "nout", "dropout"):
            if not isinstance(state.get(name), (int, float, type(None))):
                raise CharEmbedError(f"{name} must be a number, got {shown(state[name])}")
        rows = _rows(state["dictionary"])
        config = CharLMConfig(
            **_CELLS[recurrence.lower()],
            **{ours: state[theirs] for ours, theirs in sizes.items()},
            proj_size=state.get("nout"),
            dropout=state.get("dropout", 0.0),
        )
        table = state["state_dict"]
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table):
            raise CharEmbedError("state_dict is no table of weights")
        weights = {name: file.tensor(value) for name, value in table.items()}
        _check_weights(weights, config, 1 + max(rows.values()))
        weights = {name: tensor.float() for name, tensor in weights.items()}
        for name, tensor in weights.items():
            if not tensor.isfinite().all():
                raise CharEmbedError(f"{name} holds values that are no finite numbers")
        direction: Direction = "forward" if state["is_forward_lm"] else "backward"
        return cls(path, direction, config, delimiter, rows, weights, provenance)

    @torch.no_grad()
    def copy_into(self, lm: CharLM, vocab: CharVocab) -> None:
        """Take the weights over."""
        rows = torch.tensor([0, *(self.rows.get(character, 0) for character in vocab.characters)])
        lm.embedding.weight.copy_(self.weights["encoder.weight"][rows])
        load_torch_weights(lm.rnn, tensors_under("rnn.", self.weights))
        if lm.proj is not None:
            lm.proj.load_state_dict(tensors_under("proj.", self.weights))
        for name, weight in lm.decoder.named_parameters():
            # Flair drops it from models that only embed: all characters are then equally likely.
            given = self.weights.get(f"decoder.{name}")
            weight.copy_(torch.zeros_like(weight) if given is None else given[rows])


def _check_weights(weights: Mapping[str, Tensor], config: CharLMConfig, rows: int) -> None:
    """See that there are weights for a model before one is made: a file's own words may claim any size.

    Args:
        weights: by Flair's names.
        config: what the file says of the model.
        rows: that the tables must have at least.

    Raises:
        CharEmbedError: they are not those of such a model.
    """
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise CharEmbedError(f"{shown(name)} in the state_dict is {tensor.dtype}, expected floating point")
    table = weights.get("encoder.weight")
    count = len(table) if table is not None and table.dim() else 0
    if count < rows:
        raise CharEmbedError(f"encoder.weight has {count} rows, too few for the dictionary")
    hidden, width = config.hidden_size, config.embedding_dim
    gates = 4 if config.cell == "lstm" else 3
    wanted: dict[str, tuple[int, ...]] = {"encoder.weight": (count, width)}
    for layer in range(min(config.num_layers, len(weights))):
        wanted |= {f"rnn.weight_ih_l{layer}": (gates * hidden, hidden if layer else width)}
        wanted |= {f"rnn.weight_hh_l{layer}": (gates * hidden, hidden)}
        wanted |= {f"rnn.bias_{which}_l{layer}": (gates * hidden,) for which in ("ih", "hh")}
    if config.proj_size is not None:
        wanted |= {"proj.weight": (config.proj_size, hidden), "proj.bias": (config.proj_size,)}
    if "decoder.weight" in weights:
        wanted |= {"decoder.weight": (count, config.output_size), "decoder.bias": (count,)}
    for problem, names in (("lacks", wanted.keys() - weights.keys()), ("has the foreign", weights.keys() - wanted)):
        if names:
            raise CharEmbedError(f"it {problem} weights {', '.join(map(shown, sorted(names)[:3]))}")
    for name, shape in wanted.items():
        if weights[name].shape != shape:
            raise CharEmbedError(f"{name} has shape {tuple(weights[name].shape)}, expected {shape}")


def _rows(dictionary: object) -> dict[str, int]:
    """Row of each character; what is longer, or no text, Flair never looks up.

    Raises:
        CharEmbedError: it is no dictionary of characters.
    """
    table = dictionary.attributes.get("item2idx") if isinstance(dictionary, Instance) else None
    if not isinstance(table, dict):
        raise CharEmbedError(f"dictionary is no {_DICTIONARY} with an item2idx")
    rows = {}
    for item, row in table.items():
        if not isinstance(item, (bytes, str)) or type(row) is not int or row < 0:
            raise CharEmbedError(f"the dictionary maps {shown(item)} to {shown(row)}, expected text and a row")
        try:
            text = item.decode() if isinstance(item, bytes) else item.encode().decode()
        except UnicodeError:
            continue
        if len(text) == 1:
            rows[text] = row
    if not rows or len(set(rows.values())) < len(rows):
        raise CharEmbedError("the dictionary holds no characters, or several of one row")
    return rows
