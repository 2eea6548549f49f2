"""The result of comparing language models by taggers: a table, a conclusion, a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from charembed.errors import CharEmbedError
from charembed.pretrained.model_files import parse_versioned
from charembed.tagging.metrics import METRICS
from charembed.tagging.seed_scores import PairedDifference, Spread
from charembed.tagging.tag_schemes import LayerKind
from charembed.util.reading import read_file

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ProbeResult:
    """The scores of one tagger."""

    model: str
    """Name of the language model, as it was given."""
    digest: str
    """Digest of what its vectors depend on."""
    dimensions: int
    """Dimensions of the word vectors."""
    seed: int
    """Seed of the tagger."""
    dev: dict[str, float]
    """Scores on dev by layer, in per cent."""
    test: dict[str, float]
    """Scores on test by layer, in per cent."""
    best_epoch: int
    """Number of the epoch that was best on dev."""
    minutes: float
    """Time to train and score the tagger. The time to compute the vectors is not included."""


@dataclass(frozen=True)
class Comparison:
    """Language models compared by the taggers that were trained on their vectors."""

    settings: dict[str, Any]
    """Options of the taggers."""
    digests: dict[str, str]
    """Digests of the labelled sentences and of the static word vectors."""
    sentences: dict[str, int]
    """Number of sentences of each split."""
    layers: dict[str, LayerKind]
    """Kind of each layer of tags, by its name."""
    models: dict[str, str]
    """Digest of each model that is compared, by its name. The others are compared with the first."""
    seeds: list[int]
    """Seeds of the taggers that are compared."""
    results: list[ProbeResult]
    """The scores; there may be others than those of `models` and `seeds`."""

    def missing_seeds(self, model: str) -> list[int]:
        """Return the seeds for which a model has no scores yet."""
        done = {result.seed for result in self.results if result.model == model}
        return [seed for seed in self.seeds if seed not in done]

    def table(self) -> str:
        """Return the scores for a terminal."""
        rows = [
            [
                model,
                f"{layer}, {METRICS[self.layers[layer]]}",
                results[0].dimensions,
                Spread.of([result.dev[layer] for result in results]),
                Spread.of([result.test[layer] for result in results]),
                " ".join(f"{result.test[layer]:.2f}" for result in results),
                f"{sum(result.minutes for result in results) / len(results):.1f}",
            ]
            for layer, model, results in self._by_layer_and_model()
        ]
        seeds = " ".join(map(str, self.seeds))
        header = ["model", "layer", "dimensions", "dev", "test", f"test by seed ({seeds})", "minutes per tagger"]
        return tabulate(rows, header, tablefmt="simple", disable_numparse=True)

    def conclusions(self) -> list[str]:
        """Return a sentence for each layer and model about its difference from the first model on test.

        There are none while taggers are missing.
        """
        if any(map(self.missing_seeds, self.models)):
            return []
        first, *others = self.models
        return [self._conclusion(layer, first, model) for layer in self.layers for model in others]

    def to_json(self) -> bytes:
        """Return the content of the output file."""
        summary = [
            {
                "model": model,
                "layer": layer,
                "metric": METRICS[self.layers[layer]],
                "dimensions": results[0].dimensions,
                "dev": asdict(Spread.of([result.dev[layer] for result in results])),
                "test": asdict(Spread.of([result.test[layer] for result in results])),
            }
            for layer, model, results in self._by_layer_and_model()
        ]
        content = {
            "format_version": FORMAT_VERSION,
            "settings": self.settings,
            "digests": self.digests,
            "sentences": self.sentences,
            "summary": summary,
            "conclusions": self.conclusions(),
            "results": [asdict(result) for result in self.results],
        }
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")

    def add_results_of(self, path: Path) -> None:
        """Add the results of an output file that was written with the same options.

        Raises:
            CharEmbedError: the file is something else, or has results of other options, sentences or models.
            OSError: the file cannot be read.
        """
        keys = {"settings": dict, "digests": dict, "results": list}
        content = parse_versioned(read_file(path), path, "the output of charembed probe", FORMAT_VERSION, keys)
        changed = {
            key
            for name, now in (("settings", self.settings), ("digests", self.digests))
            for key in content[name].keys() | now.keys()
            if content[name].get(key) != now.get(key)
        }
        results = [self._parse(value, path) for value in content["results"]]
        changed |= {
            f"weights of {result.model}"
            for result in results
            if self.models.get(result.model, result.digest) != result.digest
        }
        if changed:
            raise CharEmbedError(
                f"output {path} has results that were made with other {', '.join(sorted(changed))}: choose another"
                " output, or delete the file"
            )
        self.results.extend(results)

    def _parse(self, value: object, path: Path) -> ProbeResult:
        """Return a result of an output file.

        Raises:
            CharEmbedError: it is damaged.
        """
        kinds = {"model": str, "digest": str, "dimensions": int, "seed": int, "best_epoch": int}
        try:
            result = ProbeResult(**value)  # type: ignore[arg-type]  # anything else is a TypeError
            numbers = [result.minutes, *result.dev.values(), *result.test.values()]
            valid = all(type(getattr(result, name)) is kind for name, kind in kinds.items())
            valid = valid and all(map(math.isfinite, numbers))
            valid = valid and result.dev.keys() == result.test.keys() == self.layers.keys()
        except (TypeError, AttributeError):
            valid = False
        if not valid:
            raise CharEmbedError(f"{path} is damaged: {value!r:.200} is not the result of a tagger; delete the file")
        return result

    def _by_layer_and_model(self) -> Iterator[tuple[str, str, list[ProbeResult]]]:
        """Yield the layers and models with the results of the model; without models that have none yet."""
        for layer in self.layers:
            for model in self.models:
                if results := self._results_of(model):
                    yield layer, model, results

    def _results_of(self, model: str) -> list[ProbeResult]:
        """Return the results of a model, in the order of the seeds."""
        by_seed = {result.seed: result for result in self.results if result.model == model}
        return [by_seed[seed] for seed in self.seeds if seed in by_seed]

    def _conclusion(self, layer: str, first: str, model: str) -> str:
        if len(self.seeds) < 2:
            return f"{layer}: one seed says nothing about the difference of {model} from {first}: give at least 2"
        scores, others = ([result.test[layer] for result in self._results_of(name)] for name in (model, first))
        difference = PairedDifference.of(scores, others)
        if not difference.has_spread:
            return f"{layer}: the seeds agree too well to measure a spread: {difference}; use a larger test file"
        if not difference.exceeds_spread:
            return f"{layer}: {model} and {first} do not differ by more than the spread of the seeds: {difference}"
        comparison = "better" if difference.mean > 0 else "worse"
        return f"{layer}: {model} is {comparison} than {first} by more than the spread of the seeds: {difference}"
