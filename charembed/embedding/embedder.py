"""Compute contextual word vectors of texts."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import torch

from charembed.embedding.context import Context, iter_passages
from charembed.embedding.engine_choice import (
    ChosenEngine,
    ChosenPrecision,
    EngineChooser,
    EngineName,
    EngineOptions,
    EnginePrecision,
    choose_precision,
)
from charembed.embedding.limits import DEFAULT_LIMITS, EmbeddingLimits
from charembed.embedding.mapper import Mapper
from charembed.embedding.passage_embedder import MemoryBudget, PassageEmbedder
from charembed.embedding.reduction import fit_to_words, stored_projection
from charembed.embedding.text_preparation import TextPreparation
from charembed.embedding.vector_layout import VectorLayout
from charembed.embedding.word_embeddings import EmbeddedPart, WordEmbeddings, join_parts
from charembed.lm.model import Direction, Readout
from charembed.pretrained.flair_checkpoint import read_flair
from charembed.pretrained.hub import SCHEME, upload
from charembed.pretrained.model_folder import Pretrained, StoredType
from charembed.pretrained.parts import Part
from charembed.projection import Projection, check_dim
from charembed.text.words import SpannedText, TextInput
from charembed.util.checks import MAX_THREADS, check_integer
from charembed.util.devices import check_device

logger = logging.getLogger(__name__)

_MB = 1_000_000


class CharEmbedder:
    """Computes contextual word vectors of texts (Akbik, Blythe & Vollgraf 2018).

    A word's vector is the forward model's state at the word's last character, concatenated with the backward model's
    state at its first character, and with the static vector of the word if the model has static vectors. Both language
    models read each text separately, starting from the zero state, so a text has the same vectors whatever else is
    embedded with it. Threads may share an embedder.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        device: torch.device | str | None = None,
        engine: EngineName = "auto",
        precision: EnginePrecision = "float32",
        *,
        readout: Readout | None = None,
        parts: Sequence[Part] | None = None,
        threads: int = 2,
        batch_size: int | None = None,
        memory_mb: int = 128,
        cache_mb: int = 0,
        dim: int | None = None,
        limits: EmbeddingLimits = DEFAULT_LIMITS,
    ) -> None:
        """
        Args:
            pretrained: models, vocabulary and how they read text. Not copied.
            device: device to run on; by default the one the models are on.
            engine: software that runs the models: "torch" (PyTorch), "onnx" (ONNX Runtime, CPU only) or "auto". "auto"
                uses ONNX Runtime on a CPU if it is installed, because it is as fast on many texts and faster on a
                single one, and PyTorch otherwise.
            precision: "float32", or a precision that is faster and less exact: "int8" on a CPU, "bfloat16" on devices
                with units for it, "tf32" on NVIDIA GPUs (elsewhere it is "float32"). "auto" is "bfloat16" for an LSTM
                on such a device (a CPU: from hidden size 256), else "float32": vectors depend a little on the machine.
            readout: characters at which states are read: "word" for the word's own outermost characters, "separator"
                for those just outside it. By default that of the model folder, right for taggers trained with it.
            parts: parts of which a word's vector consists: "forward" and "backward" for the states of the language
                models, "words" for the static vector of the word. They always follow each other in this order. By
                default all parts that the model has. Parts that are left out are not computed.
            threads: number of batches computed at the same time on a CPU, each by one thread.
            batch_size: maximum number of texts in a batch; by default 128 on a CPU and 1024 on a GPU.
            memory_mb: maximum size of the vectors in memory at once, in megabytes; texts are read ahead no further.
            cache_mb: size of the cache for vectors of texts that appear again in later calls, in megabytes. The least
                recently used vectors are dropped.
            dim: reduce vectors to this number of dimensions by the projection of the model folder, which must have at
                least as many (see `fit_projection`). By default all dimensions are kept.
            limits: how much text is read ahead and computed at a time; for tests and tuning.

        Raises:
            CharEmbedError: an option is invalid or does not suit the model, the engine or the device.
            MissingExtraError: ONNX Runtime is requested but not installed.
        """
        self._layout = VectorLayout.of(pretrained, parts)
        sizes = _check_sizes(threads, batch_size, memory_mb, cache_mb)
        self._options = {"engine": engine, "dim": dim, "limits": limits} | sizes
        self._options["parts"] = None if parts is None else self._layout.parts
        self.pretrained = pretrained if readout is None else dataclasses.replace(pretrained, readout=readout)
        self.preparation = TextPreparation(pretrained.vocab)
        self._projection = None if dim is None else stored_projection(self.pretrained, self.parts, dim)
        # Moving a module also moves it for everyone else who has it: `pretrained` is not copied.
        self.model = pretrained.model if device is None else pretrained.model.to(check_device(device))
        self.model.eval()
        # Chosen once: a copy of the embedder computes in the same precision, also on another machine.
        self._options["precision"] = chosen = choose_precision(precision, engine, self.model)
        options = EngineOptions(engine, chosen, threads, batch_size)
        self._engines = EngineChooser(self.model, self._layout.directions, options)
        memory = MemoryBudget(window=memory_mb * _MB, cache=cache_mb * _MB)
        self._passages = PassageEmbedder(self.pretrained, self._layout, self._engines, memory, limits, self._projection)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the models and options only: a copy has its own threads, engine and cache."""
        return _restore, (self.pretrained, self._options)

    def __repr__(self) -> str:
        config = self.model.config
        parts = "" if self._options["parts"] is None else f" parts={'+'.join(self.parts)},"
        return (
            f"CharEmbedder({config.cell}, embedding_dim={self.embedding_dim},{parts}"
            f" readout={self.pretrained.readout!r}, engine={self.engine!r}, precision={self.precision!r},"
            f" threads={self._options['threads']})"
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] = "en",
        device: torch.device | str | None = None,
        engine: EngineName = "auto",
        precision: EnginePrecision = "float32",
        **options: Any,
    ) -> CharEmbedder:
        """Load a model.

        Args:
            name_or_path: name of a bundled model, for example "en" (English); path of a model folder that
                `charembed train` or `save_pretrained` wrote; or `hf://owner/name` or `hf://owner/name@revision` for a
                model on the Hugging Face Hub.
            device: device to run on, for example "cuda"; "cpu" by default.
            engine: software that runs the models, as in `CharEmbedder`.
            precision: precision of the computation, as in `CharEmbedder`.
            options: other options of `CharEmbedder`: readout, parts, threads, batch_size, memory_mb, cache_mb, dim.

        Raises:
            CharEmbedError: the model does not exist or its folder is damaged, or an option is invalid.
            MissingExtraError: ONNX Runtime is requested but not installed.
        """
        pretrained = Pretrained.load(name_or_path, device="cpu" if device is None else device)
        embedder = cls(pretrained, engine=engine, precision=precision, **options)
        logger.info("%s", embedder)
        return embedder

    @classmethod
    def from_flair(
        cls,
        forward_pt: str | os.PathLike[str],
        backward_pt: str | os.PathLike[str],
        readout: Readout = "separator",
        **options: Any,
    ) -> CharEmbedder:
        """Load a pair of Flair language models. The vectors equal those of `FlairEmbeddings`; Flair is not needed.

        Args:
            forward_pt: file of the model that reads from left to right: a final model or a training checkpoint.
            backward_pt: file of the model that reads from right to left.
            readout: "separator" for the vectors of `FlairEmbeddings(with_whitespace=True)`, Flair's default; "word" for
                those of `with_whitespace=False`, the default of models trained with charembed.
            options: other options of `CharEmbedder`.

        Raises:
            CharEmbedError: a file is not a Flair language model or contains other objects, none of which are executed;
                or the two models do not form a pair.
            OSError: a file cannot be read.
        """
        return cls(read_flair(forward_pt, backward_pt, readout), **options)

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: StoredType = "float32") -> None:
        """Write the model folder.

        Args:
            folder: where to write; an existing model folder is replaced.
            dtype: type of the stored weights. "float16" halves the size and usually changes vectors by less than 0.001.

        Raises:
            CharEmbedError: the folder exists and contains other files, or a weight is too large for float16.
            OSError: the folder cannot be written.
        """
        self.pretrained.save(folder, dtype)

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, commit_message: str = "Upload a charembed model"
    ) -> str:
        """Upload the model folder to the Hugging Face Hub; `from_pretrained("hf://owner/name")` loads it from there.

        Log in with `hf auth login` or set the environment variable HF_TOKEN.

        Args:
            repo_id: repository, as owner/name. It is created if it does not exist.
            private: whether a new repository is private; by default the owner's setting.
            commit_message: message of the commit.

        Returns:
            The URL of the commit.

        Raises:
            CharEmbedError: the Hub refuses the upload or cannot be reached.
        """
        repo_id = repo_id.removeprefix(SCHEME)
        return upload(self.pretrained.files(address=SCHEME + repo_id), repo_id, private=private, message=commit_message)

    def fit_projection(self, texts: Iterable[TextInput], dim: int) -> CharEmbedder:
        """Return an embedder of the same model whose vectors are reduced by principal component analysis.

        The projection is fitted to the vectors of the texts (at most those of the first 25,000 words, for vectors of
        1,280 dimensions) and becomes part of the model: after `save_pretrained`, the folder can be loaded with any
        `dim` up to this one, since the components are in descending order of variance.

        Args:
            texts: text like the one to embed later, in mixed order.
            dim: number of dimensions.

        Raises:
            CharEmbedError: `dim` is not below the number of dimensions of the vectors, or the texts have too few words.
        """
        check_dim(check_integer("dim", dim), self._layout.dim)
        whole = self if self.projection is None else CharEmbedder(self.pretrained, **self._options | {"dim": None})
        projection = fit_to_words(whole.iter_embed(texts), whole.embedding_dim, dim).rounded()
        projection = dataclasses.replace(projection, parts=self.parts, readout=self.pretrained.readout)
        pretrained = dataclasses.replace(self.pretrained, projection=projection)
        return CharEmbedder(pretrained, **self._options | {"dim": dim})

    @property
    def embedding_dim(self) -> int:
        """Number of dimensions of a word vector."""
        return self._layout.dim if self.projection is None else self.projection.dim

    @property
    def precision(self) -> ChosenPrecision:
        """Precision of the computation."""
        return cast(ChosenPrecision, self._options["precision"])

    @property
    def parts(self) -> tuple[Part, ...]:
        """Parts of which a word vector consists, in their order."""
        return self._layout.parts

    @property
    def projection(self) -> Projection | None:
        """Projection that reduces the vectors; None if they keep all dimensions."""
        return self._projection

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Language models whose states are parts of a word vector, forward first."""
        return self._layout.directions

    @property
    def options(self) -> dict[str, Any]:
        """Options that create an equal embedder of the same models, except their device and readout."""
        return {name: value for name, value in self._options.items() if name != "limits"}

    @property
    def engine(self) -> ChosenEngine:
        """Engine that runs the models: "torch" or "onnx"."""
        return self._engines.setup.name

    def embed(self, texts: Iterable[TextInput], context: Context | None = None) -> list[WordEmbeddings]:
        """Return the words and vectors of each text, all in memory.

        Args:
            texts: each is a `str`, whose words are found automatically; a sequence of words, which are joined by single
                spaces; or a pair `(text, spans)` with the character offsets of its words, in any order.
            context: neighboring texts that are read before and after each text; none by default.

        Raises:
            CharEmbedError: a span lies outside its text or ends before it starts.
            TypeError: `texts` is a single `str`, or an item has another form.
        """
        return list(self.iter_embed(texts, context))

    def iter_embed(self, texts: Iterable[TextInput], context: Context | None = None) -> Iterator[WordEmbeddings]:
        """Yield what `embed` returns, text by text and in order, reading ahead no further than `memory_mb` allows."""
        return join_parts(self.iter_parts(texts, context))

    def iter_parts(
        self, texts: Iterable[TextInput], context: Context | None = None, *, skip: int = 0
    ) -> Iterator[EmbeddedPart]:
        """Yield what `iter_embed` yields, but texts whose vectors may not fit into memory in several parts.

        The backward model reads a text in parts twice: once from its end to its start, and then each part again.

        Args:
            texts: texts, as in `embed`.
            context: neighboring texts to read, as in `embed`.
            skip: number of texts at the beginning that serve as context only and have no vectors.

        Raises:
            CharEmbedError: a span lies outside its text or ends before it starts.
            TypeError: `texts` is a single `str`, or an item has another form.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a list of texts, got a single str: put it in a list")
        # Skipped texts are dropped only here, after they have served as context.
        passages = iter_passages(self.preparation.prepare(map(SpannedText.of, texts)), context)
        return self._passages.iter_parts(itertools.islice(passages, skip, None))

    def mapper(self, column: str = "text", context: Context | None = None) -> Callable[..., Any]:
        """Return a function for `datasets.Dataset.map(…, batched=True)`: it adds words, starts, ends and vectors.

        Args:
            column: name of the column that contains texts or lists of words.
            context: neighboring texts to read, as in `embed`. A document must not continue in the next batch.
        """
        return Mapper(self, column, context)


def _check_sizes(threads: int, batch_size: int | None, memory_mb: int, cache_mb: int) -> dict[str, Any]:
    """Return the options that are numbers, by their names.

    Raises:
        CharEmbedError: one is out of range.
    """
    return {
        "threads": check_integer("threads", threads, maximum=MAX_THREADS),
        "batch_size": None if batch_size is None else check_integer("batch_size", batch_size),
        "memory_mb": check_integer("memory_mb", memory_mb),
        "cache_mb": check_integer("cache_mb", cache_mb, minimum=0),
    }


def _restore(pretrained: Pretrained, options: dict[str, Any]) -> CharEmbedder:
    return CharEmbedder(pretrained, **options)
