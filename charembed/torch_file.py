"""Receives a file that `torch.save` wrote; hands on what it holds, and runs nothing that it asks for.

`torch.load` will not do for a file that nobody vouches for: told to read a class that it does not know it unpickles
freely, and it hands archives that look like TorchScript to an interpreter. Here both formats, that of archives and the
one before PyTorch 1.6, are taken apart with Python's own `zipfile` and an unpickler that knows a few names.
"""

from __future__ import annotations

import codecs
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from charembed.errors import CharEmbedError

Names = Mapping[tuple[str, str], Any]

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""What a file of the older format begins with."""
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read_torch_file(path: Path, names: Names) -> Any:
    """What was saved; tensors on the CPU.

    Args:
        path: the file.
        names: module and name of what else may be in it, and what stands for it.

    Raises:
        CharEmbedError: something else is in it, or it is no such file, or damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        try:
            if start == b"PK\x03\x04":
                return _read_archive(file, names)
            if start[:1] == b"\x80":
                return _read_sequence(file, names, path.stat().st_size)
        except CharEmbedError as error:
            raise CharEmbedError(f"{path}: {error}") from error
        except Exception as error:  # whatever a hostile or damaged file makes its readers meet
            raise CharEmbedError(f"{path} is damaged or not complete: {type(error).__name__}: {error}") from error
    raise CharEmbedError(f"{path} is no file of PyTorch's")


class _Kind(NamedTuple):
    """Stands for a class of storages. A pickle can set attributes of what it names, but not of a tuple."""

    dtype: torch.dtype


Storage = Callable[[torch.dtype, str, int], Tensor]
"""Numbers by their type, name and count. Shape: (count,)"""


class _Unpickler(pickle.Unpickler):
    """Knows what tensors are made of and the names that it is given, and refuses everything else by name."""

    def __init__(self, file: BinaryIO, names: Names, storage: Storage | None = None) -> None:
        super().__init__(file)
        self._names = {**_tensor_names(), **names}
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise CharEmbedError(f"it holds {module}.{name}, which has no place in it: it is not loaded")
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        match pid:
            case ("storage", _Kind(dtype), str(key), _, int(count), *view) if self._storage and count >= 0:
                whole = self._storage(dtype, key, count)
                match view:
                    case [] | [None]:
                        return whole
                    case [(_, int(start), int(size))]:
                        return whole.narrow(0, start, size)
        raise CharEmbedError("it refers to something that is no tensor: it is not loaded")


def _tensor_names() -> dict[tuple[str, str], Any]:
    """Made anew for each file: a pickle can set attributes of functions and classes that it names."""

    def rebuild_tensor(storage: object, offset: int, size: Any, stride: Any, *_: object) -> Tensor:
        if not isinstance(storage, Tensor) or storage.dim() != 1:
            raise CharEmbedError("a tensor in it has no numbers")
        count = 1
        for width in size:
            count *= width
        if count > storage.numel():  # as views that repeat their numbers have, however large they claim to be
            raise CharEmbedError(f"a tensor of the shape {tuple(size)} in it has only {storage.numel()} numbers")
        return torch.as_strided(storage, size, stride, offset)

    def encode(text: str, encoding: str) -> bytes:  # bytes in pickles of protocol 2
        if encoding != "latin1":
            raise CharEmbedError(f"it holds text in the encoding {encoding!r}")
        return codecs.latin_1_encode(text)[0]

    class OrderedDict(dict[Any, Any]):
        pass

    kinds = {("torch", name): _Kind(dtype) for name, dtype in _DTYPES.items()}
    return kinds | {
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): encode,
    }


def _read_archive(file: BinaryIO, names: Names) -> Any:
    """The format since PyTorch 1.6: a zip archive with a pickle, `data.pkl`, and `data/0`, …, the numbers."""
    with zipfile.ZipFile(file) as archive:
        members = {PurePosixPath(name): info for name, info in archive.NameToInfo.items()}
        pickles = [name for name in members if name.name == "data.pkl" and len(name.parts) == 2]
        if any(name.name == "constants.pkl" for name in members):
            raise CharEmbedError("it is a TorchScript program, which holds code: it is not loaded")
        if len(pickles) != 1:
            raise CharEmbedError("it is an archive, but not one of PyTorch's")
        root = pickles[0].parent

        def content(name: str) -> bytes:
            info = members[root / name]
            if info.compress_type != zipfile.ZIP_STORED:  # PyTorch packs nothing; a bomb is packed
                raise CharEmbedError(f"{name} in it is packed")
            return archive.read(info)

        if root / "byteorder" in members and content("byteorder") != b"little":
            raise CharEmbedError("it was written on a big-endian machine")
        storages: dict[str, Tensor] = {}

        def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
            if key not in storages:
                data = bytearray(content(f"data/{key}"))
                if len(data) != count * dtype.itemsize:
                    raise CharEmbedError(f"the numbers data/{key} are {len(data)} bytes, not {count} of {dtype}")
                storages[key] = torch.frombuffer(data, dtype=dtype) if count else torch.empty(0, dtype=dtype)
            return storages[key]

        return _Unpickler(io.BytesIO(content("data.pkl")), names, storage).load()


def _read_sequence(file: BinaryIO, names: Names, size: int) -> Any:
    """The format before PyTorch 1.6: pickles of a magic number, a version, the machine, what was saved and the order of
    storages, whose numbers follow."""
    if (_Unpickler(file, {}).load(), _Unpickler(file, {}).load()) != (_MAGIC, _PROTOCOL):
        raise CharEmbedError("it is no file of PyTorch's")
    if not _Unpickler(file, {}).load().get("little_endian", True):
        raise CharEmbedError("it was written on a big-endian machine")
    storages: dict[str, Tensor] = {}
    left = size

    def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
        nonlocal left
        if key not in storages:
            left -= count * dtype.itemsize
            if left < 0:
                raise CharEmbedError("it claims to hold more numbers than it is long")
            storages[key] = torch.zeros(count, dtype=dtype)
        return storages[key]

    saved = _Unpickler(file, names, storage).load()
    for key in _Unpickler(file, {}).load():
        whole = storages[key].view(torch.uint8) if storages[key].numel() else storages[key]
        if int.from_bytes(file.read(8), "little") != storages[key].numel():
            raise CharEmbedError(f"the numbers {key} are not as many as it says")
        if file.readinto(memoryview(whole.numpy())) != whole.numel():  # type: ignore[arg-type,attr-defined]
            raise CharEmbedError("it ends too early")
    return saved
