"""Write the network of a tagger as an ONNX graph, with an example that finds the best tags."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charembed.errors import CharEmbedError
from charembed.onnx_graphs.builder import GraphBuilder
from charembed.recurrent.translation import onnx_operator, onnx_weights
from charembed.tagging.decoding import TransitionScores
from charembed.tagging.network import TaggerNetwork
from charembed.tagging.tagger import Tagger
from charembed.version import __version__

GRAPH, SETTINGS, TAGGER_STATIC, TAGGER_EXAMPLE = (
    "tagger.onnx",
    "layers.json",
    "tagger_static_vectors.safetensors",
    "tag.py",
)
EXPORT_FILES = (GRAPH, SETTINGS, TAGGER_STATIC, TAGGER_EXAMPLE)
"""Files of an exported tagger besides those of its language models."""
_SENTENCE_LENGTHS = (1, 2, 40)
"""Numbers of words in the sentences with which an export is checked."""
_MAX_DIFFERENCE = 1e-4
"""Allowed deviation from PyTorch's emissions, as a share of the largest one if that is more than 1. A larger deviation
is an error of the export, not rounding."""


def network_graph(network: TaggerNetwork) -> Any:
    """Build the ONNX graph of a network, which reads one sentence. Its operators are standard ONNX (opset 17).

    The input is `vectors`, the vectors of the words. Shape: (words, input_size)

    The outputs are `emissions_0`, … for each layer of tags, in order: the score of each tag. Shape: (words, tags)

    Args:
        network: the network; its weights are copied.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    graph = GraphBuilder()
    centered = graph("Sub", "vectors", graph.constant(_array(network.center)))
    states = _linear(graph, network.projection, graph("Div", centered, graph.constant(_array(network.scale))))
    if network.lstm is not None:
        # ONNX's order is (words, batch, width) for the input and (words, directions, batch, width) for the output.
        operator, attributes = onnx_operator(network.lstm)
        weights = [graph.constant(array.astype(np.float32)) for array in onnx_weights(network.lstm).values()]
        sequence = graph("Unsqueeze", states, graph.constant(np.array([1])))
        output, *_ = graph(operator, sequence, *weights, outputs=3, **attributes)
        states = graph("Reshape", output, graph.constant(np.array([-1, network.lstm.output_size])))
    outputs = []
    for number, (head, layer) in enumerate(zip(network.heads, network.layers, strict=True)):
        graph.rename(_linear(graph, head, states), f"emissions_{number}")
        outputs.append(graph.value_info(f"emissions_{number}", ["words", len(layer.tags)]))
    return graph.model([graph.value_info("vectors", ["words", network.config.input_size])], outputs)


def write_network(tagger: Tagger, folder: Path) -> float:
    """Write the graph of a tagger's network, the scores of adjacent tags, static vectors and the example.

    Args:
        tagger: the tagger.
        folder: folder to write to.

    Returns:
        The largest difference between an emission and PyTorch's.

    Raises:
        CharEmbedError: the graph does not compute the right emissions on this machine.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    (folder / GRAPH).write_bytes(network_graph(tagger.network).SerializeToString())
    layers = []
    for layer, scores in zip(tagger.layers, _transition_scores(tagger.network), strict=True):
        arrays = {"start": scores.start, "transitions": scores.transitions, "end": scores.end}
        layers.append(
            {"name": layer.name, "kind": layer.kind, "tags": layer.tags}
            | {name: array.tolist() for name, array in arrays.items()}
        )
    settings = {"charembed_version": __version__, "layers": layers, "provenance": tagger.provenance}
    text = json.dumps(settings, ensure_ascii=False) + "\n"
    # Lone surrogates, which UTF-8 cannot represent, become JSON's own escapes.
    (folder / SETTINGS).write_text(text, encoding="utf-8", errors="backslashreplace")
    if tagger.static is not None:
        (folder / TAGGER_STATIC).write_bytes(tagger.static.to_bytes())
    example = importlib.resources.files("charembed.tagging").joinpath("onnx_example.py")
    (folder / TAGGER_EXAMPLE).write_bytes(example.read_bytes())
    return _compare_with_pytorch(tagger.network, folder)


def _compare_with_pytorch(network: TaggerNetwork, folder: Path) -> float:
    """Return the largest difference between the emissions of a graph and of PyTorch on random vectors.

    Raises:
        CharEmbedError: it is larger than rounding explains, or the example finds other tags.
    """
    # This imports onnxruntime at once, like the code of users.
    import onnxruntime

    from charembed.tagging.onnx_example import viterbi

    session = onnxruntime.InferenceSession((folder / GRAPH).read_bytes())
    generator = np.random.default_rng(1)
    center, scale = _array(network.center), float(network.scale)
    difference = 0.0
    for length in _SENTENCE_LENGTHS:
        noise = generator.standard_normal((length, network.config.input_size), np.float32)
        vectors: NDArray[np.float32] = center + np.float32(scale) * noise
        tensor = torch.from_numpy(vectors).to(network.center.device)
        with torch.inference_mode():
            expected, _ = network.eval().emissions([tensor])
        emissions = session.run(None, {"vectors": vectors})
        lattices = network.lattices([tensor])
        for lattice, scores, ours, theirs in zip(
            lattices, _transition_scores(network), emissions, map(_array, expected), strict=True
        ):
            largest = max(1.0, float(np.abs(theirs).max()))
            difference = max(difference, float(np.abs(ours - theirs[0]).max()) / largest)
            if viterbi(theirs[0], scores.start, scores.transitions, scores.end) != lattice.best_paths()[0]:
                raise CharEmbedError("the example does not find the tags of this tagger; please report this")
    if not difference <= _MAX_DIFFERENCE:
        raise CharEmbedError(
            "the exported graph does not compute this tagger's scores on this machine: largest difference"
            f" {difference:.1e}. Nothing was written; please report this"
        )
    return difference


def _transition_scores(network: TaggerNetwork) -> list[TransitionScores]:
    return [crf.transition_scores() for crf in network.fields]


def _linear(graph: GraphBuilder, layer: torch.nn.Module, tensor: str) -> str:
    """Add a linear layer and return the name of its output."""
    assert isinstance(layer, torch.nn.Linear)
    weight, bias = graph.constant(_array(layer.weight)), graph.constant(_array(layer.bias))
    return str(graph("Gemm", tensor, weight, bias, transB=1))


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array
