"""One time step of one layer of each recurrence, as it stands in the literature: the oracle of every faster path.

Every step takes x_t, the state before it and one layer's weights by name, and gives the state after it, whose `hidden`
is y_t. Shapes: x (batch, input), each tensor of a state (batch, hidden). Row blocks of a weight are its gates, in the
order in which the step unpacks them.
"""

from __future__ import annotations

from torch import Tensor

from charembed.recurrent.states import HiddenState, LSTMState


def elman_step(x: Tensor, state: HiddenState, *, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> HiddenState:
    """y_t = tanh(W_i x_t + W_h y_{t-1} + b) (Elman 1990).

    Args:
        x: x_t. Shape: (batch, input)
        state: y_{t-1}.
        weight_ih: Shape: (hidden, input)
        weight_hh: Shape: (hidden, hidden)
        bias: Shape: (hidden,)
    """
    return HiddenState((x @ weight_ih.T + state.hidden @ weight_hh.T + bias).tanh())


def lstm_step(
    x: Tensor, state: LSTMState, *, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, weight_hr: Tensor | None = None
) -> LSTMState:
    """i, f, o = σ(W_i* x_t + W_h* y_{t-1} + b_*); g = tanh(W_ig x_t + W_hg y_{t-1} + b_g);
    c_t = f ⊙ c_{t-1} + i ⊙ g; y_t = o ⊙ tanh(c_t)
    (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    Args:
        x: x_t. Shape: (batch, input)
        state: y_{t-1} and c_{t-1}.
        weight_ih: Shape: (4 · hidden, input)
        weight_hh: Shape: (4 · hidden, hidden), or (4 · hidden, proj)
        bias: Shape: (4 · hidden,)
        weight_hr: y_t = W_hr (o ⊙ tanh(c_t)) instead (Sak et al. 2014). Shape: (proj, hidden)
    """
    i, f, g, o = (x @ weight_ih.T + state.hidden @ weight_hh.T + bias).chunk(4, dim=-1)
    cell = f.sigmoid() * state.cell + i.sigmoid() * g.tanh()
    hidden = o.sigmoid() * cell.tanh()
    return LSTMState(hidden if weight_hr is None else hidden @ weight_hr.T, cell)


def peephole_lstm_step(
    x: Tensor,
    state: LSTMState,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    weight_ch: Tensor,
    weight_hr: Tensor | None = None,
    output_gate: str = "updated",
) -> LSTMState:
    """The LSTM whose gates see the cell state too: p_i ⊙ c_{t-1} joins the sum of i, p_f ⊙ c_{t-1} that of f, and p_o ⊙
    c_t that of o (Gers & Schmidhuber 2000), or p_o ⊙ c_{t-1} where `output_gate` is "previous".

    Args:
        x: x_t. Shape: (batch, input)
        state: y_{t-1} and c_{t-1}.
        weight_ih: Shape: (4 · hidden, input)
        weight_hh: Shape: (4 · hidden, hidden), or (4 · hidden, proj)
        bias: Shape: (4 · hidden,)
        weight_ch: p_i, p_f and p_o. Shape: (3, hidden)
        weight_hr: y_t = W_hr (o ⊙ tanh(c_t)) instead (Sak et al. 2014). Shape: (proj, hidden)
        output_gate: the cell state that o sees, "updated" or "previous".
    """
    i, f, g, o = (x @ weight_ih.T + state.hidden @ weight_hh.T + bias).chunk(4, dim=-1)
    p_i, p_f, p_o = weight_ch
    i = (i + p_i * state.cell).sigmoid()
    f = (f + p_f * state.cell).sigmoid()
    cell = f * state.cell + i * g.tanh()
    o = (o + p_o * (cell if output_gate == "updated" else state.cell)).sigmoid()
    hidden = o * cell.tanh()
    return LSTMState(hidden if weight_hr is None else hidden @ weight_hr.T, cell)


def gru_step(x: Tensor, state: HiddenState, *, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> HiddenState:
    """r, z = σ(W_i* x_t + W_h* y_{t-1} + b_*); h = tanh(W_ih x_t + W_hh (r ⊙ y_{t-1}) + b_h);
    y_t = (1 − z) ⊙ y_{t-1} + z ⊙ h (Cho et al. 2014, with the mixture of Chung et al. 2014).

    Args:
        x: x_t. Shape: (batch, input)
        state: y_{t-1}.
        weight_ih: Shape: (3 · hidden, input)
        weight_hh: Shape: (3 · hidden, hidden)
        bias: Shape: (3 · hidden,)
    """
    y = state.hidden
    of_r, of_z, of_h = (x @ weight_ih.T + bias).chunk(3, dim=-1)
    w_r, w_z, w_h = weight_hh.chunk(3)
    r = (of_r + y @ w_r.T).sigmoid()
    z = (of_z + y @ w_z.T).sigmoid()
    h = (of_h + (r * y) @ w_h.T).tanh()
    return HiddenState((1 - z) * y + z * h)


def gru_reset_after_step(
    x: Tensor, state: HiddenState, *, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, bias_hh: Tensor
) -> HiddenState:
    """PyTorch's and cuDNN's GRU: r, z = σ(W_i* x_t + W_h* y_{t-1} + b_*); h = tanh(W_ih x_t + b_h + r ⊙ (W_hh y_{t-1} +
    b_hh)); y_t = (1 − z) ⊙ h + z ⊙ y_{t-1}, with z and 1 − z the other way round than in `gru_step`.

    Args:
        x: x_t. Shape: (batch, input)
        state: y_{t-1}.
        weight_ih: Shape: (3 · hidden, input)
        weight_hh: Shape: (3 · hidden, hidden)
        bias: Shape: (3 · hidden,)
        bias_hh: inside the product with r. Shape: (hidden,)
    """
    y = state.hidden
    of_r, of_z, of_h = (x @ weight_ih.T + bias).chunk(3, dim=-1)
    w_r, w_z, w_h = weight_hh.chunk(3)
    r = (of_r + y @ w_r.T).sigmoid()
    z = (of_z + y @ w_z.T).sigmoid()
    h = (of_h + r * (y @ w_h.T + bias_hh)).tanh()
    return HiddenState((1 - z) * h + z * y)


def mgu_step(x: Tensor, state: HiddenState, *, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> HiddenState:
    """The GRU with one forget gate for both of its gates: f = σ(W_if x_t + W_hf y_{t-1} + b_f);
    h = tanh(W_ih x_t + W_hh (f ⊙ y_{t-1}) + b_h); y_t = (1 − f) ⊙ y_{t-1} + f ⊙ h (Zhou et al. 2016).

    Args:
        x: x_t. Shape: (batch, input)
        state: y_{t-1}.
        weight_ih: Shape: (2 · hidden, input)
        weight_hh: Shape: (2 · hidden, hidden)
        bias: Shape: (2 · hidden,)
    """
    y = state.hidden
    of_f, of_h = (x @ weight_ih.T + bias).chunk(2, dim=-1)
    w_f, w_h = weight_hh.chunk(2)
    f = (of_f + y @ w_f.T).sigmoid()
    h = (of_h + (f * y) @ w_h.T).tanh()
    return HiddenState((1 - f) * y + f * h)
