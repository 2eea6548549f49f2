"""Compare word vectors by the taggers that can be trained on them: one row per embedder, one column per task.

    python -m scripts.quality.evaluate scores --config configs/quality/models.yaml --labelled LABELLED \\
      --output quality.jsonl
    python -m scripts.quality.evaluate speed --config configs/quality/models.yaml --labelled LABELLED

LABELLED is the folder with the files of the tasks. Each result is a line of the output file. Results in the file are
not computed again, so an interrupted run resumes, and a row that is added later joins the table. Needs
`charembed[dev]`, and `charembed[flair]` for Flair and transformers.
"""

from __future__ import annotations

import itertools
import logging
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from tabulate import tabulate
from tqdm import tqdm

from charembed import CharEmbedError
from charembed.cli.runner import run_script
from charembed.tagging.metrics import METRICS
from charembed.tagging.splits import divide, sentences_digest
from scripts.benchmarks.interleaved import interleaved
from scripts.quality.embedders import ComparedEmbedder, EmbedderConfig, load_embedder
from scripts.quality.results import (
    Result,
    Setting,
    TaggerName,
    add_result,
    check_unchanged,
    drop_incomplete_line,
    print_table,
    read_results,
)
from scripts.quality.taggers import TaggerScores, score_tagger, tagger_seeds, tagger_settings
from scripts.quality.tasks import TaskConfig, TaskFiles, embed_noisy_test, embed_task, read_task


@dataclass(frozen=True)
class Job:
    """One tagger to train."""

    embedder: str
    """Name of the embedder."""
    task: str
    """Name of the task."""
    tagger: TaggerName
    """Name of the tagger."""
    seed: int
    """Seed of the tagger; 0 for one that has none."""


@dataclass(frozen=True)
class Inputs:
    """Everything that the jobs read, loaded and checked before the first one starts."""

    embedders: dict[str, ComparedEmbedder]
    """Embedders by name."""
    files: dict[str, TaskFiles]
    """Sentences of each task."""
    digests: dict[str, str]
    """Digest of each task's sentences."""


@dataclass
class Scores:
    """Train taggers on the vectors of each embedder, and print the table of their scores on the test sentences."""

    embedders: dict[str, EmbedderConfig]
    """Rows of the table, by name."""
    tasks: dict[str, TaskConfig]
    """Columns of the table, by name."""
    labelled: str
    """Folder that contains the files of the tasks."""
    output: str
    """Results file, to which each result is appended as a JSON line."""
    taggers: list[TaggerName] = field(default_factory=lambda: ["probe"])
    """Taggers to train: probe, a BiLSTM-CRF that takes minutes, flair, Flair's SequenceTagger, or linear, a logistic
    regression over a word and its neighbours."""
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    """Seeds of the taggers; the linear one has none."""
    only_embedders: list[str] | None = None
    """Rows to compute in this run; all by default."""
    only_tasks: list[str] | None = None
    """Columns to compute and print in this run; all by default."""
    threads: int = 1
    """CPU threads of charembed and of PyTorch's operators."""

    def __call__(self) -> None:
        """Compute the missing results, append them to the results file and print the table.

        Raises:
            CharEmbedError: an embedder or task cannot be loaded, or the results file was made with other settings,
                weights or sentences; nothing is computed then.
        """
        torch.set_num_threads(self.threads)
        logging.getLogger("flair").setLevel(logging.WARNING)

        # Read what exists, and check everything before hours of work.
        if not Path(self.output).parent.is_dir():
            raise CharEmbedError(f"no such folder: {Path(self.output).parent}; create it, or change --output")
        drop_incomplete_line(self.output)
        results = read_results(self.output)
        check_unchanged(self.output, self._settings(results))
        jobs = self._missing_jobs(results)
        inputs = self._load(jobs)
        check_unchanged(self.output, _digests(results, inputs))

        # Train one tagger after the other; jobs are sorted, so each task is embedded once per embedder.
        progress = tqdm(total=len(jobs), unit="tagger")
        for (name, column), group in itertools.groupby(jobs, key=lambda job: (job.embedder, job.task)):
            progress.set_postfix_str(f"{name}, {column}: embedding")
            embedded = embed_task(inputs.embedders[name], inputs.files[column])
            noisy_test = embed_noisy_test(inputs.embedders[name], inputs.files[column])
            for job in group:
                progress.set_postfix_str(f"{name}, {column}: {job.tagger}, seed {job.seed}")
                started = time.perf_counter()
                scores = score_tagger(job.tagger, embedded, noisy_test, self.tasks[column], job.seed)
                result = self._result(job, inputs, scores, minutes=(time.perf_counter() - started) / 60)
                results.append(result)
                add_result(self.output, result)
                progress.update()
        progress.close()

        for tagger in self.taggers:
            columns = _select("tasks", list(self.tasks), self.only_tasks)
            metrics = {name: METRICS[self.tasks[name].kind] for name in columns}
            print_table(results, list(self.embedders), metrics, tagger)

    def _settings(self, results: Iterable[Result]) -> Iterator[Setting]:
        """Yield the recorded and current settings of all results whose embedder or task is configured now."""
        for result in results:
            compared = []
            if result.embedder in self.embedders:
                compared.append((result.embedder, result.settings, asdict(self.embedders[result.embedder])))
            if result.task in self.tasks:
                task = self.tasks[result.task]
                compared.append((result.task, result.task_settings, task.data_settings))
                compared.append((result.task, result.tagger_settings, tagger_settings(result.tagger, task)))
            for owner, recorded, current in compared:
                for key in recorded.keys() | current.keys():
                    yield Setting(owner, key, recorded.get(key), current.get(key))

    def _missing_jobs(self, results: Iterable[Result]) -> list[Job]:
        done = {Job(result.embedder, result.task, result.tagger, result.seed) for result in results}
        return [
            job
            for name in _select("embedders", list(self.embedders), self.only_embedders)
            for column in _select("tasks", list(self.tasks), self.only_tasks)
            for tagger in self.taggers
            for seed in tagger_seeds(tagger, self.seeds)
            if (job := Job(name, column, tagger, seed)) not in done
        ]

    def _load(self, jobs: list[Job]) -> Inputs:
        for job in jobs:
            if job.tagger == "flair" and self.tasks[job.task].test_noise:
                raise CharEmbedError(
                    f"test_noise of {job.task} does not work with the tagger flair: leave out one of them"
                )
        files = {name: read_task(self.tasks[name], self.labelled) for name in dict.fromkeys(job.task for job in jobs)}
        # Files first: they are quicker to read than models, and mistakes show sooner.
        return Inputs(
            embedders={
                name: load_embedder(self.embedders[name], self.threads)
                for name in dict.fromkeys(job.embedder for job in jobs)
            },
            files=files,
            digests={name: sentences_digest(divide(each.train, each.dev, each.test)) for name, each in files.items()},
        )

    def _result(self, job: Job, inputs: Inputs, scores: TaggerScores, minutes: float) -> Result:
        task = self.tasks[job.task]
        return Result(
            **asdict(job),
            metric=METRICS[task.kind],
            score=round(scores.test, 4),
            dev_score=None if scores.dev is None else round(scores.dev, 4),
            minutes=round(minutes, 2),
            settings=asdict(self.embedders[job.embedder]),
            task_settings=task.data_settings,
            tagger_settings=tagger_settings(job.tagger, task),
            weights=inputs.embedders[job.embedder].weights,
            sentences=inputs.digests[job.task],
            noisy_scores={rate: round(score, 4) for rate, score in scores.noisy.items()} or None,
        )


def _digests(results: Iterable[Result], inputs: Inputs) -> Iterator[Setting]:
    """Yield the recorded and current digests of weights and sentences of all results whose inputs are loaded."""
    for result in results:
        if result.embedder in inputs.embedders:
            yield Setting(result.embedder, "weights", result.weights, inputs.embedders[result.embedder].weights)
        if result.task in inputs.digests:
            yield Setting(result.task, "sentences", result.sentences, inputs.digests[result.task])


def _select(kind: str, known: list[str], names: list[str] | None) -> list[str]:
    """Return the known names that are selected, in their order; all if `names` is None."""
    unknown = sorted(set(names or []) - set(known))
    if unknown:
        raise CharEmbedError(f"no {kind} named {', '.join(unknown)}: choose from {', '.join(known)}")
    return [name for name in known if names is None or name in names]


@dataclass
class Speed:
    """Measure the time to embed the test sentences of one task, and print it with the size of the weights."""

    embedders: dict[str, EmbedderConfig]
    """Rows of the table, by name; ratios are relative to the first."""
    tasks: dict[str, TaskConfig]
    """Tasks by name."""
    labelled: str
    """Folder that contains the files of the tasks."""
    task: str | None = None
    """Name of the task; the first by default."""
    only_embedders: list[str] | None = None
    """Rows to measure; all by default."""
    rounds: int = 5
    """How often each embedder embeds the sentences."""
    threads: int = 1
    """CPU threads of charembed and of PyTorch's operators."""

    def __call__(self) -> None:
        """Measure the embedders in turn and print the table.

        Raises:
            CharEmbedError: an embedder cannot be loaded, or a name is unknown.
        """
        torch.set_num_threads(self.threads)
        name = self.task or next(iter(self.tasks))
        _select("tasks", list(self.tasks), [name])
        task = self.tasks[name]
        sentences = task.read(Path(self.labelled, task.test or task.train))
        rows = _select("embedders", list(self.embedders), self.only_embedders)
        embedders = {row: load_embedder(self.embedders[row], self.threads) for row in rows}
        seconds = interleaved({row: partial(each.read, sentences) for row, each in embedders.items()}, self.rounds)

        words = sum(len(sentence.words) for sentence in sentences)
        cells = []
        for row, embedder in embedders.items():
            ratios = (own / first for own, first in zip(seconds[row], seconds[rows[0]], strict=True))
            rate = words / statistics.median(seconds[row])
            width = embedder.read(sentences[:1])[0].shape[1]
            cells.append(
                [row, f"{statistics.median(ratios):.2f}", f"{rate:,.0f}", f"{embedder.megabytes:.1f}", str(width)]
            )
        print(
            f"{name}, {len(sentences):,} sentences, {words:,} words, {self.threads} thread(s),"
            f" median of {self.rounds} rounds\n"
        )
        headers = ["embedder", "time relative to the first", "words per second", "weights, MB", "dimensions"]
        print(tabulate(cells, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    run_script({"scores": Scores, "speed": Speed})
