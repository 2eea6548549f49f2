"""Receives what is known of a run; hands on report.json, and a table of it for people."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from charembed.errors import CharEmbedError
from charembed.util.files import atomic_write
from charembed.version import __version__

REPORT = "report.json"


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

    state: Literal["running", "interrupted", "diverged", "finished", "killed"]
    """"running" in the file of a killed run, too."""
    steps: int
    seconds: float
    """Of the run, with validations; the time between a kill and the checkpoint before it does not count."""
    characters: int
    """Read by each direction."""
    characters_per_second: float
    """Mean over the training of each direction, validations left out."""
    best: dict[str, Any] | None
    """The validation whose model is in best/."""
    validations: list[dict[str, Any]]
    """All of them, in order."""
    corpus: dict[str, Any]
    weights: int
    """Of all directions."""
    precision: str
    """Of the computation."""
    rollbacks: int
    config: dict[str, Any]
    """The whole configuration."""
    versions: dict[str, str] = field(default_factory=_versions)

    def save(self, path: Path) -> None:
        """Write report.json.

        Raises:
            OSError: it cannot be written.
        """
        atomic_write(path, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Report:
        """Read that of a run's folder.

        Raises:
            CharEmbedError: there is none, or it is damaged.
        """
        try:
            report = cls(**json.loads((folder / REPORT).read_text(encoding="utf-8")))
            _facts(report)  # all that it must hold is there
            return report
        except FileNotFoundError as error:
            raise CharEmbedError(
                f"{folder} holds no {REPORT}: it is no folder of a run, or one that just began"
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CharEmbedError(f"{folder / REPORT} cannot be read: {error}") from error


def table(reports: dict[str, Report]) -> str:
    """Runs side by side, a line for each thing worth knowing."""
    columns = [[name, *_facts(report).values()] for name, report in reports.items()]
    names = ["", *_facts(next(iter(reports.values())))]
    widths = [max(map(len, column)) for column in (names, *columns)]
    rows = zip(names, *columns, strict=True)
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _facts(report: Report) -> dict[str, str]:
    characters, model = report.corpus["characters"], report.config["model"]
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
        "rollbacks": str(report.rollbacks),
    }


def _bits(validation: dict[str, Any] | None) -> str:
    if validation is None:
        return "none yet"
    arrows = {"forward": "→", "backward": "←"}
    return " ".join(f"{arrows[d]} {bits:.4f}" for d, bits in validation["bits_per_character"].items())
