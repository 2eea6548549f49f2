"""Read the weights of a tagger's network, and check that they fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.tagging.network import TaggerNetwork
from charembed.tagging.tag_layer import TagLayer
from charembed.util.tensor_files import check_weights, read_torch_tensors


def check_tags(layers: Sequence[TagLayer], tensors: Mapping[str, Tensor]) -> None:
    """Check that each layer of tags has the weights of its transitions, before a network of any size is built.

    Raises:
        CharEmbedError: it has not.
    """
    for number, layer in enumerate(layers):
        name, count = f"crfs.{number}.transitions", len(layer.tags)
        shape = tuple(tensors[name].shape) if name in tensors else "no tensor"
        if shape != (count, count):
            raise CharEmbedError(
                f"the weights must have {name} of shape {(count, count)} for {count} tags, got {shape}"
            )


def read_weights(content: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of weights.

    Args:
        content: content of the file.
        path: path of the file, for error messages.

    Raises:
        CharEmbedError: the content is not that of a safetensors file.
    """
    try:
        return read_torch_tensors(content)
    except ValueError as error:
        raise CharEmbedError(f"{path} cannot be read as safetensors: {error}") from error


def load_weights(network: TaggerNetwork, tensors: dict[str, Tensor], path: Path) -> None:
    """Load the weights of a network.

    Args:
        network: the network.
        tensors: the tensors of the file of weights.
        path: path of the file, for error messages.

    Raises:
        CharEmbedError: they do not fit the network.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    try:
        weights = check_weights(tensors, shapes)
    except ValueError as error:
        raise CharEmbedError(f"{path}: {error}") from error
    if not weights["scale"] > 0:
        raise CharEmbedError(f"{path}: scale must be positive, got {weights['scale'].item()}")
    network.load_state_dict(weights, assign=True)
