"""Run units of work on a Ray cluster: Ray Data reads, schedules, repeats what was lost and holds back what is early."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import torch

from charembed.cluster.parts import row_count, write_tables
from charembed.cluster.unit_reader import UnitReader
from charembed.cluster.units import Unit
from charembed.errors import CharEmbedError, MissingExtraError, import_extra
from charembed.util.shared_folder import SharedFolder

logger = logging.getLogger(__name__)

_LOG_INTERVAL = 60.0
"""Seconds between two log lines."""
_RAYS_NOTE = "\nFailed to apply UDF transform"
"""How the note begins that Ray appends to the message of an error."""


class UnitTask(Protocol):
    """What is done with each unit."""

    @property
    def schema(self) -> Any:
        """Schema of PyArrow of the rows."""

    def tables(self, unit: Unit) -> Iterator[Any]:
        """Yield the rows of a unit in tables of PyArrow."""


class UnitWorker:
    """One process of the cluster: it loads the task once, and writes one file per unit."""

    def __init__(self, get_task: Callable[[], UnitTask], folder: SharedFolder) -> None:
        """
        Args:
            get_task: returns the task.
            folder: where to write.
        """
        self._task = get_task()
        self._folder = folder

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write the file of a unit, unless it is there already, and return its name and the number of its rows."""
        # A unit may come a second time: after a restart, or if its worker died before it could say that it was done.
        rows = row_count(self._folder, row["part"])
        if rows is None:
            rows = write_tables(self._task.tables(Unit.from_row(row)), self._task.schema, self._folder, row["part"])
        first, end = row["bounds"]
        return {"part": row["part"], "rows": rows, "texts": int(end - first)}


@dataclass
class Written:
    """What was written."""

    parts: set[str]
    """Names of the files."""
    rows: int = 0
    texts: int = 0


def run_units(ray: ModuleType, reader: UnitReader, task: UnitTask, folder: SharedFolder, *, gpus: bool) -> Written:
    """Read the units of a corpus and do a task with each on all cores, or on all GPUs, of a cluster.

    Args:
        ray: the module, connected to the cluster.
        reader: reads the units.
        task: what to do; it is sent to each worker once.
        folder: where to write.
        gpus: whether each worker takes a GPU instead of a core.

    Raises:
        CharEmbedError: a source cannot be read, a task failed, or the cluster has no cores or GPUs.
    """
    resource = "GPU" if gpus else "CPU"
    workers = int(ray.cluster_resources().get(resource, 0))
    if not workers:
        raise CharEmbedError(f"the Ray cluster has no {resource}: start a node with some, with `ray start`")
    data = import_extra("ray.data", extra="ray", purpose="--cluster")
    options = data.DataContext.get_current()
    # Each unit is a block of its own, so that workers get one at a time.
    options.target_max_block_size = options.target_min_block_size = 1
    options.enable_progress_bars = sys.stderr.isatty()
    reference = ray.put(task)  # it stays on the machine of this process, whatever other machine dies
    units = (
        data.from_items([{"source": number} for number in range(len(reader.sources))])
        # Reading is much faster than what follows, so it needs no core of its own.
        .flat_map(reader.read, num_cpus=0)
        .map(
            UnitWorker,
            fn_constructor_args=[lambda: ray.get(reference), folder],
            compute=data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
        )
    )
    with _readable_errors(ray):
        return _collect(units.iter_rows(), folder)


def is_on_gpu(model: torch.nn.Module) -> bool:
    """Return whether a model is on a GPU."""
    return next(model.parameters()).device.type == "cuda"


def _collect(results: Iterator[dict[str, Any]], folder: SharedFolder) -> Written:
    written, last_log = Written(set()), time.monotonic()
    for result in results:
        if result["part"] in written.parts:
            raise CharEmbedError(f"{folder.name}: Ray reports {result['part']} twice: run the same command again")
        written.parts.add(result["part"])
        written.rows += int(result["rows"])
        written.texts += int(result["texts"])
        if time.monotonic() - last_log > _LOG_INTERVAL:  # log files show no progress bar
            last_log = time.monotonic()
            logger.info("%s: %s rows in %s files", folder.name, f"{written.rows:,}", f"{len(written.parts):,}")
    return written


@contextmanager
def _readable_errors(ray: ModuleType) -> Iterator[None]:
    """Raise the error of a worker as itself, without Ray's report of where it happened."""
    try:
        yield
    except Exception as error:
        for cause in _causes(error):
            # Ray's own errors imitate the class of their cause.
            is_own = isinstance(cause, (CharEmbedError, MissingExtraError, OSError))
            if is_own and not isinstance(cause, ray.exceptions.RayError):
                # Ray appends how often it tried, and its own options for more attempts.
                cause.args = tuple(
                    part.partition(_RAYS_NOTE)[0] if isinstance(part, str) else part for part in cause.args
                )
                raise cause from error
        raise


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it comes from; Ray keeps the cause in an attribute of its own."""
    yield error
    for cause in (getattr(error, "cause", None), error.__cause__):
        if isinstance(cause, BaseException):
            yield from _causes(cause)
