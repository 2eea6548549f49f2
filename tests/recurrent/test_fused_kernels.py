"""The fused step loops, run by Triton's interpreter on a CPU, against the equations."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from test_recurrent import VARIANTS, random_state, randomised, run_by_equations

from charembed.recurrent import fused_kernels, layers

FUSED = ["peephole", "peephole previous", "gru", "mgu"]

needs_interpreter = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or torch.cuda.is_available(),
    reason="needs Triton (pip install triton) on a machine without a GPU; with one, other tests run the loops there",
)


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Triton interpret the functions, and recurrences choose the fused loops on a CPU."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # read when the functions are imported, by the first test
    monkeypatch.setattr(fused_kernels, "_BLOCK", 16)
    monkeypatch.setattr(layers, "runs_fused", lambda _: True)


@needs_interpreter
@pytest.mark.parametrize("variant", FUSED)
@pytest.mark.parametrize("lengths", [None, [5, 2, 4]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.usefixtures("interpreter")
def test_fused_loops_match_the_equations(
    variant: str, lengths: list[int] | None, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare outputs, final states and all gradients of 3 · 7 elements, one block and a part of one."""
    torch.manual_seed(0)
    recurrence = randomised(VARIANTS[variant](4, 7), dtype)
    monkeypatch.setattr(recurrence, "kernel", None)  # only the fused loop may run
    x = torch.randn(5, 3, 4, dtype=dtype, requires_grad=True)
    state = random_state(recurrence, 3)
    output, final = recurrence(x, state, lengths)
    with torch.inference_mode():
        assert torch.allclose(recurrence(x, state, lengths)[0], output, rtol=0, atol=tolerance)
    expected, expected_final = run_by_equations(recurrence, x, state, lengths or [5] * 3)

    for column, sequence in enumerate(expected):
        torch.testing.assert_close(output[: len(sequence), column], sequence, rtol=0, atol=tolerance)
    for tensor, expected_tensor in zip(final, expected_final, strict=True):
        torch.testing.assert_close(tensor, expected_tensor, rtol=0, atol=tolerance)
    leaves = [x, *state, *recurrence.parameters()]
    loss = output.square().sum() + sum(tensor.sin().sum() for tensor in final)
    expected_loss = sum(sequence.square().sum() for sequence in expected)
    expected_loss = expected_loss + sum(tensor.sin().sum() for tensor in expected_final)
    gradients, expected_gradients = torch.autograd.grad(loss, leaves), torch.autograd.grad(expected_loss, leaves)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=20 * tolerance)


@needs_interpreter
@pytest.mark.parametrize("variant", FUSED)
@pytest.mark.usefixtures("interpreter")
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # of NumPy, in the interpreter
def test_large_preactivations_saturate(variant: str) -> None:
    recurrence = randomised(VARIANTS[variant](4, 7), torch.float32)
    with torch.inference_mode():
        for scale in (-1e4, 1e4):
            output, _ = recurrence(torch.full((2, 1, 4), scale))
            assert output.isfinite().all()
            expected, _ = run_by_equations(recurrence, torch.full((2, 1, 4), scale), recurrence.initial_state(1), [2])
            torch.testing.assert_close(output[:, 0], expected[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cpu_runs_the_other_loops(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recurrence = VARIANTS[variant](4, 7)
    assert (recurrence.fused_kernel is not None) == (variant in FUSED)
    monkeypatch.setattr(recurrence, "fused_kernel", "not a kernel")
    recurrence(torch.randn(5, 3, 4))


@pytest.mark.gpu
@pytest.mark.parametrize("variant", FUSED)
def test_a_gpu_runs_the_fused_loops(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    recurrence = VARIANTS[variant](4, 7).cuda()
    monkeypatch.setattr(recurrence, "kernel", None)
    assert recurrence(torch.randn(5, 3, 4, device="cuda"))[0].isfinite().all()
