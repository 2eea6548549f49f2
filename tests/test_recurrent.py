"""The LSTM, against PyTorch's and against its own readable step."""

from __future__ import annotations

import pytest
import torch

from charembed import CharEmbedError
from charembed.recurrent import LSTM, VariationalDropout, lstm_step


def torch_lstm(ours: LSTM) -> torch.nn.LSTM:
    """PyTorch's module with the same weights, its second bias zero."""
    theirs = torch.nn.LSTM(ours.input_size, ours.hidden_size, ours.num_layers).double()
    state = {}
    for layer in range(ours.num_layers):
        weight_ih, weight_hh, bias = (p.detach() for p in ours.layer_parameters(layer))
        state |= {f"weight_ih_l{layer}": weight_ih, f"weight_hh_l{layer}": weight_hh}
        state |= {f"bias_ih_l{layer}": bias, f"bias_hh_l{layer}": torch.zeros_like(bias)}
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("num_layers", [1, 2])
def test_values_and_gradients_are_those_of_torch(num_layers: int) -> None:
    torch.manual_seed(0)
    ours = LSTM(3, 5, num_layers).double()
    theirs = torch_lstm(ours)
    x = torch.randn(7, 2, 3, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    _, state = ours(torch.randn(4, 2, 3, dtype=torch.float64))
    state = state.detach()
    found, found_state = ours(x, state)
    wanted, wanted_state = theirs(y, tuple(state))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    for a, b in zip(found_state, wanted_state, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-12)
    for layer in range(num_layers):
        for name, tensor in zip(("weight_ih", "weight_hh", "bias_ih"), ours.layer_parameters(layer), strict=True):
            torch.testing.assert_close(tensor.grad, getattr(theirs, f"{name}_l{layer}").grad, rtol=0, atol=1e-12)


def test_the_readable_step_is_the_fused_kernel() -> None:
    torch.manual_seed(0)
    ours = LSTM(3, 5).double()
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    output, state = ours(x)
    hidden = cell = torch.zeros(2, 5, dtype=torch.float64)
    for t in range(7):
        hidden, cell = lstm_step(x[t], hidden, cell, *ours.layer_parameters(0))
        torch.testing.assert_close(output[t], hidden, rtol=0, atol=1e-12)
    torch.testing.assert_close(state.cell[0], cell, rtol=0, atol=1e-12)


def test_initial_weights_are_what_the_docstring_says() -> None:
    lstm = LSTM(6, 8)
    _, weight_hh, bias = lstm.layer_parameters(0)
    for block in weight_hh.chunk(4):
        torch.testing.assert_close(block @ block.T, torch.eye(8), rtol=0, atol=1e-5)
    assert bias.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16


def test_dropout_zeroes_the_same_units_at_every_step_and_keeps_the_mean() -> None:
    dropout = VariationalDropout(0.4)
    dropout.generator = torch.Generator().manual_seed(1)
    x = torch.ones(5, 20, 500)
    dropped = dropout(x)
    assert (dropped == dropped[0]).all()
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.4, abs=0.03)
    assert dropout.eval()(x) is x


def test_dropout_acts_between_layers_in_training_alone() -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 5, num_layers=2, dropout=0.5)
    x = torch.randn(4, 2, 3)
    assert not torch.equal(lstm(x)[0], lstm(x)[0])
    lstm.eval()
    assert torch.equal(lstm(x)[0], lstm(x)[0])
    one_layer = LSTM(3, 5, num_layers=1, dropout=0.5)
    assert torch.equal(one_layer(x)[0], one_layer(x)[0])


@pytest.mark.parametrize("sizes", [(0, 5, 1), (3, 0, 1), (3, 5, 0)])
def test_sizes_must_be_positive(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(CharEmbedError, match="must be positive, got 0"):
        LSTM(*sizes)
