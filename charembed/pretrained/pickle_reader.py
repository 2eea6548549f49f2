"""Read a pickle of PyTorch as data, without importing, creating or calling anything that it names.

Python's own unpickler imports and calls whatever a pickle asks for. `PickleReader` instead executes the instructions
of a pickle on stand-ins: it builds dicts, lists, tuples, strings and numbers, and describes tensors, storages and
instances of allowed classes. A pickle that contains anything else is refused. Everything in it is treated as hostile.
"""

from __future__ import annotations

import pickletools
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import torch

from charembed.errors import CharEmbedError

_STORAGE_DTYPES = {
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
_REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
_DICTS = ("collections.OrderedDict", "collections.defaultdict")
_ENCODE = "_codecs.encode"
_ALLOWED_NAMES = (
    _REBUILD_TENSOR,
    *_DICTS,
    "builtins.int",  # the default factory of a defaultdict
    "__builtin__.int",
    _ENCODE,
)
_MAX_INTEGER_BITS = 80
"""The magic number of torch.save has 77 bits. Longer integers would only cost time."""
_MAX_TEXT_IN_ERRORS = 100


class GlobalStub(NamedTuple):
    """Stands for a function or class. Like all stubs here but `InstanceStub`, it has no attributes that could be
    set."""

    name: str
    """Module and name."""


class StorageStub(NamedTuple):
    """Stands for a storage, or for a view of one in the format before PyTorch 1.6."""

    key: str
    """Key of the storage."""
    start: int
    """First element of the view."""
    size: int
    """Number of elements of the view."""


class TensorStub(NamedTuple):
    """Stands for a tensor. Its fields are what the file says, of any type."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


@dataclass
class InstanceStub:
    """Stands for an instance of an allowed class."""

    name: str
    """Module and name of the class."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Attributes of the instance."""


def quote_untrusted(value: object) -> str:
    """Return a value from a file for an error message: shortened, and with control characters escaped."""
    return ascii(value)[:_MAX_TEXT_IN_ERRORS] if isinstance(value, (str, bytes, int)) else type(value).__name__


# The instructions of a pickle that are supported, in groups; see `pickletools` for what each of them does.
_FRAMING = {"PROTO", "FRAME"}
_CONSTANTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
}
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLE_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NEW_CONTAINERS = {"EMPTY_DICT", "EMPTY_LIST", "TUPLE", "DICT", "LIST", *_TUPLE_SIZES}
_ADDITIONS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS"}
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"}
_OBJECTS = {"GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"}

_MARK = object()
"""Marks a place on the stack."""


class PickleReader:
    """Executes pickles on stand-ins."""

    def __init__(self, classes: Collection[str] = ()) -> None:
        """
        Args:
            classes: Allowed classes, by module and name.
        """
        self._classes = classes
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, tuple[torch.dtype, int]] = {}
        """Type and number of elements of each storage that the pickles refer to."""

    def read(self, file: BinaryIO) -> Any:
        """Return the object that a pickle describes, and leave the file at the end of the pickle.

        Raises:
            CharEmbedError: The pickle contains something that is not allowed.
            Exception: Of any type, because the pickle is damaged.
        """
        self._stack, self._memo = [], {}
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return self._stack.pop()
            self._execute(opcode.name, argument)
        raise CharEmbedError("its pickle ends too early")

    def _execute(self, instruction: str, argument: Any) -> None:
        if instruction in _FRAMING:
            return
        if instruction in _CONSTANTS:
            self._push_constant(argument)
        elif instruction in _VALUES:
            self._stack.append(_VALUES[instruction])
        elif instruction == "MARK":
            self._stack.append(_MARK)
        elif instruction == "POP":
            self._stack.pop()
        elif instruction in _NEW_CONTAINERS:
            self._push_container(instruction)
        elif instruction in _ADDITIONS:
            self._add_to_container(instruction)
        elif instruction in _MEMO:
            self._use_memo(instruction, argument)
        elif instruction in _OBJECTS:
            self._handle_object(instruction, argument)
        else:
            raise CharEmbedError(f"its pickle has the instruction {instruction}, which is not supported")

    # Constants and containers --------------------------------------------------------------------------------------

    def _push_constant(self, value: Any) -> None:
        if isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS:
            raise CharEmbedError(f"its pickle has an integer of more than {_MAX_INTEGER_BITS} bits")
        self._stack.append(value)

    def _push_container(self, instruction: str) -> None:
        """Push a container, empty or made of the topmost items of the stack."""
        stack = self._stack
        match instruction:
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(self._pop_to_mark())
            case "DICT":
                items = self._pop_to_mark()
                stack.append({})
                self._set_items(items)
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case _:
                start = len(stack) - _TUPLE_SIZES[instruction]
                if start < 0:
                    raise CharEmbedError("its pickle takes more objects from its stack than are there")
                stack[start:] = [tuple(stack[start:])]

    def _add_to_container(self, instruction: str) -> None:
        """Add the topmost items of the stack to the list or dict below them."""
        stack = self._stack
        match instruction:
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set_items([key, value])
            case "SETITEMS":
                self._set_items(self._pop_to_mark())
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if instruction == "APPEND" else self._pop_to_mark()
                if type(stack[-1]) is not list:
                    raise CharEmbedError("its pickle appends to an object that is not a list")
                stack[-1].extend(items)

    def _pop_to_mark(self) -> list[Any]:
        """Remove the topmost mark and return the items above it."""
        mark = len(self._stack) - 1
        while self._stack[mark] is not _MARK:  # without a mark, an IndexError
            mark -= 1
        items = self._stack[mark + 1 :]
        del self._stack[mark:]
        return items

    def _set_items(self, items: list[Any]) -> None:
        """Add keys and values, in turn, to the dict on top of the stack."""
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise CharEmbedError("its pickle sets items of an object that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, bytes, int):  # hashing others, such as nested tuples, may take forever
                raise CharEmbedError(f"its pickle has a dict with a key of type {type(key).__name__}")
            target[key] = value

    def _use_memo(self, instruction: str, argument: Any) -> None:
        """Store the topmost item of the stack under a number, or push a stored item."""
        match instruction:
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case _:
                self._stack.append(self._memo[argument])

    # Functions, classes and storages -------------------------------------------------------------------------------

    def _handle_object(self, instruction: str, argument: Any) -> None:
        stack = self._stack
        match instruction:
            case "GLOBAL":
                stack.append(self._find_global(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                if type(name) is not str or type(module) is not str:
                    raise CharEmbedError("its pickle names a function by something that is not a string")
                stack.append(self._find_global(f"{module}.{name}"))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "BUILD":
                self._set_attributes(stack.pop())
            case "BINPERSID":
                stack.append(self._find_storage(stack.pop()))

    def _find_global(self, name: str) -> GlobalStub:
        """Return a stub for a function or class. Nothing is imported."""
        if name in _ALLOWED_NAMES or name in self._classes or name.removeprefix("torch.") in _STORAGE_DTYPES:
            return GlobalStub(name)
        raise CharEmbedError(f"it refers to {quote_untrusted(name)}, which is not allowed in it: it is not loaded")

    def _call(self, function: object, arguments: object) -> Any:
        """Return what PyTorch's functions would return, as a stand-in. Nothing is called."""
        if type(function) is GlobalStub and type(arguments) is tuple:
            if function.name == _REBUILD_TENSOR and len(arguments) >= 4:
                return TensorStub(*arguments[:4])
            if function.name in _DICTS:
                return {}
            if function.name == _ENCODE and _are_strings(arguments) and arguments[1:] == ("latin1",):
                return arguments[0].encode("latin1")  # how protocol 2 stores bytes
            if function.name in self._classes and not arguments:
                return InstanceStub(function.name)
        name = quote_untrusted(getattr(function, "name", ""))
        raise CharEmbedError(f"its pickle calls {name} with arguments that PyTorch does not use")

    def _set_attributes(self, state: object) -> None:
        """Set the attributes of the object on top of the stack."""
        target = self._stack[-1]
        if type(state) is not dict or type(target) not in (InstanceStub, dict):
            raise CharEmbedError("its pickle sets attributes of an object that cannot have any")
        if type(target) is InstanceStub:  # the attributes of an OrderedDict are PyTorch's metadata, not needed here
            target.attributes.update((name, value) for name, value in state.items() if type(name) is str)

    def _find_storage(self, reference: object) -> StorageStub:
        """Return a stub for the storage that a persistent id refers to.

        The id is ("storage", type, key, device, number of elements). In the format before PyTorch 1.6 a view follows:
        None, or (key of the view, first element, number of elements).
        """
        if type(reference) is not tuple or len(reference) not in (5, 6) or reference[0] != "storage":
            raise CharEmbedError("it refers to an object that is not a tensor: it is not loaded")
        _, storage_type, key, _, count, *rest = reference
        dtype_name = storage_type.name.removeprefix("torch.") if type(storage_type) is GlobalStub else ""
        if dtype_name not in _STORAGE_DTYPES or type(key) is not str or not _is_count(count):
            raise CharEmbedError("it refers to an object that is not a tensor: it is not loaded")
        # Several tensors may share a storage, but they must agree about it.
        description = _STORAGE_DTYPES[dtype_name], count
        if self.storages.setdefault(key, description) != description:
            raise CharEmbedError(f"it describes the storage {quote_untrusted(key)} in two ways")
        view = rest[0] if rest else None
        if view is None:
            return StorageStub(key, 0, count)
        if type(view) is not tuple or len(view) != 3 or not _is_count(view[1]) or not _is_count(view[2]):
            raise CharEmbedError(f"the view of its storage {quote_untrusted(key)} is malformed")
        _, start, size = view
        if start + size > count:
            raise CharEmbedError(f"the view of its storage {quote_untrusted(key)} is larger than the storage")
        return StorageStub(key, start, size)


def _is_count(value: object) -> bool:
    """Return whether a value is an int (not a bool) of at least 0."""
    return type(value) is int and value >= 0


def _are_strings(values: tuple[object, ...]) -> bool:
    return all(type(value) is str for value in values)
