"""Join a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from charembed.errors import CharEmbedError, import_extra

logger = logging.getLogger(__name__)

AUTO = "auto"
"""Name of the cluster that this machine belongs to."""


@contextmanager
def joined_cluster(address: str) -> Iterator[ModuleType]:
    """Join a cluster, and leave it when the context ends.

    Args:
        address: `host:port` of the head node, `ray://host:port`, or `auto` for the cluster that this machine belongs
            to. If it belongs to none, `auto` starts Ray on this machine alone, without its dashboard.

    Yields:
        The module `ray`, connected.

    Raises:
        CharEmbedError: there is no cluster at the address.
        MissingExtraError: Ray is not installed.
    """
    # Ray would report its use to its makers; read when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = import_extra("ray", extra="ray", purpose="--cluster")
    options = {"logging_level": logging.WARNING, "log_to_driver": False}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address != AUTO:
            raise CharEmbedError(f"no Ray cluster can be reached at {address}: {_first_line(error)}") from error
        logger.info("this machine belongs to no Ray cluster: starting Ray on it alone")
        ray.init(address="local", include_dashboard=False, **options)
    try:
        yield ray
    finally:
        ray.shutdown()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
