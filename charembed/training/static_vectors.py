"""Make the static word vectors of a run: from its own text, from a file, or those of the model it starts from."""

from __future__ import annotations

import importlib.util
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.errors import CharEmbedError
from charembed.lm.model import BiCharLM
from charembed.pretrained.model_folder import Pretrained
from charembed.pretrained.word_scale import match_states
from charembed.static_vectors import StaticVectors, load_static_vectors, with_ngrams
from charembed.static_vectors.ngrams import MAX_BUCKETS, MAX_N
from charembed.training.word2vec import check_gensim, train_word_vectors
from charembed.training.word_text import write_word_text
from charembed.util.checks import MAX_DIM, MAX_THREADS, check_integer
from charembed.util.files import user_path

logger = logging.getLogger(__name__)

WAYS = ("auto", "train", "none")
"""Values of the option `words` that are not files."""
_SCALING_CHARACTERS = 20_000
"""Characters of the validation text on which the variance of states and of static vectors is measured."""


@dataclass
class StaticVectorsConfig:
    """Static word vectors that are trained on the text of the run (see `words`)."""

    dim: int = 100
    """Number of dimensions."""
    words: int = 50_000
    """Number of words that get vectors of their own, at most: the most frequent ones, if they occur five times. Also
    the number of words that are read from a file."""
    buckets: int = 10_000
    """Number of buckets into which the character n-grams of words are hashed: all other words get the mean of the
    vectors of theirs. 0 gives them zeros. A bucket takes as much space as a word."""
    min_n: int = 2
    """Length of the shortest n-grams, in characters; the beginning and the end of a word count as one."""
    max_n: int = 4
    """Length of the longest n-grams."""
    epochs: int = 3
    """Number of passes over the text."""
    max_characters: int = 100_000_000
    """Length of the text to train them on, in characters: if there is more, documents are chosen at random. Takes about
    eight minutes for the default on one core."""
    threads: int = 1
    """Number of threads. With more than one, training is faster and not reproducible."""

    def __post_init__(self) -> None:
        for name in ("words", "min_n", "epochs", "max_characters"):
            check_integer(f"static_vectors.{name}", getattr(self, name))
        check_integer("static_vectors.dim", self.dim, maximum=MAX_DIM)
        check_integer("static_vectors.threads", self.threads, maximum=MAX_THREADS)
        check_integer("static_vectors.buckets", self.buckets, minimum=0, maximum=MAX_BUCKETS)
        check_integer("static_vectors.max_n", self.max_n, minimum=self.min_n, maximum=MAX_N)


@dataclass(frozen=True)
class RunVectors:
    """The static vectors of a run."""

    vectors: StaticVectors
    """The vectors."""
    source: str
    """Where they come from: "text" for the training text, "init" for the initial model, or the name of a file."""

    def for_model(self, model: BiCharLM, encoded: EncodedCorpus) -> StaticVectors:
        """Return the vectors as a model folder stores them: scaled to the states of the model.

        The vectors of an initial model are kept as they are.

        Args:
            model: the language models, at any moment of their training.
            encoded: the text of the run.
        """
        if self.source == "init":
            return self.vectors
        text = encoded.vocab.decode(encoded.valid[:_SCALING_CHARACTERS])
        return match_states(self.vectors, model, encoded.vocab, text)

    def identity(self) -> dict[str, str]:
        """Return what a checkpoint says about them."""
        return {"digest": self.vectors.digest(), "source": self.source}

    def summary(self) -> dict[str, Any]:
        """Return what the report and the model folder say about them."""
        return {"source": self.source} | self.vectors.sizes()


def normalize_words(words: str) -> str:
    """Return the option `words`, with `~` expanded if it names a file.

    Raises:
        CharEmbedError: `~` names no user of this machine.
    """
    return words if words in WAYS else str(user_path(words))


def check_words(words: str) -> None:
    """Check that static vectors can be made, before the text is read.

    Raises:
        CharEmbedError: there is no such file.
        MissingExtraError: they are to be trained, and gensim is not installed.
    """
    if words == "train":
        check_gensim()
    elif words not in WAYS and not Path(words).exists():
        raise CharEmbedError(
            f"words {words}: no such file or folder; give a file of word vectors, or one of {', '.join(WAYS)}"
        )


def plan_static_vectors(words: str, config: StaticVectorsConfig, initial: Pretrained | None, characters: int) -> str:
    """Return what `make_static_vectors` would do, in words.

    Args:
        words: the option `words`.
        config: how to train them.
        initial: the initial model.
        characters: length of the training text.
    """
    if words not in WAYS:
        return f"static, read from {words}"
    if words == "auto" and initial is not None and initial.static is not None:
        return "static, those of the initial model"
    if words == "none" or (words == "auto" and not _gensim_is_installed()):
        return "none" if words == "none" else "none: gensim is not installed"
    used = min(characters, config.max_characters)
    return f"static, trained on {used:,} characters before the first step; the budget does not include this"


def make_static_vectors(
    words: str,
    config: StaticVectorsConfig,
    encoded: EncodedCorpus,
    initial: Pretrained | None,
    scratch: Path,
    seed: int,
) -> RunVectors | None:
    """Return the static vectors of a new run; None for none.

    Args:
        words: the option `words`.
        config: how to train them.
        encoded: the text.
        initial: the initial model.
        scratch: file for the words of the text, which is removed afterwards.
        seed: seed of the training.

    Raises:
        CharEmbedError: the file of vectors cannot be read, or no word of the text is frequent enough.
        MissingExtraError: they are to be trained, and gensim is not installed.
        OSError: the words of the text cannot be written.
    """
    if words == "none":
        return None
    if words not in WAYS:
        return RunVectors(_read(Path(words), config), words)
    if words == "auto" and initial is not None and initial.static is not None:
        logger.info(f"keeping the static word vectors of the initial model: {len(initial.static):,} words")
        return RunVectors(initial.static, "init")
    if words == "auto" and not _gensim_is_installed():
        logger.info(
            "no static word vectors, since gensim is not installed: pip install 'charembed[words]', or set words: none"
        )
        return None
    vectors = _train(config, encoded, scratch, seed)
    if vectors is None and words == "train":
        raise CharEmbedError("words: train needs a text in which words occur five times: give more text, or none")
    return None if vectors is None else RunVectors(vectors, "text")


def _gensim_is_installed() -> bool:
    return importlib.util.find_spec("gensim") is not None


def _train(config: StaticVectorsConfig, encoded: EncodedCorpus, scratch: Path, seed: int) -> StaticVectors | None:
    """Train static vectors on the training text; return None if no word is frequent enough."""
    began = time.monotonic()
    logger.info("training static word vectors, which the budget does not include (words: none skips them)")
    try:
        text = write_word_text(encoded, scratch, config.max_characters, seed)
        trained = train_word_vectors(text, config.dim, config.epochs, config.threads, seed)
    finally:
        scratch.unlink(missing_ok=True)
    if not trained.words:
        logger.info("no static word vectors: no word of the text occurs five times")
        return None
    vectors = with_ngrams(trained.words, trained.vectors, config.buckets, config.min_n, config.max_n, rows=config.words)
    logger.info(
        f"trained static vectors of {len(vectors):,} words and {vectors.buckets:,} buckets of n-grams on"
        f" {text.words:,} words, in {(time.monotonic() - began) / 60:.1f} min"
    )
    return vectors


def _read(path: Path, config: StaticVectorsConfig) -> StaticVectors:
    """Read static vectors from a file, and fit vectors of n-grams to them if the file has none.

    Raises:
        CharEmbedError: the file cannot be read.
    """
    vectors = load_static_vectors(path, config.words, buckets=config.buckets, min_n=config.min_n, max_n=config.max_n)
    logger.info(f"read static vectors of {len(vectors):,} words from {path}")
    return vectors
