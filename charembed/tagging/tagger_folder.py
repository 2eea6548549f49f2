"""Read and write tagger folders; docs/reference/tagger-folder.md specifies them."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
import torch

from charembed.errors import CharEmbedError
from charembed.pretrained.hub import bundled_models, fetch
from charembed.pretrained.model_files import CONFIG as MODEL_CONFIG
from charembed.pretrained.model_files import (
    DIGESTS,
    check_digests,
    digests,
    parse_versioned,
    read_config,
    read_model_files,
)
from charembed.pretrained.model_files import FILES as MODEL_FILES
from charembed.pretrained.model_folder import Pretrained
from charembed.static_vectors import StaticVectors
from charembed.static_vectors.word_vectors import FILE_NAME as STATIC
from charembed.tagging.network import NetworkConfig, TaggerNetwork
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagger_card import tagger_card
from charembed.tagging.tagger_weights import check_tags, load_weights, read_weights
from charembed.util.checks import check_choice, shown
from charembed.util.devices import shapes_only
from charembed.util.files import atomic_folder, check_contains_only, user_path
from charembed.util.folder_reading import read_unchanged, wait_for_folder
from charembed.util.reading import read_file
from charembed.util.shared_folder import is_address
from charembed.version import __version__

FORMAT_VERSION = 1
CONFIG, WEIGHTS, CARD, MODEL = "tagger.json", "tagger.safetensors", "README.md", "language_model"
REPORT = "report.json"
"""Report of the training run, which is written into the folder of the tagger."""
HTML = "report.html"
"""The same as a page with pictures, if it can be drawn."""
TRAINING = ".training"
"""Folder inside that of a tagger for the state of its training, which is gone when training ends."""
BUNDLED_TAGGERS = Path(str(importlib.resources.files("charembed.tagging").joinpath("models")))
"""Folder of the taggers that are part of this package."""
_DOWNLOADS = (CONFIG, WEIGHTS, CARD, STATIC, *(f"{MODEL}/{name}" for name in MODEL_FILES))
ModelStorage = Literal["auto", "reference", "float32", "float16"]


@dataclass(frozen=True)
class TaggerFiles:
    """Everything in a tagger folder."""

    pretrained: Pretrained
    """The language model."""
    network: TaggerNetwork
    """The trained network."""
    static: StaticVectors | None
    """Static vectors beside those of the language model."""
    embedder_options: dict[str, Any]
    """Options of `CharEmbedder` that the network depends on: parts, dim."""
    provenance: dict[str, Any]
    """What the tagger was trained on and its scores."""

    def contents(self, model: ModelStorage, address: str = "path/to/this/folder") -> dict[str, bytes]:
        """Return the content of each file by its path in the folder.

        Args:
            model: how the language model is stored (see `Tagger.save`).
            address: name from which the example on the card loads the tagger.

        Raises:
            CharEmbedError: a reference to a model that is not bundled, or weights that are too large for float16.
        """
        check_choice("model", model, get_args(ModelStorage))
        language_model, files = self._language_model(model)
        weights = {key: tensor.detach().cpu().contiguous() for key, tensor in self.network.state_dict().items()}
        content = {
            WEIGHTS: safetensors.torch.save(weights),
            **({} if self.static is None else {STATIC: self.static.to_bytes()}),
        }
        config = {
            "format_version": FORMAT_VERSION,
            "charembed_version": __version__,
            "network": dataclasses.asdict(self.network.config),
            "layers": [dataclasses.asdict(layer) for layer in self.network.layers],
            "language_model": language_model,
            "embedder": self.embedder_options,
            "static_vectors": self.static is not None,
            DIGESTS: digests(content),
            "provenance": self.provenance,
        }
        return {
            CONFIG: (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"),
            CARD: tagger_card(self.network.layers, self.provenance, address).encode("utf-8", "backslashreplace"),
            **content,
            **{f"{MODEL}/{name}": content for name, content in files.items()},
        }

    def _language_model(self, storage: ModelStorage) -> tuple[dict[str, str], dict[str, bytes]]:
        """Return what tagger.json says about the language model, and the files of its folder; none for a reference."""
        readout = self.pretrained.readout
        name = bundled_name(self.pretrained) if storage in ("auto", "reference") else None
        if storage == "reference" and name is None:
            raise CharEmbedError("the language model is not bundled: store it in the folder, as float32 or float16")
        if name is not None:
            return {"name": name, "digest": self.pretrained.digest(), "readout": readout}, {}
        files = self.pretrained.files(dtype="float16" if storage == "float16" else "float32")
        # The digest of the weights as they are stored: float16 rounds them.
        return {"digest": Pretrained.from_files(files, MODEL).digest(), "readout": readout}, files


def bundled_taggers() -> list[str]:
    """Return the names of the taggers that are part of this package."""
    return sorted(config.parent.name for config in BUNDLED_TAGGERS.glob(f"*/{CONFIG}"))


def is_tagger(name: str | os.PathLike[str]) -> bool:
    """Return whether a name is that of a tagger, and not of a language model.

    Raises:
        CharEmbedError: the repository on the Hugging Face Hub cannot be read.
    """
    if isinstance(name, str) and is_address(name):
        return (fetch(name, (CONFIG,)) / CONFIG).is_file()
    return (user_path(name) / CONFIG).is_file() or os.fspath(name) in bundled_taggers()


def save_tagger(
    files: TaggerFiles,
    folder: str | os.PathLike[str],
    model: ModelStorage,
    report: bytes | None = None,
    address: str = "path/to/this/folder",
) -> None:
    """Write a tagger folder atomically; see `Tagger.save`.

    Args:
        files: the content.
        folder: path of the folder.
        model: how the language model is stored.
        report: the report of the training run, which is stored beside the tagger; None for none.
        address: name from which the example on the card loads the tagger.
    """
    target = user_path(folder).resolve()
    check_tagger_replaceable(target)
    contents = files.contents(model, address) | ({} if report is None else {REPORT: report})
    with atomic_folder(target) as new:
        for name, content in contents.items():
            (new / name).parent.mkdir(exist_ok=True)
            (new / name).write_bytes(content)


def check_tagger_replaceable(target: Path) -> None:
    """Check that a path is unused, an empty folder or a tagger folder, so that saving there is safe.

    Raises:
        CharEmbedError: the target is a file, or a folder with any other content.
    """
    check_contains_only(target, (CONFIG, WEIGHTS, CARD, STATIC, REPORT, HTML, MODEL, TRAINING))
    check_contains_only(target / MODEL, MODEL_FILES)


def load_tagger_files(name: str | os.PathLike[str], device: torch.device | str | None = None) -> TaggerFiles:
    """Read a tagger folder; see `Tagger.load`."""
    folder = _resolve(name)
    return _from_contents(read_unchanged(folder, partial(_read, folder)), folder, "cpu" if device is None else device)


def tagger_from_contents(contents: Mapping[str, bytes], source: str) -> TaggerFiles:
    """Return the tagger of files in memory; see `Tagger.from_contents`."""
    # They may come from a damaged pipeline, in which anything can take their place.
    files = contents if isinstance(contents, Mapping) else {}
    return _from_contents(files, Path(source), "cpu")


def _from_contents(files: Mapping[str, bytes], folder: Path, device: torch.device | str) -> TaggerFiles:
    """Return the tagger of a folder.

    Args:
        files: contents by path in the folder.
        folder: path of the folder, for error messages.
        device: device of the language model.
    """

    def read(name: str) -> bytes:
        if not isinstance(files.get(name), bytes):
            raise CharEmbedError(f"{folder} contains no complete tagger: {name} missing")
        return files[name]

    path = folder / CONFIG
    config = _parse_config(read(CONFIG), path)
    tensors = read_weights(read(WEIGHTS), folder / WEIGHTS)
    try:
        network_config = NetworkConfig(**config["network"])
        layers = [TagLayer(layer["name"], layer["kind"], tuple(layer["tags"])) for layer in config["layers"]]
        check_tags(layers, tensors)
        with shapes_only():  # the weights come from the file
            network = TaggerNetwork(network_config, layers)
        static_file, reference = config["static_vectors"], config["language_model"]
        digest, readout = reference["digest"], reference["readout"]
        embedder_options = {"parts": config["embedder"]["parts"], "dim": config["embedder"]["dim"]}
    except (KeyError, TypeError, AttributeError, RuntimeError, OverflowError, CharEmbedError) as error:
        reason = next(iter(str(error).splitlines()), "")  # PyTorch adds where in its code an error arose
        raise CharEmbedError(f"{path} is damaged: {type(error).__name__}: {reason}") from error
    load_weights(network, tensors, folder / WEIGHTS)
    static = StaticVectors.from_bytes(read(STATIC), str(folder / STATIC)) if static_file else None

    # The language model: in the folder, or a bundled one with the same weights.
    bundled = reference.get("name")
    if bundled is not None and bundled not in bundled_models():
        raise CharEmbedError(
            f"{path} refers to the language model {shown(bundled)}, which charembed {__version__} lacks"
        )
    if bundled is None:
        inner = {name.removeprefix(f"{MODEL}/"): files[name] for name in files if str(name).startswith(f"{MODEL}/")}
        pretrained = Pretrained.from_files(inner, str(folder / MODEL))
        pretrained.model.to(device)
    else:
        pretrained = Pretrained.load(bundled, device)
    pretrained = dataclasses.replace(pretrained, readout=readout)
    if pretrained.digest() != digest:
        raise CharEmbedError(
            f"the language model {bundled or folder / MODEL} is not the one that the tagger {folder} was trained with:"
            " its vectors mean something else. Train the tagger again, or use the version of charembed that made it"
            f" ({shown(config.get('charembed_version'))})"
        )
    check_digests(config, {name: files[name] for name in (WEIGHTS, STATIC) if name in files}, path)
    return TaggerFiles(pretrained, network, static, embedder_options, config["provenance"])


def _resolve(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a tagger.

    Raises:
        CharEmbedError: there is none, or the folder is that of a language model.
    """
    if isinstance(name, str) and is_address(name):
        return _download(name)
    path = user_path(name)
    wait_for_folder(path)
    if (path / CONFIG).exists():
        return path
    if isinstance(name, str) and name in bundled_taggers():
        return BUNDLED_TAGGERS / name
    if (path / MODEL_CONFIG).is_file() or (isinstance(name, str) and name in bundled_models()):
        raise _is_language_model(name)
    if path.is_dir():
        raise CharEmbedError(f"{path} is not a tagger folder: {CONFIG} missing; training may not have finished")
    raise CharEmbedError(
        f"no tagger '{os.fspath(name)}': there is no such folder, and the bundled taggers are"
        f" {', '.join(bundled_taggers()) or '(none)'}"
    )


def _download(address: str) -> Path:
    """Return the folder of a tagger on the Hub, or at another address, in the local cache.

    Raises:
        CharEmbedError: the repository cannot be read, or is not that of a tagger.
    """
    if is_tagger(address):
        return fetch(address, _DOWNLOADS)
    if (fetch(address, (MODEL_CONFIG,)) / MODEL_CONFIG).is_file():
        raise _is_language_model(address)
    raise CharEmbedError(f"{address} is not a tagger: the repository has no {CONFIG}")


def _is_language_model(name: str | os.PathLike[str]) -> CharEmbedError:
    """Return the error for the name of a language model."""
    return CharEmbedError(
        f"{name} is a language model, not a tagger: train a tagger with"
        f" charembed tag train --model {name} --train LABELLED_FILE --output FOLDER"
    )


def _parse_config(content: bytes, path: Path) -> dict[str, Any]:
    """Return the content of a tagger.json."""
    return parse_versioned(content, path, f"the {CONFIG} of a charembed tagger", FORMAT_VERSION, {"provenance": dict})


def _read(folder: Path) -> dict[str, bytes]:
    """Return the contents of the files of a tagger folder, by path in the folder.

    Raises:
        CharEmbedError: a file is missing, or cannot be of a tagger.
    """
    contents = {CONFIG: read_config(folder, CONFIG)}
    config = _parse_config(contents[CONFIG], folder / CONFIG)
    for name in (WEIGHTS, *((STATIC,) if config.get("static_vectors") else ())):
        try:
            contents[name] = read_file(folder / name)
        except FileNotFoundError as error:
            raise CharEmbedError(f"{folder} is not a complete tagger folder: {name} missing") from error
    if (folder / MODEL).is_dir():
        contents |= {f"{MODEL}/{name}": content for name, content in read_model_files(folder / MODEL).items()}
    return contents


def bundled_name(pretrained: Pretrained) -> str | None:
    """Return the name of the bundled model with the same vectors, if there is one."""
    digest = pretrained.digest()
    for name in bundled_models():
        if dataclasses.replace(Pretrained.load(name), readout=pretrained.readout).digest() == digest:
            return name
    return None
