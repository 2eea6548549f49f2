"""Measure embedding: rates against Flair's on the same weights, single sentences, threads, int8, memory.

    python -m scripts.benchmarks.embedding speed ud_en_ewt/test.conllu.xz [--device cuda --threads [1]]
    python -m scripts.benchmarks.embedding latency ud_en_ewt/test.conllu.xz
    python -m scripts.benchmarks.embedding int8 runs/mine/best ud_en_ewt/test.conllu.xz
    python -m scripts.benchmarks.embedding memory en_wiki/train_00.txt.xz

Rates are ratios within one run: repeats are interleaved, and the median is taken. `speed` and `latency` need
`charembed[flair,onnx]`. Before anything is timed, the vectors are compared with Flair's.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli

from charembed import CharEmbedder, CharLMConfig, CharVocab
from charembed.lm.model import BiCharLM, Cell
from charembed.pretrained.model_folder import Pretrained
from charembed.recurrent.products import linear
from charembed.tagging.labelled_text import read_labelled
from charembed.text.corpus import Corpus
from scripts.benchmarks.interleaved import interleaved

Sentences = list[list[str]]
ENGINES: dict[str, dict[str, Any]] = {
    "torch float32": {"engine": "torch"},
    "onnx float32": {"engine": "onnx"},
    "onnx int8": {"engine": "onnx", "precision": "int8"},
}
GPU_ENGINES: dict[str, dict[str, Any]] = {"torch float32": {}, "torch bfloat16": {"precision": "bfloat16"}}


def _sentences(name: str, count: int | None) -> Sentences:
    """Some sentences of a CoNLL-U file, drawn by a fixed seed."""
    found = [sentence.words for sentence in read_labelled(name)]
    return found if count is None else random.Random(1).sample(found, min(count, len(found)))


def _untrained(sentences: Sentences, hidden_size: int, cell: Cell = "lstm") -> Pretrained:
    """A model of the shape of Flair's, over the characters of some sentences."""
    torch.manual_seed(1)
    vocab = CharVocab.build([" ".join(words) + "\n" for words in sentences], coverage=1.0)
    config = CharLMConfig(cell=cell, embedding_dim=100, hidden_size=hidden_size, vocab_size=len(vocab))
    return Pretrained(BiCharLM(config), vocab, readout="separator")


def _flair_embeddings(pretrained: Pretrained) -> list[Any]:
    """Flair's own embeddings of the same weights."""
    from flair.embeddings import FlairEmbeddings

    from charembed.integrations.flair import flair_language_model

    # Flair takes embeddings of one name for the same.
    directions = pretrained.model.directions
    return [FlairEmbeddings(flair_language_model(pretrained, name), name=name) for name in directions]


def _embed_with_flair(embeddings: Sequence[Any], sentences: Sequence[Any], size: int) -> None:
    for start in range(0, len(sentences), size):
        for sentence in sentences[start : start + size]:
            sentence.clear_embeddings()
        for each in embeddings:
            each.embed(list(sentences[start : start + size]))


def _check(pretrained: Pretrained, embeddings: Sequence[Any], sentences: Sentences) -> float:
    """The largest difference between Flair's vectors and ours."""
    from flair.data import Sentence

    theirs = [Sentence(words) for words in sentences]
    _embed_with_flair(embeddings, theirs, 32)
    worst = 0.0
    for ours, sentence in zip(CharEmbedder(pretrained).embed(sentences), theirs, strict=True):
        halves = ([token.get_embedding([each.name]).cpu().numpy() for token in sentence] for each in embeddings)
        vectors = np.concatenate([np.stack(half) for half in halves], axis=1)
        worst = max(worst, float(np.abs(vectors - ours.vectors).max()))
    assert worst < 1e-5, f"vectors differ from Flair's by {worst}"
    return worst


def _products(device: str, size: int = 1024, times: int = 10) -> dict[str, tuple[Callable[[], None], float]]:
    """Square products of matrices that fit the cache: by `torch.mm`, and by oneDNN where PyTorch has it."""
    if device != "cpu":
        size *= 8
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)

    def repeated(product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        return lambda: [product(a, b) for _ in range(times)] and None  # type: ignore[return-value]

    work = 2.0 * size**3 * times
    return {"torch.mm": (repeated(torch.mm), work), "fastest product": (repeated(linear), work)}


def speed(
    file: str,
    hidden_sizes: list[int] = [1024, 2048],  # noqa: B006 (the form in which a command line shows it)
    threads: list[int] = [1, 2],  # noqa: B006
    sentences: int = 1000,
    rounds: int = 3,
    mini_batch: int = 32,
    device: str = "cpu",
) -> None:
    """Characters per second against Flair's, and useful FLOP/s against the machine's matrix products.

    Args:
        file: sentences, CoNLL-U.
        hidden_sizes: widths of the LSTMs.
        threads: of Flair inside its operators, and of charembed.
        sentences: how many, drawn by a fixed seed.
        rounds: how many times to measure everything in turn.
        mini_batch: sentences that Flair embeds at a time.
        device: where both run.
    """
    import flair
    from flair.data import Sentence

    flair.device = torch.device(device)

    words = _sentences(file, sentences)
    characters = sum(len(" ".join(each)) for each in words)
    print(f"{len(words)} sentences, {characters:,} characters")
    print(
        "| hidden | threads | engine | characters/s | against Flair | GFLOP/s | of torch.mm | of the fastest product |"
    )
    print("| --- " * 8 + "|")
    for hidden_size in hidden_sizes:
        pretrained = _untrained(words, hidden_size)
        reference = [each.to(device) for each in _flair_embeddings(pretrained)]
        pretrained.model.to(device)
        theirs = [Sentence(each) for each in words]
        worst = _check(pretrained, reference, words[:100])
        for count in threads:
            torch.set_num_threads(count)
            engines = ENGINES if device == "cpu" else GPU_ENGINES
            embedders = {name: CharEmbedder(pretrained, threads=count, **how) for name, how in engines.items()}
            measured: dict[str, Callable[[], None]] = {
                "Flair": lambda r=reference, theirs=theirs: _embed_with_flair(r, theirs, mini_batch)  # type: ignore[misc]
            }
            for name, embedder in embedders.items():
                measured[name] = lambda embedder=embedder: embedder.embed(words) and None  # type: ignore[misc]
            products = _products(device)
            measured |= {name: run for name, (run, _) in products.items()}
            seconds = {name: statistics.median(found) for name, found in interleaved(measured, rounds).items()}
            roof = {name: work / seconds[name] for name, (_, work) in products.items()}
            # Multiply-adds of both models' recurrent and input products, counted once a character of the text.
            work = 2.0 * 2 * 4 * hidden_size * (hidden_size + 100) * characters
            for name in ("Flair", *embedders):
                rate = work / seconds[name]
                shares = " | ".join(f"{rate / roof[product]:.2f}" for product in products)
                print(
                    f"| {hidden_size} | {count} | {name} | {characters / seconds[name]:,.0f} |"
                    f" {seconds['Flair'] / seconds[name]:.2f} | {rate / 1e9:.0f} | {shares} |",
                    flush=True,
                )
        print(f"(largest difference from Flair's vectors at hidden {hidden_size}: {worst:.1e})", flush=True)


def latency(
    file: str,
    hidden_sizes: list[int] = [512, 1024, 2048],  # noqa: B006
    threads: list[int] = [1, 2],  # noqa: B006
    sentences: int = 60,
    rounds: int = 3,
) -> None:
    """Median time for one sentence at a time, against Flair's.

    Args:
        file: sentences, CoNLL-U.
        hidden_sizes: widths of the LSTMs.
        threads: of Flair inside its operators, and of charembed.
        sentences: how many, of 80 to 120 characters, drawn by a fixed seed.
        rounds: how many times to measure everything in turn.
    """
    from flair.data import Sentence

    words = [each for each in _sentences(file, 100_000) if 80 <= len(" ".join(each)) <= 120][:sentences]
    print(
        f"{len(words)} sentences of {statistics.mean(len(' '.join(each)) for each in words):.0f} characters on average"
    )
    print("| hidden | threads | engine | ms a sentence | against Flair |")
    print("| --- " * 5 + "|")
    for hidden_size in hidden_sizes:
        pretrained = _untrained(words, hidden_size)
        flair = _flair_embeddings(pretrained)
        _check(pretrained, flair, words)
        for count in threads:
            torch.set_num_threads(count)
            embedders = {name: CharEmbedder(pretrained, threads=count, **how) for name, how in ENGINES.items()}
            measured: dict[str, Callable[[list[str]], object]] = {
                "Flair": lambda each, flair=flair: _embed_with_flair(flair, [Sentence(each)], 1)  # type: ignore[misc]
            }
            for name, embedder in embedders.items():
                measured[name] = lambda each, embedder=embedder: embedder.embed([each])  # type: ignore[misc]
            times: dict[str, list[float]] = {name: [] for name in measured}
            for number in range(rounds + 1):
                for each in words:
                    for name, run in measured.items():
                        began = time.perf_counter()
                        run(each)
                        if number:
                            times[name].append(time.perf_counter() - began)
            medians = {name: statistics.median(values) for name, values in times.items()}
            for name, median in medians.items():
                ratio = medians["Flair"] / median
                print(f"| {hidden_size} | {count} | {name} | {1e3 * median:.1f} | {ratio:.2f} |", flush=True)


def int8(model: str, file: str, sentences: int = 1000, tagger: str | None = None, columns: str | None = None) -> None:
    """How near int8 vectors are to those of float32: cosines of the words of a trained model, and a tagger's scores.

    Args:
        model: folder of the model.
        file: sentences, CoNLL-U.
        sentences: how many, drawn by a fixed seed.
        tagger: one trained on float32 vectors, as `scripts/train_tagger.py --output FOLDER` saves it in FOLDER.
        columns: what it is scored on with either: tokens and entity tags in columns.
    """
    words = _sentences(file, sentences)
    pretrained = Pretrained.load(model)
    exact, coarse = (
        np.concatenate([found.vectors for found in CharEmbedder(pretrained, **ENGINES[name]).embed(words)])
        for name in ("torch float32", "onnx int8")
    )
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(coarse, axis=1)
    cosines = np.einsum("ij,ij->i", exact, coarse) / norms
    low, middle = np.percentile(cosines, [1, 50])
    print(
        f"{len(cosines):,} words: cosine {low:.5f} at the 1st percentile, {middle:.5f} in the median,"
        f" {cosines.min():.5f} at least; largest difference {np.abs(exact - coarse).max():.3f}"
    )
    if tagger is not None and columns is not None:
        _score_tagger(tagger, columns)


def _score_tagger(name: str, columns: str) -> None:
    from flair.datasets import ColumnCorpus
    from flair.models import SequenceTagger

    import charembed.integrations.flair  # noqa: F401 (Flair must know the class of the saved embeddings)

    tagger: Any = SequenceTagger.load(name)
    path = Path(columns).resolve()
    for engine in ("torch float32", "onnx int8"):
        tagger.embeddings.embedder = CharEmbedder(tagger.embeddings.embedder.pretrained, **ENGINES[engine])
        split: Any = ColumnCorpus(path.parent, {0: "text", 1: "ner"}, train_file=path.name, sample_missing_splits=False)
        scores = tagger.evaluate(split.train, gold_label_type="ner", embedding_storage_mode="none")
        found = sum(len(sentence.get_spans("predicted")) for sentence in split.train)
        print(f"{engine}: entity F1 {100 * scores.main_score:.3f}, {found} entities found in {columns}")


def memory(
    text: str, megabytes: int = 1000, line_megabytes: int = 50, minutes: float = 5.0, hidden_size: int = 512
) -> None:
    """Peak memory of `charembed embed` on a large text and on one long line, against that on a few words.

    Args:
        text: what the texts are made of, repeated.
        megabytes: of the large text.
        line_megabytes: of the long line.
        minutes: after which a run is ended, if it has not ended by itself.
        hidden_size: of the model, which is untrained.
    """
    lines = [line.text for line in Corpus(text).texts()]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        vocab = CharVocab.build(lines)
        config = CharLMConfig(hidden_size=hidden_size, vocab_size=len(vocab))
        Pretrained(BiCharLM(config), vocab).save(place / "model")
        joined = "\n".join(lines)
        (place / "few.txt").write_text("a few words", encoding="utf-8")
        with (place / "large.txt").open("w", encoding="utf-8") as file:
            for _ in range(megabytes * 1_000_000 // len(joined.encode()) + 1):
                file.write(joined)
        flat = joined.replace("\n", " ").encode()
        long = (flat * (line_megabytes * 1_000_000 // len(flat) + 1))[: line_megabytes * 1_000_000]
        (place / "line.txt").write_bytes(long.decode(errors="ignore").encode())
        peaks = {}
        for name in ("few", "large", "line"):
            command = [sys.executable, "-m", "charembed", "embed", "--model", str(place / "model")]
            command += [str(place / f"{name}.txt"), "-o", str(place / name)]
            began = time.monotonic()
            peaks[name], ended = _peak(command, 60 * minutes)
            print(
                f"{name}: {(place / f'{name}.txt').stat().st_size / 1e6:,.0f} MB, peak {peaks[name] / 1e6:,.0f} MB,"
                f" {'ended' if ended else 'was ended'} after {time.monotonic() - began:.0f} s,"
                f" {(peaks[name] - peaks['few']) / 1e6:,.0f} MB above that for a few words",
                flush=True,
            )


def _peak(command: list[str], seconds: float) -> tuple[int, bool]:
    """Bytes that a command's process holds at its peak (Linux), and whether it ended by itself."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + seconds
    ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    while not ended and time.monotonic() < deadline:
        time.sleep(0.2)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not ended:
        process.kill()
        _, _, usage = os.wait4(process.pid, 0)
    elif status:
        raise RuntimeError(f"{' '.join(command)} failed")
    return 1024 * usage.ru_maxrss, bool(ended)


if __name__ == "__main__":
    auto_cli([speed, latency, int8, memory])
