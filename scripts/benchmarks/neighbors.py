"""Measure the index of words by their vectors: how fast it is built, and how fast it answers.

    python -m scripts.benchmarks.neighbors build --characters 300000
    python -m scripts.benchmarks.neighbors search runs/ten_million --words 10000000

`build` compares with embedding alone, in turns. `search` builds a large index from a few real vectors, because to embed
so much text takes hours: each word has a mean of two vectors of its own occurrences. Needs `charembed[explore,onnx]`.
"""

from __future__ import annotations

import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
from tabulate import tabulate

from charembed import CharEmbedder, WordEmbeddings
from charembed.cli.runner import run_script
from charembed.embedding.index_files import METADATA
from charembed.embedding.neighbors import query_vector
from charembed.embedding.occurrence_index import OccurrenceIndex, open_index
from charembed.text.corpus import Corpus
from charembed.text.words import find_words
from scripts.benchmarks.interleaved import interleaved, print_load

EXCERPT = Path(__file__).parents[2] / "configs" / "data" / "en_excerpt.txt"
WORDS_PER_TEXT = 20
QUERIES = 100
NEIGHBORS = 10


def build(characters: int = 300_000, rounds: int = 3) -> None:
    """Embed a text, and embed and index it, in turns.

    Args:
        characters: size of the text.
        rounds: how often each is measured.
    """
    embedder = CharEmbedder.from_pretrained("en")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text.txt").write_text(EXCERPT.read_text(encoding="utf-8")[:characters], encoding="utf-8")
        corpus = Corpus(folder / "text.txt")

        def embed() -> None:
            for _ in embedder.iter_embed(text.text for text in corpus.texts()):
                pass

        def index() -> None:
            open_index(embedder, corpus, folder / "index")
            shutil.rmtree(folder / "index")

        times = interleaved({"embed": embed, "embed and index": index}, rounds)
    rows = [[kind, f"{characters / statistics.median(seconds):,.0f}"] for kind, seconds in times.items()]
    print(tabulate(rows, ["", "characters per second"], disable_numparse=True, tablefmt="github"))
    print_load()


def search(folder: str, words: int = 10_000_000) -> None:
    """Build a large index, unless it is there, and print how long searches take.

    Args:
        folder: folder for the text and its index.
        words: number of words of the text.
    """
    embedder = CharEmbedder.from_pretrained("en")
    work = Path(folder)
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "index" / METADATA).exists():
        source = _Resampled(embedder)
        with (work / "text.txt").open("w", encoding="utf-8") as file:
            for _ in range(words // WORDS_PER_TEXT):
                file.write(" ".join(source.generator.choices(source.words, k=WORDS_PER_TEXT)) + "\n")
        began, processor = time.monotonic(), time.process_time()
        open_index(cast(CharEmbedder, source), Corpus(work / "text.txt"), work / "index")
        spent = time.process_time() - processor
        print(f"built in {time.monotonic() - began:,.0f} s, {spent:,.0f} s of the processors")
    began = time.perf_counter()
    index = OccurrenceIndex(work / "index")
    opened = time.perf_counter() - began
    seconds: list[float] = []
    for sentence in Corpus(EXCERPT).texts():
        spans = find_words(sentence.text)
        if len(spans) > 5 and len(seconds) < QUERIES:
            start, end = spans[2]
            word = sentence.text[start:end]
            vector = query_vector(embedder, sentence.text, word)
            began = time.perf_counter()
            index.neighbors(vector, word, NEIGHBORS)
            seconds.append(time.perf_counter() - began)
    rows = [
        ["occurrences", f"{len(index.occurrences):,}"],
        ["index on disk, MB", f"{sum(path.stat().st_size for path in (work / 'index').iterdir()) / 1e6:,.0f}"],
        ["open, s", f"{opened:.2f}"],
        ["first search, s", f"{seconds[0]:.3f}"],
        [f"median of {len(seconds)} searches, s", f"{statistics.median(seconds):.3f}"],
        ["longest search, s", f"{max(seconds):.3f}"],
    ]
    print(tabulate(rows, disable_numparse=True, tablefmt="github"))
    print_load()


class _Resampled:
    """Takes the place of an embedder, with vectors that are means of two of a word's real ones."""

    def __init__(self, embedder: CharEmbedder) -> None:
        self.pretrained, self.embedding_dim = embedder.pretrained, embedder.embedding_dim
        self.generator = random.Random(1)
        lines = [line for line in EXCERPT.read_text(encoding="utf-8").splitlines() if line][:400]
        embedded = embedder.embed(lines)
        self.words = [word for text in embedded for word in text.words]
        """Each word as often as it occurs."""
        self._vectors = np.concatenate([text.vectors for text in embedded])
        self._rows: dict[str, list[int]] = {}
        for row, word in enumerate(self.words):
            self._rows.setdefault(word, []).append(row)

    def iter_embed(self, texts: Iterable[str]) -> Iterator[WordEmbeddings]:
        """Yield the words of texts."""
        for text in texts:
            spans = [(int(start), int(end)) for start, end in find_words(text)]
            words = [text[start:end] for start, end in spans]
            pairs = np.array([self.generator.choices(self._rows.get(word, [0]), k=2) for word in words])
            share = np.array([[self.generator.random()] for _ in words], np.float32)
            first, second = self._vectors[pairs[:, 0]], self._vectors[pairs[:, 1]]
            yield WordEmbeddings(words, spans, share * first + (1 - share) * second)


if __name__ == "__main__":
    run_script({"build": build, "search": search}, as_positional=True)
