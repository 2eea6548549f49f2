"""What a chart shows, as data: `drawing` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    label: str
    """Its entry in the legend; empty for none."""
    x: Sequence[float]
    """Positions from left to right."""
    y: Sequence[float]
    """Values at these positions."""
    color: int = 0
    """Number of its color. Series that belong together have the same one."""
    is_dashed: bool = False
    """Whether the line is dashed."""
    is_faint: bool = False
    """Whether the line stays in the background, as noisy values do behind their trend."""
    has_markers: bool = False
    """Whether each value has a marker."""


@dataclass(frozen=True)
class LineChart:
    """Values over time, characters, steps or epochs."""

    name: str
    """Name of the file, without its ending."""
    title: str
    """What it shows."""
    x_label: str
    """Quantity from left to right, with its unit."""
    y_label: str
    """Quantity from bottom to top, with its unit."""
    series: list[Series]
    """The lines."""
    settled: float = 0.0
    """Share of the x axis, from its start, whose values do not count for the range of the y axis: the first losses of a
    run are so high that nothing else could be told apart."""


@dataclass(frozen=True)
class BarChart:
    """One bar per label."""

    name: str
    """Name of the file, without its ending."""
    title: str
    """What it shows."""
    x_label: str
    """Quantity of the bars, with its unit."""
    bars: dict[str, float]
    """Length of each bar by its label, from top to bottom."""
    maximum: float
    """Right end of the axis."""


@dataclass(frozen=True)
class ConfusionChart:
    """How often each true tag was predicted as each other one."""

    name: str
    """Name of the file, without its ending."""
    title: str
    """What it shows."""
    labels: list[str]
    """The tags."""
    counts: list[list[int]]
    """Counts by true tag (row) and predicted tag (column)."""


@dataclass(frozen=True)
class ScatterChart:
    """Points of several groups on a map, whose axes mean nothing."""

    name: str
    """Name of the file, without its ending."""
    groups: dict[str, list[tuple[float, float]]]
    """The points of each group."""


Chart = LineChart | BarChart | ConfusionChart | ScatterChart
