"""Receives a file that `torch.save` wrote; hands on what it holds, and runs nothing that it asks for.

`torch.load` will not do for a file that nobody vouches for: told to read a class that it does not know it unpickles
freely, and it hands archives that look like TorchScript to an interpreter. Python's unpickler calls what it is told to
and trusts every number. Here both formats, that of archives and the one before PyTorch 1.6, are taken apart by hand:
the pickle in them becomes tables, lists, text, numbers and descriptions of tensors, and is refused where it holds more.
"""

from __future__ import annotations

import io
import pickletools
import stat
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from charembed.errors import CharEmbedError

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
_MOST_DIMENSIONS = 8


@dataclass
class Instance:
    """Stands for an instance of a class."""

    name: str
    """Of the class, with its module."""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TorchFile:
    """What such a file holds."""

    saved: Any
    """Tables, lists, tuples, text, numbers; instances and tensors as what stands for them."""
    _storages: dict[str, Tensor]

    def tensor(self, value: object) -> Tensor:
        """The tensor that something in `saved` stands for.

        Raises:
            CharEmbedError: it stands for none, or for one that is larger than its numbers.
        """
        match value:
            case _Saved(_Storage(key, start, count), int(offset), tuple(size), tuple(stride)):
                sound = len(size) == len(stride) <= _MOST_DIMENSIONS
                sound = sound and all(type(number) is int and number >= 0 for number in (offset, *size, *stride))
                if sound and 0 not in size:
                    numbers = last = 1
                    for width, step in zip(size, stride, strict=True):
                        numbers, last = numbers * width, last + (width - 1) * step
                    sound = max(numbers, offset + last) <= count
                if not sound:
                    raise CharEmbedError(f"a tensor in it has not the {count} numbers that it says")
                return self._storages[key].as_strided(size, stride, start + offset if 0 not in size else 0)
        raise CharEmbedError(f"it holds {type(value).__name__} where a tensor belongs")


def read_torch_file(path: Path, classes: Collection[str] = ()) -> TorchFile:
    """
    Args:
        path: the file.
        classes: names, with their modules, of those whose instances may be in it.

    Raises:
        CharEmbedError: something else is in it, or it is no such file, or damaged.
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise CharEmbedError(f"{path} is no file")
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        try:
            if start == b"PK\x03\x04":
                return _read_archive(file, classes, path.stat().st_size)
            if start[:1] == b"\x80":
                return _read_sequence(io.BytesIO(file.read()), classes)
        except CharEmbedError as error:
            raise CharEmbedError(f"{path}: {error}") from error
        except Exception as error:  # whatever a hostile or damaged file makes its readers meet
            reason = f"{type(error).__name__}: {ascii(error)[:200]}"
            raise CharEmbedError(f"{path} is damaged or not complete: {reason}") from error
    raise CharEmbedError(f"{path} is no file of PyTorch's")


def shown(name: object) -> str:
    """A name out of such a file, for messages: short, and without anything that a terminal would act on."""
    return ascii(name)[:100] if isinstance(name, (str, bytes, int)) else type(name).__name__


class _Name(NamedTuple):
    """Stands for a function or class. None of these stand-ins has attributes that a pickle could set."""

    name: str


class _Storage(NamedTuple):
    key: str
    start: int
    size: int


class _Saved(NamedTuple):
    storage: Any
    offset: Any
    size: Any
    stride: Any


_MARK = object()
_CONSTANTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
}
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


_KNOWN = (
    "torch._utils._rebuild_tensor_v2",
    "collections.OrderedDict",
    "collections.defaultdict",
    "builtins.int",  # which a defaultdict may have
    "__builtin__.int",
    "_codecs.encode",
)


class _Interpreter:
    """Reads a pickle, one instruction after the other, and does what they say with stand-ins."""

    def __init__(self, classes: Collection[str] = ()) -> None:
        self._classes = classes
        self.storages: dict[str, tuple[torch.dtype, int]] = {}
        """Type and count of the numbers of each."""

    def read(self, file: BinaryIO) -> Any:
        """What it says. The file is left at its end."""
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return self._stack.pop()
            self._do(opcode.name, argument)
        raise CharEmbedError("it ends too early")

    def _do(self, name: str, argument: Any) -> None:
        stack = self._stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case _ if name in _CONSTANTS:
                if isinstance(argument, int) and not -(2**80) < argument < 2**80:  # the magic number has 77 bits
                    raise CharEmbedError("it holds a number that is too large")
                stack.append(argument)
            case _ if name in _VALUES:
                stack.append(_VALUES[name])
            case "MARK":
                stack.append(_MARK)
            case "POP":
                stack.pop()
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case _ if name in _TUPLES:
                count = _TUPLES[name]
                stack[-count:] = [tuple(stack[-count:])]
            case "DICT":
                items = self._since_mark()
                stack.append({})
                self._put(items)
            case "LIST":
                stack.append(self._since_mark())
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if name == "APPEND" else self._since_mark()
                if type(stack[-1]) is not list:
                    raise CharEmbedError("it appends to something that is no list")
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._since_mark()
                self._put(items)
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                stack.append(self._named(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                function, module = stack.pop(), stack.pop()
                stack.append(self._named(f"{module}.{function}" if {type(module), type(function)} == {str} else ""))
            case "REDUCE" | "NEWOBJ":
                arguments, called = stack.pop(), stack.pop()
                stack.append(self._made(called, arguments))
            case "BUILD":
                self._build(stack.pop())
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case _:
                raise CharEmbedError(f"its pickle has the instruction {name}")

    def _since_mark(self) -> list[Any]:
        stack = self._stack
        mark = len(stack) - 1
        while stack[mark] is not _MARK:
            mark -= 1
        items = stack[mark + 1 :]
        del stack[mark:]
        return items

    def _put(self, items: list[Any]) -> None:
        table = self._stack[-1]
        if type(table) is not dict or len(items) % 2:
            raise CharEmbedError("it sets items of something that is no table")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, bytes, int):  # the hash of others may take for ever
                raise CharEmbedError(f"it has a table with {type(key).__name__} for keys")
            table[key] = value

    def _named(self, name: str) -> _Name:
        if name in _KNOWN or name in self._classes or name.removeprefix("torch.") in _DTYPES:
            return _Name(name)
        raise CharEmbedError(f"it holds {shown(name)}, which has no place in it: it is not loaded")

    def _made(self, called: object, arguments: object) -> Any:
        match called, arguments:
            case _Name("torch._utils._rebuild_tensor_v2"), (storage, offset, size, stride, *_):
                return _Saved(storage, offset, size, stride)
            case _Name("collections.OrderedDict" | "collections.defaultdict"), tuple():
                return {}
            case _Name("_codecs.encode"), (str(text), "latin1"):  # bytes in pickles of protocol 2
                return text.encode("latin1")
            case _Name(name), () if name in self._classes:
                return Instance(name)
        raise CharEmbedError(f"it calls {shown(getattr(called, 'name', ''))} with other arguments than PyTorch does")

    def _build(self, state: object) -> None:
        of = self._stack[-1]
        if type(state) is not dict or type(of) not in (Instance, dict):
            raise CharEmbedError("it sets attributes of something that has none")
        if type(of) is Instance:  # those of an ordered table are PyTorch's notes
            of.attributes.update((name, value) for name, value in state.items() if type(name) is str)

    def _storage(self, reference: object) -> _Storage:
        match reference:
            case ("storage", _Name(name), str(key), _, int(count), *view) if name.removeprefix("torch.") in _DTYPES:
                described = _DTYPES[name.removeprefix("torch.")], count
                if count < 0 or self.storages.setdefault(key, described) != described:
                    raise CharEmbedError(f"it describes the numbers {shown(key)} in two ways")
                match view:
                    case [] | [None]:
                        return _Storage(key, 0, count)
                    case [(_, int(start), int(size))] if 0 <= start <= start + size <= count:
                        return _Storage(key, start, size)
        raise CharEmbedError("it refers to something that is no tensor: it is not loaded")


def _read_archive(file: BinaryIO, classes: Collection[str], size: int) -> TorchFile:
    """The format since PyTorch 1.6: a zip archive with a pickle, `data.pkl`, and `data/0`, …, the numbers."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if any(name.endswith("constants.pkl") for name in names):
            raise CharEmbedError("it is a TorchScript program, which holds code: it is not loaded")
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise CharEmbedError("it is an archive, but not one of PyTorch's")
        root = pickles[0].removesuffix("data.pkl")
        left = size

        def content(name: str) -> bytes:
            nonlocal left
            info = archive.getinfo(root + name)
            if info.compress_type != zipfile.ZIP_STORED:  # PyTorch packs nothing; a bomb is packed
                raise CharEmbedError(f"{shown(name)} in it is packed")
            left -= info.file_size
            if left < 0:
                raise CharEmbedError("it claims to hold more numbers than it is long")
            return archive.read(info)

        if f"{root}byteorder" in names and content("byteorder") != b"little":
            raise CharEmbedError("it was written on a big-endian machine")
        interpreter = _Interpreter(classes)
        saved = interpreter.read(io.BytesIO(content("data.pkl")))
        storages = {key: _numbers(content(f"data/{key}"), *of) for key, of in interpreter.storages.items()}
        return TorchFile(saved, storages)


def _read_sequence(file: BinaryIO, classes: Collection[str]) -> TorchFile:
    """The format before PyTorch 1.6: pickles of a magic number, a version, the machine, what was saved and the order of
    storages, whose numbers follow."""
    if (_Interpreter().read(file), _Interpreter().read(file)) != (_MAGIC, _PROTOCOL):
        raise CharEmbedError("it is no file of PyTorch's")
    machine = _Interpreter().read(file)
    if type(machine) is not dict or machine.get("little_endian") is False:
        raise CharEmbedError("it was written on a big-endian machine")
    interpreter = _Interpreter(classes)
    saved = interpreter.read(file)
    order = _Interpreter().read(file)
    if type(order) is not list or {*map(shown, order)} != {*map(shown, interpreter.storages)}:
        raise CharEmbedError("the numbers that follow are not those of its tensors")
    storages = {}
    for key in order:
        dtype, count = interpreter.storages[key]
        if int.from_bytes(file.read(8), "little") != count:
            raise CharEmbedError(f"the numbers {shown(key)} are not as many as it says")
        storages[key] = _numbers(file.read(count * dtype.itemsize), dtype, count)
    return TorchFile(saved, storages)


def _numbers(data: bytes, dtype: torch.dtype, count: int) -> Tensor:
    """Shape: (count,)"""
    if len(data) != count * dtype.itemsize:
        raise CharEmbedError(f"it has {len(data)} bytes where {count} numbers of {dtype} belong")
    return torch.frombuffer(bytearray(data), dtype=dtype) if count else torch.empty(0, dtype=dtype)
