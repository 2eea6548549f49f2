"""Reading files that are not what they claim to be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from charembed.errors import CharEmbedError
from charembed.util.digests import file_digest
from charembed.util.mapped_files import check_mapped
from charembed.util.reading import MAX_JSON_DEPTH, check_regular, parse_json, read_file
from charembed.util.sealed_tensors import check_sealed

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@needs_pipes
@pytest.mark.parametrize("read", [read_file, check_regular, file_digest, check_sealed])
def test_a_pipe_is_refused_at_once(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")  # nobody ever writes to it
    with pytest.raises(CharEmbedError, match="pipe is not a regular file"):
        read(tmp_path / "pipe")


def test_a_mapped_file_that_becomes_shorter_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "ids.bin"
    path.write_bytes(bytes(100))
    mapped = np.memmap(path, np.uint16, "r", offset=50)
    check_mapped(mapped)
    check_mapped(np.zeros(3))
    os.truncate(path, 98)
    with pytest.raises(CharEmbedError, match=r"ids.bin has become shorter while it was open: 98 of 100 bytes"):
        check_mapped(mapped)
    path.unlink()
    check_mapped(mapped)


@pytest.mark.parametrize("path", ["/dev/zero", "/proc"])
def test_devices_and_folders_are_refused(path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"needs {path}")
    with pytest.raises(CharEmbedError, match="is not a regular file"):
        read_file(Path(path))


def test_a_file_that_claims_no_bytes_is_empty() -> None:
    """Reading /proc/kmsg would wait for the next message of the kernel."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc")
    assert read_file(Path("/proc/self/environ")) == b""


def test_files_without_data_and_large_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(
        CharEmbedError, match="weights claims to have 1,099,511,627,776 bytes, of which only 0 are stored"
    ):
        read_file(path)
    with pytest.raises(CharEmbedError, match="expected at most 100"):
        read_file(path, max_bytes=100)


def test_json_is_limited_in_depth_and_size() -> None:
    def nested(depth: int) -> str:
        return '{"a":[' * depth + "1" + "]}" * depth

    assert parse_json(nested(MAX_JSON_DEPTH // 2 - 1)) == json.loads(nested(MAX_JSON_DEPTH // 2 - 1))
    for depth in (MAX_JSON_DEPTH // 2 + 1, 100_000):
        with pytest.raises(ValueError, match="nested more than 50 levels deep"):
            parse_json(nested(depth))
    with pytest.raises(ValueError, match="expected at most"):
        parse_json(b" " * 5_000_000)
