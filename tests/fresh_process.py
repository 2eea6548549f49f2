"""Run code in a new process without importing PyTorch and charembed again."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

# This module imports little, because each of the processes imports it.
PROCESSES = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
"""Starts processes from a server that has imported PyTorch and charembed already, which saves seconds for each. What
charembed imports when it is needed, such as onnxruntime and huggingface_hub, is not imported there."""
PROCESSES.set_forkserver_preload(["charembed.training.train", "charembed.cli.main", "charembed.cli.train"])


def run_python(code: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a process from the server of `PROCESSES`, with more environment variables."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        process = PROCESSES.Process(target=_execute, args=(code, os.environ | (environment or {}), outputs))
        process.start()
        process.join()
        return subprocess.CompletedProcess(code, process.exitcode, *(path.read_text() for path in outputs))


def _execute(code: str, environment: dict[str, str], outputs: list[Path]) -> None:
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.update(environment)
    exec(code, {"__name__": "__main__"})
