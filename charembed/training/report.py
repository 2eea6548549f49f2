"""Summarise runs in report.json, and compare them in a table."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from charembed.dataset.encoded_corpus import EncodedCorpus
from charembed.errors import CharEmbedError
from charembed.text.vocab import UNKNOWN_ID
from charembed.util.files import atomic_write
from charembed.util.reading import MAX_JSON_BYTES, parse_json, read_file
from charembed.version import __version__

REPORT = "report.json"
_FREQUENT_CHARACTERS = 100
"""Number of characters whose counts a report has."""

State = Literal["running", "interrupted", "diverged", "finished", "killed"]


def _versions() -> dict[str, str]:
    return {
        "charembed": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


@dataclass
class Report:
    """How a run went, or how far it has come."""

    state: State
    """State of the run. The file of a killed run still says "running": see `load_report`."""
    steps: int
    """Number of optimizer steps taken."""
    seconds: float
    """Seconds of the run, validations included; the time between a kill and the checkpoint before it does not count."""
    characters: int
    """Characters read by each direction."""
    characters_per_second: float
    """Mean rate of each direction in training, validations excluded."""
    best: dict[str, Any] | None
    """The validation whose model is in best/."""
    validations: list[dict[str, Any]]
    """All validations, in order."""
    corpus: dict[str, Any]
    """Size and digest of the text, its vocabulary and its most frequent characters."""
    weights: int
    """Number of weights of all directions."""
    precision: str
    """Precision of the computation."""
    rollbacks: int
    """Number of rollbacks."""
    config: dict[str, Any]
    """The whole configuration."""
    versions: dict[str, str] = field(default_factory=_versions)
    """Versions of charembed, PyTorch and Python, and the kind of machine."""
    static_vectors: dict[str, Any] | None = None
    """Source and size of the static word vectors; None without."""

    def save(self, path: Path) -> None:
        """Write report.json.

        Raises:
            OSError: the file cannot be written.
        """
        atomic_write(path, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Report:
        """Read the report in the folder of a run.

        Raises:
            CharEmbedError: there is no report, or it is damaged.
        """
        try:
            report = cls(**parse_json(read_file(folder / REPORT, MAX_JSON_BYTES)))
            # Raises if anything is missing or of another type.
            if not all(isinstance(cell, str) for cell in report_rows(report).values()):
                raise TypeError("a value has another type")
            return report
        except FileNotFoundError as error:
            if not folder.exists():
                raise CharEmbedError(f"{folder} does not exist") from error
            raise CharEmbedError(
                f"{folder} has no {REPORT}: it is not the folder of a run, or the run has not been validated yet"
            ) from error
        except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise CharEmbedError(f"{folder / REPORT} cannot be read: {error}") from error


def describe_corpus(encoded: EncodedCorpus, *, is_stream: bool) -> dict[str, Any]:
    """Return the `corpus` of a report. The size of a stream is not known."""
    by_count = [int(k) for k in np.argsort(-encoded.counts, kind="stable") if k != UNKNOWN_ID and encoded.counts[k]]
    return {
        "documents": None if is_stream else encoded.documents,
        "characters": None if is_stream else encoded.characters,
        "validation_characters": len(encoded.valid),
        "sha256": encoded.fingerprint,
        "vocabulary": len(encoded.vocab),
        "unknown_rate": encoded.unknown_rate,
        "counted_characters": int(encoded.counts.sum()),
        "frequent_characters": [
            [encoded.vocab.characters[k - 1], int(encoded.counts[k])] for k in by_count[:_FREQUENT_CHARACTERS]
        ],
    }


ARROWS = {"forward": "→", "backward": "←"}
"""Sign of each direction."""


def table(reports: dict[str, Report]) -> str:
    """Return a table with one column per run and one line per property.

    Args:
        reports: the reports by the headings of their columns.
    """
    # Lay out by columns, whose widths differ, and print by lines.
    columns = [[name, *report_rows(report).values()] for name, report in reports.items()]
    names = ["", *report_rows(next(iter(reports.values())))]
    widths = [max(map(len, column)) for column in (names, *columns)]
    lines = zip(names, *columns, strict=True)
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def report_rows(report: Report) -> dict[str, str]:
    """Return the properties of a run by name, as text."""
    characters, model = report.corpus["characters"], report.config["model"]
    words = report.config.get("objective", {}).get("words", 0)  # runs of 0.1.0 predict characters alone
    return {
        "state": report.state,
        "minutes": f"{report.seconds / 60:.1f}",
        "steps": f"{report.steps:,}",
        "characters read, each direction": f"{report.characters:,}",
        "characters of text": "a stream" if characters is None else f"{characters:,}",
        "characters per second, each direction": f"{report.characters_per_second:,.0f}",
        "vocabulary": f"{report.corpus['vocabulary']:,}",
        "unknown characters": f"{report.corpus['unknown_rate']:.4%}",
        "recurrence": f"{model['cell']} {model['hidden_size']} × {model['num_layers']}",
        "weights": f"{report.weights:,}",
        "precision": report.precision,
        "bits per character, best": _bits(report.best),
        "bits per character, last": _bits(report.validations[-1] if report.validations else None),
        "words predicted": f"{words:,}" if words else "no",
        "nats per word, last": _nats(report.validations[-1] if report.validations else None),
        "static word vectors": _static_vectors(report.static_vectors),
        "rollbacks": str(report.rollbacks),
    }


def _static_vectors(summary: dict[str, Any] | None) -> str:
    return "none" if summary is None else f"{summary['words']:,} × {summary['dimensions']}"


def _bits(validation: dict[str, Any] | None) -> str:
    if validation is None:
        return "none yet"
    return " ".join(f"{ARROWS[d]} {bits:.4f}" for d, bits in validation["bits_per_character"].items())


def _nats(validation: dict[str, Any] | None) -> str:
    nats = {} if validation is None else validation.get("nats_per_word", {})
    return " ".join(f"{ARROWS[d]} {value:.3f}" for d, value in nats.items()) or "none"
