"""Receives checkpoints of Flair's language models; hands on the pair they hold. Flair is not needed for it."""

from __future__ import annotations

import codecs
import hashlib
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.language_model import DIRECTIONS, BiCharLM, CharLM, CharLMConfig, Direction
from charembed.paths import user_path
from charembed.pretrained import Pretrained, Readout, tensors_under
from charembed.recurrent.translation import load_torch_weights
from charembed.vocab import CharVocab

_CELLS: dict[str, dict[str, Any]] = {"lstm": {"cell": "lstm"}, "gru": {"cell": "gru", "reset_after": True}}
"""Flair's recurrences, which are PyTorch's, as ours."""


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
    for what in ("architecture", "delimiter"):
        values = [getattr(model, what) for model in (first, second)]
        if values[0] != values[1]:
            raise CharEmbedError(f"{first.path} and {second.path} are no pair: {what} {values[0]} and {values[1]}")
    vocab = CharVocab(sorted(first.rows.keys() | second.rows.keys()))
    pair = BiCharLM(CharLMConfig(**first.architecture, vocab_size=len(vocab)))
    for name, model in models.items():
        model.copy_into(pair.direction(name), vocab)
    provenance = {"imported_from": "Flair"} | {name: model.provenance for name, model in models.items()}
    return Pretrained(pair.eval(), vocab, readout, first.delimiter, provenance)


@dataclass(frozen=True)
class _FlairModel:
    """One direction, as its file has it."""

    path: Path
    direction: Direction
    architecture: dict[str, Any]
    """Fields of `CharLMConfig`, but for the vocabulary's size."""
    delimiter: str
    rows: dict[str, int]
    """Row of each character in the tables below; row 0 is that of all others."""
    weights: dict[str, Tensor]
    """By Flair's names."""
    provenance: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> _FlairModel:
        state = _unpickled(path)
        needed = ("state_dict", "dictionary", "is_forward_lm", "hidden_size", "nlayers", "embedding_size")
        missing = [name for name in needed if not isinstance(state, Mapping) or name not in state]
        if missing:
            raise CharEmbedError(f"{path} is no language model of Flair: it has no {', '.join(missing)}")
        recurrence = str(state.get("recurrent_type", "LSTM")).lower()
        if recurrence not in _CELLS:
            raise CharEmbedError(f"{path}: the recurrence {recurrence!r} is not known, expected LSTM or GRU")
        weights, delimiter = state["state_dict"], state.get("document_delimiter", "\n")
        if not isinstance(weights, Mapping) or not all(_is_weight(tensor) for tensor in weights.values()):
            raise CharEmbedError(f"{path}: state_dict holds something else than floating-point weights")
        if not isinstance(delimiter, str) or not delimiter:
            raise CharEmbedError(f"{path}: document_delimiter must be text, got {delimiter!r}")
        architecture = _CELLS[recurrence] | {
            "embedding_dim": state["embedding_size"],
            "hidden_size": state["hidden_size"],
            "num_layers": state["nlayers"],
            "proj_size": state.get("nout"),
        }
        try:
            _check_widths(CharLMConfig(**architecture), weights)
        except CharEmbedError as error:
            raise CharEmbedError(f"{path}: {error}") from error
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(
            path,
            "forward" if state["is_forward_lm"] else "backward",
            architecture,
            delimiter,
            _rows(state["dictionary"], path),
            {name: tensor.detach().float() for name, tensor in weights.items()},
            {"file": path.name, "sha256": digest},
        )

    def copy_into(self, lm: CharLM, vocab: CharVocab) -> None:
        """Take the weights over.

        Raises:
            CharEmbedError: they are not those of such a model.
        """
        rows = torch.tensor([0, *(self.rows.get(character, 0) for character in vocab.characters)])
        left = dict(self.weights)

        def take(name: str, shape: tuple[int, ...]) -> Tensor:
            tensor = left.pop(name, None)
            if tensor is None:
                raise CharEmbedError(f"{self.path} lacks the weights {name}")
            if tensor.shape != shape:
                raise CharEmbedError(f"{self.path}: {name} has shape {tuple(tensor.shape)}, expected {shape}")
            if not tensor.isfinite().all():
                raise CharEmbedError(f"{self.path}: {name} holds values that are no finite numbers")
            return tensor

        config = lm.config
        table = left.get("encoder.weight")
        count = 0 if table is None or table.dim() != 2 else len(table)
        if int(rows.max()) >= count:
            raise CharEmbedError(f"{self.path}: encoder.weight has {count} rows, too few for the dictionary")
        with torch.no_grad():
            lm.embedding.weight.copy_(take("encoder.weight", (count, config.embedding_dim))[rows])
            if lm.proj is not None:
                lm.proj.weight.copy_(take("proj.weight", (config.output_size, config.hidden_size)))
                lm.proj.bias.copy_(take("proj.bias", (config.output_size,)))
            if "decoder.weight" in left:
                lm.decoder.weight.copy_(take("decoder.weight", (count, config.output_size))[rows])
                lm.decoder.bias.copy_(take("decoder.bias", (count,))[rows])
            else:  # Flair drops it from models that only embed: all characters are then as likely
                lm.decoder.weight.zero_()
                lm.decoder.bias.zero_()
        recurrent = {name: take(name, tuple(left[name].shape)) for name in list(left) if name.startswith("rnn.")}
        try:
            load_torch_weights(lm.rnn, tensors_under("rnn.", recurrent))
        except CharEmbedError as error:
            raise CharEmbedError(f"{self.path}: {error}") from error
        if left:
            raise CharEmbedError(f"{self.path} holds the foreign weights {', '.join(sorted(left)[:3])}")


def _check_widths(config: CharLMConfig, weights: Mapping[str, Tensor]) -> None:
    """Before a model of that size is made, see that there are weights for it.

    Raises:
        CharEmbedError: there are none, or of another width.
    """
    wanted = {
        "encoder.weight": config.embedding_dim,
        f"rnn.weight_hh_l{config.num_layers - 1}": config.hidden_size,
    } | ({"proj.bias": config.proj_size} if config.proj_size else {})
    for name, width in wanted.items():
        shape = tuple(weights[name].shape) if name in weights else ()
        if shape[-1:] != (width,):
            raise CharEmbedError(
                f"the weights {name} are {f'{shape[-1]} wide' if shape else 'absent'}, expected {width}"
            )


def _is_weight(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _rows(dictionary: object, path: Path) -> dict[str, int]:
    """Row of each character; what is longer, or no text, Flair never looks up."""
    table = getattr(dictionary, "item2idx", None)
    if not isinstance(dictionary, _Dictionary) or not isinstance(table, Mapping):
        raise CharEmbedError(f"{path}: dictionary is no flair.data.Dictionary with an item2idx")
    rows = {}
    for item, row in table.items():
        if not isinstance(item, (bytes, str)) or type(row) is not int or row < 0:
            raise CharEmbedError(f"{path}: the dictionary maps {item!r} to {row!r}, expected text and a row")
        character = item.decode("utf-8", "ignore") if isinstance(item, bytes) else item
        if len(character) == 1 and (item == character or item == character.encode("utf-8", "ignore")):
            rows[character] = row
    return rows


class _Dictionary:
    """Stands in for `flair.data.Dictionary`; its attributes are whatever the file says."""


def _unpickled(path: Path) -> Any:
    """What a file of `torch.save` holds, in either of its two formats, as far as it has a place in a Flair checkpoint.

    Raises:
        CharEmbedError: something else is in it, or it is no such file, or damaged.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04":
        _check_archive(path)
    elif not start.startswith(b"\x80") or tarfile.is_tarfile(path):  # PyTorch would unpack tar files to disk
        raise CharEmbedError(f"{path} is no file of PyTorch's, or damaged: a Flair language model is a .pt file")
    module = SimpleNamespace(Unpickler=_Unpickler, load=_Unpickler.load_from, __name__="charembed.flair_checkpoint")
    try:
        return torch.load(path, map_location="cpu", pickle_module=module, weights_only=False)
    except CharEmbedError as error:
        raise CharEmbedError(f"{path}: {error}") from error
    except Exception as error:  # whatever a hostile or damaged file makes the unpickler meet
        raise CharEmbedError(f"{path} cannot be read, it may be damaged: {type(error).__name__}: {error}") from error


def _check_archive(path: Path) -> None:
    """
    Raises:
        CharEmbedError: a damaged archive, or one of TorchScript, which is code that PyTorch would run.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [Path(name).name for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CharEmbedError(f"{path} is damaged or not complete: {error}") from error
    if "constants.pkl" in names:
        raise CharEmbedError(f"{path} is a TorchScript program, not a Flair language model")
    if "data.pkl" not in names:
        raise CharEmbedError(f"{path} is a zip archive, but not one of PyTorch's")


class _Unpickler(pickle.Unpickler):
    """Knows what a Flair checkpoint is made of, and refuses everything else by name."""

    def __init__(self, file: BinaryIO, **_: Any) -> None:  # PyTorch passes an encoding
        super().__init__(file)

    @classmethod
    def load_from(cls, file: BinaryIO, **options: Any) -> Any:
        return cls(file, **options).load()

    def find_class(self, module: str, name: str) -> Any:
        known = _known()
        if (module, name) not in known:
            raise CharEmbedError(f"it holds {module}.{name}, which no Flair language model does: it is not loaded")
        return known[module, name]


def _known() -> dict[tuple[str, str], Callable[..., Any]]:
    """What may be named in a checkpoint, and what stands for it. Made anew each time: a pickle can set attributes of
    what it names."""

    def rebuild_tensor(*arguments: Any) -> Tensor:
        tensor: Tensor = torch._utils._rebuild_tensor_v2(*arguments)  # type: ignore[no-untyped-call]
        return tensor

    def encode(text: str, encoding: str) -> bytes:  # bytes in pickles of protocol 2
        return codecs.latin_1_encode(text)[0] if encoding == "latin1" else text.encode()

    def default_dict(*_: Any) -> dict[Any, Any]:  # Flair keeps a second table of characters in one
        return {}

    class Dictionary(_Dictionary):
        pass

    class Nothing:
        pass

    return {
        ("collections", "OrderedDict"): OrderedDict,
        ("collections", "defaultdict"): default_dict,
        ("builtins", "int"): Nothing,
        ("__builtin__", "int"): Nothing,
        ("_codecs", "encode"): encode,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("flair.data", "Dictionary"): Dictionary,
    }
