"""The embedders of the comparison: charembed and Flair models, transformers, static word vectors, and combinations."""

from __future__ import annotations

import hashlib
import importlib.resources
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from charembed import CharEmbedder, CharEmbedError, Context
from charembed.embedding.engine_choice import EngineName
from charembed.embedding.options import EmbedderOptions
from charembed.errors import import_extra
from charembed.lm.model import BiCharLM, Readout
from charembed.pretrained.model_folder import Pretrained, join
from charembed.pretrained.parts import Part
from charembed.tagging.labelled_text import LabelledSentence
from charembed.tagging.splits import Splits
from charembed.text.words import TextInput

Vectors = list[NDArray[np.float32]]
"""Word vectors of each sentence. Shape: (words, dimensions) each"""
Reader = Callable[[list[LabelledSentence]], Vectors]
"""Function from the sentences of a file, in their order, to their vectors."""
BYTES_PER_WEIGHT = {"float32": 4, "int8": 1}
MINI_BATCH = 32
"""Sentences that Flair and transformers embed at a time."""


@dataclass
class EmbedderConfig:
    """One row of the table. If several of `model`, `flair`, `transformer` and `words` are given, their vectors are
    concatenated.

    Attributes:
        model: name or folder of a charembed model.
        backward: folder of the backward model, if `model` has the forward direction only.
        untrained: use only the architecture and vocabulary of the model, with weights initialized by seed 1, and
            neither static vectors nor a projection.
        readout: "word" or "separator"; by default the one in the model folder.
        parts: parts of the vectors of `model`: "forward", "backward" and "words"; by default all that it has.
        dim: dimensions of the vectors of `model`, reduced by the projection in its folder; by default not reduced.
        precision: "float32" or "int8".
        engine: "torch" or "onnx"; by default ONNX Runtime if it is installed.
        original: read sentences as they were written where the file gives that; otherwise words joined by spaces.
        context_characters: characters of neighboring sentences to read on each side.
        context_sentences: whole sentences to read on each side.
        flair: forward and backward language models of Flair, embedded by Flair.
        transformer: folder of a Hugging Face transformer, or PACKAGE/FOLDER for one in an installed package. A word's
            vector is the mean over its pieces of the mean over all layers.
        words: text file of static word vectors, one word and its numbers per line (word2vec, GloVe and fastText). A
            word that is not in the file gets the vector of its lower-case form, otherwise zeros.
    """

    model: str | None = None
    backward: str | None = None
    untrained: bool = False
    readout: Readout | None = None
    parts: list[Part] | None = None
    dim: int | None = None
    precision: Literal["float32", "int8"] = "float32"
    engine: EngineName | None = None
    original: bool = False
    context_characters: int | None = None
    context_sentences: int | None = None
    flair: list[str] | None = None
    transformer: str | None = None
    words: str | None = None

    @property
    def options(self) -> EmbedderOptions:
        """The options of `CharEmbedder` that the vectors depend on."""
        return {
            "engine": self.engine or "auto",
            "precision": self.precision,
            "readout": self.readout,
            "parts": self.parts,
            "dim": self.dim,
        }


@dataclass(frozen=True)
class ComparedEmbedder:
    """An embedder of any kind."""

    read: Reader
    """Function that embeds sentences."""
    megabytes: float
    """Size of the weights that are used to compute vectors, at the precision of the computation."""
    weights: str
    """Digest of the weights."""


@dataclass(frozen=True)
class EmbeddedSentence:
    """A labelled sentence and its vectors."""

    labelled: LabelledSentence
    """The sentence."""
    vectors: torch.Tensor
    """Word vectors. Shape: (words, dimensions)"""

    @property
    def document(self) -> int:
        """Number of the sentence's document in its file."""
        return self.labelled.document

    @property
    def tags(self) -> list[str]:
        """Tags of the only layer."""
        return only_tags(self.labelled)


EmbeddedTask = Splits[EmbeddedSentence]


def only_tags(sentence: LabelledSentence) -> list[str]:
    """Return the tags of the only layer of a sentence."""
    (tags,) = sentence.tags.values()
    return tags


def load_embedder(config: EmbedderConfig, threads: int = 1) -> ComparedEmbedder:
    """Load the embedder of one row of the table.

    Args:
        config: the row.
        threads: threads of charembed's engine; the others use the threads of PyTorch's operators.

    Raises:
        CharEmbedError: the row names no embedder, or one that does not exist.
    """
    parts = []
    if config.model is not None:
        parts.append(_load_charembed(config, config.model, threads))
    if config.flair is not None:
        parts.append(_load_flair(config.flair))
    if config.transformer is not None:
        parts.append(_load_transformer(config.transformer))
    if config.words is not None:
        parts.append(_load_word_vectors(Path(config.words)))
    if not parts:
        raise CharEmbedError("an embedder needs at least one of model, flair, transformer and words")
    if len(parts) == 1:
        return parts[0]

    # Each part reads all sentences; their vectors of a word are concatenated.
    def read(sentences: list[LabelledSentence]) -> Vectors:
        vectors = [part.read(sentences) for part in parts]
        return [np.concatenate(of_sentence, axis=1) for of_sentence in zip(*vectors, strict=True)]

    return ComparedEmbedder(read, sum(part.megabytes for part in parts), "+".join(part.weights for part in parts))


def weights_digest(modules: Iterable[torch.nn.Module]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of all weights."""
    digest = hashlib.sha256()
    for module in modules:
        for name, weight in module.state_dict().items():
            digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()[:16]


def model_digest(pretrained: Pretrained, options: Mapping[str, Any]) -> str:
    """Return a digest of everything in a model that its vectors depend on.

    It is the digest of the weights of the language models, so results of models without anything else stay valid.

    Args:
        pretrained: the model.
        options: options of `CharEmbedder`, or settings of a result; those that are missing have their default.
    """
    contents = [weights_digest([pretrained.model])]
    if options.get("readout") is None and pretrained.readout != "word":
        contents.append(pretrained.readout)
    if pretrained.static is not None and "words" in (options.get("parts") or pretrained.parts):
        contents.append(pretrained.static.digest())
    if pretrained.projection is not None and (dim := options.get("dim")) is not None:
        contents.append(hashlib.sha256(pretrained.projection.first(dim).to_bytes("float16")).hexdigest())
    return contents[0] if len(contents) == 1 else hashlib.sha256("".join(contents).encode()).hexdigest()[:16]


def _megabytes(modules: Iterable[torch.nn.Module]) -> float:
    return sum(weight.nbytes for module in modules for weight in module.parameters()) / 1e6


def _load_charembed(config: EmbedderConfig, name: str, threads: int) -> ComparedEmbedder:
    pretrained = Pretrained.load(name)
    if config.backward is not None:
        pretrained = join(pretrained, Pretrained.load(config.backward))
    if config.untrained:
        torch.manual_seed(1)
        untrained = BiCharLM(pretrained.model.config)
        pretrained = Pretrained(untrained, pretrained.vocab, pretrained.readout, pretrained.delimiter)
    embedder = CharEmbedder(pretrained, **(config.options | {"threads": threads}))
    context = None
    if config.context_characters is not None or config.context_sentences is not None:
        context = Context(characters=config.context_characters, sentences=config.context_sentences)

    def read(sentences: list[LabelledSentence]) -> Vectors:
        texts: list[TextInput] = []
        for _, document in itertools.groupby(sentences, key=lambda sentence: sentence.document):
            texts += [sentence.text if config.original else sentence.words for sentence in document]
            texts.append("")  # ends the document for a context; it has no words, so it is dropped below
        return [embeddings.vectors for embeddings in embedder.embed(texts, context) if len(embeddings.vectors)]

    return ComparedEmbedder(read, _used_megabytes(pretrained, config), model_digest(pretrained, config.options))


def _used_megabytes(pretrained: Pretrained, config: EmbedderConfig) -> float:
    parts = config.parts or pretrained.parts
    size = 0
    for direction in pretrained.model.directions:
        if direction in parts:
            # The decoder predicts characters; vectors do not need it.
            weights = pretrained.model.direction(direction).named_parameters()
            count = sum(weight.numel() for name, weight in weights if not name.startswith("decoder."))
            size += BYTES_PER_WEIGHT[config.precision] * count
    if pretrained.static is not None and "words" in parts:
        size += pretrained.static.rows.nbytes + pretrained.static.scales.nbytes
    if pretrained.projection is not None and config.dim is not None:
        size += pretrained.projection.first(config.dim).components.nbytes
    return size / 1e6


def _load_flair(files: list[str]) -> ComparedEmbedder:
    for file in files:
        if not Path(file).is_file():
            raise CharEmbedError(f"no such file: {file}")
    import_extra("flair", extra="flair", purpose="embedding with Flair")
    from flair.data import Sentence
    from flair.embeddings import FlairEmbeddings, StackedEmbeddings

    stacked = StackedEmbeddings([FlairEmbeddings(file) for file in files])

    def read(sentences: list[LabelledSentence]) -> Vectors:
        vectors: Vectors = []
        for start in range(0, len(sentences), MINI_BATCH):
            batch = [Sentence(sentence.words) for sentence in sentences[start : start + MINI_BATCH]]
            stacked.embed(batch)
            for sentence in batch:
                vectors.append(torch.stack([token.embedding for token in sentence]).numpy())
                sentence.clear_embeddings()  # otherwise Flair keeps a copy with each sentence
        return vectors

    return ComparedEmbedder(read, _megabytes(stacked.embeddings), weights_digest(stacked.embeddings))


def _load_transformer(name: str) -> ComparedEmbedder:
    import_extra("transformers", extra="flair", purpose="embedding with a transformer")
    from transformers import AutoModel, AutoTokenizer

    # A folder, or a folder inside an installed package (PACKAGE/FOLDER); nothing is downloaded.
    folder = Path(name)
    if not folder.is_dir():
        package, _, inner = name.partition("/")
        try:
            folder = Path(str(importlib.resources.files(package))) / inner
        except (ImportError, ValueError) as error:
            raise CharEmbedError(
                f"no transformer {name}: neither a folder nor PACKAGE/FOLDER of an installed package"
            ) from error
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)  # type: ignore[no-untyped-call]
    model: Any = AutoModel.from_pretrained(folder, use_safetensors=True).eval()

    @torch.inference_mode()
    def read(sentences: list[LabelledSentence]) -> Vectors:
        # Sorted by length, batches need little padding.
        order = sorted(range(len(sentences)), key=lambda index: len(sentences[index].words))
        vectors: dict[int, NDArray[np.float32]] = {}
        for start in range(0, len(order), MINI_BATCH):
            batch = order[start : start + MINI_BATCH]
            words = [sentences[index].words for index in batch]
            pieces = tokenizer(words, is_split_into_words=True, padding=True, truncation=True, return_tensors="pt")
            # Average over all layers, then over the pieces of each word.
            layers = model(**pieces, output_hidden_states=True).hidden_states
            states = torch.stack(layers).mean(dim=0)
            for row, index in enumerate(batch):
                vectors[index] = _average_pieces(states[row], pieces.word_ids(row), len(words[row]))
        return [vectors[index] for index in range(len(sentences))]

    return ComparedEmbedder(read, _megabytes([model]), weights_digest([model]))


def _average_pieces(states: torch.Tensor, word_ids: list[int | None], words: int) -> NDArray[np.float32]:
    """Return the mean of each word's pieces; zeros for a word without pieces, as beyond the largest length.

    Shape: (words, dimensions)
    """
    positions = [position for position, word in enumerate(word_ids) if word is not None]
    owners = torch.tensor([word for word in word_ids if word is not None], dtype=torch.long)
    total = torch.zeros(words, states.shape[1]).index_add_(0, owners, states[positions])
    counts = torch.bincount(owners, minlength=words).clamp_min(1)
    return np.asarray((total / counts[:, None]).numpy())


def _load_word_vectors(path: Path) -> ComparedEmbedder:
    if not path.is_file():
        raise CharEmbedError(f"no such file: {path}")
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
    has_header = bool(re.fullmatch(r"\d+ \d+ *", lines[0]))  # word2vec: number of words and dimensions
    width = len(lines[has_header].split()) - 1 if has_header < len(lines) else 0
    vectors: dict[str, NDArray[np.float32]] = {}
    for number, line in enumerate(lines[has_header:], start=1 + has_header):
        word, *numbers = line.rstrip().rsplit(" ", max(1, width))  # from the right: a word in GloVe may contain a space
        try:
            vectors[word] = np.array(numbers, dtype=np.float32)
        except ValueError:
            numbers = []
        if width < 1 or len(numbers) != width:
            raise CharEmbedError(f"{path}, line {number} is not a word and as many numbers as in the other lines")
    unknown = np.zeros(width, dtype=np.float32)

    def read(sentences: list[LabelledSentence]) -> Vectors:
        return [
            np.stack([vectors.get(word, vectors.get(word.lower(), unknown)) for word in sentence.words])
            for sentence in sentences
        ]

    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return ComparedEmbedder(read, 4 * width * len(vectors) / 1e6, digest[:16])
