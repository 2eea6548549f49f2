"""Read and check the files of a model folder; docs/reference/model-folder.md specifies them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.lm.model import BiCharLM, CharLMConfig, Direction, tensors_under
from charembed.pretrained.parts import Part
from charembed.projection import Projection
from charembed.static_vectors.word_vectors import FILE_NAME
from charembed.util.devices import shapes_only
from charembed.util.reading import MAX_JSON_BYTES, parse_json, read_file
from charembed.util.tensor_files import check_weights, read_torch_tensors
from charembed.version import __version__

FORMAT_VERSION = 2
CONFIG, TOKENIZER, WEIGHTS, CARD = "config.json", "tokenizer.json", "model.safetensors", "README.md"
STATIC, PROJECTION = FILE_NAME, "projection.safetensors"
OPTIONAL = {"static_vectors": STATIC, "projection": PROJECTION}
"""Files that only some models have, by the key of config.json that says whether a model does."""
FILES = (CONFIG, TOKENIZER, WEIGHTS, STATIC, PROJECTION, CARD)
"""All files that a model folder may have."""

DIGESTS = "sha256"
"""Key of a configuration with the SHA-256 of the other files by their names."""
_KEY_TYPES = {"architecture": dict, "readout": str, "delimiter": str, "provenance": dict}
"""Keys that config.json must have, with their JSON types."""


def parse_config(content: bytes, path: Path) -> dict[str, Any]:
    """Return the content of a config.json.

    Args:
        content: the bytes of the file.
        path: its path, for error messages.

    Raises:
        CharEmbedError: not JSON, not the configuration of a charembed model, a newer format or a missing key.
    """
    return parse_versioned(content, path, f"the {CONFIG} of a charembed model", FORMAT_VERSION, _KEY_TYPES)


def parse_versioned(
    content: bytes, path: Path, description: str, newest: int, key_types: Mapping[str, type]
) -> dict[str, Any]:
    """Return the content of a JSON file that states its format version.

    Args:
        content: the bytes of the file.
        path: its path, for error messages.
        description: what the file should be, for error messages.
        newest: newest format version that can be read.
        key_types: keys that the file must have, with their JSON types.

    Raises:
        CharEmbedError: not JSON, no format version, a newer one or a missing key.
    """
    try:
        parsed = parse_json(content)
    except ValueError as error:
        raise CharEmbedError(f"{path} cannot be read as JSON: {error}") from error
    config: dict[str, Any] = parsed if isinstance(parsed, dict) else {}
    version = config.get("format_version")
    if type(version) is not int or version < 1:  # a bool is an int
        raise CharEmbedError(f"{path} is not {description}: it has no format_version")
    if version > newest:
        raise CharEmbedError(
            f"{path} has format version {version}, but this version of charembed ({__version__}) reads versions up to"
            f" {newest}: upgrade with pip install -U charembed"
        )
    for key, json_type in key_types.items():
        if not isinstance(config.get(key), json_type):
            raise CharEmbedError(f"{path}: {key} is missing or not a {json_type.__name__}")
    return config


def optional_files(config: dict[str, Any], path: Path) -> list[str]:
    """Return the names of those optional files that a model folder has according to its config.json.

    A folder that has lost one of them would otherwise pass for a model without it, whose vectors are different.

    Args:
        config: what `parse_config` returned.
        path: path of the file, for error messages.

    Raises:
        CharEmbedError: a value is neither true nor false.
    """
    # Folders of format version 1 have no such keys.
    values = {key: config.get(key, False) for key in OPTIONAL}
    for key, value in values.items():
        if not isinstance(value, bool):
            raise CharEmbedError(f"{path}: {key} must be true or false")
    return [OPTIONAL[key] for key, value in values.items() if value]


def parse_architecture(config: dict[str, Any], path: Path) -> CharLMConfig:
    """Return the architecture in a parsed config.json.

    Args:
        config: what `parse_config` returned.
        path: path of the file, for error messages.

    Raises:
        CharEmbedError: an unknown field or an invalid value.
    """
    fields = config["architecture"]
    # A field of a later version may change what the model computes, so it must not be ignored.
    unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(CharLMConfig)})
    if unknown:
        raise CharEmbedError(f"{path}: unknown architecture field {', '.join(unknown)}")
    try:
        return CharLMConfig(**fields)
    except (CharEmbedError, TypeError) as error:
        raise CharEmbedError(f"{path}: {error}") from error


def read_config(folder: Path, name: str = CONFIG) -> bytes:
    """Return the content of a JSON file of a folder.

    Raises:
        CharEmbedError: not a regular file, or a huge one.
        OSError: the file cannot be read.
    """
    return read_file(folder / name, MAX_JSON_BYTES)


def read_model_files(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files that a model is loaded from, by name.

    Raises:
        CharEmbedError: a file is missing, no regular file or huge, or config.json does not say which files there are.
        OSError: a file cannot be read.
    """
    config = read_config(folder)
    contents = {CONFIG: config, TOKENIZER: read_config(folder, TOKENIZER)}
    for name in (WEIGHTS, *optional_files(parse_config(config, folder / CONFIG), folder / CONFIG)):
        try:
            contents[name] = read_file(folder / name)
        except FileNotFoundError as error:
            raise CharEmbedError(f"{folder} is not a complete model folder: {name} missing") from error
    return contents


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file, which the configuration of a folder states."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def check_digests(config: dict[str, Any], files: Mapping[str, bytes], path: Path) -> None:
    """Check that all files are those that were written together with a configuration.

    Args:
        config: the content of the configuration. Earlier versions of charembed did not store digests.
        files: contents of the files by name; without the configuration.
        path: path of the configuration, for error messages.

    Raises:
        CharEmbedError: a file is another one, or the configuration has something else instead of digests.
    """
    expected = config.get(DIGESTS, {})
    if not isinstance(expected, dict):
        raise CharEmbedError(f"{path}: {DIGESTS} must be an object")
    for name, content in files.items():
        if name in expected and expected[name] != hashlib.sha256(content).hexdigest():
            raise CharEmbedError(
                f"{path.parent / name} is not the file that {path.name} was written with: its SHA-256 differs. The"
                " folder is damaged, or was being replaced while it was read"
            )


def stored_file(files: Mapping[str, bytes], source: str, name: str) -> bytes:
    """Return the content of a file that is not in a folder.

    Raises:
        CharEmbedError: there is no such file.
    """
    content = files.get(name)
    if not isinstance(content, bytes):
        raise CharEmbedError(f"{source} contains no complete model: {name} missing")
    return content


def check_projection(projection: Projection, sizes: Mapping[Part, int]) -> None:
    """Check that a projection is for vectors that a model has.

    Args:
        projection: the projection.
        sizes: number of dimensions of each part of the model's vectors.

    Raises:
        CharEmbedError: it is not.
    """
    of_parts = [size for part, size in sizes.items() if part in projection.parts]
    if not projection.parts or len(of_parts) < len(projection.parts) or projection.width != sum(of_parts):
        raise CharEmbedError(
            f"the projection is for vectors of {projection.width} dimensions with the parts"
            f" {', '.join(projection.parts) or '(unknown)'}, but the model's parts are"
            f" {', '.join(f'{part} ({size} dimensions)' for part, size in sizes.items())}"
        )


def build_model(
    architecture: CharLMConfig,
    directions: Sequence[Direction],
    weights: bytes,
    folder: Path,
) -> BiCharLM:
    """Return the model of a model folder with its weights, in evaluation mode.

    Args:
        architecture: what `parse_architecture` returned.
        directions: the directions of the model.
        weights: content of the weights file.
        folder: the model folder, for error messages.

    Raises:
        CharEmbedError: an impossible architecture, or weights that cannot be read or do not fit it.
    """
    try:
        tensors = read_torch_tensors(weights)
    except ValueError as error:
        raise CharEmbedError(f"{folder / WEIGHTS} cannot be read as safetensors: {error}") from error
    # Each layer has weights of its own: build no more layers than there can be.
    if architecture.num_layers > len(tensors):
        raise CharEmbedError(
            f"{folder / CONFIG} states {architecture.num_layers} layers, but {WEIGHTS} has {len(tensors)} tensors"
        )
    try:
        with shapes_only():  # the weights come from the file
            model = BiCharLM(architecture, directions)
    except (CharEmbedError, RuntimeError, TypeError, OverflowError) as error:
        raise CharEmbedError(f"{folder / CONFIG}: no model can have this architecture: {error}") from error
    try:
        # Weights stored as float16 are computed with in float32.
        tensors = check_weights(tensors, {name: tuple(t.shape) for name, t in named_weights(model).items()})
    except ValueError as error:
        raise CharEmbedError(f"{folder / WEIGHTS}: {error}") from error
    for direction in model.directions:
        model.direction(direction).load_state_dict(tensors_under(f"{direction}.", tensors), assign=True)
    return model.eval()


def named_weights(model: BiCharLM) -> dict[str, Tensor]:
    """Return all weights of a model by the names they have in the weights file."""
    return {
        f"{direction}.{name}": tensor
        for direction in model.directions
        for name, tensor in model.direction(direction).state_dict().items()
    }
