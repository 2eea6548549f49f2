"""Receives a trained pair of language models and what is known of it; hands on the model folder, and reads it back.

The folder is specified in docs/model-folder.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.lm.model import DIRECTIONS, BiCharLM, CharLMConfig, Readout, tensors_under
from charembed.pretrained.hub import model_not_found, resolve_folder
from charembed.pretrained.model_card import model_card
from charembed.text.vocab import CharVocab
from charembed.util.checks import check_choice
from charembed.util.devices import check_device
from charembed.util.files import atomic_folder, check_contains_only, recover_folder, user_path
from charembed.version import __version__

FORMAT_VERSION = 1
CONFIG, TOKENIZER, WEIGHTS, CARD = "config.json", "tokenizer.json", "model.safetensors", "README.md"

StoredType = Literal["float32", "float16"]


@dataclass
class Pretrained:
    """All that a model folder holds."""

    model: BiCharLM
    vocab: CharVocab
    readout: Readout = "word"
    """Where a word's states are read: on its own last and first character, or on those just outside it."""
    delimiter: str = "\n"
    """What both models read before a text; at least one character, from which an empty first word has its states."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the weights come from: corpus, characters seen, bits per character. JSON values."""

    def __post_init__(self) -> None:
        if self.readout not in get_args(Readout):
            raise CharEmbedError(f"readout must be {' or '.join(get_args(Readout))}, got {self.readout!r}")
        if not self.delimiter or any("\ud800" <= character <= "\udfff" for character in self.delimiter):
            raise CharEmbedError(f"delimiter must be text of at least one character, got {self.delimiter!r}")

    def digest(self) -> str:
        """What tells it from models that give other vectors: a hash of weights, vocabulary and way of reading."""
        settings = [self.vocab.to_json(), self.readout, self.delimiter, dataclasses.asdict(self.model.config)]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for name, tensor in _tensors(self.model).items():
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(
        self, folder: str | os.PathLike[str], dtype: StoredType = "float32", address: str = "path/to/this/folder"
    ) -> None:
        """Write the model folder, aside first, then in its place; a model folder that is there is replaced.

        Args:
            folder: where.
            dtype: of the stored weights: "float16" takes half the space. They are computed with in float32 either way.
            address: from where the model card says to load it.

        Raises:
            CharEmbedError: the folder exists and holds anything else; weights too large for float16.
            OSError: it cannot be written; what was there is left as it was.
        """
        target = user_path(folder).resolve()
        check_replaceable(target)
        with atomic_folder(target) as new:
            for name, content in self.files(address=address, dtype=dtype).items():
                (new / name).write_bytes(content)

    def files(self, address: str = "path/to/this/folder", dtype: StoredType = "float32") -> dict[str, bytes]:
        """The files of the model folder by name, the model card last.

        Args:
            address: from where the model card says to load it.
            dtype: of the stored weights.

        Raises:
            CharEmbedError: weights too large for float16.
        """
        check_choice("dtype", dtype, get_args(StoredType))
        config = {
            "format_version": FORMAT_VERSION,
            "charembed_version": __version__,
            "architecture": dataclasses.asdict(self.model.config),
            "directions": list(self.model.directions),
            "readout": self.readout,
            "delimiter": self.delimiter,
            "provenance": self.provenance,
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(self.model).items()}
        if dtype == "float16":
            tensors = {name: tensor.half() for name, tensor in tensors.items()}
            if not all(tensor.isfinite().all() for tensor in tensors.values()):
                raise CharEmbedError("the model has weights that are too large for float16: store it as float32")
        return {
            CONFIG: (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode(),
            TOKENIZER: self.vocab.to_json().encode(),
            WEIGHTS: safetensors.torch.save(tensors),
            CARD: model_card(self.model, self.provenance, address).encode(),
        }

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: torch.device | str = "cpu") -> Pretrained:
        """Read a model folder. Nothing in it is unpickled.

        Args:
            folder: its path, the name of a model that comes along, or `hf://owner/name` for one on the Hugging Face
                Hub.
            device: where the weights go.

        Raises:
            CharEmbedError: no model folder, a file missing or damaged, a newer format, weights that do not fit.
        """
        path = resolve_folder(folder)
        device = check_device(device)
        if not os.path.isdir(path):
            with contextlib.suppress(OSError):
                recover_folder(path)  # a process that was killed may have left it aside
        if not os.path.isdir(path):
            raise model_not_found(folder)
        missing = [name for name in (CONFIG, TOKENIZER, WEIGHTS) if not (path / name).is_file()]
        if missing:
            nested = [name for name in ("best", "last") if (path / name / CONFIG).is_file()]
            hint = (
                f"; it is a training run, its models are {' and '.join(str(path / n) for n in nested)}"
                if nested
                else ""
            )
            raise CharEmbedError(f"{path} is not a model folder: {', '.join(missing)} missing{hint}")
        config, tokenizer = ((path / name).read_bytes() for name in (CONFIG, TOKENIZER))
        return cls._of_parts(config, tokenizer, partial(safetensors.torch.load_file, path / WEIGHTS, str(device)), path)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], source: str) -> Pretrained:
        """Read what `files` gave.

        Args:
            files: content by name.
            source: where they come from, for error messages.

        Raises:
            CharEmbedError: as `load` does.
        """
        given = files if isinstance(files, Mapping) else {}
        missing = [name for name in (CONFIG, TOKENIZER, WEIGHTS) if not isinstance(given.get(name), bytes)]
        if missing:
            raise CharEmbedError(f"{source} holds no model: {', '.join(missing)} missing")
        weights = partial(safetensors.torch.load, files[WEIGHTS])
        return cls._of_parts(files[CONFIG], files[TOKENIZER], weights, Path(source))

    @classmethod
    def _of_parts(
        cls, config_json: bytes, tokenizer_json: bytes, weights: Callable[[], dict[str, Tensor]], path: Path
    ) -> Pretrained:
        config = _parsed_config(config_json, path / CONFIG)
        vocab = CharVocab.from_json(tokenizer_json, source=str(path / TOKENIZER))
        architecture = _architecture(config, path / CONFIG)
        if architecture.vocab_size != len(vocab):
            raise CharEmbedError(
                f"{path}: {CONFIG} says {architecture.vocab_size} characters, {TOKENIZER} holds {len(vocab)}"
            )
        try:
            with torch.device("meta"):  # shapes alone: the weights come from the file
                model = BiCharLM(architecture, config.get("directions", DIRECTIONS))
        except (CharEmbedError, RuntimeError, TypeError, OverflowError) as error:
            raise CharEmbedError(f"{path / CONFIG}: no model has such an architecture: {error}") from error
        try:
            tensors = weights()
        except (safetensors.SafetensorError, OSError) as error:
            raise CharEmbedError(f"{path / WEIGHTS} cannot be read as safetensors: {error}") from error
        _load_weights(model, tensors, path / WEIGHTS)
        try:
            return cls(model.eval(), vocab, config["readout"], config["delimiter"], config["provenance"])
        except CharEmbedError as error:
            raise CharEmbedError(f"{path / CONFIG}: {error}") from error


def read_architecture(folder: str | os.PathLike[str]) -> CharLMConfig:
    """The architecture of a model folder's model, without its weights.

    Raises:
        CharEmbedError: no model folder, or one that is damaged.
    """
    path = resolve_folder(folder) / CONFIG
    if not path.is_file():
        raise CharEmbedError(f"{path.parent} is not a model folder: {CONFIG} missing")
    return _architecture(_parsed_config(path.read_bytes(), path), path)


def join(forward: Pretrained, backward: Pretrained) -> Pretrained:
    """The pair of two models that were trained one direction at a time, on the same alphabet and with the same shape.

    Raises:
        CharEmbedError: a direction is missing, or the two differ in more than it.
    """
    for name in ("vocab", "readout", "delimiter"):
        if getattr(forward, name) != getattr(backward, name):
            raise CharEmbedError(f"the two models cannot be joined: they differ in their {name}")
    if forward.model.config != backward.model.config:
        raise CharEmbedError("the two models cannot be joined: they differ in their architecture")
    pair = BiCharLM(forward.model.config)
    pair.forward_lm = forward.model.direction("forward")
    pair.backward_lm = backward.model.direction("backward")
    provenance = {"forward": forward.provenance, "backward": backward.provenance}
    return Pretrained(pair, forward.vocab, forward.readout, forward.delimiter, provenance)


def _tensors(model: BiCharLM) -> dict[str, Tensor]:
    """All weights, by the names of the model folder."""
    return {
        f"{direction}.{name}": tensor
        for direction in model.directions
        for name, tensor in model.direction(direction).state_dict().items()
    }


def check_replaceable(target: Path) -> None:
    """Refuse to replace anything but a model folder of ours or an empty one, so that no other work is lost.

    Raises:
        CharEmbedError: the target is a file, or a folder that holds anything else.
    """
    check_contains_only(target, {CONFIG, TOKENIZER, WEIGHTS, CARD})
    if target.exists() and any(target.iterdir()):
        try:
            _parsed_config((target / CONFIG).read_bytes(), target / CONFIG)
        except (CharEmbedError, OSError) as error:
            raise CharEmbedError(f"{target} is no model folder of charembed: name another folder ({error})") from error


def _parsed_config(content: bytes, path: Path) -> dict[str, Any]:
    try:
        read = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise CharEmbedError(f"{path} is not JSON: {error}") from error
    config: dict[str, Any] = read if isinstance(read, dict) else {}
    version = config.get("format_version")
    if type(version) is not int or version < 1:
        raise CharEmbedError(f"{path} is not the config.json of a charembed model: no format_version")
    if version > FORMAT_VERSION:
        raise CharEmbedError(
            f"{path} has format version {version}, this charembed ({__version__}) reads up to {FORMAT_VERSION}:"
            " pip install -U charembed"
        )
    kinds = {"architecture": dict, "readout": str, "delimiter": str, "provenance": dict}
    for key, kind in kinds.items():
        if not isinstance(config.get(key), kind):
            raise CharEmbedError(f"{path}: {key} is missing or not a {kind.__name__}")
    return config


def _architecture(config: dict[str, Any], path: Path) -> CharLMConfig:
    given = config["architecture"]
    unknown = sorted(set(given) - {f.name for f in dataclasses.fields(CharLMConfig)})
    if unknown:
        raise CharEmbedError(f"{path}: unknown architecture field {', '.join(unknown)}")
    try:
        return CharLMConfig(**given)
    except (CharEmbedError, TypeError) as error:
        raise CharEmbedError(f"{path}: {error}") from error


def _load_weights(model: BiCharLM, tensors: dict[str, Tensor], path: Path) -> None:
    expected = {name: tensor.shape for name, tensor in _tensors(model).items()}
    for problem, names in (
        ("lacks", sorted(expected.keys() - tensors.keys())),
        ("holds the foreign", sorted(tensors.keys() - expected.keys())),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CharEmbedError(f"{path} {problem} tensors {', '.join(names[:3])}{more}")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise CharEmbedError(f"{path}: {name} has shape {tuple(tensors[name].shape)}, expected {tuple(shape)}")
        if not tensors[name].is_floating_point():
            raise CharEmbedError(f"{path}: {name} has type {tensors[name].dtype}, expected floating point")
        if not tensors[name].isfinite().all():
            raise CharEmbedError(f"{path}: {name} holds values that are no finite numbers")
    for direction in model.directions:
        own = {name: tensor.float() for name, tensor in tensors_under(f"{direction}.", tensors).items()}
        model.direction(direction).load_state_dict(own, assign=True)
