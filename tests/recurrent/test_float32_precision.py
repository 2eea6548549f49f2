"""Products in float32 or TF32 on CUDA: what PyTorch's settings are during a computation, and that they are restored."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch

from charembed.recurrent import float32_precision
from charembed.recurrent.float32_precision import (
    AllowTF32Settings,
    SharedSettings,
    float32_products,
    uses_tf32,
)

CUDA = torch.device("cuda")
needs_operation_settings = pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="PyTorch before 2.9"
)


def operations() -> tuple[str, str]:
    """Return PyTorch's settings for recurrences of cuDNN and for matrix products."""
    return torch.backends.cudnn.rnn.fp32_precision, torch.backends.cuda.matmul.fp32_precision


def everything() -> tuple[object, ...]:
    """Return all settings, read through PyTorch's new and old names; reading the old ones fails if both disagree."""
    backends = torch.backends
    with backends.cudnn.flags(enabled=True):  # reads and writes the old setting too
        pass
    new = (backends.fp32_precision, backends.cudnn.fp32_precision, backends.cudnn.conv.fp32_precision, *operations())
    old = (backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision())
    return (*new, *old)


@pytest.fixture
def settings() -> Iterator[None]:
    """Restore what a test sets by the older names."""
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


@needs_operation_settings
@pytest.mark.parametrize("common", ["ieee", "tf32"])
def test_operations_still_follow_the_common_setting_afterwards(common: str) -> None:
    """The first test of this file: those below give the operations settings of their own."""
    before = operations()
    for owner in (torch.backends, torch.backends.cudnn):
        owner.fp32_precision = common
        with float32_products(CUDA, "float32" if common == "tf32" else "tf32"):
            assert operations() != (common, common)
        assert operations() == (common, common)
        owner.fp32_precision = "none"
        assert operations() == before, "an operation or the common setting got a value of its own"


@needs_operation_settings
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_settings_of_a_process_that_set_none(precision: str) -> None:
    before = torch.backends.cudnn.rnn.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    with float32_products(CUDA, precision):
        assert operations() == (("tf32", "tf32") if precision == "tf32" else ("ieee", "ieee"))
        assert uses_tf32() is (precision == "tf32")
    assert operations() == before


@needs_operation_settings
@pytest.mark.parametrize(
    "user",
    [
        lambda: None,
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
        lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.usefixtures("settings")
def test_settings_of_the_user_are_restored(user, precision: str) -> None:
    user()
    before = everything()
    with float32_products(CUDA, precision):
        assert operations() == (("tf32", "tf32") if precision == "tf32" else ("ieee", "ieee"))
    assert everything() == before


def test_settings_are_restored_after_an_error() -> None:
    with pytest.raises(ValueError, match="invalid literal"), float32_products(CUDA, "tf32"):
        int("in the computation")
    assert not uses_tf32()


def test_float32_wins_over_tf32() -> None:
    tf32, exact, other = (ExitStack() for _ in range(3))
    tf32.enter_context(float32_products(CUDA, "tf32"))
    assert uses_tf32()
    exact.enter_context(float32_products(CUDA, "float32"))
    assert not uses_tf32()
    other.enter_context(float32_products(CUDA, "tf32"))
    tf32.close()
    assert not uses_tf32()
    exact.close()
    assert uses_tf32()
    other.close()
    assert not uses_tf32()


def test_threads_share_the_settings() -> None:
    """Each thread counts: while one computes in float32, none of the others leaves the settings changed."""
    wrong = []

    def compute() -> None:
        for _ in range(200):
            with float32_products(CUDA, "float32"):
                if uses_tf32():
                    wrong.append("tf32")

    def compute_in_tf32() -> None:
        for _ in range(200):
            with float32_products(CUDA, "tf32"):
                pass

    threads = [threading.Thread(target=target) for target in (compute, compute, compute_in_tf32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not uses_tf32()


def test_nothing_is_set_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float32_precision, "_shared", None)
    with float32_products(torch.device("cpu"), "tf32"):
        assert not uses_tf32()


class OldTorch:
    """The functions and settings of PyTorch before 2.9."""

    def __init__(self, matmul: str, cudnn: bool) -> None:
        self.matmul = matmul
        self.backends = SimpleNamespace(cudnn=SimpleNamespace(allow_tf32=cudnn))

    def get_float32_matmul_precision(self) -> str:
        return self.matmul

    def set_float32_matmul_precision(self, precision: str) -> None:
        self.matmul = precision

    @property
    def current(self) -> tuple[str, bool]:
        return self.matmul, self.backends.cudnn.allow_tf32


@pytest.mark.parametrize("matmul", ["highest", "medium"])
@pytest.mark.parametrize("cudnn", [True, False])
def test_settings_of_older_versions(matmul: str, cudnn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    old = OldTorch(matmul, cudnn)
    monkeypatch.setattr(float32_precision, "torch", old)
    settings = AllowTF32Settings()
    shared = SharedSettings(settings)
    with shared.use("tf32"):
        assert old.current == ("high", True)
        assert settings.uses_tf32()
        with shared.use("ieee"):
            assert old.current == ("highest", False)
            assert not settings.uses_tf32()
    assert old.current == (matmul, cudnn)


@pytest.mark.gpu
@pytest.mark.parametrize("make", [lambda: torch.nn.LSTM(64, 256), lambda: torch.nn.Linear(256, 256)])
def test_products_on_a_gpu(make) -> None:
    torch.manual_seed(0)
    module = make()
    x = torch.randn(30, 16, next(module.parameters()).shape[1])
    expected = module(x)[0].double()
    module.cuda()
    errors = {}
    for precision in ("float32", "tf32"):
        with torch.no_grad(), float32_products(CUDA, precision):
            errors[precision] = (module(x.cuda())[0].cpu().double() - expected).abs().max().item()
    assert errors["float32"] < 1e-5
    if torch.cuda.get_device_capability() >= (8, 0):  # older ones have no TF32
        assert errors["tf32"] > 5 * errors["float32"]
