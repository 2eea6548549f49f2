"""The element-wise part of a time step as one launch on a GPU, in Triton.

Each function computes what lies between two matrix products of the function of the same recurrence in
`charembed.recurrent.equations`, or of its derivative. It is called for blocks of elements (row, unit) of a time step;
tensors have shape (rows, hidden), gates (rows, gates · hidden), and all are contiguous. Computation is in `dtype`, and
results are rounded to the type of the tensor they are stored in. Only `charembed.recurrent.fused_kernels` imports this
module, because Triton comes with PyTorch for CUDA alone.
"""

import triton
import triton.language as tl


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _tanh(x):
    return 2 * _sigmoid(2 * x) - 1


@triton.jit
def _load(pointers, mask, dtype: tl.constexpr):
    return tl.load(pointers, mask=mask, other=0).to(dtype)


@triton.jit
def _elements(elements, hidden, gates: tl.constexpr, block: tl.constexpr):
    """Return the elements of a block, their units, where the first of their gates is, and which elements exist."""
    element = tl.program_id(0) * block + tl.arange(0, block)
    unit = element % hidden
    return element, unit, (element - unit) * gates + unit, element < elements


@triton.jit
def peephole_lstm_forward(
    gates,  # pre-activations of i, f, g and o without peepholes; becomes their activations
    previous_c,
    weight_ch,
    c,  # written
    y,  # written
    elements,
    hidden,
    updated: tl.constexpr,
    dtype: tl.constexpr,
    block: tl.constexpr,
):
    element, unit, first, mask = _elements(elements, hidden, 4, block)
    old = _load(previous_c + element, mask, dtype)
    i = _sigmoid(_load(gates + first, mask, dtype) + _load(weight_ch + unit, mask, dtype) * old)
    f = _sigmoid(_load(gates + first + hidden, mask, dtype) + _load(weight_ch + hidden + unit, mask, dtype) * old)
    g = _tanh(_load(gates + first + 2 * hidden, mask, dtype))
    new = f * old + i * g
    seen = new if updated else old
    o = _sigmoid(
        _load(gates + first + 3 * hidden, mask, dtype) + _load(weight_ch + 2 * hidden + unit, mask, dtype) * seen
    )
    tl.store(gates + first, i, mask=mask)
    tl.store(gates + first + hidden, f, mask=mask)
    tl.store(gates + first + 2 * hidden, g, mask=mask)
    tl.store(gates + first + 3 * hidden, o, mask=mask)
    tl.store(c + element, new, mask=mask)
    tl.store(y + element, o * _tanh(new), mask=mask)


@triton.jit
def peephole_lstm_backward(
    d_output,
    d_y,
    d_c,  # gradient of c_t from the later steps; becomes that of c_{t-1}
    gates,
    c,
    previous_c,
    weight_ch,
    d_gates,  # written: gradient of the pre-activations
    elements,
    hidden,
    updated: tl.constexpr,
    dtype: tl.constexpr,
    block: tl.constexpr,
):
    element, unit, first, mask = _elements(elements, hidden, 4, block)
    i = _load(gates + first, mask, dtype)
    f = _load(gates + first + hidden, mask, dtype)
    g = _load(gates + first + 2 * hidden, mask, dtype)
    o = _load(gates + first + 3 * hidden, mask, dtype)
    p_o = _load(weight_ch + 2 * hidden + unit, mask, dtype)
    # y_t = o ⊙ tanh(c_t)
    d_total = _load(d_output + element, mask, dtype) + _load(d_y + element, mask, dtype)
    tanh_c = _tanh(_load(c + element, mask, dtype))
    d_o = d_total * tanh_c * o * (1 - o)
    d_new = _load(d_c + element, mask, dtype) + d_total * o * (1 - tanh_c * tanh_c)
    if updated:
        d_new += p_o * d_o
    # c_t = f ⊙ c_{t-1} + i ⊙ g
    d_i = d_new * g * i * (1 - i)
    d_f = d_new * _load(previous_c + element, mask, dtype) * f * (1 - f)
    d_g = d_new * i * (1 - g * g)
    d_old = d_new * f + _load(weight_ch + unit, mask, dtype) * d_i + _load(weight_ch + hidden + unit, mask, dtype) * d_f
    if not updated:
        d_old += p_o * d_o
    tl.store(d_gates + first, d_i, mask=mask)
    tl.store(d_gates + first + hidden, d_f, mask=mask)
    tl.store(d_gates + first + 2 * hidden, d_g, mask=mask)
    tl.store(d_gates + first + 3 * hidden, d_o, mask=mask)
    tl.store(d_c + element, d_old, mask=mask)


@triton.jit
def gru_gates_forward(
    gates,  # pre-activations of r and z, of which an MGU has one, and of h, which stays; become their activations
    previous_y,
    reset_y,  # written: r ⊙ y_{t-1}
    elements,
    hidden,
    blocks: tl.constexpr,  # of gates and candidate: 3 in a GRU, 2 in an MGU
    dtype: tl.constexpr,
    block: tl.constexpr,
):
    element, _, first, mask = _elements(elements, hidden, blocks, block)
    r = _sigmoid(_load(gates + first, mask, dtype))
    tl.store(gates + first, r, mask=mask)
    if blocks == 3:
        z = gates + first + hidden
        tl.store(z, _sigmoid(_load(z, mask, dtype)), mask=mask)
    tl.store(reset_y + element, r * _load(previous_y + element, mask, dtype), mask=mask)


@triton.jit
def gru_output_forward(
    gates,  # activations of r and z, and the pre-activation of h, which becomes its activation
    previous_y,
    y,  # written
    elements,
    hidden,
    blocks: tl.constexpr,
    dtype: tl.constexpr,
    block: tl.constexpr,
):
    element, _, first, mask = _elements(elements, hidden, blocks, block)
    candidate = gates + first + (blocks - 1) * hidden
    z = _load(candidate - hidden, mask, dtype)
    h = _tanh(_load(candidate, mask, dtype))
    old = _load(previous_y + element, mask, dtype)
    tl.store(candidate, h, mask=mask)
    tl.store(y + element, old + z * (h - old), mask=mask)


@triton.jit
def gru_output_backward(
    d_output,
    d_y,  # gradient of y_t from the later steps; becomes that of y_t
    gates,
    d_gates,  # written: gradient of the pre-activation of h
    elements,
    hidden,
    blocks: tl.constexpr,
    dtype: tl.constexpr,
    block: tl.constexpr,
):
    element, _, first, mask = _elements(elements, hidden, blocks, block)
    candidate = first + (blocks - 1) * hidden
    z = _load(gates + candidate - hidden, mask, dtype)
    h = _load(gates + candidate, mask, dtype)
    d_total = _load(d_output + element, mask, dtype) + _load(d_y + element, mask, dtype)
    tl.store(d_y + element, d_total, mask=mask)
    tl.store(d_gates + candidate, d_total * z * (1 - h * h), mask=mask)


@triton.jit
def gru_gates_backward(
    d_reset_y,  # gradient of r ⊙ y_{t-1}
    d_y,  # gradient of y_t; becomes that of y_{t-1} without what comes through the gates
    gates,
    previous_y,
    d_gates,  # written: gradient of the pre-activations of r and z
    elements,
    hidden,
    blocks: tl.constexpr,
    dtype: tl.constexpr,
    block: tl.constexpr,
):
    element, _, first, mask = _elements(elements, hidden, blocks, block)
    r = _load(gates + first, mask, dtype)
    z = _load(gates + first + (blocks - 2) * hidden, mask, dtype)
    h = _load(gates + first + (blocks - 1) * hidden, mask, dtype)
    old = _load(previous_y + element, mask, dtype)
    d_total = _load(d_y + element, mask, dtype)
    d_reset = _load(d_reset_y + element, mask, dtype)
    d_r = d_reset * old * r * (1 - r)
    d_z = d_total * (h - old) * z * (1 - z)
    if blocks == 3:
        tl.store(d_gates + first, d_r, mask=mask)
        tl.store(d_gates + first + hidden, d_z, mask=mask)
    else:  # the one gate of an MGU receives both gradients
        tl.store(d_gates + first, d_r + d_z, mask=mask)
    tl.store(d_y + element, d_total * (1 - z) + d_reset * r, mask=mask)
