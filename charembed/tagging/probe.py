"""Compare language models by the taggers that can be trained on their vectors."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from charembed.embedding.embedder import CharEmbedder
from charembed.errors import CharEmbedError
from charembed.tagging.comparison import Comparison, ProbeResult
from charembed.tagging.fitting import FitConfig, LabelledVectors, fit_network, score_split
from charembed.tagging.options import TaggerOptions
from charembed.tagging.splits import LabelledSplits, sentences_digest
from charembed.tagging.stored_vectors import VectorFolder
from charembed.util.checks import check_seed
from charembed.util.files import atomic_write, scratch_folder, sole_writer, user_path
from charembed.util.outputs import output_file

logger = logging.getLogger(__name__)

_WITHOUT_EFFECT = ("models", "seeds", "output", "threads")
"""Options that the scores of a tagger do not depend on, or that are recorded with them."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(TaggerOptions):
    """A comparison of language models by taggers."""

    models: list[str]
    """Language models to compare, in a list such as [en, runs/mine/best]: bundled models, model folders or
    hf://owner/name. The others are compared with the first."""
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    """Seeds of the taggers, in a list; each model gets a tagger of each. fit.seed cannot be set."""
    output: str | None = None
    """JSON file for the scores, written after each tagger. Taggers whose scores it has are not trained again, so the
    same command resumes, and one with more models or seeds adds to it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in (("models", self.models), ("seeds", self.seeds)):
            _check_distinct(name, values)
        for seed in self.seeds:
            check_seed(seed)
        if self.fit.seed != FitConfig().seed:
            raise CharEmbedError(f"fit.seed {self.fit.seed} has no effect here: set seeds")


def compare_models(config: ProbeConfig) -> Comparison:
    """Train taggers on the vectors of several models, one for each seed, and return their scores.

    The taggers are those of `train_tagger`. The vectors of one model at a time are stored in float16 in a folder for
    temporary files (environment variable TMPDIR), where the next comparison removes those of a process that was killed.

    Args:
        config: the comparison.

    Raises:
        CharEmbedError: a labelled file is wrong, a model does not exist, two models have the same vectors, an option is
            invalid, or the output is not a file or has results of other options, sentences or models.
        OSError: a file cannot be read or written.
    """
    if config.output is None:
        return _compare(config, None)
    output = output_file(user_path(config.output))
    with sole_writer(output):
        return _compare(config, output)


def _compare(config: ProbeConfig, output: Path | None) -> Comparison:
    """Compare the models of a configuration, with the results in a file if there is one."""
    # Find mistakes before anything is trained.
    labelled = config.read_splits()
    static = config.load_words()
    embedders = {model: config.load_embedder(model) for model in config.models}
    for hint in _hints(embedders):
        logger.info("%s", hint)
    comparison = Comparison(
        settings=_settings(config),
        digests={"sentences": sentences_digest(labelled.splits), "words": "" if static is None else static.digest()},
        sentences=labelled.splits.sizes(),
        layers=labelled.kinds,
        models=_distinct_digests(embedders),
        seeds=config.seeds,
        results=[],
    )
    if output is not None:
        if output.exists():
            comparison.add_results_of(output)
        atomic_write(output, comparison.to_json())

    # One model after the other, so that the vectors of one at a time take space on the disk.
    with tqdm(total=len(config.models) * len(config.seeds), unit="tagger", disable=None) as progress:
        for model, embedder in embedders.items():
            missing = comparison.missing_seeds(model)
            progress.update(len(config.seeds) - len(missing))
            if not missing:
                continue
            progress.set_postfix_str(model)
            with scratch_folder("probe", names={"*.bin", ".*.bin.*.tmp"}) as folder:
                vectors = VectorFolder(folder, embedder, static)
                for result in _train_taggers(config, labelled, vectors, model, missing):
                    comparison.results.append(result)
                    if output is not None:
                        atomic_write(output, comparison.to_json())
                    progress.update()
    return comparison


def _train_taggers(
    config: ProbeConfig, labelled: LabelledSplits, vectors: VectorFolder, model: str, seeds: Sequence[int]
) -> Iterator[ProbeResult]:
    """Train a tagger for each seed and yield its scores.

    Args:
        config: the comparison.
        labelled: the labelled sentences.
        vectors: where their vectors are stored.
        model: name of the model whose vectors they are.
        seeds: seeds of the taggers.
    """
    names = ("train", "dev", "test")
    stored = [vectors.vectors(name, split) for name, split in zip(names, labelled.splits, strict=True)]
    moments = stored[0].moments()
    train, dev, test = (LabelledVectors(*pair) for pair in zip(labelled.splits, stored, strict=True))
    for seed in seeds:
        start = time.perf_counter()
        fit = dataclasses.replace(config.fit, seed=seed)
        fitter = fit_network(config.network(vectors.dim), labelled.layers(), train, dev, moments, fit)
        dev_scores, test_scores = (
            {name: round(layer.score, 4) for name, layer in score_split(fitter.network, split).items()}
            for split in (dev, test)
        )
        yield ProbeResult(
            model,
            vectors.embedder.pretrained.digest(),
            vectors.dim,
            seed,
            dev_scores,
            test_scores,
            fitter.best_epoch.epoch,
            minutes=round((time.perf_counter() - start) / 60, 3),
        )


def _settings(config: ProbeConfig) -> dict[str, Any]:
    """Return the options that the scores of a tagger depend on, in addition to its model and seed."""
    settings = {key: value for key, value in asdict(config).items() if key not in _WITHOUT_EFFECT}
    del settings["fit"]["seed"]
    return settings


def _check_distinct(name: str, values: Sequence[object]) -> None:
    """
    Raises:
        CharEmbedError: there are no values, or one appears twice.
    """
    if not values:
        raise CharEmbedError(f"{name} is an empty list: give at least one")
    for number, value in enumerate(values):
        if value in values[:number]:
            raise CharEmbedError(f"{name} contains {value} twice: give each once")


def _hints(embedders: Mapping[str, CharEmbedder]) -> list[str]:
    """Return a sentence for each difference between the models that is not one of their training."""

    def values(name: str, of: Callable[[CharEmbedder], object], advice: str) -> list[str]:
        of_models = {model: of(embedder) for model, embedder in embedders.items()}
        if len(set(of_models.values())) == 1:
            return []
        listed = ", ".join(f"{model} {value}" for model, value in of_models.items())
        return [f"the models differ in {name} ({listed}), which may decide the comparison: {advice}"]

    return [
        *values("readout", lambda embedder: embedder.pretrained.readout, "give them the same one with --readout"),
        *values(
            "static word vectors",
            lambda embedder: "with" if "words" in embedder.parts else "without",
            "compare models that all have them, or none",
        ),
        *values("dimensions", lambda embedder: embedder.embedding_dim, "--dim reduces them to the same number"),
    ]


def _distinct_digests(embedders: Mapping[str, CharEmbedder]) -> dict[str, str]:
    """Return the digests of the models by their names.

    Raises:
        CharEmbedError: two of them have the same vectors.
    """
    names: dict[str, str] = {}
    for name, embedder in embedders.items():
        digest = embedder.pretrained.digest()
        if digest in names:
            raise CharEmbedError(f"{names[digest]} and {name} are the same model: name two different ones")
        names[digest] = name
    return {name: digest for digest, name in names.items()}
