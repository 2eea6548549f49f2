"""Draw charts with matplotlib: SVG that follows the colors of the page around it, and SVG and PNG for papers."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from charembed.errors import import_extra
from charembed.report.charts import BarChart, Chart, ConfusionChart, LineChart, ScatterChart
from charembed.util.controls import escape_controls
from charembed.util.files import escape_undecodable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#3b7dd8", "#d9721f", "#2a9d6e", "#b3509e", "#8a7a1f", "#5c6bc0", "#c0504d", "#1f9bb0")
"""Colors that can be told apart on white and on black, also by most people who are color-blind."""
_INK, _GRID, _PAPER = "#010203", "#040506", "#070809"
"""Colors that no chart uses otherwise: what they stand for is replaced by colors of the page."""
_PAGE_COLORS = {_INK: "var(--ink)", _GRID: "var(--grid)", _PAPER: "var(--paper)"}
_PRINT_COLORS = {_INK: "#1c1c1c", _GRID: "#d0d0d0", _PAPER: "#ffffff"}
_MAX_PRINTED_COUNTS = 20
"""Number of tags above which the cells of a confusion matrix are too small for numbers."""
_LONGEST_LABEL, _LONGEST_TITLE = 20, 45
"""Characters to which labels, and titles and legends, are cut: long ones would leave no room for the chart."""
_USUAL_LABEL = 8
"""Characters of a label for which bars and confusion matrices have room; longer ones make them larger."""
_THOUSANDS = 10_000
"""Positions from which on an axis has its numbers in thousands and millions."""
_DPI = 200


def require_matplotlib() -> None:
    """Check that charts can be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    import_extra("matplotlib", extra="report", purpose="drawing a report")


def page_svg(chart: Chart) -> str:
    """Return an `<svg>` element for a page that defines the colors `--ink`, `--grid` and `--paper`."""
    svg = _draw(chart, "svg", {"svg.fonttype": "none", "svg.hashsalt": chart.name}).decode()
    svg = svg[svg.index("<svg") :]
    # The page gives the width; a picture without one of its own keeps its proportions.
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"|(<svg [^>]*?)height="[^"]*" ', r"\1\2", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", svg, count=1)
    # Ids are those of one picture, but a page holds several.
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{chart.name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return _replace_colors(svg, _PAGE_COLORS)


def print_svg(chart: Chart) -> bytes:
    """Return the content of an SVG file, in black on white and with its letters as outlines."""
    return _replace_colors(_draw(chart, "svg", {"svg.hashsalt": chart.name}).decode(), _PRINT_COLORS).encode()


def print_png(chart: Chart) -> bytes:
    """Return the content of a PNG file, in black on white."""
    return _draw(chart, "png", {}, _PRINT_COLORS)


def _replace_colors(svg: str, colors: dict[str, str]) -> str:
    for color, replacement in colors.items():
        svg = svg.replace(color, replacement)
    return svg


def _draw(chart: Chart, kind: str, options: dict[str, Any], colors: dict[str, str] | None = None) -> bytes:
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ink, grid, paper = ((colors or {}).get(color, color) for color in (_INK, _GRID, _PAPER))
    style: Any = {
        "font.size": 10,
        "font.family": "sans-serif",
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": grid,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "xtick.color": ink,
        "ytick.color": ink,
        "grid.color": grid,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "text.parse_math": False,  # names of runs and tags may have dollar signs
        "axes.formatter.useoffset": False,
    }
    with rc_context(style | options):
        figure = Figure(figsize=_size(chart), layout="constrained", facecolor="none" if colors is None else paper)
        _fill(figure, chart, (ink, paper))
        content = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else None  # the same chart has the same bytes
        with warnings.catch_warnings():
            if options.get("svg.fonttype") == "none":  # the browser has fonts of its own
                warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from (current )?font", UserWarning)
            figure.savefig(content, format=kind, dpi=_DPI, metadata=metadata)
    return content.getvalue()


def _shorten(text: str, length: int = _LONGEST_LABEL) -> str:
    """Return a text as one line of limited length, which any picture can hold. What is left out is in the middle."""
    text = escape_controls(escape_undecodable(text), line_ends=True)
    end = length // 2
    return text if len(text) <= length else f"{text[: length - end - 1]}…{text[-end:]}"


def _size(chart: Chart) -> tuple[float, float]:
    """Return width and height in inches."""
    if isinstance(chart, BarChart):
        return 4.8 + _room(chart.bars), 1.2 + 0.27 * len(chart.bars)
    if isinstance(chart, ConfusionChart):
        side = 0.32 * max(6, len(chart.labels))
        room = _room(chart.labels)
        return side + 2.2 + room, side + 1.4 + room
    return 4.8, 3.1


def _room(labels: Iterable[str]) -> float:
    """Return how many inches labels need in addition to usual ones."""
    return 0.15 * max(0, max(len(_shorten(label)) for label in labels) - _USUAL_LABEL)


def _fill(figure: Figure, chart: Chart, colors: tuple[str, str]) -> None:
    axes: Axes = figure.subplots()
    if isinstance(chart, ScatterChart):
        _fill_map(axes, chart)
        return
    axes.set_title(_shorten(chart.title, _LONGEST_TITLE))
    if isinstance(chart, LineChart):
        _fill_lines(axes, chart)
    elif isinstance(chart, BarChart):
        _fill_bars(axes, chart)
    else:
        _fill_confusion(axes, chart, *colors)


def _fill_lines(axes: Axes, chart: LineChart) -> None:
    from matplotlib.ticker import EngFormatter

    for series in chart.series:
        axes.plot(
            series.x,
            series.y,
            color=PALETTE[series.color % len(PALETTE)],
            linestyle=(0, (4, 2)) if series.is_dashed else "solid",
            linewidth=0.8 if series.is_faint else 1.6,
            alpha=0.45 if series.is_faint else 1.0,
            marker="o" if series.has_markers or len(series.x) == 1 else None,  # a line of one point shows nothing
            markersize=4,
            label=_shorten(series.label, _LONGEST_TITLE) or None,
        )
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    if _end(chart) >= _THOUSANDS:
        axes.xaxis.set_major_formatter(EngFormatter(sep="\N{NO-BREAK SPACE}"))  # 2.5 M
    axes.grid(visible=True, axis="y")
    _limit(axes, chart)
    if any(series.label for series in chart.series):
        axes.legend(fontsize=9).set_in_layout(False)  # it is inside the axes, however long its names are


def _limit(axes: Axes, chart: LineChart) -> None:
    """Set the range of the y axis to the values after the start of the lines."""
    start = chart.settled * _end(chart)
    values = [y for series in chart.series for x, y in zip(series.x, series.y, strict=True) if x >= start]
    if chart.settled and values and max(values) > min(values):
        margin = 0.05 * (max(values) - min(values))
        axes.set_ylim(min(values) - margin, max(values) + margin)


def _end(chart: LineChart) -> float:
    """Return the largest position on the x axis."""
    return max((x for series in chart.series for x in series.x), default=0.0)


def _fill_bars(axes: Axes, chart: BarChart) -> None:
    positions = range(len(chart.bars))
    bars = axes.barh(positions, list(chart.bars.values()), height=0.7, color=PALETTE[0])
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
    axes.set_yticks(positions, [_shorten(label) for label in chart.bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08 * chart.maximum)
    axes.set_xlabel(chart.x_label)
    axes.tick_params(axis="y", length=0)


def _fill_map(axes: Axes, chart: ScatterChart) -> None:
    for number, (label, points) in enumerate(chart.groups.items()):
        x, y = zip(*points, strict=True)
        drawn = axes.scatter(
            x, y, s=36, color=PALETTE[number % len(PALETTE)], alpha=0.75, linewidths=0, label=_shorten(label)
        )
        drawn.set_gid(f"points-{number}")  # a page finds the points of the group by this name
    axes.set_xticks([])
    axes.set_yticks([])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.figure.legend(loc="outside upper left", ncols=len(chart.groups), fontsize=10)


def _fill_confusion(axes: Axes, chart: ConfusionChart, ink: str, paper: str) -> None:
    from matplotlib.colors import to_rgba

    # Each row by its sum, so that rare tags show as much as frequent ones.
    shares = [_shares(row) for row in chart.counts]
    axes.imshow([[to_rgba(PALETTE[0], share) for share in row] for row in shares], interpolation="nearest")
    positions, labels = range(len(chart.labels)), [_shorten(label) for label in chart.labels]
    axes.set_xticks(positions, labels, rotation=90)
    axes.set_yticks(positions, labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.tick_params(length=0)
    if len(chart.labels) > _MAX_PRINTED_COUNTS:
        return
    for row, counts in enumerate(chart.counts):
        for column, count in enumerate(counts):
            if count:
                color = paper if shares[row][column] > 0.6 else ink
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=color)


def _shares(row: Sequence[int]) -> list[float]:
    return [count / max(1, sum(row)) for count in row]
