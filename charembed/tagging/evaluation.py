"""Score a trained tagger on a labelled file."""

from __future__ import annotations

import logging
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.tagging.labelled_text import Columns, LabelledSentence, read_labelled
from charembed.tagging.metrics import LayerScores, score_layer
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagger import Tagger

logger = logging.getLogger(__name__)


def evaluate_tagger(tagger: Tagger, path: str | Path, columns: Columns | None = None) -> dict[str, LayerScores]:
    """Return the scores of a tagger on the sentences of a labelled file, by layer.

    Args:
        tagger: the tagger.
        path: the labelled file.
        columns: columns of the words and tags. If they name no layers and the tagger has one, the file's only layer is
            that one, whatever its name.

    Raises:
        CharEmbedError: a wrong line, a layer that the file or the tagger lacks, or a tag that the tagger does not know.
        OSError: the file cannot be read.
    """
    columns = columns or Columns()
    if columns.tags == {}:
        raise CharEmbedError("tag_columns must name at least one layer")
    if columns.tags is None and len(tagger.layers) > 1:
        names = ", ".join(layer.name for layer in tagger.layers)
        raise CharEmbedError(f"the tagger has the layers {names}: set tag_columns to their columns in {path}")
    kinds = {layer.name: layer.kind for layer in tagger.layers}
    file = read_labelled(path, columns, kinds)
    for note in file.notes:
        logger.info("%s", note)
    sentences = [sentence for sentence in file.sentences if sentence.words]
    predicted = tagger.predict([sentence.text for sentence in sentences])
    scores = {}
    for name in file.kinds:
        layer = _layer(tagger, name)
        _check_tags(layer, name, sentences, path)
        scores[layer.name] = score_layer(
            layer.kind,
            [text.tags[layer.name] for text in predicted],
            [sentence.tags[name] for sentence in sentences],
        )
    return scores


def _layer(tagger: Tagger, name: str) -> TagLayer:
    for layer in tagger.layers:
        if layer.name == name:
            return layer
    names = ", ".join(layer.name for layer in tagger.layers)
    raise CharEmbedError(f"the tagger has no layer {name!r}: its layers are {names}")


def _check_tags(layer: TagLayer, name: str, sentences: list[LabelledSentence], path: str | Path) -> None:
    """
    Raises:
        CharEmbedError: a tag that the tagger does not know, which would only lower the score.
    """
    unknown = sorted({tag for sentence in sentences for tag in sentence.tags[name]} - set(layer.tags))
    if unknown:
        raise CharEmbedError(
            f"{path} has {', '.join(unknown[:5])}, which the tagger does not know: its labels are"
            f" {', '.join(layer.labels)}; check the columns, or train a tagger on such tags"
        )
