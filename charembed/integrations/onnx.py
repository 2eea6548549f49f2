"""Export language models as ONNX graphs that run without charembed or PyTorch."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from charembed.embedding.embedder import CharEmbedder
from charembed.embedding.reduction import stored_projection
from charembed.embedding.vector_layout import VectorLayout
from charembed.errors import CharEmbedError
from charembed.lm.model import DIRECTIONS
from charembed.onnx_graphs import GraphPrecision, language_model_graph
from charembed.onnx_graphs.runtime import import_onnxruntime
from charembed.pretrained.model_files import CARD, CONFIG, PROJECTION, STATIC, TOKENIZER, read_config
from charembed.pretrained.model_folder import Pretrained
from charembed.pretrained.parts import Part
from charembed.projection import Projection
from charembed.tagging.onnx_export import EXPORT_FILES as TAGGER_EXPORT_FILES
from charembed.util.checks import check_choice
from charembed.util.files import atomic_folder, check_contains_only, user_path
from charembed.util.reading import parse_json
from charembed.version import __version__

EXAMPLE = "embed.py"
_VERSION_KEY = "charembed_onnx_version"
_SENTENCE_LENGTHS = (1, 40, 80)
"""Numbers of words in the sentences with which an export is checked."""
_MAX_DIFFERENCE, _MIN_COSINE = 1e-4, 0.99
"""Allowed deviation from PyTorch's vectors: in float32 for each value, in int8 for each vector. A larger deviation is
an error of the export, not rounding."""


@dataclass(frozen=True)
class OnnxExport:
    """An export and the deviation of its states from those that PyTorch computes in float32."""

    folder: Path
    """Folder of the export."""
    difference: float
    """Largest absolute difference of a value."""
    cosine: float
    """Smallest cosine similarity of a vector."""
    megabytes: float
    """Size of the graphs and the static vectors."""


def export_onnx(
    pretrained: Pretrained,
    folder: str | os.PathLike[str],
    precision: GraphPrecision = "float32",
    *,
    dim: int | None = None,
) -> OnnxExport:
    """Write the graphs of all directions, the static vectors if there are any, and an example that uses them.

    Before an existing export is replaced, the example embeds random text made of the model's characters, and its
    vectors must match PyTorch's. int8 weights have seven bits, so that sums of products overflow on no CPU. int8 LSTMs
    use an operator of ONNX Runtime; everything else is standard ONNX (opset 17).

    Args:
        pretrained: the language models.
        folder: folder to write; an existing export is replaced.
        precision: precision of the products with recurrent weights.
        dim: number of dimensions to which the example reduces vectors, by the projection of the model; None for all.

    Raises:
        CharEmbedError: the folder has other content, the model has no projection to `dim` dimensions, or the graphs do
            not compute the right vectors on this machine; nothing is written in either case.
        MissingExtraError: onnx or onnxruntime is not installed.
        OSError: the folder cannot be written.
    """
    target = export_target(folder, precision)
    projection = None if dim is None else stored_projection(pretrained, pretrained.parts, dim)
    # An exception inside this block discards the new folder and leaves an existing one.
    with atomic_folder(target) as new:
        export = write_language_models(pretrained, new, target, precision, projection=projection)
        (new / CARD).write_text(_card(export, precision, pretrained, dim), encoding="utf-8")
    return export


def write_language_models(
    pretrained: Pretrained,
    folder: Path,
    target: Path,
    precision: GraphPrecision,
    *,
    parts: Sequence[Part] | None = None,
    projection: Projection | None = None,
) -> OnnxExport:
    """Write what the vectors of words need, and compare the vectors with PyTorch's.

    Args:
        pretrained: the language models.
        folder: empty folder to write to.
        target: folder that it will become.
        precision: precision of the products with recurrent weights.
        parts: parts of which a vector consists; None for all that the model has.
        projection: reduces the vectors; None for none.

    Raises:
        CharEmbedError: the graphs do not compute the right vectors on this machine.
    """
    layout = VectorLayout.of(pretrained, parts)
    static = pretrained.static if layout.has_words else None
    pretrained = dataclasses.replace(pretrained, static=static, projection=None)
    for direction in layout.directions:
        graph = language_model_graph(pretrained.model.direction(direction), precision, weight_bits=7)
        (folder / f"{direction}.onnx").write_bytes(graph.SerializeToString())
    _write_settings(pretrained, layout, folder, precision, projection)
    example = importlib.resources.files("charembed.onnx_graphs").joinpath("example.py")
    (folder / EXAMPLE).write_bytes(example.read_bytes())
    # The example is checked as users will run it, so that an export that exists is one that works.
    export = _compare_with_pytorch(pretrained, layout, folder, target)
    _check_deviation(export, precision)
    return export


def export_target(folder: str | os.PathLike[str], precision: GraphPrecision) -> Path:
    """Return the folder of an export, after checking all that can be wrong before anything is computed.

    Args:
        folder: the folder that the user names: unused, empty or an earlier export of a model or tagger.
        precision: precision of the products with recurrent weights.

    Raises:
        CharEmbedError: an unknown precision, or a folder with content that is not an export.
        MissingExtraError: onnxruntime is not installed.
    """
    check_choice("precision", precision, get_args(GraphPrecision))
    import_onnxruntime("exporting to ONNX")
    target = user_path(folder).resolve()
    graphs = (f"{direction}.onnx" for direction in DIRECTIONS)
    check_contains_only(target, {*graphs, CONFIG, TOKENIZER, STATIC, PROJECTION, CARD, EXAMPLE, *TAGGER_EXPORT_FILES})
    if target.exists() and any(target.iterdir()) and not _is_export(target):
        raise CharEmbedError(f"{target} has content that is not an ONNX export of charembed: name another folder")
    return target


def _is_export(folder: Path) -> bool:
    try:
        config = parse_json(read_config(folder))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and _VERSION_KEY in config


def _write_settings(
    pretrained: Pretrained,
    layout: VectorLayout,
    folder: Path,
    precision: GraphPrecision,
    projection: Projection | None,
) -> None:
    """Write what a program needs in addition to the graphs: settings, characters, static vectors, projection."""
    config = {
        _VERSION_KEY: 1,
        "charembed_version": __version__,
        "precision": precision,
        "embedding_dim": layout.dim if projection is None else projection.dim,
        "directions": layout.directions,
        "readout": pretrained.readout,
        "delimiter": pretrained.delimiter,
        "static_vectors": pretrained.static is not None,
        "provenance": pretrained.provenance,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    # Lone surrogates, which UTF-8 cannot represent, become JSON's own escapes.
    (folder / CONFIG).write_text(text, encoding="utf-8", errors="backslashreplace")
    pretrained.vocab.save(folder / TOKENIZER)
    if pretrained.static is not None:
        (folder / STATIC).write_bytes(pretrained.static.to_bytes())
    if projection is not None:
        (folder / PROJECTION).write_bytes(projection.to_bytes("float16"))


def _compare_with_pytorch(pretrained: Pretrained, layout: VectorLayout, folder: Path, target: Path) -> OnnxExport:
    """Run the example on random sentences and compare its vectors with those that PyTorch computes.

    They are compared before they are reduced, so that no component can hide a deviation.
    """
    # This imports onnxruntime at once, like the code of users.
    from charembed.onnx_graphs.example import embed_all_dimensions

    # A character that no model knows is among the others.
    characters = [*pretrained.vocab.characters, "\N{LINEAR B SYLLABLE B008 A}"]
    generator = random.Random(1)
    sentences = [
        ["".join(generator.choices(characters, k=generator.randint(1, 12))) for _ in range(length)]
        for length in _SENTENCE_LENGTHS
    ]
    results = CharEmbedder(pretrained, "cpu", "torch", parts=layout.parts).embed(sentences)
    expected = np.concatenate([result.vectors for result in results])
    vectors = np.concatenate([embed_all_dimensions(folder, words) for words in sentences])
    # Static vectors are the same numbers here and there. They must not hide a deviation of the states.
    width = len(layout.directions) * pretrained.model.config.output_size
    if not np.allclose(vectors[:, width:], expected[:, width:], rtol=1e-5, atol=1e-7):
        raise CharEmbedError("the example does not find the static vectors of this model; please report this")
    expected, vectors = expected[:, :width], vectors[:, :width]
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(vectors, axis=1)
    cosines = (expected * vectors).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    if not width:  # static vectors alone
        return OnnxExport(target, 0.0, 1.0, export_megabytes(folder))
    return OnnxExport(target, float(np.abs(vectors - expected).max()), float(cosines.min()), export_megabytes(folder))


def export_megabytes(folder: Path) -> float:
    """Return the size of the graphs and static vectors of an export."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.name.endswith((STATIC, ".onnx"))) / 1e6


def _check_deviation(export: OnnxExport, precision: GraphPrecision) -> None:
    """
    Raises:
        CharEmbedError: the deviation from PyTorch is larger than rounding explains.
    """
    exact = precision == "float32"
    if not (export.difference <= _MAX_DIFFERENCE if exact else export.cosine >= _MIN_COSINE):
        raise CharEmbedError(
            "the exported graphs do not compute this model's vectors on this machine: largest difference"
            f" {export.difference:.1e}, smallest cosine {export.cosine:.4f}. Nothing was written; please report this"
        )


def _card(export: OnnxExport, precision: GraphPrecision, pretrained: Pretrained, dim: int | None) -> str:
    """Return the README.md of an export."""
    static = ""
    if pretrained.static is not None:
        static = f", of which the last {pretrained.static.dim} are the static vector of the word in `{STATIC}`"
    reduced = "" if dim is None else f" `{PROJECTION}` reduces it to {dim} (`embed` in `{EXAMPLE}`)."
    return f"""# Contextual character embeddings as ONNX graphs

Written by `charembed export-onnx` (version {__version__}) with precision {precision}; {export.megabytes:.1f} MB.
`{EXAMPLE}` embeds a sentence with NumPy and ONNX Runtime only:

    python {EXAMPLE} . The words of a sentence

A vector has {VectorLayout.of(pretrained).dim} dimensions{static}.{reduced} During the export, the states at
{sum(_SENTENCE_LENGTHS)} random words were compared with PyTorch's: the largest difference of a value was
{export.difference:.1e}, and the smallest cosine similarity was {export.cosine:.6f}.

Inputs of each graph:

- `ids` (characters, batch), int64: the ids of the characters in `tokenizer.json`, 0 for an unknown character.
- `hidden_0`, … and for LSTMs `cell_0`, … (batch, hidden size): the initial state of each layer: zeros, or the state
  that an earlier call returned.
- `places` (outputs,), int64: the positions whose vectors are returned: character · batch size + index in the batch.

Outputs: `vectors` (outputs, dimensions), and the state after the last character, `next_hidden_0`, …
"""
