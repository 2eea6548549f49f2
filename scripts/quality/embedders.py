"""What `evaluate_quality.py` compares: language models of ours, of Flair's, transformers, word vectors, and several of
these side by side."""

from __future__ import annotations

import hashlib
import importlib.resources
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from charembed import CharEmbedder, CharEmbedError, Context
from charembed.lm.model import BiCharLM, Readout
from charembed.pretrained.model_folder import Pretrained, join
from charembed.tagging.labelled_text import LabelledSentence, Splits
from charembed.text.words import TextInput

Vectors = list[NDArray[np.float32]]
"""Of each sentence. Shape: (words, width) each"""
Reader = Callable[[list[LabelledSentence]], Vectors]
"""From the sentences of a file, in its order, to their vectors."""


@dataclass
class EmbedderConfig:
    """One row of the table. Where several of `model`, `flair`, `transformer` and `words` are named, their vectors stand
    side by side.

    Attributes:
        model: name or folder of a charembed model.
        backward: folder of the backward model, where `model` is a forward one alone.
        untrained: take its shape and alphabet alone, with first weights of seed 1.
        readout: "word" or "separator"; as the model's folder says, by default.
        precision: "float32" or "int8".
        original: read a sentence as it was written where its file says how; its words joined by spaces otherwise.
        context_characters: characters of the file's other sentences read on each side.
        context_sentences: whole sentences read on each side.
        flair: a forward and a backward language model of Flair's, embedded by Flair.
        transformer: folder of a transformer of Hugging Face's, or PACKAGE/FOLDER of one that an installed package
            brings. A word's vector is the mean of its pieces', of the mean of all layers.
        words: text file of static word vectors, a word and its numbers a line, as word2vec, GloVe and fastText write
            them. A word that is not in it has the vector of its small letters, or else zeros.
    """

    model: str | None = None
    backward: str | None = None
    untrained: bool = False
    readout: Readout | None = None
    precision: Literal["float32", "int8"] = "float32"
    original: bool = False
    context_characters: int | None = None
    context_sentences: int | None = None
    flair: list[str] | None = None
    transformer: str | None = None
    words: str | None = None


@dataclass(frozen=True)
class ComparedEmbedder:
    """An embedder of any kind."""

    read: Reader
    megabytes: float
    """Of the weights that make vectors, as they are computed with."""
    weights: str
    """Digest of its weights."""


@dataclass(frozen=True)
class EmbeddedSentence:
    """A labelled sentence and its vectors."""

    labelled: LabelledSentence
    vectors: torch.Tensor

    @property
    def document(self) -> int:
        """As of the sentence."""
        return self.labelled.document


EmbeddedTask = Splits[EmbeddedSentence]


def load(config: EmbedderConfig, threads: int = 1) -> ComparedEmbedder:
    """What a row of the table says.

    Args:
        config: the row.
        threads: of our own engine; others have those inside PyTorch's operators.

    Raises:
        CharEmbedError: it names nothing, or a model that is not there.
    """
    parts = []
    if config.model is not None:
        parts.append(_charembed(config, config.model, threads))
    if config.flair is not None:
        parts.append(_flair(config.flair))
    if config.transformer is not None:
        parts.append(_transformer(config.transformer))
    if config.words is not None:
        parts.append(_static(Path(config.words)))
    if not parts:
        raise CharEmbedError("an embedder needs one of model, flair, transformer and words")

    def read(sentences: list[LabelledSentence]) -> Vectors:
        found = [part.read(sentences) for part in parts]
        return [np.concatenate(vectors, axis=1) for vectors in zip(*found, strict=True)]

    if len(parts) == 1:
        return parts[0]
    return ComparedEmbedder(read, sum(part.megabytes for part in parts), "+".join(part.weights for part in parts))


def weights_digest(modules: Iterable[torch.nn.Module]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of all weights."""
    digest = hashlib.sha256()
    for module in modules:
        for name, weight in module.state_dict().items():
            digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()[:16]


def _megabytes(modules: Iterable[torch.nn.Module]) -> float:
    return sum(weight.nbytes for module in modules for weight in module.parameters()) / 1e6


def _charembed(config: EmbedderConfig, name: str, threads: int) -> ComparedEmbedder:
    pretrained = Pretrained.load(name)
    if config.backward is not None:
        pretrained = join(pretrained, Pretrained.load(config.backward))
    if config.untrained:
        torch.manual_seed(1)
        fresh = BiCharLM(pretrained.model.config)
        pretrained = Pretrained(fresh, pretrained.vocab, pretrained.readout, pretrained.delimiter)
    embedder = CharEmbedder(pretrained, precision=config.precision, readout=config.readout, threads=threads)
    width = {"float32": 4, "int8": 1}[config.precision]
    context = None
    if config.context_characters is not None or config.context_sentences is not None:
        context = Context(characters=config.context_characters, sentences=config.context_sentences)

    def read(sentences: list[LabelledSentence]) -> Vectors:
        texts: list[TextInput] = []
        for _, document in itertools.groupby(sentences, key=lambda sentence: sentence.document):
            texts += [sentence.text if config.original else sentence.words for sentence in document]
            texts.append("")  # ends the document for a context, and has no word
        return [found.vectors for found in embedder.embed(texts, context) if len(found.vectors)]

    model = pretrained.model
    decoders = sum(weight.numel() for name, weight in model.named_parameters() if ".decoder." in name)
    return ComparedEmbedder(read, width * (model.parameter_count() - decoders) / 1e6, weights_digest([model]))


def _flair(files: list[str]) -> ComparedEmbedder:
    from flair.data import Sentence
    from flair.embeddings import FlairEmbeddings, StackedEmbeddings

    for file in files:
        if not Path(file).is_file():
            raise CharEmbedError(f"no such file: {file}")
    stacked = StackedEmbeddings([FlairEmbeddings(file) for file in files])

    def read(sentences: list[LabelledSentence]) -> Vectors:
        vectors: Vectors = []
        for start in range(0, len(sentences), 32):
            batch = [Sentence(sentence.words) for sentence in sentences[start : start + 32]]
            stacked.embed(batch)
            for sentence in batch:
                vectors.append(torch.stack([token.embedding for token in sentence]).numpy())
                sentence.clear_embeddings()
        return vectors

    return ComparedEmbedder(read, _megabytes(stacked.embeddings), weights_digest(stacked.embeddings))


def _transformer(name: str) -> ComparedEmbedder:
    from transformers import AutoModel, AutoTokenizer

    folder = Path(name)
    if not folder.is_dir():
        package, _, inner = name.partition("/")
        try:
            folder = Path(str(importlib.resources.files(package))) / inner
        except (ImportError, ValueError) as error:
            raise CharEmbedError(f"no folder and no installed package has the transformer {name}") from error
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)  # type: ignore[no-untyped-call]
    model: Any = AutoModel.from_pretrained(folder, use_safetensors=True).eval()

    @torch.inference_mode()
    def read(sentences: list[LabelledSentence]) -> Vectors:
        order = sorted(range(len(sentences)), key=lambda k: len(sentences[k].words))
        vectors: dict[int, NDArray[np.float32]] = {}
        for start in range(0, len(order), 32):
            chosen = order[start : start + 32]
            words = [sentences[k].words for k in chosen]
            pieces = tokenizer(words, is_split_into_words=True, padding=True, truncation=True, return_tensors="pt")
            layers = model(**pieces, output_hidden_states=True).hidden_states
            states = torch.stack(layers).mean(dim=0)
            for row, k in enumerate(chosen):
                vectors[k] = _mean_of_pieces(states[row], pieces.word_ids(row), len(words[row]))
        return [vectors[k] for k in range(len(sentences))]

    return ComparedEmbedder(read, _megabytes([model]), weights_digest([model]))


def _mean_of_pieces(states: torch.Tensor, word_ids: list[int | None], words: int) -> NDArray[np.float32]:
    """Of each word; zero for one that has none, such as those that a long sentence is cut off before."""
    places = [place for place, word in enumerate(word_ids) if word is not None]
    owners = torch.tensor([word for word in word_ids if word is not None], dtype=torch.long)
    total = torch.zeros(words, states.shape[1]).index_add_(0, owners, states[places])
    counts = torch.bincount(owners, minlength=words).clamp_min(1)
    return np.asarray((total / counts[:, None]).numpy())


def _static(path: Path) -> ComparedEmbedder:
    if not path.is_file():
        raise CharEmbedError(f"no such file: {path}")
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
    has_heading = bool(re.fullmatch(r"\d+ \d+ *", lines[0]))  # how many there are, and how wide
    width = len(lines[has_heading].split()) - 1 if has_heading < len(lines) else 0
    vectors: dict[str, NDArray[np.float32]] = {}
    for number, line in enumerate(lines[has_heading:], start=1 + has_heading):
        word, *numbers = line.rstrip().rsplit(" ", max(1, width))  # from the right: a word of GloVe's may hold a space
        try:
            vectors[word] = np.array(numbers, dtype=np.float32)
        except ValueError:
            numbers = []
        if width < 1 or len(numbers) != width:
            raise CharEmbedError(f"{path}, line {number} is not a word and its numbers, as many as in other lines")
    unknown = np.zeros(width, dtype=np.float32)

    def read(sentences: list[LabelledSentence]) -> Vectors:
        return [
            np.stack([vectors.get(word, vectors.get(word.lower(), unknown)) for word in sentence.words])
            for sentence in sentences
        ]

    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return ComparedEmbedder(read, 4 * width * len(vectors) / 1e6, digest[:16])
