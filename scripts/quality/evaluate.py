"""Compare word vectors by the taggers that can be trained on them: a row an embedder, a column a task.

    python -m scripts.quality.evaluate scores --config configs/quality/models.yaml --labelled LABELLED \\
      --output quality.jsonl

LABELLED is the folder that the tasks' files are in. Each result is a line of the output; those that are there already
are not computed again, so a run that was ended goes on, and a row that is added later joins the table. Needs
`charembed[crf]`, and `charembed[flair]` for Flair, transformers and CoNLL-U.
"""

from __future__ import annotations

import itertools
import logging
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from charembed.tagging.labelled_text import (
    METRICS,
    LabelledSentence,
    Task,
    check_splits,
    divide,
    read_labelled,
    score,
    sentences_digest,
)
from charembed.tagging.tagger import BiLSTMCRF, fit
from scripts.benchmarks.interleaved import interleaved
from scripts.quality.embedders import ComparedEmbedder, EmbeddedSentence, EmbeddedTask, EmbedderConfig, load
from scripts.quality.results import Result, TaggerName, add_result, mend, print_table, read_results


@dataclass
class TaskConfig:
    """One column of the table.

    Attributes:
        train: labelled file to learn from.
        dev: to choose the epoch; a tenth of `train` by default.
        test: to score; a quarter of `train` by default.
        task: named entities (BIO or IO tags) or parts of speech.
        token_column: column of the word in files of columns, from 0.
        tag_column: column of the tag.
        epochs: of the probe.
        flair_epochs: of Flair's tagger.
    """

    train: str
    dev: str | None = None
    test: str | None = None
    task: Task = "ner"
    token_column: int = 0
    tag_column: int = 1
    epochs: int = 15
    flair_epochs: int = 15


class StoredVectors(nn.Module):
    """From embedded sentences to their vectors, centred, divided by one number and narrowed by a linear layer."""

    def __init__(self, seen: Tensor, projection_size: int, dropout: float) -> None:
        """
        Args:
            seen: vectors of the training words, whose mean becomes 0 and whose mean variance becomes 1.
            projection_size: width of what comes out.
            dropout: of what goes into the linear layer.
        """
        super().__init__()
        self._dropout = dropout
        self.projection = nn.Linear(seen.shape[1], projection_size)
        self._centre = seen.mean(dim=0)
        self._scale = float(seen.var(dim=0).mean().sqrt())

    def forward(self, sentences: list[EmbeddedSentence]) -> tuple[Tensor, Tensor]:
        """Vectors and mask, as of `WordEncoder`."""
        lengths = [len(sentence.vectors) for sentence in sentences]
        words = (torch.cat([sentence.vectors for sentence in sentences]) - self._centre) / self._scale
        narrow = self.projection(nn.functional.dropout(words, self._dropout, self.training))
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        return pad_sequence(narrow.split(lengths), batch_first=True), mask


Scores = tuple[float, float | None]
"""On test and, if the tagger tells it, on dev, in per cent."""


def probe(
    embedded: EmbeddedTask,
    task: Task,
    seed: int,
    *,
    epochs: int,
    projection_size: int,
    hidden_size: int,
    dropout: float,
    learning_rate: float,
    batch_size: int,
) -> Scores:
    """Scores of a BiLSTM-CRF on the vectors after a linear layer, with the epoch that is best on dev."""
    torch.manual_seed(seed)
    tags = sorted({tag for sentence in embedded.train for tag in sentence.labelled.tags})
    stored = StoredVectors(torch.cat([sentence.vectors for sentence in embedded.train]), projection_size, dropout)
    tagger = BiLSTMCRF(stored, projection_size, tags, hidden_size, dropout)
    train, dev, test = ((split, [sentence.labelled.tags for sentence in split]) for split in embedded)
    groups: list[dict[str, Any]] = [{"params": tagger.parameters()}]
    on_dev = fit(
        tagger, groups, train, dev, task, learning_rate=learning_rate, batch_size=batch_size, epochs=epochs, seed=seed
    )
    return score(task, tagger.predict(test[0]), test[1]), on_dev


def flair_tagger(embedded: EmbeddedTask, task: Task, seed: int, *, epochs: int, hidden_size: int) -> Scores:
    """Scores of Flair's tagger on the vectors."""
    from scripts.quality.flair_tagger import flair_score

    return flair_score(embedded, task, seed, epochs=epochs, hidden_size=hidden_size), None


TaskFiles = tuple[list[LabelledSentence], list[LabelledSentence] | None, list[LabelledSentence] | None]
"""The sentences of a task's train, dev and test files, in their order."""


def read_task(task: TaskConfig, labelled: str) -> TaskFiles:
    """Read a task's files.

    Raises:
        SystemExit: one of them is not there, or there is nothing in one to learn, to choose the epoch with or to score.
    """
    paths = [None if name is None else Path(labelled, name) for name in (task.train, task.dev, task.test)]
    for path in paths:
        if path is not None and not path.is_file():
            sys.exit(f"no such file: {path}")
    columns = task.token_column, task.tag_column
    train, dev, test = (None if path is None else read_labelled(path, *columns) for path in paths)
    files = train or [], dev, test
    check_splits(divide(*files), task.train)
    return files


def embed_task(embedder: ComparedEmbedder, files: TaskFiles) -> EmbeddedTask:
    """The vectors of a task's files: whole ones in their order, which are divided after that."""

    def embed(sentences: list[LabelledSentence] | None) -> list[EmbeddedSentence] | None:
        if sentences is None:
            return None
        vectors = map(torch.from_numpy, embedder.read(sentences))
        return [EmbeddedSentence(*pair) for pair in zip(sentences, vectors, strict=True)]

    train, dev, test = files
    return divide(embed(train) or [], embed(dev), embed(test))


TAGGERS: dict[TaggerName, Callable[..., Scores]] = {"probe": probe, "flair": flair_tagger}


def tagger_settings(tagger: TaggerName, task: TaskConfig) -> dict[str, Any]:
    """What a tagger is called with, beside the vectors."""
    if tagger == "flair":
        return {"epochs": task.flair_epochs, "hidden_size": 256}
    return {
        "epochs": task.epochs,
        "projection_size": 256,
        "hidden_size": 128,
        "dropout": 0.3,
        "learning_rate": 0.002,
        "batch_size": 32,
    }


def task_settings(task: TaskConfig) -> dict[str, Any]:
    """Which sentences are learnt and scored, and what is tagged in them."""
    return {key: value for key, value in asdict(task).items() if key not in ("epochs", "flair_epochs")}


def scores(
    embedders: dict[str, EmbedderConfig],
    tasks: dict[str, TaskConfig],
    labelled: str,
    output: str,
    taggers: list[TaggerName] = ["probe"],  # noqa: B006 (the form in which a command line shows it)
    seeds: list[int] = [1, 2, 3],  # noqa: B006
    only_embedders: list[str] | None = None,
    only_tasks: list[str] | None = None,
    threads: int = 1,
) -> None:
    """Train taggers on the vectors of each embedder, and print the table of their scores on the test sentences.

    Args:
        embedders: rows, by name.
        tasks: columns, by name.
        labelled: folder that the tasks' files are in.
        output: file of results, one JSON line each, which is added to.
        taggers: "probe", a BiLSTM-CRF that takes minutes, and "flair", Flair's SequenceTagger.
        seeds: of the taggers.
        only_embedders: rows to compute in this run; all by default.
        only_tasks: columns to compute in this run; all by default.
        threads: of our engine, and inside PyTorch's operators.

    Raises:
        CharEmbedError: an embedder that cannot be loaded; nothing is computed then.
        SystemExit: a task that cannot be read, results of other settings, weights or sentences; as above.
    """
    torch.set_num_threads(threads)
    logging.getLogger("flair").setLevel(logging.WARNING)
    if not Path(output).parent.is_dir():
        sys.exit(f"no such folder: {Path(output).parent}")
    mend(output)
    results = read_results(output)
    _check_settings(results, embedders, tasks, output)
    done = {(one.embedder, one.task, one.tagger, one.seed) for one in results}
    jobs = [
        job
        for name in _chosen("embedders", embedders, only_embedders)
        for column in _chosen("tasks", tasks, only_tasks)
        for tagger in taggers
        for seed in dict.fromkeys(seeds)
        if (job := (name, column, tagger, seed)) not in done
    ]
    files = {column: read_task(tasks[column], labelled) for column in dict.fromkeys(job[1] for job in jobs)}
    sentences = {column: sentences_digest(divide(*of_task)) for column, of_task in files.items()}
    loaded = {name: load(embedders[name], threads) for name in dict.fromkeys(job[0] for job in jobs)}
    _check_digests(results, {name: embedder.weights for name, embedder in loaded.items()}, sentences, output)
    progress = tqdm(total=len(jobs), unit="tagger")
    for name, of_embedder in itertools.groupby(jobs, key=lambda job: job[0]):
        embedder = loaded[name]
        for column, of_task in itertools.groupby(of_embedder, key=lambda job: job[1]):
            progress.set_postfix_str(f"{name}, {column}: embedding")
            task = tasks[column]
            embedded = embed_task(embedder, files[column])
            for _, _, tagger, seed in of_task:
                progress.set_postfix_str(f"{name}, {column}: {tagger}, seed {seed}")
                began = time.perf_counter()
                settings = tagger_settings(tagger, task)
                on_test, on_dev = TAGGERS[tagger](embedded, task.task, seed, **settings)
                result = Result(
                    embedder=name,
                    task=column,
                    tagger=tagger,
                    seed=seed,
                    metric=METRICS[task.task],
                    score=round(on_test, 4),
                    dev_score=None if on_dev is None else round(on_dev, 4),
                    minutes=round((time.perf_counter() - began) / 60, 2),
                    settings=asdict(embedders[name]),
                    task_settings=task_settings(task),
                    tagger_settings=settings,
                    weights=embedder.weights,
                    sentences=sentences[column],
                )
                results.append(result)
                add_result(output, result)
                progress.update()
    progress.close()
    for tagger in taggers:
        print_table(results, list(embedders), {name: METRICS[task.task] for name, task in tasks.items()}, tagger)


def _check_settings(
    results: list[Result], embedders: dict[str, EmbedderConfig], tasks: dict[str, TaskConfig], output: str
) -> None:
    """End where a name now means something else than it did: the table would hold scores of both."""
    for one in results:
        compared = []
        if one.embedder in embedders:
            compared.append((one.embedder, one.settings, asdict(embedders[one.embedder])))
        if one.task in tasks:
            task = tasks[one.task]
            compared.append((one.task, one.task_settings, task_settings(task)))
            compared.append((one.task, one.tagger_settings, tagger_settings(one.tagger, task)))
        for name, then, now in compared:
            changed = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
            if changed:
                _end_for(output, name, ", ".join(changed))


def _check_digests(results: list[Result], weights: dict[str, str], sentences: dict[str, str], output: str) -> None:
    """End where a model or the sentences of a task are others than they were."""
    for one in results:
        if weights.get(one.embedder, one.weights) != one.weights:
            _end_for(output, one.embedder, "weights")
        if sentences.get(one.task, one.sentences) != one.sentences:
            _end_for(output, one.task, "sentences")


def _end_for(output: str, name: str, changed: str) -> NoReturn:
    sys.exit(
        f"{output} has results of {name} made with other {changed}: "
        "rename it, delete its lines, or take another --output"
    )


def _chosen(what: str, known: dict[str, Any], names: list[str] | None) -> list[str]:
    unknown = sorted(set(names or []) - set(known))
    if unknown:
        sys.exit(f"no {what} named {', '.join(unknown)}: there are {', '.join(known)}")
    return [name for name in known if names is None or name in names]


def speed(
    embedders: dict[str, EmbedderConfig],
    tasks: dict[str, TaskConfig],
    labelled: str,
    task: str | None = None,
    only_embedders: list[str] | None = None,
    rounds: int = 5,
    threads: int = 1,
) -> None:
    """Time to embed the test sentences of one task, by turns, and the size of the weights.

    Args:
        embedders: rows, by name; ratios are to the first.
        tasks: where to find the task.
        labelled: folder that the tasks' files are in.
        task: name of the task; the first by default.
        only_embedders: rows to time; all by default.
        rounds: how many times each embeds them.
        threads: of our engine, and inside PyTorch's operators.

    Raises:
        CharEmbedError: an embedder that cannot be loaded.
    """
    torch.set_num_threads(threads)
    name = task or next(iter(tasks))
    chosen = tasks[name]
    sentences = read_labelled(Path(labelled, chosen.test or chosen.train), chosen.token_column, chosen.tag_column)
    loaded = {row: load(embedders[row], threads) for row in _chosen("embedders", embedders, only_embedders)}
    times = interleaved({row: partial(embedder.read, sentences) for row, embedder in loaded.items()}, rounds)
    first = times[next(iter(times))]
    words = sum(len(sentence.words) for sentence in sentences)
    print(f"{name}, {len(sentences):,} sentences, {words:,} words, {threads} thread(s), median of {rounds} rounds")
    print("| embedder | times as long as the first | words a second | weights, MB | width |")
    print("| --- " * 5 + "|")
    for row, embedder in loaded.items():
        ratio = statistics.median(a / b for a, b in zip(times[row], first, strict=True))
        width = embedder.read(sentences[:1])[0].shape[1]
        rate = words / statistics.median(times[row])
        print(f"| {row} | {ratio:.2f} | {rate:,.0f} | {embedder.megabytes:.1f} | {width} |")


if __name__ == "__main__":
    auto_cli([scores, speed], as_positional=False)
