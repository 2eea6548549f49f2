"""When a step loop becomes a CUDA graph, and, where there is a GPU, that it computes the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from test_recurrent import VARIANTS, by_steps, random_state, randomised
from torch import Tensor

from charembed.recurrent import cuda_graphs


class Recorded:
    """Stands for a captured graph: tells what was captured and how often it ran."""

    made: list[Recorded]

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], _: Sequence[Tensor]) -> None:
        self.function = function
        self.calls = 0
        Recorded.made.append(self)

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        self.calls += 1
        return self.function(*tensors)


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> Any:
    Recorded.made = []
    monkeypatch.setattr(cuda_graphs, "CapturedFunction", Recorded)
    return cuda_graphs._Captures()


def double(x: Tensor) -> tuple[Tensor, ...]:
    return (2 * x,)


def test_a_function_is_captured_once_its_shapes_have_come_up_a_few_times(captures: Any) -> None:
    x = torch.ones(2)
    for _ in range(cuda_graphs._PATIENCE):
        assert captures.call(double, [x], "key")[0].tolist() == [2, 2]
        assert not Recorded.made
    for _ in range(3):
        assert captures.call(double, [x], "key")[0].tolist() == [2, 2]
    assert [graph.calls for graph in Recorded.made] == [3]
    captures.call(double, [x], "another key")
    assert len(Recorded.made) == 1


def test_graphs_that_are_not_used_go(captures: Any) -> None:
    x = torch.ones(2)
    for key in range(cuda_graphs._KEEP + 3):
        for _ in range(cuda_graphs._PATIENCE + 1):
            captures.call(double, [x], key)
    assert len(captures._calls) == cuda_graphs._KEEP
    assert 0 not in captures._calls


def test_what_cannot_be_captured_runs_step_by_step(captures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        def __init__(self, *_: object) -> None:
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graphs, "CapturedFunction", Refused)
    x = torch.ones(2)
    for _ in range(cuda_graphs._PATIENCE):
        captures.call(double, [x], "key")
    with pytest.warns(UserWarning, match="runs step by step: operation not permitted"):
        assert captures.call(double, [x], "key")[0].tolist() == [2, 2]
    assert captures.call(double, [x], "key")[0].tolist() == [2, 2]  # without a second warning


def test_on_a_cpu_there_are_no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "_captures", None)
    assert cuda_graphs.captured(double, [torch.ones(1)], owner=test_on_a_cpu_there_are_no_graphs, key="key")[
        0
    ].tolist() == [2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("variant", VARIANTS)
def test_on_cuda_it_is_the_readable_step(variant: str) -> None:
    """Every call, those before a graph is captured and those after it, values and gradients."""
    torch.manual_seed(0)
    recurrence = randomised(VARIANTS[variant](6, 5, 2), torch.float64).cuda()
    for _ in range(cuda_graphs._PATIENCE + 3):
        x = torch.randn(9, 3, 6, dtype=torch.float64, device="cuda", requires_grad=True)
        state = random_state(recurrence, 3)
        output, _ = recurrence(x, state)
        wanted, _ = by_steps(recurrence, x, state, [9] * 3)
        torch.testing.assert_close(output, torch.stack(wanted, dim=1), rtol=0, atol=1e-9)
        leaves = [x, *state, *recurrence.parameters()]
        found = torch.autograd.grad(output.square().sum(), leaves)
        expected = torch.autograd.grad(torch.stack(wanted, dim=1).square().sum(), leaves)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
