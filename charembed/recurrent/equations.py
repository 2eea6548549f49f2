"""The equations of each recurrence, one time step of one layer at a time.

These functions are written for reading. They are the oracle of the project: every faster implementation (step loops,
CUDA graphs, PyTorch's own kernels, ONNX graphs) is tested against them.

Notation:

- x_t is the input, y_t the output and c_t the cell state at time step t; y_{t-1} and c_{t-1} are those of the step
  before.
- W_i* are input weights, W_h* recurrent weights and b_* biases; * is the gate. Each gate has one bias.
- σ is the logistic function, ⊙ the element-wise product.

Each function takes x_t, the state before the step and the weights of one layer by name, and returns the state after
the step, whose `hidden` is y_t. The rows of `weight_ih`, `weight_hh` and `bias` are blocks of size `hidden`, one for
each gate; each docstring gives their order. States have shape (batch, hidden) for each tensor.

References:

- Cho, van Merriënboer, Gulcehre et al. (2014). Learning phrase representations using RNN encoder–decoder for
  statistical machine translation. arXiv:1406.1078
- Chung, Gulcehre, Cho & Bengio (2014). Empirical evaluation of gated recurrent neural networks on sequence modeling.
  arXiv:1412.3555
- Elman (1990). Finding structure in time. Cognitive Science 14(2).
- Gers, Schmidhuber & Cummins (2000). Learning to forget: continual prediction with LSTM. Neural Computation 12(10).
- Gers & Schmidhuber (2000). Recurrent nets that time and count. IJCNN 2000.
- Hochreiter & Schmidhuber (1997). Long short-term memory. Neural Computation 9(8).
- Sak, Senior & Beaufays (2014). Long short-term memory based recurrent neural network architectures for large
  vocabulary speech recognition. arXiv:1402.1128
- Zhou, Wu, Zhang & Zhou (2016). Minimal gated unit for recurrent neural networks. arXiv:1603.09420
"""

from __future__ import annotations

from torch import Tensor

from charembed.recurrent.states import HiddenState, LSTMState


def elman_step(x: Tensor, state: HiddenState, *, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> HiddenState:
    """Compute one step of the simple recurrent network (Elman 1990).

        y_t = tanh(W_i x_t + W_h y_{t-1} + b)

    Args:
        x: x_t. Shape: (batch, input_size)
        state: y_{t-1}.
        weight_ih: W_i. Shape: (hidden, input_size)
        weight_hh: W_h. Shape: (hidden, hidden)
        bias: b. Shape: (hidden,)

    Returns:
        y_t.
    """
    return HiddenState((x @ weight_ih.T + state.hidden @ weight_hh.T + bias).tanh())


def lstm_step(
    x: Tensor, state: LSTMState, *, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, weight_hr: Tensor | None = None
) -> LSTMState:
    """Compute one step of long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

        i   = σ(W_ii x_t + W_hi y_{t-1} + b_i)          input gate
        f   = σ(W_if x_t + W_hf y_{t-1} + b_f)          forget gate
        g   = tanh(W_ig x_t + W_hg y_{t-1} + b_g)       candidate for the cell state
        o   = σ(W_io x_t + W_ho y_{t-1} + b_o)          output gate
        c_t = f ⊙ c_{t-1} + i ⊙ g
        y_t = o ⊙ tanh(c_t)

    With `weight_hr`, the output is projected inside the recurrence (Sak et al. 2014): y_t = W_hr (o ⊙ tanh(c_t)).

    Args:
        x: x_t. Shape: (batch, input_size)
        state: y_{t-1} and c_{t-1}.
        weight_ih: W_ii, W_if, W_ig, W_io. Shape: (4 · hidden, input_size)
        weight_hh: W_hi, W_hf, W_hg, W_ho. Shape: (4 · hidden, hidden), or (4 · hidden, proj_size)
        bias: b_i, b_f, b_g, b_o. Shape: (4 · hidden,)
        weight_hr: W_hr; no projection by default. Shape: (proj_size, hidden)

    Returns:
        y_t and c_t.
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
    """Compute one step of the LSTM whose gates see the cell state through peepholes (Gers & Schmidhuber 2000).

        i   = σ(W_ii x_t + W_hi y_{t-1} + p_i ⊙ c_{t-1} + b_i)
        f   = σ(W_if x_t + W_hf y_{t-1} + p_f ⊙ c_{t-1} + b_f)
        g   = tanh(W_ig x_t + W_hg y_{t-1} + b_g)
        c_t = f ⊙ c_{t-1} + i ⊙ g
        o   = σ(W_io x_t + W_ho y_{t-1} + p_o ⊙ c_t + b_o)
        y_t = o ⊙ tanh(c_t)

    The literature differs on the output gate. With `output_gate="previous"`, it sees c_{t-1} instead of c_t.

    Args:
        x: x_t. Shape: (batch, input_size)
        state: y_{t-1} and c_{t-1}.
        weight_ih: W_ii, W_if, W_ig, W_io. Shape: (4 · hidden, input_size)
        weight_hh: W_hi, W_hf, W_hg, W_ho. Shape: (4 · hidden, hidden), or (4 · hidden, proj_size)
        bias: b_i, b_f, b_g, b_o. Shape: (4 · hidden,)
        weight_ch: p_i, p_f, p_o, the peepholes. Shape: (3, hidden)
        weight_hr: W_hr, the projection of the output, as in `lstm_step`. Shape: (proj_size, hidden)
        output_gate: Cell state that the output gate sees, "updated" (c_t) or "previous" (c_{t-1}).

    Returns:
        y_t and c_t.
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
    """Compute one step of the gated recurrent unit (Cho et al. 2014, z and 1 − z as in Chung et al. 2014).

        r   = σ(W_ir x_t + W_hr y_{t-1} + b_r)              reset gate
        z   = σ(W_iz x_t + W_hz y_{t-1} + b_z)              update gate
        h   = tanh(W_ih x_t + W_hh (r ⊙ y_{t-1}) + b_h)     candidate
        y_t = (1 − z) ⊙ y_{t-1} + z ⊙ h

    The reset gate acts before the matrix product; see `gru_reset_after_step` for the other variant.

    Args:
        x: x_t. Shape: (batch, input_size)
        state: y_{t-1}.
        weight_ih: W_ir, W_iz, W_ih. Shape: (3 · hidden, input_size)
        weight_hh: W_hr, W_hz, W_hh. Shape: (3 · hidden, hidden)
        bias: b_r, b_z, b_h. Shape: (3 · hidden,)

    Returns:
        y_t.
    """
    y = state.hidden
    x_r, x_z, x_h = (x @ weight_ih.T + bias).chunk(3, dim=-1)
    w_r, w_z, w_h = weight_hh.chunk(3)
    r = (x_r + y @ w_r.T).sigmoid()
    z = (x_z + y @ w_z.T).sigmoid()
    h = (x_h + (r * y) @ w_h.T).tanh()
    return HiddenState((1 - z) * y + z * h)


def gru_reset_after_step(
    x: Tensor, state: HiddenState, *, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, bias_hh: Tensor
) -> HiddenState:
    """Compute one step of the GRU of cuDNN and PyTorch, whose reset gate acts after the matrix product.

        r   = σ(W_ir x_t + W_hr y_{t-1} + b_r)
        z   = σ(W_iz x_t + W_hz y_{t-1} + b_z)
        h   = tanh(W_ih x_t + b_h + r ⊙ (W_hh y_{t-1} + b_hh))
        y_t = (1 − z) ⊙ h + z ⊙ y_{t-1}

    The roles of z and 1 − z are swapped with respect to `gru_step`, and the candidate has a second bias, b_hh.

    Args:
        x: x_t. Shape: (batch, input_size)
        state: y_{t-1}.
        weight_ih: W_ir, W_iz, W_ih. Shape: (3 · hidden, input_size)
        weight_hh: W_hr, W_hz, W_hh. Shape: (3 · hidden, hidden)
        bias: b_r, b_z, b_h. Shape: (3 · hidden,)
        bias_hh: b_hh. Shape: (hidden,)

    Returns:
        y_t.
    """
    y = state.hidden
    x_r, x_z, x_h = (x @ weight_ih.T + bias).chunk(3, dim=-1)
    w_r, w_z, w_h = weight_hh.chunk(3)
    r = (x_r + y @ w_r.T).sigmoid()
    z = (x_z + y @ w_z.T).sigmoid()
    h = (x_h + r * (y @ w_h.T + bias_hh)).tanh()
    return HiddenState((1 - z) * h + z * y)


def mgu_step(x: Tensor, state: HiddenState, *, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> HiddenState:
    """Compute one step of the minimal gated unit (Zhou et al. 2016): a GRU with one forget gate, r = z = f.

        f   = σ(W_if x_t + W_hf y_{t-1} + b_f)              forget gate
        h   = tanh(W_ih x_t + W_hh (f ⊙ y_{t-1}) + b_h)     candidate
        y_t = (1 − f) ⊙ y_{t-1} + f ⊙ h

    Args:
        x: x_t. Shape: (batch, input_size)
        state: y_{t-1}.
        weight_ih: W_if, W_ih. Shape: (2 · hidden, input_size)
        weight_hh: W_hf, W_hh. Shape: (2 · hidden, hidden)
        bias: b_f, b_h. Shape: (2 · hidden,)

    Returns:
        y_t.
    """
    y = state.hidden
    x_f, x_h = (x @ weight_ih.T + bias).chunk(2, dim=-1)
    w_f, w_h = weight_hh.chunk(2)
    f = (x_f + y @ w_f.T).sigmoid()
    h = (x_h + (f * y) @ w_h.T).tanh()
    return HiddenState((1 - f) * y + f * h)
