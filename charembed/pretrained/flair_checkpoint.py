"""Import language models of Flair from their checkpoints, without Flair and without executing anything in the files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.lm.model import DIRECTIONS, BiCharLM, CharLM, CharLMConfig, Direction, Readout, tensors_under
from charembed.pretrained.model_folder import Pretrained
from charembed.pretrained.pickle_reader import InstanceStub, quote_untrusted
from charembed.pretrained.torch_file import TorchFile, read_torch_file
from charembed.recurrent.translation import load_torch_weights
from charembed.text.vocab import CharVocab
from charembed.util.checks import shown
from charembed.util.files import user_path
from charembed.util.reading import read_file
from charembed.util.tensor_files import check_values

_CELLS: dict[str, dict[str, Any]] = {"lstm": {"cell": "lstm"}, "gru": {"cell": "gru", "reset_after": True}}
"""Flair's recurrences, which are those of PyTorch, as options of `CharLMConfig`."""
_SIZES = {"embedding_dim": "embedding_size", "hidden_size": "hidden_size", "num_layers": "nlayers"}
"""Sizes of `CharLMConfig`, and their names in Flair."""
_DICTIONARY = "flair.data.Dictionary"


def read_flair(
    forward: str | os.PathLike[str], backward: str | os.PathLike[str], readout: Readout = "separator"
) -> Pretrained:
    """Read a pair of language models of Flair: final models, checkpoints of a training run, or those in a tagger.

    Args:
        forward: File of the model that reads from left to right, or of a `SequenceTagger` that contains it.
        backward: File of the model that reads from right to left, or the same file of a tagger.
        readout: "separator" for the vectors of `FlairEmbeddings(with_whitespace=True)`, Flair's default; "word" for
            those of `with_whitespace=False`.

    Raises:
        CharEmbedError: A file is not a checkpoint of Flair, contains anything else, is damaged, or is of the other
            direction; or the two models do not match. Nothing in a file is executed.
        OSError: A file cannot be read.
    """
    models = {
        name: _FlairModel.read(user_path(path), name)
        for name, path in zip(DIRECTIONS, (forward, backward), strict=True)
    }
    # The two must be one of each direction, with the same architecture and delimiter. Only dropout may differ.
    for name, model in models.items():
        if model.direction != name:
            raise CharEmbedError(
                f"{model.path} is a {model.direction} model, expected the {name} model: name the forward model first"
            )
    first, second = models.values()
    second_config = dataclasses.replace(second.config, dropout=first.config.dropout)
    for a, b in ((first.config, second_config), (first.delimiter, second.delimiter)):
        if a != b:
            raise CharEmbedError(f"{first.path} and {second.path} do not belong together: {shown(a)} and {shown(b)}")
    # Their dictionaries may differ; the pair has one vocabulary with the characters of both.
    vocab = CharVocab(sorted(first.rows.keys() | second.rows.keys()))
    pair = BiCharLM(dataclasses.replace(first.config, vocab_size=len(vocab)))
    for name, model in models.items():
        model.copy_into(pair.direction(name), vocab)
    provenance = {"imported_from": "Flair"} | {name: model.provenance for name, model in models.items()}
    return Pretrained(pair.eval(), vocab, readout, first.delimiter, provenance)


@dataclass(frozen=True)
class _FlairModel:
    """Language model of one direction, as its file describes it."""

    path: Path
    """Path of the file."""
    direction: Direction
    """Direction in which it reads."""
    config: CharLMConfig
    """Architecture, without the size of the vocabulary."""
    delimiter: str
    """Text between documents."""
    rows: dict[str, int]
    """Row of each character in the embedding and decoder tables; row 0 is that of all other characters."""
    weights: dict[str, Tensor]
    """Weights by Flair's names, in float32."""
    provenance: dict[str, Any]
    """Name and SHA-256 of the file."""

    @classmethod
    def read(cls, path: Path, direction: Direction) -> _FlairModel:
        """Read a model from its file.

        Args:
            path: Path of the file.
            direction: Direction of the model, which decides between those of a tagger.

        Raises:
            CharEmbedError: The file is not a checkpoint of Flair, or its weights are not those of the model that it
                describes.
            OSError: The file cannot be read.
        """
        file = read_torch_file(path, [_DICTIONARY])
        digest = hashlib.sha256(read_file(path)).hexdigest()
        try:
            return cls._from_file(
                file, _language_model(file.content, direction), path, {"file": path.name, "sha256": digest}
            )
        except CharEmbedError as error:
            raise CharEmbedError(f"{path}: {error}") from error

    @classmethod
    def _from_file(cls, file: TorchFile, checkpoint: Any, path: Path, provenance: dict[str, Any]) -> _FlairModel:
        _check_fields(checkpoint)
        # The description of the model, with Flair's defaults for what older versions did not write.
        rows = _character_rows(checkpoint["dictionary"])
        config = CharLMConfig(
            **_CELLS[checkpoint.get("recurrent_type", "LSTM").lower()],
            **{name: checkpoint[flair_name] for name, flair_name in _SIZES.items()},
            proj_size=checkpoint.get("nout"),
            dropout=checkpoint.get("dropout", 0.0),
        )
        # The weights, which must be those of such a model.
        state_dict = checkpoint["state_dict"]
        if not isinstance(state_dict, dict) or not all(isinstance(name, str) for name in state_dict):
            raise CharEmbedError("its state_dict is not a dict of weights")
        weights = {name: file.tensor(value) for name, value in state_dict.items()}
        # Tensors may share storages, so that a small file describes a huge model.
        numbers = sum(tensor.numel() for tensor in weights.values())
        if numbers > file.elements:
            raise CharEmbedError(f"its weights are {numbers:,} numbers, but the file holds {file.elements:,}")
        _check_weights(weights, config, 1 + max(rows.values()))
        weights = {name: tensor.float() for name, tensor in weights.items()}
        for name, tensor in weights.items():
            try:
                check_values(name, tensor)
            except ValueError as error:
                raise CharEmbedError(str(error)) from error
        return cls(
            path=path,
            direction="forward" if checkpoint["is_forward_lm"] else "backward",
            config=config,
            delimiter=checkpoint.get("document_delimiter", "\n"),
            rows=rows,
            weights=weights,
            provenance=provenance,
        )

    @torch.no_grad()
    def copy_into(self, lm: CharLM, vocab: CharVocab) -> None:
        """Copy the weights into a model with another vocabulary."""
        # Row of the table for each id; the id of unknown characters is 0, like Flair's row.
        rows = torch.tensor([0, *(self.rows.get(character, 0) for character in vocab.characters)])
        lm.embedding.weight.copy_(self.weights["encoder.weight"][rows])
        load_torch_weights(lm.rnn, tensors_under("rnn.", self.weights))
        if lm.proj is not None:
            lm.proj.load_state_dict(tensors_under("proj.", self.weights))
        for name, weight in lm.decoder.named_parameters():
            # Flair drops the decoder of models that only embed: all characters are then equally likely.
            decoder_weight = self.weights.get(f"decoder.{name}")
            weight.copy_(torch.zeros_like(weight) if decoder_weight is None else decoder_weight[rows])


def _language_model(content: Any, direction: Direction) -> Any:
    """Return the checkpoint of a language model in the file of a tagger; the content of any other file as it is.

    Raises:
        CharEmbedError: The tagger has no such model, or several.
    """
    embeddings = content.get("embeddings") if isinstance(content, dict) else None
    if not isinstance(embeddings, dict):
        return content
    # A tagger has one kind of embeddings, or a list of them.
    stack = embeddings.get("embeddings")
    parts = {"embeddings.": embeddings}
    if isinstance(stack, list):
        parts = {f"embeddings.list_embedding_{number}.": part for number, part in enumerate(stack)}
    models = {
        f"{prefix}lm.": part["model_params"]
        for prefix, part in parts.items()
        if isinstance(part, dict) and isinstance(part.get("model_params"), dict)
    }
    chosen = [prefix for prefix in models if models[prefix].get("is_forward_lm") is (direction == "forward")]
    weights = content.get("state_dict")
    if len(chosen) != 1 or not isinstance(weights, dict):
        raise CharEmbedError(
            f"it is a tagger of Flair with {len(chosen) or 'no'} {direction} language models, expected one"
        )
    weights = {str(name).removeprefix(chosen[0]): weights[name] for name in weights if str(name).startswith(chosen[0])}
    return models[chosen[0]] | {"state_dict": weights}


def _check_fields(checkpoint: Any) -> None:
    """Check the fields of a checkpoint that describe the model, before anything is computed from them.

    Raises:
        CharEmbedError: A field is missing, or has a value of another type.
    """
    required = ("state_dict", "dictionary", "is_forward_lm", *_SIZES.values())
    missing = [name for name in required if not isinstance(checkpoint, Mapping) or name not in checkpoint]
    if missing:
        raise CharEmbedError(f"it is not a language model of Flair: it lacks {', '.join(missing)}")
    recurrence = checkpoint.get("recurrent_type", "LSTM")
    if not isinstance(recurrence, str) or recurrence.lower() not in _CELLS:
        raise CharEmbedError(f"its recurrent_type must be LSTM or GRU, got {quote_untrusted(recurrence)}")
    if type(checkpoint["is_forward_lm"]) is not bool:
        value = quote_untrusted(checkpoint["is_forward_lm"])
        raise CharEmbedError(f"its is_forward_lm must be True or False, got {shown(value)}")
    delimiter = checkpoint.get("document_delimiter", "\n")
    if not isinstance(delimiter, str) or not delimiter:
        raise CharEmbedError(f"its document_delimiter must be a non-empty string, got {quote_untrusted(delimiter)}")
    for name in (*_SIZES.values(), "nout", "dropout"):
        if not isinstance(checkpoint.get(name), (int, float, type(None))):
            raise CharEmbedError(f"its {name} must be a number, got {quote_untrusted(checkpoint[name])}")


def _check_weights(weights: Mapping[str, Tensor], config: CharLMConfig, min_rows: int) -> None:
    """Check the weights against the described model before it is created: the description may claim any size.

    Args:
        weights: Weights by Flair's names.
        config: Architecture that the file describes.
        min_rows: Number of rows that the embedding and decoder tables need for the dictionary.

    Raises:
        CharEmbedError: The weights are not those of this model.
    """
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise CharEmbedError(
                f"{quote_untrusted(name)} in its state_dict is {tensor.dtype}, expected floating point"
            )
    # The tables may have more rows than the dictionary has characters.
    table = weights.get("encoder.weight")
    rows = len(table) if table is not None and table.dim() else 0
    if rows < min_rows:
        raise CharEmbedError(f"encoder.weight has {rows} rows, too few for the dictionary")
    expected = _expected_shapes(config, rows, max_layers=len(weights))
    if "decoder.weight" in weights:
        expected |= {"decoder.weight": (rows, config.output_size), "decoder.bias": (rows,)}
    for problem, names in (("lacks", expected.keys() - weights.keys()), ("has unknown", weights.keys() - expected)):
        if names:
            raise CharEmbedError(f"it {problem} weights {', '.join(map(quote_untrusted, sorted(names)[:3]))}")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise CharEmbedError(f"{name} has shape {tuple(weights[name].shape)}, expected {shape}")


def _expected_shapes(config: CharLMConfig, rows: int, max_layers: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of a model by Flair's names, except those of the decoder.

    Args:
        config: Architecture of the model.
        rows: Number of rows of the embedding table.
        max_layers: Number of layers after which to stop, because a file may claim any number.
    """
    hidden, width = config.hidden_size, config.embedding_dim
    gates = 4 if config.cell == "lstm" else 3
    shapes: dict[str, tuple[int, ...]] = {"encoder.weight": (rows, width)}
    for layer in range(min(config.num_layers, max_layers)):
        shapes |= {f"rnn.weight_ih_l{layer}": (gates * hidden, hidden if layer else width)}
        shapes |= {f"rnn.weight_hh_l{layer}": (gates * hidden, hidden)}
        shapes |= {f"rnn.bias_{kind}_l{layer}": (gates * hidden,) for kind in ("ih", "hh")}
    if config.proj_size is not None:
        shapes |= {"proj.weight": (config.proj_size, hidden), "proj.bias": (config.proj_size,)}
    return shapes


def _character_rows(dictionary: object) -> dict[str, int]:
    """Return the row of each character. Longer items and items that are not valid UTF-8 are skipped, Flair never looks
    them up.

    Raises:
        CharEmbedError: It is not a dictionary of characters.
    """
    items = dictionary.attributes.get("item2idx") if isinstance(dictionary, InstanceStub) else None
    if not isinstance(items, dict):
        raise CharEmbedError(f"its dictionary is not a {_DICTIONARY} with an item2idx")
    rows = {}
    for item, row in items.items():
        if not isinstance(item, (bytes, str)) or type(row) is not int or row < 0:
            raise CharEmbedError(
                f"its dictionary maps {quote_untrusted(item)} to {quote_untrusted(row)}, expected text and a row"
            )
        try:
            text = item.decode() if isinstance(item, bytes) else item.encode().decode()
        except UnicodeError:
            continue
        if len(text) == 1:
            rows[text] = row
    if not rows or len(set(rows.values())) < len(rows):
        raise CharEmbedError("its dictionary contains no characters, or several with the same row")
    return rows
