"""Write a report as one HTML file that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from charembed.errors import import_extra
from charembed.report.charts import Chart
from charembed.report.drawing import page_svg
from charembed.util.controls import escape_controls
from charembed.version import __version__


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows."""

    header: list[str]
    """Headings of the columns."""
    rows: list[list[str]]
    """The cells."""
    title: str = ""
    """What the table shows; empty if the section says so."""
    is_long: bool = False
    """Whether to show the table only on demand."""


@dataclass(frozen=True)
class Sample:
    """Text that a model wrote."""

    source: str
    """Which model wrote it, and when."""
    text: str
    """The text."""


@dataclass(frozen=True)
class Piece:
    """A piece of a sentence."""

    text: str
    """The words."""
    note: str = ""
    """What is wrong with them; empty if nothing is."""


@dataclass(frozen=True)
class Section:
    """A part of a report under a heading of its own."""

    title: str
    """The heading."""
    note: str = ""
    """A sentence below the heading."""
    charts: Sequence[Chart] = field(default_factory=list)
    """Charts, drawn side by side where there is room."""
    tables: Sequence[Table] = field(default_factory=list)
    """Tables."""
    samples: Sequence[Sample] = field(default_factory=list)
    """Generated text."""
    sentences: Sequence[Sequence[Piece]] = field(default_factory=list)
    """Sentences with wrong pieces."""


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    """The heading of the page."""
    sections: list[Section]
    """Its parts."""

    @property
    def charts(self) -> list[Chart]:
        """The charts of all sections."""
        return [chart for section in self.sections for chart in section.charts]

    def html(self, refresh_seconds: int | None = None) -> str:
        """Return the page. What runs and models contain is shown as text, and nothing is loaded from elsewhere.

        Args:
            refresh_seconds: reload the page in the browser after this time; None for never.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        # Jinja2 comes with PyTorch, but only the extra promises it.
        jinja2 = import_extra("jinja2", extra="report", purpose="writing a report")
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("charembed.report"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["svg"] = page_svg
        html: str = environment.get_template("report.html").render(
            page=self, refresh_seconds=refresh_seconds, version=__version__
        )
        # HTML cannot hold lone surrogates, which the words of a text may be.
        return escape_controls(html.encode("utf-8", "replace").decode())


def option_texts(fields: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the options of a configuration by their dotted names, as text."""
    flat: dict[str, str] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            flat |= option_texts(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            flat[prefix + name] = "" if value is None else text
    return flat
