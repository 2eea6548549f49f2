"""Read a file that `torch.save` wrote, without executing anything that it asks for.

`torch.load` is not safe for files from strangers. With `weights_only=False` it runs whatever code a file contains.
Even with `weights_only=True` a file could execute code: before PyTorch 2.6 (CVE-2025-32434), and before PyTorch 2.10
by setting items of objects that are not dicts and by storages smaller than declared (CVE-2026-24747). charembed
supports those versions, and Flair's files contain an instance of a class, which `weights_only=True` refuses.

This module therefore takes both formats of `torch.save` apart itself: the zip archives that it has written since
PyTorch 1.6, and the sequence of pickles that it wrote before. `charembed.pretrained.pickle_reader` reads the pickles
as data; here the storages are read, and every size and offset in the file is checked before it is used.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from charembed.errors import CharEmbedError
from charembed.pretrained.pickle_reader import PickleReader, StorageStub, TensorStub, quote_untrusted
from charembed.util.reading import read_file

_MAGIC_NUMBER, _PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
"""First two objects of a file in the format before PyTorch 1.6."""
_MAX_DIMENSIONS = 8
_MAX_EMPTY_ELEMENTS = 2**40
"""Limit for the sizes, strides and offset of a tensor without elements, which no storage limits."""


@dataclass(frozen=True)
class TorchFile:
    """Content of a file."""

    content: Any
    """The saved object: dicts, lists, tuples, strings and numbers, with stubs for instances and tensors."""
    _storages: dict[str, Tensor]

    @property
    def elements(self) -> int:
        """Number of elements of all storages together."""
        return sum(len(storage) for storage in self._storages.values())

    def tensor(self, value: object) -> Tensor:
        """Return the tensor that a stub in `content` stands for.

        Raises:
            CharEmbedError: The value does not stand for a tensor, or the tensor does not fit into its storage.
        """
        if type(value) is not TensorStub or type(value.storage) is not StorageStub:
            raise CharEmbedError(f"it has {type(value).__name__} where a tensor is expected")
        storage = value.storage
        if not _fits(value, storage.size):
            raise CharEmbedError(f"a tensor in it does not fit into its storage of {storage.size} elements")
        offset = 0 if 0 in value.size else storage.start + value.offset
        return self._storages[storage.key].as_strided(value.size, value.stride, offset)


def _fits(tensor: TensorStub, storage_size: int) -> bool:
    """Return whether all elements of a tensor are in its storage.

    PyTorch would check that too, but only if the numbers have the types it expects. The number of elements is limited
    as well: with strides of 0, a storage of one element could pose as a tensor of any size, and copying it would
    exhaust the memory.

    Args:
        tensor: Tensor as the file describes it.
        storage_size: Number of elements of the storage, or of the view of it.
    """
    size, stride, offset = tensor.size, tensor.stride, tensor.offset
    # The types: exactly tuples of as many ints, none negative.
    if type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride) or len(size) > _MAX_DIMENSIONS:
        return False
    if not all(type(number) is int and number >= 0 for number in (offset, *size, *stride)):
        return False
    # A tensor without elements reads nothing, but PyTorch still has to compute with its sizes.
    if 0 in size:
        largest: int = max(offset, *stride, math.prod(max(width, 1) for width in size))
        return largest <= _MAX_EMPTY_ELEMENTS
    # The element with the largest index is the last one along each dimension.
    last_index = offset + sum((width - 1) * step for width, step in zip(size, stride, strict=True))
    return bool(last_index < storage_size and math.prod(size) <= storage_size)


def read_torch_file(path: Path, classes: Collection[str] = ()) -> TorchFile:
    """Read a file in either format of `torch.save`.

    Args:
        path: Path of the file.
        classes: Classes whose instances the file may contain, by module and name; they become `InstanceStub`s.

    Raises:
        CharEmbedError: The file contains anything else, was not written by `torch.save`, or is damaged.
        OSError: The file cannot be read.
    """
    content = read_file(path)
    try:
        if content.startswith(b"PK\x03\x04"):
            return _read_archive(io.BytesIO(content), classes, len(content))
        if content.startswith(b"\x80"):
            return _read_pickles(io.BytesIO(content), classes)
    except CharEmbedError as error:
        raise CharEmbedError(f"{path}: {error}") from error
    except Exception as error:  # damaged and hostile files raise errors of any type
        reason = f"{type(error).__name__}: {ascii(error)[:200]}"
        raise CharEmbedError(f"{path} is damaged or incomplete: {reason}") from error
    raise CharEmbedError(f"{path} is not a file of torch.save")


class _Archive:
    """The entries of a zip archive that `torch.save` wrote, all in one folder."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        """
        Args:
            archive: The archive.
            size: Size of the file in bytes.

        Raises:
            CharEmbedError: It is not an archive of `torch.save`, or it is a TorchScript program.
        """
        self._archive = archive
        self._names = archive.namelist()
        self._unread_bytes = size
        if any(name.endswith("constants.pkl") for name in self._names):
            raise CharEmbedError("it is a TorchScript program, which contains code: it is not loaded")
        pickles = [name for name in self._names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise CharEmbedError("it is a zip archive, but not one of torch.save")
        self._folder = pickles[0].removesuffix("data.pkl")

    def __contains__(self, name: str) -> bool:
        return self._folder + name in self._names

    def read(self, name: str) -> bytes:
        """Return the content of an entry.

        Raises:
            CharEmbedError: The entry is compressed, or the entries read so far are larger than the file.
        """
        info = self._archive.getinfo(self._folder + name)
        # torch.save does not compress. A compressed entry might be a zip bomb.
        if info.compress_type != zipfile.ZIP_STORED:
            raise CharEmbedError(f"its entry {quote_untrusted(name)} is compressed, which torch.save never does")
        # Entries may overlap, so that a small archive would unpack to a huge one.
        self._unread_bytes -= info.file_size
        if self._unread_bytes < 0:
            raise CharEmbedError("its entries together are larger than the file")
        return self._archive.read(info)


def _read_archive(file: BinaryIO, classes: Collection[str], size: int) -> TorchFile:
    """Read the format since PyTorch 1.6: a zip archive of the pickle `data.pkl` and the storages `data/0`, `data/1`,
    …"""
    with zipfile.ZipFile(file) as zip_file:
        archive = _Archive(zip_file, size)
        if "byteorder" in archive and archive.read("byteorder") != b"little":
            raise CharEmbedError("it was written on a big-endian machine, which is not supported")
        reader = PickleReader(classes)
        content = reader.read(io.BytesIO(archive.read("data.pkl")))
        storages = {
            key: _read_storage(archive.read(f"data/{key}"), dtype, count)
            for key, (dtype, count) in reader.storages.items()
        }
        return TorchFile(content, storages)


def _read_pickles(file: BinaryIO, classes: Collection[str]) -> TorchFile:
    """Read the format before PyTorch 1.6.

    It consists of five pickles, with a magic number, a version, a description of the machine, the saved object, and the
    keys of the storages in order; the storages follow.
    """
    if (PickleReader().read(file), PickleReader().read(file)) != (_MAGIC_NUMBER, _PROTOCOL_VERSION):
        raise CharEmbedError("it is not a file of torch.save")
    machine = PickleReader().read(file)
    if type(machine) is not dict or machine.get("little_endian") is False:
        raise CharEmbedError("it was written on a big-endian machine, which is not supported")
    reader = PickleReader(classes)
    content = reader.read(file)
    # The keys must be those that the tensors refer to. They may be objects of any type, so compare what they look like.
    keys = PickleReader().read(file)
    if type(keys) is not list or {*map(quote_untrusted, keys)} != {*map(quote_untrusted, reader.storages)}:
        raise CharEmbedError("the storages in it are not those that its tensors refer to")
    # Each storage is preceded by its number of elements.
    storages = {}
    for key in keys:
        dtype, count = reader.storages[key]
        if int.from_bytes(file.read(8), "little") != count:
            raise CharEmbedError(
                f"its storage {quote_untrusted(key)} does not have as many elements as its tensors say"
            )
        storages[key] = _read_storage(file.read(count * dtype.itemsize), dtype, count)
    return TorchFile(content, storages)


def _read_storage(data: bytes, dtype: torch.dtype, count: int) -> Tensor:
    """Return the elements of a storage. Shape: (count,)"""
    if len(data) != count * dtype.itemsize:
        raise CharEmbedError(f"a storage in it has {len(data)} bytes, expected {count} elements of {dtype}")
    return torch.frombuffer(bytearray(data), dtype=dtype) if count else torch.empty(0, dtype=dtype)
