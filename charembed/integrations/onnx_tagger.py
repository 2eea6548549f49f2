"""Export taggers as ONNX graphs that run without charembed or PyTorch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from charembed.integrations.onnx import (
    EXAMPLE,
    export_megabytes,
    export_target,
    write_language_models,
)
from charembed.onnx_graphs import GraphPrecision
from charembed.pretrained.card_text import code
from charembed.pretrained.model_files import CARD
from charembed.tagging.onnx_export import GRAPH, SETTINGS, TAGGER_EXAMPLE, write_network
from charembed.tagging.tagger import Tagger
from charembed.util.files import atomic_folder
from charembed.version import __version__


@dataclass(frozen=True)
class TaggerOnnxExport:
    """An export of a tagger and its deviation from what PyTorch computes in float32."""

    folder: Path
    """Folder of the export."""
    difference: float
    """Largest absolute difference of a value of a word vector."""
    cosine: float
    """Smallest cosine similarity of a word vector."""
    emission_difference: float
    """Largest difference of the score of a tag, computed from the same word vectors, as a share of the largest score
    if that is more than 1."""
    megabytes: float
    """Size of the graphs and the static vectors."""


def export_tagger_onnx(
    tagger: Tagger, folder: str | os.PathLike[str], precision: GraphPrecision = "float32"
) -> TaggerOnnxExport:
    """Write the graphs of a tagger's language models and network, and an example that tags sentences with them.

    Before an existing export is replaced, word vectors and scores of tags are compared with PyTorch's, as for
    `charembed.integrations.onnx.export_onnx`.

    Args:
        tagger: the tagger.
        folder: folder to write; an existing export is replaced.
        precision: precision of the language models' products with recurrent weights. The network of the tagger, which
            is small, always computes in float32.

    Raises:
        CharEmbedError: the folder has other content, or the graphs do not compute the right scores on this machine;
            nothing is written in either case.
        MissingExtraError: onnx or onnxruntime is not installed.
        OSError: the folder cannot be written.
    """
    target = export_target(folder, precision)
    embedder = tagger.embedder
    # An exception inside this block discards the new folder and leaves an existing one.
    with atomic_folder(target) as new:
        models = write_language_models(
            embedder.pretrained, new, target, precision, parts=embedder.parts, projection=embedder.projection
        )
        difference = write_network(tagger, new)
        export = TaggerOnnxExport(target, models.difference, models.cosine, difference, export_megabytes(new))
        (new / CARD).write_text(_card(export, precision, tagger), encoding="utf-8", errors="backslashreplace")
    return export


def _card(export: TaggerOnnxExport, precision: GraphPrecision, tagger: Tagger) -> str:
    """Return the README.md of an export."""
    layers = "\n".join(f"- {code(layer.name)}: {', '.join(map(code, layer.labels))}" for layer in tagger.layers)
    return f"""# Tagger as ONNX graphs

Written by `charembed export-onnx` (version {__version__}) with precision {precision}; {export.megabytes:.1f} MB.
`{TAGGER_EXAMPLE}` tags a sentence with NumPy and ONNX Runtime only:

    python {TAGGER_EXAMPLE} . The words of a sentence

Layers of tags:

{layers}

During the export, word vectors and scores of tags were compared with PyTorch's. Word vectors: the largest difference of
a value was {export.difference:.1e}, and the smallest cosine similarity was {export.cosine:.6f}. Scores of tags for the
same word vectors: the largest difference was {export.emission_difference:.1e}.

`{EXAMPLE}` computes the vectors of words with the graphs of the language models. `{GRAPH}` reads them:

- `vectors` (words, {tagger.network.config.input_size}), float32: the vectors of the words of one sentence.

It returns `emissions_0`, … (words, tags), the scores of the tags of each layer. `{SETTINGS}` has the tags and, for each
layer, the scores of the first tag (`start`), of each tag after each tag (`transitions`, the earlier one first) and of
the last tag (`end`). The best tags have the largest sum of scores (`viterbi` in `{TAGGER_EXAMPLE}`).
"""
