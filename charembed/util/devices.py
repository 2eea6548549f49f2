"""Check whether PyTorch can use a device, and what the device computes fast; create networks without memory."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from charembed.errors import CharEmbedError


def check_device(name: torch.device | str) -> torch.device:
    """Return the device with the given name after computing on it once.

    Raises:
        CharEmbedError: this machine has no such device, or PyTorch was built without support for it.
    """
    try:
        device = torch.device(name)
        # A name may be valid although nothing runs there, so compute something.
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CharEmbedError(f"device {str(name)!r} cannot be used: {reason}") from error
    return device


def has_bfloat16_units(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices in hardware.

    Elsewhere PyTorch emulates them, which is slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # These functions are not public, and older releases lack them. Without them, assume that the units are missing:
        # float32 always works.
        probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(probe is not None and probe() for probe in probes)
    return False


def has_int8_units() -> bool:
    """Return whether the CPU multiplies int8 matrices without overflow.

    Older x86 CPUs add pairs of products in 16 bits, which saturates.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "x86"):
        return True
    # Not public either: PyTorch has renamed the function.
    probe = getattr(torch.cpu, "_is_avx512_vnni_supported", None) or getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(probe and probe())


@contextmanager
def shapes_only() -> Iterator[None]:
    """Create modules on the device "meta": their weights have shapes, and neither memory nor values."""
    with torch.device("meta"), _NoInitialValues():
        yield


class _NoInitialValues(TorchFunctionMode):
    """Leaves out the functions of `torch.nn.init`.

    On the device "meta" they compute nothing, but their first call imports PyTorch's compiler, which takes seconds.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"]
        if function is torch.Tensor.normal_:  # the others call it
            return args[0]
        return function(*args, **kwargs)
