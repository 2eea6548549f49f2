"""Capturing step loops as CUDA graphs: when it happens, and on a GPU that the results are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from test_recurrent import PROJECTED_WEIGHTS_ARE_COPIED, VARIANTS, random_state, randomised, run_by_equations
from torch import Tensor

from charembed.recurrent import cuda_graphs
from charembed.recurrent.cuda_graphs import CALLS_BEFORE_CAPTURE, MAX_GRAPHS, GraphCache


class FakeGraph:
    """Takes the place of a captured graph and counts its calls."""

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        self.calls += 1
        return self.function(*tensors)


class FakeCapture:
    """Captures functions as fake graphs and records them."""

    def __init__(self) -> None:
        self.graphs: list[FakeGraph] = []

    def __call__(self, function: Callable[..., tuple[Tensor, ...]], _: Sequence[Tensor]) -> FakeGraph:
        self.graphs.append(FakeGraph(function))
        return self.graphs[-1]


def double(x: Tensor) -> tuple[Tensor, ...]:
    return (2 * x,)


def test_function_is_captured_after_a_few_calls() -> None:
    capture = FakeCapture()
    cache, x = GraphCache(capture), torch.ones(2)
    for _ in range(CALLS_BEFORE_CAPTURE):
        assert cache.call(double, [x], "key")[0].tolist() == [2, 2]
        assert not capture.graphs
    for _ in range(3):
        assert cache.call(double, [x], "key")[0].tolist() == [2, 2]
    assert [graph.calls for graph in capture.graphs] == [3]
    cache.call(double, [x], "another key")
    assert len(capture.graphs) == 1


def test_least_recently_used_graph_is_dropped() -> None:
    cache, x = GraphCache(FakeCapture()), torch.ones(2)
    for key in range(MAX_GRAPHS + 3):
        for _ in range(CALLS_BEFORE_CAPTURE + 1):
            cache.call(double, [x], key)
    assert len(cache) == MAX_GRAPHS
    assert 0 not in cache


def test_function_that_cannot_be_captured_runs_step_by_step() -> None:
    def refuse(*_: object) -> FakeGraph:
        raise RuntimeError("operation not permitted when stream is capturing")

    cache, x = GraphCache(refuse), torch.ones(2)
    for _ in range(CALLS_BEFORE_CAPTURE):
        cache.call(double, [x], "key")
    with pytest.warns(UserWarning, match="runs step by step: operation not permitted"):
        assert cache.call(double, [x], "key")[0].tolist() == [2, 2]
    assert cache.call(double, [x], "key")[0].tolist() == [2, 2]  # without a second warning


def test_no_graphs_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "_caches", None)
    (result,) = cuda_graphs.run_captured(double, [torch.ones(1)], owner=object(), key="key")
    assert result.tolist() == [2]


@pytest.mark.gpu
@pytest.mark.filterwarnings(PROJECTED_WEIGHTS_ARE_COPIED)
@pytest.mark.parametrize("variant", VARIANTS)
def test_cuda_matches_equations(variant: str) -> None:
    """Compare values and gradients of every call, before and after a graph is captured."""
    torch.manual_seed(0)
    recurrence = randomised(VARIANTS[variant](6, 5, 2), torch.float64).cuda()
    for _ in range(CALLS_BEFORE_CAPTURE + 3):
        x = torch.randn(9, 3, 6, dtype=torch.float64, device="cuda", requires_grad=True)
        state = random_state(recurrence, 3)
        output, _ = recurrence(x, state)
        expected, _ = run_by_equations(recurrence, x, state, [9] * 3)
        torch.testing.assert_close(output, torch.stack(expected, dim=1), rtol=0, atol=1e-9)
        leaves = [x, *state, *recurrence.parameters()]
        gradients = torch.autograd.grad(output.square().sum(), leaves)
        expected_gradients = torch.autograd.grad(torch.stack(expected, dim=1).square().sum(), leaves)
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-7)
