"""Write the reports of runs and taggers as files."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from charembed.errors import CharEmbedError, MissingExtraError
from charembed.report.drawing import print_png, print_svg, require_matplotlib
from charembed.report.page import Page
from charembed.report.run_page import RunData, run_page
from charembed.report.tagger_page import tagger_page
from charembed.tagging.tagger_folder import HTML, is_tagger
from charembed.tagging.training_report import TaggerReport
from charembed.training.run_log import LOG
from charembed.util.files import atomic_write
from charembed.util.outputs import check_output_folder

logger = logging.getLogger(__name__)

WATCH_SECONDS = 10.0
"""Time between two looks at a run that is watched."""


def report_page(folders: Sequence[Path]) -> Page:
    """Return the report of runs, or of one tagger.

    Args:
        folders: folders of runs, or one folder of a tagger.

    Raises:
        CharEmbedError: a folder is neither, or there are taggers and something else.
    """
    if any(is_tagger(folder) for folder in folders):
        if len(folders) > 1:
            raise CharEmbedError("a page shows several runs, or one tagger: name one folder, or folders of runs only")
        return tagger_page(TaggerReport.load(folders[0]), folders[0].resolve().name)
    return run_page([RunData.load(folder, name) for name, folder in _names(folders).items()])


def write_figures(page: Page, folder: Path, kind: str) -> list[Path]:
    """Write each chart of a report to a file of its own, for papers.

    Args:
        page: the report.
        folder: where to write; created if it is missing.
        kind: svg or png.

    Returns:
        The files.

    Raises:
        CharEmbedError: the folder cannot be one, as in `check_output_folder`.
        MissingExtraError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    check_output_folder(folder)
    draw = {"svg": print_svg, "png": print_png}[kind]
    files = []
    for chart in page.charts:
        content = draw(chart)
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"{chart.name}.{kind}")
        atomic_write(files[-1], content)
    return files


def write_final_report(folder: Path) -> None:
    """Write report.html into the folder of a run or a tagger that has ended, if it can be drawn.

    Raises:
        CharEmbedError: the folder is neither.
        OSError: the file cannot be written.
    """
    try:
        require_matplotlib()
    except MissingExtraError as error:
        logger.info("%s is not written: %s", folder / HTML, error)
        return
    atomic_write(folder / HTML, report_page([folder]).html())


def watch(folders: Sequence[Path], html: Path, seconds: float = WATCH_SECONDS) -> None:
    """Renew a page whenever the log of a run has grown, until all runs have ended.

    Args:
        folders: folders of runs.
        html: the page, which reloads itself in a browser.
        seconds: time between two looks.

    Raises:
        CharEmbedError: a folder is not that of a run, or the page is not a regular file.
        OSError: the page cannot be written.
    """
    seen: list[int] = []
    while True:
        runs = [RunData.load(folder, name) for name, folder in _names(folders).items()]
        is_running = any(run.report.state == "running" for run in runs)
        sizes = [(folder / LOG).stat().st_size for folder in folders]
        if sizes != seen or not is_running:
            atomic_write(html, run_page(runs).html(round(seconds) if is_running else None))
        if not is_running:
            return
        seen = sizes
        time.sleep(seconds)


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """Return folders by names that tell them apart: as short as possible, from the end of the path."""
    resolved = [folder.resolve() for folder in folders]
    for length in range(1, max(len(path.parts) for path in resolved) + 1):
        names = {"/".join(path.parts[-length:]): folder for path, folder in zip(resolved, folders, strict=True)}
        if len(names) == len(folders):
            return names
    raise CharEmbedError("a run is named twice: name each one once")
