"""Receives a trained pair; hands on a folder that ONNX Runtime runs without charembed or PyTorch."""

from __future__ import annotations

import importlib.resources
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from charembed.embedding.embedder import CharEmbedder
from charembed.errors import CharEmbedError, import_extra
from charembed.lm.model import DIRECTIONS
from charembed.onnx_graphs import GraphPrecision, language_model_graph
from charembed.pretrained.model_files import CARD, CONFIG, TOKENIZER
from charembed.pretrained.model_folder import Pretrained
from charembed.util.checks import check_choice
from charembed.util.files import atomic_folder, check_contains_only, user_path
from charembed.version import __version__

EXAMPLE = "embed.py"
_VERSION_KEY = "charembed_onnx_version"
_LARGEST_DIFFERENCE, _LEAST_COSINE = 1e-4, 0.99
"""From the vectors of PyTorch: of a number in float32, of a vector in int8. More is an error, not rounding."""


@dataclass(frozen=True)
class OnnxExport:
    """What was written, and how near it is."""

    folder: Path
    difference: float
    """Largest one between a number of a vector and that of PyTorch, in float32."""
    cosine: float
    """Least one between a vector and that of PyTorch, in float32."""
    megabytes: float
    """Of the graphs."""


def export_onnx(
    pretrained: Pretrained, folder: str | os.PathLike[str], precision: GraphPrecision = "float32"
) -> OnnxExport:
    """Write graphs of both directions with all that is needed to run them, and an example that does.

    The example embeds some text made of the model's characters before anything is put in its place: it must give the
    vectors that PyTorch gives. In int8 weights have seven bits, which any CPU adds up without overflow; LSTMs are then
    ONNX Runtime's own operator, everything else is standard ONNX (opset 17).

    Args:
        pretrained: the models.
        folder: where to; an export that is there is replaced.
        precision: of the products with recurrent weights.

    Raises:
        CharEmbedError: the folder holds anything else, or the graphs do not give the right vectors here; nothing is
            written.
        MissingExtraError: onnx or onnxruntime is not installed.
        OSError: it cannot be written.
    """
    check_choice("precision", precision, get_args(GraphPrecision))
    for package in ("onnx", "onnxruntime"):
        import_extra(package, extra="onnx", purpose="exporting to ONNX")
    target = user_path(folder).resolve()
    directions = pretrained.model.directions
    check_contains_only(target, {*(f"{name}.onnx" for name in DIRECTIONS), CONFIG, TOKENIZER, CARD, EXAMPLE})
    if target.exists() and any(target.iterdir()) and not _is_export(target):
        raise CharEmbedError(f"{target} holds something else than an export of charembed: name another folder")
    with atomic_folder(target) as new:
        for direction in directions:
            graph = language_model_graph(pretrained.model.direction(direction), precision, weight_bits=7)
            (new / f"{direction}.onnx").write_bytes(graph.SerializeToString())
        config = {
            _VERSION_KEY: 1,
            "charembed_version": __version__,
            "precision": precision,
            "embedding_dim": pretrained.model.embedding_dim,
            "directions": directions,
            "readout": pretrained.readout,
            "delimiter": pretrained.delimiter,
            "provenance": pretrained.provenance,
        }
        (new / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        pretrained.vocab.save(new / TOKENIZER)
        (new / EXAMPLE).write_bytes(
            importlib.resources.files("charembed.onnx_graphs").joinpath("example.py").read_bytes()
        )
        done = _checked(pretrained, new, target)
        right = done.difference <= _LARGEST_DIFFERENCE if precision == "float32" else done.cosine >= _LEAST_COSINE
        if not right:
            raise CharEmbedError(
                f"the exported graphs do not give this model's vectors on this machine: they differ by"
                f" {done.difference:.1e}, cosine {done.cosine:.4f}. Nothing is written; please report it"
            )
        (new / CARD).write_text(_card(done, precision, pretrained), encoding="utf-8")
    return done


def _is_export(folder: Path) -> bool:
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and _VERSION_KEY in config


def _checked(pretrained: Pretrained, folder: Path, target: Path) -> OnnxExport:
    """What the example gives, beside what PyTorch gives."""
    from charembed.onnx_graphs.example import embed  # which imports onnxruntime at once, as users' code does

    chance = random.Random(1)
    characters = [*pretrained.vocab.characters, "\N{LINEAR B SYLLABLE B008 A}"]
    sentences = [
        ["".join(chance.choices(characters, k=chance.randint(1, 12))) for _ in range(words)] for words in (1, 40, 80)
    ]
    wanted = CharEmbedder(pretrained, device="cpu", engine="torch").embed(sentences)
    exact = np.concatenate([found.vectors for found in wanted])
    found = np.concatenate([embed(folder, words) for words in sentences])
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(found, axis=1)
    cosines = (exact * found).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    size = sum(path.stat().st_size for path in folder.glob("*.onnx")) / 1e6
    return OnnxExport(target, float(np.abs(found - exact).max()), float(cosines.min()), size)


def _card(done: OnnxExport, precision: GraphPrecision, pretrained: Pretrained) -> str:
    return f"""# Contextual character embeddings as ONNX graphs

Written by `charembed export-onnx` ({__version__}), in {precision}, {done.megabytes:.1f} MB. `{EXAMPLE}` embeds a
sentence with NumPy and ONNX Runtime alone:

    python {EXAMPLE} . The words of a sentence

A vector is {pretrained.model.embedding_dim} numbers wide. When this was written, the vectors of 121 words made of the
model's characters were at most {done.difference:.1e} away from PyTorch's in a number; the least cosine was
{done.cosine:.6f}.

Inputs of each graph: `ids` (characters, readings), int64, by `tokenizer.json`, 0 for a character that is not in it;
the state to start from, zeros or what an earlier call gave: `hidden_0`, … and of LSTMs `cell_0`, … (readings, hidden
size); `places` (wanted,), int64, where vectors are wanted: character · readings + reading. Outputs: `vectors` (wanted,
width) and the state after the last character, `next_hidden_0`, …
"""
