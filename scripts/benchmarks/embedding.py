"""Measure embedding: throughput against Flair on the same weights, single sentences, threads, precision, memory.

    python -m scripts.benchmarks.embedding speed ud_en_ewt/test.conllu.xz
    python -m scripts.benchmarks.embedding speed ud_en_ewt/test.conllu.xz --device cuda --threads '[1]'
    python -m scripts.benchmarks.embedding latency ud_en_ewt/test.conllu.xz
    python -m scripts.benchmarks.embedding precision en ud_en_ewt/test.conllu.xz
    python -m scripts.benchmarks.embedding memory en_wiki/train_00.txt.xz

All candidates are measured in turn within one run, and medians are printed. `speed` and `latency` first check that the
vectors equal Flair's. Needs `charembed[flair,onnx,dev]`.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from charembed import CharEmbedder, CharLMConfig, CharVocab
from charembed.cli.runner import run_script
from charembed.lm.model import BiCharLM
from charembed.pretrained.model_folder import Pretrained
from charembed.tagging.evaluation import evaluate_tagger
from charembed.tagging.labelled_text import read_labelled
from charembed.tagging.tagger import Tagger
from charembed.text.corpus import Corpus
from charembed.util.devices import has_bfloat16_units
from scripts.benchmarks.flair_reference import check_against_flair, embed_with_flair, flair_embeddings
from scripts.benchmarks.interleaved import interleaved
from scripts.benchmarks.process import memory_table, write_repeated
from scripts.benchmarks.reference_products import reference_products

Sentences = list[list[str]]
ENGINES: dict[str, dict[str, Any]] = {
    "torch float32": {"engine": "torch"},
    # Elsewhere bfloat16 is emulated, which is slower than float32.
    **({"torch bfloat16": {"precision": "bfloat16"}} if has_bfloat16_units(torch.device("cpu")) else {}),
    "onnx float32": {"engine": "onnx"},
    "onnx int8": {"engine": "onnx", "precision": "int8"},
}
GPU_ENGINES: dict[str, dict[str, Any]] = {"torch float32": {}, "torch bfloat16": {"precision": "bfloat16"}}
EMBEDDING_DIM = 100
"""Dimensions of Flair's character embedding."""
CHECKED_SENTENCES = 100


def _read_sentences(name: str, count: int | None) -> Sentences:
    """Return sentences of a CoNLL-U file, drawn with a fixed seed; all of them if `count` is None."""
    sentences = [sentence.words for sentence in read_labelled(name).sentences]
    return sentences if count is None else random.Random(1).sample(sentences, min(count, len(sentences)))


def _untrained(sentences: Sentences, hidden_size: int) -> Pretrained:
    """Return an untrained model with the architecture of Flair's and the characters of some sentences."""
    torch.manual_seed(1)
    vocab = CharVocab.build([" ".join(words) + "\n" for words in sentences], coverage=1.0)
    config = CharLMConfig(embedding_dim=EMBEDDING_DIM, hidden_size=hidden_size, vocab_size=len(vocab))
    return Pretrained(BiCharLM(config), vocab, readout="separator")


@dataclass
class Speed:
    """Measure characters per second against Flair, and useful FLOP/s against the machine's matrix products."""

    file: str
    """CoNLL-U file with sentences."""
    hidden_sizes: list[int] = field(default_factory=lambda: [1024, 2048])
    """Hidden sizes of the LSTM."""
    threads: list[int] = field(default_factory=lambda: [1, 2])
    """Numbers of threads, of Flair in its operators and of charembed."""
    sentences: int = 1000
    """Number of sentences, drawn with a fixed seed."""
    rounds: int = 3
    """Number of measurements of each candidate."""
    mini_batch: int = 32
    """Sentences that Flair embeds at a time."""
    device: str = "cpu"
    """Device of both."""

    def __call__(self) -> None:
        """Measure and print a table for each hidden size."""
        import flair

        flair.device = torch.device(self.device)
        words = _read_sentences(self.file, self.sentences)
        characters = sum(len(" ".join(sentence)) for sentence in words)
        print(f"{len(words)} sentences, {characters:,} characters")
        headers = [
            "hidden",
            "threads",
            "engine",
            "characters/s",
            "relative to Flair",
            "GFLOP/s",
            "relative to torch.mm",
        ]
        headers.append("relative to the fastest product")
        for hidden_size in self.hidden_sizes:
            # Untrained weights: speed does not depend on them.
            pretrained = _untrained(words, hidden_size)
            embeddings = [each.to(self.device) for each in flair_embeddings(pretrained)]
            pretrained.model.to(self.device)
            largest = check_against_flair(pretrained, embeddings, words[:CHECKED_SENTENCES])
            rows = [row for threads in self.threads for row in self._rows(pretrained, embeddings, words, threads)]
            print("\n" + tabulate(rows, headers, tablefmt="github", disable_numparse=True))
            print(f"\nLargest difference from Flair's vectors at hidden size {hidden_size}: {largest:.1e}", flush=True)

    def _rows(
        self, pretrained: Pretrained, embeddings: Sequence[Any], words: Sentences, threads: int
    ) -> list[list[str]]:
        """Measure Flair and all engines with a number of threads, and return the rows of the table."""
        from flair.data import Sentence

        # Flair's sentences are made once: their construction is not part of embedding.
        torch.set_num_threads(threads)
        flair_sentences = [Sentence(sentence) for sentence in words]
        measured: dict[str, Callable[[], Any]] = {
            "Flair": lambda: embed_with_flair(embeddings, flair_sentences, self.mini_batch)
        }
        for name, options in (ENGINES if self.device == "cpu" else GPU_ENGINES).items():
            embedder = CharEmbedder(pretrained, threads=threads, **options)
            measured[name] = lambda embedder=embedder: embedder.embed(words)  # type: ignore[misc]
        # The reference products take their turns like the candidates.
        candidates = list(measured)
        products = reference_products(self.device)
        measured |= {name: product.run for name, product in products.items()}
        seconds = {name: statistics.median(times) for name, times in interleaved(measured, self.rounds).items()}

        # Multiply-adds of the recurrent and input products of both directions, counted once per character.
        characters = sum(len(" ".join(sentence)) for sentence in words)
        hidden_size = pretrained.model.config.hidden_size
        flops = 2.0 * 2 * 4 * hidden_size * (hidden_size + EMBEDDING_DIM) * characters
        rows = []
        for name in candidates:
            rate = flops / seconds[name]
            shares = (f"{rate / (each.flops / seconds[product]):.2f}" for product, each in products.items())
            speed, ratio = f"{characters / seconds[name]:,.0f}", f"{seconds['Flair'] / seconds[name]:.2f}"
            rows.append([str(hidden_size), str(threads), name, speed, ratio, f"{rate / 1e9:.0f}", *shares])
        return rows


def latency(
    file: str,
    hidden_sizes: list[int] = [512, 1024, 2048],  # noqa: B006 (the form that a command line shows)
    threads: list[int] = [1, 2],  # noqa: B006
    sentences: int = 60,
    rounds: int = 3,
) -> None:
    """Measure the median time to embed one sentence at a time, against Flair.

    Args:
        file: CoNLL-U file with sentences.
        hidden_sizes: hidden sizes of the LSTM.
        threads: numbers of threads, of Flair in its operators and of charembed.
        sentences: number of sentences of 80 to 120 characters, drawn with a fixed seed.
        rounds: number of measurements of each sentence.
    """
    # Sentences of similar length, so that a median means something.
    words = [each for each in _read_sentences(file, 100_000) if 80 <= len(" ".join(each)) <= 120][:sentences]
    average = statistics.mean(len(" ".join(each)) for each in words)
    print(f"{len(words)} sentences of {average:.0f} characters on average")
    for hidden_size in hidden_sizes:
        pretrained = _untrained(words, hidden_size)
        embeddings = flair_embeddings(pretrained)
        check_against_flair(pretrained, embeddings, words)
        rows = []
        for count in threads:
            medians = _median_latencies(pretrained, embeddings, words, count, rounds)
            rows += [
                [str(hidden_size), str(count), name, f"{1e3 * median:.1f}", f"{medians['Flair'] / median:.2f}"]
                for name, median in medians.items()
            ]
        headers = ["hidden", "threads", "engine", "ms per sentence", "speed relative to Flair"]
        print("\n" + tabulate(rows, headers, tablefmt="github", disable_numparse=True), flush=True)


def _median_latencies(
    pretrained: Pretrained, embeddings: Sequence[Any], words: Sentences, threads: int, rounds: int
) -> dict[str, float]:
    """Return the median seconds per sentence of Flair and of all engines."""
    from flair.data import Sentence

    torch.set_num_threads(threads)
    measured: dict[str, Callable[[list[str]], Any]] = {
        "Flair": lambda sentence: embed_with_flair(embeddings, [Sentence(sentence)], 1)
    }
    for name, options in ENGINES.items():
        embedder = CharEmbedder(pretrained, threads=threads, **options)
        measured[name] = lambda sentence, embedder=embedder: embedder.embed([sentence])  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in measured}
    for number in range(rounds + 1):  # the first round warms up
        for sentence in words:
            for name, embed in measured.items():
                started = time.perf_counter()
                embed(sentence)
                if number:
                    times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def precision(
    model: str, file: str, sentences: int = 1000, tagger: str | None = None, labelled: str | None = None
) -> None:
    """Compare the vectors of each precision with float32 vectors: cosines of words, and scores of a tagger.

    Args:
        model: folder of the model, or name of a bundled one.
        file: CoNLL-U file with sentences.
        sentences: number of sentences, drawn with a fixed seed.
        tagger: folder of a tagger trained on float32 vectors, as `charembed tag train` writes it.
        labelled: file to score the tagger on, of the form of its training file.
    """
    words = _read_sentences(file, sentences)
    pretrained = Pretrained.load(model)
    states = {name: _states(pretrained, words, **options) for name, options in ENGINES.items()}
    exact = states["torch float32"]
    rows = []
    for name, vectors in states.items():
        # Cosine of the two vectors of each word.
        norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(vectors, axis=1)
        cosines = np.einsum("ij,ij->i", exact, vectors) / norms
        row = [name, *(f"{value:.6f}" for value in (*np.percentile(cosines, [50, 1]), cosines.min()))]
        if tagger is not None and labelled is not None:
            # The same tagger with the same weights; only the engine below it changes.
            [scores] = evaluate_tagger(Tagger.load(tagger, **ENGINES[name]), labelled).values()
            row.append(f"{scores.score:.3f}")
        rows.append(row)
    headers = ["engine", "cosine, median", "1st percentile", "smallest", "score of the tagger"]
    print(
        f"{len(exact):,} words\n\n" + tabulate(rows, headers[: len(rows[0])], tablefmt="github", disable_numparse=True)
    )


def _states(pretrained: Pretrained, words: Sentences, **options: Any) -> NDArray[np.float32]:
    """Return the states of all words, without their static vectors, which have no precision to choose."""
    embedder = CharEmbedder(pretrained, parts=["forward", "backward"], **options)
    return np.concatenate([each.vectors for each in embedder.embed(words)])


def memory(
    text: str, megabytes: int = 1000, line_megabytes: int = 50, minutes: float = 5.0, hidden_size: int = 512
) -> None:
    """Measure the peak memory of `charembed embed` on a large text and on one long line, against a few words.

    Args:
        text: text that the measured texts repeat.
        megabytes: size of the large text.
        line_megabytes: size of the long line.
        minutes: time after which a process is killed.
        hidden_size: hidden size of the model, which is untrained.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = _write_texts(folder, text, megabytes, line_megabytes)
        command = [sys.executable, "-m", "charembed", "embed", "--model", str(_write_model(folder, text, hidden_size))]
        commands = {path: [*command, str(path), "-o", str(path.with_suffix(""))] for path in texts}
        print(memory_table(commands, 60 * minutes))


def _write_model(folder: Path, text: str, hidden_size: int) -> Path:
    """Write an untrained model for the characters of a text, and return its folder."""
    vocab = CharVocab.build(line.text for line in Corpus(text).texts())
    config = CharLMConfig(hidden_size=hidden_size, vocab_size=len(vocab))
    Pretrained(BiCharLM(config), vocab).save(folder / "model")
    return folder / "model"


def _write_texts(folder: Path, text: str, megabytes: int, line_megabytes: int) -> list[Path]:
    """Write the three texts into a folder, and return their paths."""
    few, large, long_line = (folder / f"{name}.txt" for name in ("few words", "large text", "long line"))
    few.write_text("a few words", encoding="utf-8")
    lines = "\n".join(line.text for line in Corpus(text).texts())
    write_repeated(large, lines.encode(), 1e6 * megabytes)
    # A line without breaks cannot be divided into texts.
    write_repeated(long_line, lines.replace("\n", " ").encode(), 1e6 * line_megabytes)
    return [few, large, long_line]


if __name__ == "__main__":
    run_script({"speed": Speed, "latency": latency, "precision": precision, "memory": memory}, as_positional=True)
