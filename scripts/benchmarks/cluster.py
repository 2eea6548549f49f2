"""Measure what docs/scale.md computes with: rates of one core, and of one and two workers of a Ray cluster.

    python -m scripts.benchmarks.cluster rates --characters 50000
    python -m scripts.benchmarks.cluster workers --characters 1000000 --rounds 3

`workers` needs `charembed[ray,parquet,onnx]`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from tabulate import tabulate

from charembed import CharEmbedder, CharLMConfig, TrainConfig, train
from charembed.cli.runner import run_script
from charembed.cluster.embedding import embed_on_cluster
from charembed.cluster.unit_reader import UnitReader
from charembed.errors import import_extra
from charembed.output import OutputConfig, write_embeddings
from charembed.tagging.tagger import Tagger
from charembed.text.corpus import Corpus, CorpusConfig
from charembed.training.schedule import BudgetConfig
from scripts.benchmarks.interleaved import print_load

EXCERPT = Path(__file__).parents[2] / "configs" / "data" / "en_excerpt.txt"
TRAINING = "train, both directions, hidden size 512"
TRAINING_STEPS, LANES, WINDOW = 20, 32, 64
Precision = Literal["float32", "int8"]


def rates(characters: int = 50_000) -> None:
    """Print how many characters one core embeds, tags and trains on per second of its time.

    The time is that of the processor: it is nearly the same whatever else the machine does.

    Args:
        characters: size of the text.
    """
    with tempfile.TemporaryDirectory() as folder:
        corpus = _write_text(Path(folder), characters)
        texts = [text.text for text in corpus.texts()]
        config = TrainConfig(
            output=f"{folder}/run",
            data=CorpusConfig(train=str(EXCERPT)),
            model=CharLMConfig(hidden_size=512),
            budget=BudgetConfig(steps=TRAINING_STEPS),
            validations=1,
            batch_size=LANES,
            seq_len=WINDOW,
            words="none",
        )
        reader = UnitReader.of(corpus, characters // 10, None)
        jobs: dict[str, Callable[[], object]] = {"read in units": lambda: list(reader.read({"source": 0}))}
        for precision in get_args(Precision):
            embedder = CharEmbedder.from_pretrained("en", precision=precision, threads=1)
            jobs[f"embed, en, {precision}"] = partial(embedder.embed, texts)
            jobs[f"tag, en-ner, {precision}"] = partial(
                Tagger.load("en-ner", precision=precision, threads=1).predict, texts
            )
        jobs[TRAINING] = partial(train, config)
        sizes = dict.fromkeys(jobs, sum(map(len, texts)))
        sizes[TRAINING] = TRAINING_STEPS * LANES * WINDOW
        rows = []
        for name, job in jobs.items():
            began = time.process_time()
            job()
            rows.append([name, f"{sizes[name] / (time.process_time() - began):,.0f}"])
    print(tabulate(rows, ["", "characters per second of a core"], disable_numparse=True, tablefmt="github"))
    print_load()


def workers(model: str = "en", characters: int = 1_000_000, rounds: int = 3) -> None:
    """Embed the same text in one process, on one worker and on two, in turns, and print the medians.

    Args:
        model: model to embed with.
        characters: size of the text.
        rounds: how often each way is measured.
    """
    cluster = import_extra("ray.cluster_utils", extra="ray", purpose="this benchmark")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    embedder, config = CharEmbedder.from_pretrained(model, threads=1), OutputConfig(format="parquet")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, output = _write_text(folder, characters), folder / "out"
        seconds: dict[str, list[float]] = {"one process": [], "one worker": [], "two workers": []}
        for _ in range(rounds):
            for way, number in zip(seconds, (0, 1, 2), strict=True):
                nodes = {"num_cpus": number, "object_store_memory": 200 << 20, "include_dashboard": False}
                running = cluster.Cluster(initialize_head=True, head_node_args=nodes) if number else None
                began = time.monotonic()
                if running is None:
                    write_embeddings(embedder, corpus, output, config)
                else:
                    embed_on_cluster(embedder, corpus, str(output), config, address=running.address)
                seconds[way].append(time.monotonic() - began)
                if running is not None:
                    running.shutdown()
                shutil.rmtree(output)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    rows = [[way, f"{value:.1f}", f"{characters / value:,.0f}"] for way, value in medians.items()]
    print(tabulate(rows, ["", "seconds", "characters/s"], disable_numparse=True, tablefmt="github"))
    print_load()


def _write_text(folder: Path, characters: int) -> Corpus:
    text = EXCERPT.read_text(encoding="utf-8")
    (folder / "text.txt").write_text((text * (characters // len(text) + 1))[:characters], encoding="utf-8")
    return Corpus(folder / "text.txt")


if __name__ == "__main__":
    run_script({"rates": rates, "workers": workers})
