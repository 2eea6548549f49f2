"""Weights of a layer in one piece of memory: where they lie, that results are the same, and when a piece is made."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from test_recurrent import randomised
from torch import Tensor, nn
from torch.nn.utils import prune

from charembed.recurrent import GRU, LSTM, ElmanRNN, LSTMState, Recurrence
from charembed.recurrent.weight_pieces import _pieces, in_one_piece

FUNCTIONS: dict[str, tuple[Callable[[], Recurrence[Any]], Callable[..., tuple[Tensor, ...]]]] = {
    "lstm": (lambda: LSTM(3, 4), torch.lstm),
    "gru reset_after": (lambda: GRU(3, 4, reset_after=True), torch.gru),
    "elman": (lambda: ElmanRNN(3, 4), torch.rnn_tanh),
}


@pytest.fixture(params=FUNCTIONS)
def recurrence(request: pytest.FixtureRequest) -> Recurrence[Any]:
    torch.manual_seed(0)
    return randomised(FUNCTIONS[request.param][0]())


def pieces_of(recurrence: Recurrence[Any]) -> list[Tensor]:
    return in_one_piece(**recurrence.layer_parameters(0))


def is_one_piece(weights: list[Tensor]) -> bool:
    """Return whether four tensors follow one another from the beginning of a memory of exactly their size."""
    addresses = [weight.data_ptr() for weight in weights]
    ends = [weight.data_ptr() + weight.numel() * weight.element_size() for weight in weights]
    memory = weights[0].untyped_storage()
    whole = memory.data_ptr() == addresses[0] and memory.data_ptr() + memory.nbytes() == ends[-1]
    return whole and addresses[1:] == ends[:-1] and all(weight.is_contiguous() for weight in weights)


def run(recurrence: Recurrence[Any], weights: list[Tensor], x: Tensor) -> Tensor:
    """Run PyTorch's function from the zero state, as a recurrence does on CUDA."""
    (function,) = (fused for make, fused in FUNCTIONS.values() if type(make()) is type(recurrence))
    state = [x.new_zeros(1, x.shape[1], 4) for _ in recurrence.state_type._fields]
    initial = state if recurrence.state_type is LSTMState else state[0]
    return function(x, initial, weights, True, 1, 0.0, True, False, False)[0]


def run_by_equations(recurrence: Recurrence[Any], x: Tensor) -> Tensor:
    state: Any = recurrence.state_type(*(tensor[0] for tensor in recurrence.initial_state(x.shape[1])))
    outputs = []
    for x_t in x:
        state = recurrence.step(x_t, state)
        outputs.append(state.hidden)
    return torch.stack(outputs)


def test_results_and_gradients_equal_the_equations(recurrence: Recurrence[Any]) -> None:
    expected_weights = {name: weight.clone() for name, weight in recurrence.state_dict().items()}
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for _ in range(2):  # the first call makes the piece, the second finds it
        weights = pieces_of(recurrence)
        assert is_one_piece(weights)
        output, expected = run(recurrence, weights, x), run_by_equations(recurrence, x)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
        parameters = list(recurrence.parameters())
        gradients = torch.autograd.grad(output.square().sum(), parameters)
        for gradient, expected_gradient in zip(
            gradients, torch.autograd.grad(expected.square().sum(), parameters), strict=True
        ):
            torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)
    assert expected_weights.keys() == recurrence.state_dict().keys()
    assert all(torch.equal(weight, expected_weights[name]) for name, weight in recurrence.state_dict().items())


def test_parameters_stay_in_their_piece(recurrence: Recurrence[Any]) -> None:
    """An optimizer that holds the parameters, and weights that are loaded, write into the piece."""
    parameters = list(recurrence.parameters())
    optimizer = torch.optim.AdamW(parameters)
    address = pieces_of(recurrence)[0].data_ptr()
    before = len(_pieces.made)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    run(recurrence, pieces_of(recurrence), x).sum().backward()
    optimizer.step()
    recurrence.load_state_dict({name: weight + 1 for name, weight in recurrence.state_dict().items()})
    assert all(a is b for a, b in zip(parameters, recurrence.parameters(), strict=True))
    weights = pieces_of(recurrence)
    assert weights[0].data_ptr() == address
    assert len(_pieces.made) == before
    torch.testing.assert_close(run(recurrence, weights, x), run_by_equations(recurrence, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        copy.deepcopy,
        lambda module: pickle.loads(pickle.dumps(module)),
        lambda module: copy.copy(module).float(),
        lambda module: module.to("cpu", memory_format=torch.preserve_format).double().float(),
        lambda module: _assign(module, {name: weight.clone() for name, weight in module.state_dict().items()}),
    ],
)
def test_a_new_piece_is_made_where_it_is_lost(
    change: Callable[[Recurrence[Any]], Recurrence[Any]], recurrence: Recurrence[Any]
) -> None:
    original = pieces_of(recurrence)[0].detach()  # keeps its memory, so that it is not used again
    changed = change(recurrence)
    weights = pieces_of(changed)
    assert is_one_piece(weights)
    assert weights[0].data_ptr() != original.data_ptr()
    with torch.no_grad():
        assert not weights[3][: weights[3].numel() - (4 if isinstance(changed, GRU) else 0)].any()


def _assign(module: Recurrence[Any], state: dict[str, Tensor]) -> Recurrence[Any]:
    module.load_state_dict(state, assign=True)
    return module


def test_memory_that_looks_like_a_piece_is_not_taken_for_one() -> None:
    """The weights of torch.nn.LSTM on a GPU lie in one piece too, with a second bias that is not zero."""
    lstm = LSTM(3, 4)
    memory = torch.ones(16 * 3 + 16 * 4 + 16 + 16)
    for parameter, view in zip(lstm.parameters(), memory.split([48, 64, 16, 16]), strict=False):
        parameter.data = view.view_as(parameter)
    assert not pieces_of(lstm)[3].any()


def test_memory_is_freed_with_the_weights() -> None:
    gc.collect()
    before = len(_pieces.made)
    lstm = LSTM(3, 4)
    pieces_of(lstm)
    assert len(_pieces.made) == before + 1
    del lstm
    gc.collect()
    assert len(_pieces.made) == before


def test_a_piece_made_in_inference_mode_can_be_trained(recurrence: Recurrence[Any]) -> None:
    with torch.inference_mode():
        first = pieces_of(recurrence)
    weights = pieces_of(recurrence)
    assert [weight.data_ptr() for weight in weights] == [weight.data_ptr() for weight in first]
    run(recurrence, weights, torch.randn(5, 2, 3, dtype=torch.float64)).sum().backward()
    assert all(parameter.grad is not None for parameter in recurrence.parameters())


def test_pruned_weights(recurrence: Recurrence[Any]) -> None:
    """Pruning replaces a parameter with the product of another one and a mask."""
    prune.random_unstructured(recurrence, "weight_hh_l0", amount=0.5)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    weights = pieces_of(recurrence)
    assert is_one_piece(weights)
    output, expected = run(recurrence, weights, x), run_by_equations(recurrence, x)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    gradient, expected_gradient = (
        torch.autograd.grad(states.sum(), recurrence.weight_hh_l0_orig, retain_graph=True)[0]
        for states in (output, expected)
    )
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)


def test_weights_of_functional_call(recurrence: Recurrence[Any]) -> None:
    class Pieces(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrence = recurrence

        def forward(self) -> Tensor:
            weights = pieces_of(self.recurrence)
            assert is_one_piece(weights)
            return torch.cat([weight.flatten() for weight in weights])

    module = Pieces()
    others = {name: torch.full_like(weight, 3.0).requires_grad_() for name, weight in module.named_parameters()}
    whole = torch.func.functional_call(module, others)
    assert set(whole.tolist()) == {0.0, 3.0}  # the second bias has zeros
    assert all(gradient.eq(1).all() for gradient in torch.autograd.grad(whole.sum(), list(others.values())))


def test_weights_in_one_piece_can_be_saved(recurrence: Recurrence[Any], tmp_path: Path) -> None:
    expected = {name: weight.clone() for name, weight in recurrence.state_dict().items()}
    pieces_of(recurrence)
    safetensors.torch.save_file(recurrence.state_dict(), tmp_path / "a.safetensors")
    torch.save(recurrence.state_dict(), tmp_path / "a.pt")
    for loaded in (safetensors.torch.load_file(tmp_path / "a.safetensors"), torch.load(tmp_path / "a.pt")):
        assert expected.keys() == loaded.keys()
        assert all(torch.equal(weight, loaded[name]) for name, weight in expected.items())


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_a_piece_made_after_distributed_data_parallel(recurrence: Recurrence[Any]) -> None:
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrence = recurrence

        def forward(self, x: Tensor) -> Tensor:
            return run(self.recurrence, pieces_of(self.recurrence), x)

    module = nn.parallel.DistributedDataParallel(Module())
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for _ in range(2):
        recurrence.zero_grad()
        module(x).square().sum().backward()
        parameters = list(recurrence.parameters())
        expected = torch.autograd.grad(run_by_equations(recurrence, x).square().sum(), parameters)
        for parameter, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_no_warning_on_a_gpu(dtype: torch.dtype, recurrence: Recurrence[Any]) -> None:
    """PyTorch warns where cuDNN does not find the weights in one piece, and warnings are errors here."""
    recurrence.to("cuda", dtype)
    x = torch.randn(5, 2, 3, dtype=dtype, device="cuda")
    output, _ = recurrence(x)
    output.sum().backward()
    with torch.inference_mode():
        assert torch.allclose(copy.deepcopy(recurrence)(x)[0], output, atol=1e-3)
