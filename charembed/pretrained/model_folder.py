"""Save and load trained models as model folders; docs/reference/model-folder.md specifies the format."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
import torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.lm.model import DIRECTIONS, BiCharLM, CharLMConfig, Readout
from charembed.pretrained.hub import model_not_found, resolve_folder
from charembed.pretrained.model_card import model_card
from charembed.pretrained.model_files import (
    CARD,
    CONFIG,
    DIGESTS,
    FILES,
    FORMAT_VERSION,
    PROJECTION,
    STATIC,
    TOKENIZER,
    WEIGHTS,
    build_model,
    check_digests,
    check_projection,
    digests,
    named_weights,
    optional_files,
    parse_architecture,
    parse_config,
    read_config,
    read_model_files,
    stored_file,
)
from charembed.pretrained.parts import Part
from charembed.pretrained.word_scale import join_static
from charembed.projection import Projection
from charembed.static_vectors import StaticVectors
from charembed.text.vocab import CharVocab
from charembed.util.checks import check_choice, shown
from charembed.util.devices import check_device
from charembed.util.files import atomic_folder, check_contains_only, user_path
from charembed.util.folder_reading import read_unchanged, wait_for_folder
from charembed.version import __version__

StoredType = Literal["float32", "float16"]


@dataclass
class Pretrained:
    """A trained model with its vocabulary and settings: the content of a model folder."""

    model: BiCharLM
    """The language models of both directions, or of one."""
    vocab: CharVocab
    """The characters that the models know."""
    readout: Readout = "word"
    """Where the states of a word are read: "word" for its own last and first character, "separator" for the characters
    just outside it."""
    delimiter: str = "\n"
    """Text of at least one character that both models read before each text, so that an empty first word has states."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the weights come from: corpus, characters seen, bits per character and so on. JSON values."""
    static: StaticVectors | None = None
    """Static vectors of words, which follow the states in a word's vector; None for a model without them."""
    projection: Projection | None = None
    """Reduces word vectors to fewer dimensions, if a `CharEmbedder` is asked for them."""

    def __post_init__(self) -> None:
        check_choice("readout", self.readout, get_args(Readout))
        if not self.delimiter or any("\ud800" <= character <= "\udfff" for character in self.delimiter):
            raise CharEmbedError(f"delimiter must be text of at least one character, got {shown(self.delimiter)}")
        if self.projection is not None:
            check_projection(self.projection, self.part_sizes)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that word vectors can consist of, in their order."""
        return (*self.model.directions, *(() if self.static is None else ("words",)))

    @property
    def part_sizes(self) -> dict[Part, int]:
        """Number of dimensions of each part, in the order of the parts."""
        sizes: dict[Part, int] = dict.fromkeys(self.parts, self.model.config.output_size)
        if self.static is not None:
            sizes["words"] = self.static.dim
        return sizes

    def digest(self) -> str:
        """Return a hash of everything that word vectors depend on: weights, vocabulary, readout settings, static
        vectors and projection."""
        # The provenance is left out: models that differ only in it have the same vectors.
        settings = [self.vocab.to_json(), self.readout, self.delimiter, dataclasses.asdict(self.model.config)]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for name, tensor in named_weights(self.model).items():
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        # Models without static vectors and projection keep the hash that earlier versions have stored.
        if self.static is not None:
            digest.update(self.static.digest().encode())
        if self.projection is not None:
            digest.update(self.projection.to_bytes("float16"))
        return digest.hexdigest()

    def save(
        self, folder: str | os.PathLike[str], dtype: StoredType = "float32", address: str = "path/to/this/folder"
    ) -> None:
        """Write the model folder atomically. An existing model folder is replaced.

        Args:
            folder: path of the folder.
            dtype: type of the stored weights. "float16" halves the size; computations use float32 in either case.
            address: name from which the example on the model card loads the model.

        Raises:
            CharEmbedError: the folder exists and contains anything else, or weights exceed the range of float16.
            OSError: the folder cannot be written; an existing one is left unchanged.
        """
        target = user_path(folder).resolve()
        check_replaceable(target)
        with atomic_folder(target) as new:
            for name, content in self.files(address=address, dtype=dtype).items():
                (new / name).write_bytes(content)

    def files(self, address: str = "path/to/this/folder", dtype: StoredType = "float32") -> dict[str, bytes]:
        """Return the files of the model folder by name, the model card last.

        Args:
            address: name from which the example on the model card loads the model.
            dtype: type of the stored weights.

        Raises:
            CharEmbedError: weights exceed the range of float16.
        """
        check_choice("dtype", dtype, get_args(StoredType))
        optional = {} if self.static is None else {STATIC: self.static.to_bytes()}
        if self.projection is not None:
            optional[PROJECTION] = self.projection.to_bytes("float16")
        content = {
            TOKENIZER: self.vocab.to_json().encode(),
            WEIGHTS: safetensors.torch.save(_stored_weights(self.model, dtype)),
            **optional,
        }
        return {
            # Lone surrogates, which UTF-8 cannot represent, become JSON's own escapes.
            CONFIG: (self._config_json(content) + "\n").encode("utf-8", "backslashreplace"),
            **content,
            CARD: model_card(self.model, self.provenance, address, self.static, self.projection).encode(
                errors="backslashreplace"
            ),
        }

    def _config_json(self, files: Mapping[str, bytes]) -> str:
        config = {
            "format_version": FORMAT_VERSION,
            "charembed_version": __version__,
            "architecture": dataclasses.asdict(self.model.config),
            "directions": list(self.model.directions),
            "readout": self.readout,
            "delimiter": self.delimiter,
            "static_vectors": self.static is not None,
            "projection": self.projection is not None,
            DIGESTS: digests(files),
            "provenance": self.provenance,
        }
        return json.dumps(config, indent=2, ensure_ascii=False)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: torch.device | str = "cpu") -> Pretrained:
        """Load a model. Nothing in its folder is ever unpickled.

        Args:
            folder: path of a model folder, name of a bundled model, or `hf://owner/name` for a model on the Hugging
                Face Hub.
            device: device for the weights.

        Raises:
            CharEmbedError: no such model, a missing or damaged file, a newer format, or weights that do not fit.
        """
        path = resolve_folder(folder)
        device = check_device(device)
        # Another process may be replacing the folder, or was killed while it did so.
        wait_for_folder(path)
        if not os.path.isdir(path):
            raise model_not_found(folder)
        pretrained = cls._from_contents(read_unchanged(path, partial(_read, path)), path)
        pretrained.model.to(device)
        return pretrained

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], source: str) -> Pretrained:
        """Load a model from the result of `files`.

        Args:
            files: contents by file name.
            source: where they come from, for error messages.

        Raises:
            CharEmbedError: as for `load`.
        """
        # The files may come from a damaged pipeline, in which anything can take their place.
        contents = files if isinstance(files, Mapping) else {}
        missing = [name for name in (CONFIG, TOKENIZER, WEIGHTS) if not isinstance(contents.get(name), bytes)]
        if missing:
            raise CharEmbedError(f"{source} contains no model: {', '.join(missing)} missing")
        return cls._from_contents(contents, Path(source))

    @classmethod
    def _from_contents(cls, files: Mapping[str, bytes], path: Path) -> Pretrained:
        """
        Args:
            files: contents by file name.
            path: the model folder, for error messages.
        """
        config = parse_config(files[CONFIG], path / CONFIG)
        vocab = CharVocab.from_json(files[TOKENIZER], source=str(path / TOKENIZER))
        architecture = parse_architecture(config, path / CONFIG)
        if architecture.vocab_size != len(vocab):
            raise CharEmbedError(
                f"{path}: {CONFIG} states {architecture.vocab_size} characters, but {TOKENIZER} has {len(vocab)}"
            )
        contents = {name: stored_file(files, str(path), name) for name in optional_files(config, path / CONFIG)}
        static = StaticVectors.from_bytes(contents[STATIC], str(path / STATIC)) if STATIC in contents else None
        projection = None
        if PROJECTION in contents:
            projection = Projection.from_bytes(contents[PROJECTION], str(path / PROJECTION))
        model = build_model(architecture, config.get("directions", DIRECTIONS), files[WEIGHTS], path)
        # The constructor checks its arguments, but does not know the file they come from.
        try:
            pretrained = cls(model, vocab, config["readout"], config["delimiter"], config["provenance"], static)
        except CharEmbedError as error:
            raise CharEmbedError(f"{path / CONFIG}: {error}") from error
        try:
            pretrained = dataclasses.replace(pretrained, projection=projection)
        except CharEmbedError as error:
            raise CharEmbedError(f"{path / PROJECTION}: {error}") from error
        # Last, because an error that says what is wrong with a file helps more than one that says that it is wrong.
        check_digests(config, {name: files[name] for name in (TOKENIZER, WEIGHTS, *contents)}, path / CONFIG)
        return pretrained


def read_architecture(folder: str | os.PathLike[str]) -> CharLMConfig:
    """Return the architecture of a model without loading its weights.

    Args:
        folder: path or name of the model, as for `Pretrained.load`.

    Raises:
        CharEmbedError: not a model folder, or a damaged one.
    """
    path = resolve_folder(folder) / CONFIG
    if not path.is_file():
        raise CharEmbedError(f"{path.parent} is not a model folder: {CONFIG} missing")
    return parse_architecture(parse_config(read_config(path.parent), path), path)


def join(forward: Pretrained, backward: Pretrained) -> Pretrained:
    """Combine two models that were trained in one direction each, with the same vocabulary and architecture.

    Args:
        forward: model with a forward direction.
        backward: model with a backward direction.

    Returns:
        A model with both directions, which shares the weights with the two models, with their static vectors, if they
        have any, and with a projection if both have the same. Static vectors may differ in their scale: the joined ones
        have a scale between the two.

    Raises:
        CharEmbedError: a direction is missing, or the models differ in anything but their direction.
    """
    static = join_static(forward.static, backward.static)
    # Each direction must read the same ids at the same positions, or the halves of a vector would not fit together.
    for name in ("vocab", "readout", "delimiter"):
        if getattr(forward, name) != getattr(backward, name):
            raise CharEmbedError(f"the two models cannot be joined: they differ in their {name}")
    if forward.model.config != backward.model.config:
        raise CharEmbedError("the two models cannot be joined: they differ in their architecture")
    pair = BiCharLM(forward.model.config)
    pair.forward_lm = forward.model.direction("forward")
    pair.backward_lm = backward.model.direction("backward")
    provenance = {"forward": forward.provenance, "backward": backward.provenance}
    first, second = forward.projection, backward.projection
    same = first is not None and second is not None and first.to_bytes() == second.to_bytes()
    return Pretrained(
        pair, forward.vocab, forward.readout, forward.delimiter, provenance, static, first if same else None
    )


def check_replaceable(target: Path) -> None:
    """Check that a path is unused, an empty folder or a model folder of charembed, so that saving there is safe.

    Raises:
        CharEmbedError: the target is a file, or a folder with any other content.
    """
    check_contains_only(target, FILES)
    if target.exists() and any(target.iterdir()):
        try:
            parse_config(read_config(target), target / CONFIG)
        except (CharEmbedError, OSError) as error:
            raise CharEmbedError(
                f"{target} is not a model folder of charembed: name another folder ({error})"
            ) from error


def _read(path: Path) -> dict[str, bytes]:
    """Return the contents of the files of a model folder.

    Raises:
        CharEmbedError: a file is missing, or cannot be of a model.
    """
    # README.md is for people: a folder without it can be loaded.
    missing = [name for name in (CONFIG, TOKENIZER, WEIGHTS) if not (path / name).exists()]
    if missing:
        raise CharEmbedError(f"{path} is not a model folder: {', '.join(missing)} missing{_run_hint(path)}")
    return read_model_files(path)


def _stored_weights(model: BiCharLM, dtype: StoredType) -> dict[str, Tensor]:
    """Return the weights on the CPU in the type in which they are stored."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in named_weights(model).items()}
    if dtype == "float16":
        # Values beyond the range of float16 become infinite.
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise CharEmbedError("the model has weights that are too large for float16: store them as float32")
    return tensors


def _run_hint(path: Path) -> str:
    """Return the end of an error message that says where models are, if the folder is of a tagger or a training run."""
    if (path / "tagger.json").is_file():
        return f"; it is the folder of a tagger, whose language model is {path / 'language_model'}, or a bundled one"
    models = [str(path / name) for name in ("best", "last") if (path / name / CONFIG).is_file()]
    return f"; it is the folder of a training run, whose models are {' and '.join(models)}" if models else ""
