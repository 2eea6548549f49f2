"""Choose how CUDA computes products of float32 numbers: in float32, or in TF32 with 10 bits of mantissa.

PyTorch has settings for it, by default TF32 for cuDNN's recurrences. They apply to the whole process, so they are
changed only while one of our computations runs (`float32_products`), and restored when the last one has ended.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, Protocol

import torch

Products = Literal["ieee", "tf32"]
"""How products are computed, in PyTorch's terms: float32 as IEEE 754 defines it, or TF32."""


class Settings(Protocol):
    """The settings of a version of PyTorch."""

    def apply(self, products: Products) -> None:
        """Change the settings, after remembering those of the user."""

    def restore(self) -> None:
        """Restore the user's settings, as they were before `apply`."""

    def uses_tf32(self) -> bool:
        """Return whether matrix products are computed in TF32 now."""


class OperationSettings:
    """The settings from PyTorch 2.9 on: one for each operation, and one that operations without their own follow.

    The older `allow_tf32` is left alone: PyTorch refuses to read it once the two disagree, and setting it would end
    that an operation follows the common setting.
    """

    def __init__(self) -> None:
        self._common: Any = torch.backends.cudnn  # for all operations on CUDA, despite its name
        self._operations: list[Any] = [torch.backends.cudnn.rnn, torch.backends.cuda.matmul]
        self._users: list[tuple[Any, str]] = []

    def apply(self, products: Products) -> None:
        self._users = [(self._common, self._common.fp32_precision)]
        self._common.fp32_precision = products
        for operation in self._operations:
            if operation.fp32_precision != products:  # it has a setting of its own
                self._users.append((operation, operation.fp32_precision))
                operation.fp32_precision = products

    def restore(self) -> None:
        (common, value), *operations = self._users
        for operation, own in operations:
            operation.fp32_precision = own
        # PyTorch returns the setting that the common one itself follows; write it only if it does not follow.
        common.fp32_precision = "none"
        if common.fp32_precision != value:
            common.fp32_precision = value

    def uses_tf32(self) -> bool:
        return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


class AllowTF32Settings:
    """The settings before PyTorch 2.9."""

    def __init__(self) -> None:
        self._users = ("highest", False)

    def apply(self, products: Products) -> None:
        self._users = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
        self._set("high" if products == "tf32" else "highest", products == "tf32")

    def restore(self) -> None:
        self._set(*self._users)

    def _set(self, matmul: str, cudnn: bool) -> None:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn

    def uses_tf32(self) -> bool:
        return torch.get_float32_matmul_precision() != "highest"


class SharedSettings:
    """Settings that several threads use at the same time. While they want different ones, float32 wins."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._users: Counter[Products] = Counter()
        self._applied: Products | None = None

    @contextmanager
    def use(self, products: Products) -> Iterator[None]:
        """Return a context in which products are computed at least as exactly."""
        self._count(products, 1)
        try:
            yield
        finally:
            self._count(products, -1)

    def _count(self, products: Products, change: int) -> None:
        with self._lock:
            self._users[products] += change
            needed: Products | None = "ieee" if self._users["ieee"] else "tf32" if self._users["tf32"] else None
            if needed == self._applied:
                return
            if self._applied is not None:
                self._settings.restore()
            if needed is not None:
                self._settings.apply(needed)
            self._applied = needed


_settings: Settings = (
    OperationSettings() if hasattr(torch.backends.cuda.matmul, "fp32_precision") else AllowTF32Settings()
)
_shared = SharedSettings(_settings)


def float32_products(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return a context for a computation on a device; CUDA computes its float32 products in float32 or TF32.

    Args:
        device: where the computation runs; devices other than CUDA always compute in float32.
        precision: "tf32" for TF32; any other precision for float32.
    """
    if device.type != "cuda":
        return nullcontext()
    return _shared.use("tf32" if precision == "tf32" else "ieee")


def uses_tf32() -> bool:
    """Return whether CUDA computes float32 matrix products in TF32 now."""
    return _settings.uses_tf32()
