"""The recurrences: every fast path against the equations, in values and gradients, and the options of the modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from helpers import DEVICES
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from charembed import CharEmbedError
from charembed.recurrent import (
    GRU,
    LSTM,
    MGU,
    ElmanRNN,
    PeepholeLSTM,
    Recurrence,
    VariationalDropout,
    map_state,
    onednn_lstm,
)
from charembed.recurrent import products as products_module
from charembed.recurrent.float32_precision import float32_products
from charembed.recurrent.products import StepProduct, linear

VARIANTS: dict[str, Callable[..., Recurrence[Any]]] = {
    "elman": ElmanRNN,
    "lstm": LSTM,
    "lstm projected": lambda *sizes, **options: LSTM(*sizes, **options, proj_size=3),
    "peephole": PeepholeLSTM,
    "peephole previous": lambda *sizes, **options: PeepholeLSTM(*sizes, **options, output_gate="previous"),
    "peephole projected": lambda *sizes, **options: PeepholeLSTM(*sizes, **options, proj_size=3),
    "gru": GRU,
    "gru reset_after": lambda *sizes, **options: GRU(*sizes, **options, reset_after=True),
    "mgu": MGU,
}
PROJECTED_WEIGHTS_ARE_COPIED = "ignore:RNN module weights are not part of single contiguous chunk:UserWarning"
"""Filter of the warning that an LSTM with a projection gives on a GPU."""
variants = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture
def float32() -> Iterator[None]:
    """Make a GPU compute in float32, as `charembed` does around its own computations."""
    with float32_products(torch.device("cuda"), "float32"):
        yield


def randomised(recurrence: Recurrence[Any], dtype: torch.dtype = torch.float64) -> Recurrence[Any]:
    """Draw all weights, including biases and peepholes, large enough to affect the output."""
    for parameter in recurrence.to(dtype).parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return recurrence


def random_state(recurrence: Recurrence[Any], batch: int) -> Any:
    return map_state(lambda tensor: torch.randn_like(tensor).requires_grad_(), recurrence.initial_state(batch))


def run_by_equations(
    recurrence: Recurrence[Any], input: Tensor, state: Any, lengths: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Run each sequence on its own, layer by layer and step by step: slow and obvious.

    Returns:
        The output of each sequence, (its length, output_size), and the tensors of the final state.
    """
    outputs, final_states = [], []
    for column, length in enumerate(lengths):
        sequence = input[:length, column]
        finals = []
        for layer in range(recurrence.num_layers):
            halves = []
            for reverse in recurrence.directions:
                # The state of one layer, one direction and one sequence.
                now = map_state(lambda tensor: tensor[len(finals), column : column + 1], state)  # noqa: B023
                ys = []
                for x in sequence.flip(0) if reverse else sequence:
                    now = recurrence.step(x.unsqueeze(0), now, layer, reverse=reverse)
                    ys.append(now.hidden[0])
                halves.append(torch.stack(ys[::-1] if reverse else ys))
                finals.append(now)
            sequence = torch.cat(halves, dim=1)
        outputs.append(sequence)
        final_states.append([torch.cat(tensors) for tensors in zip(*finals, strict=True)])
    return outputs, [torch.stack(tensors, dim=1) for tensors in zip(*final_states, strict=True)]


SHAPES = {
    "one layer": (1, False, None),
    "two layers, both directions": (2, True, None),
    "lengths": (1, False, [9, 11, 1, 2]),
    "lengths, two layers, both directions": (2, True, [9, 3, 11, 5]),
}


@variants
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.usefixtures("float32")
@pytest.mark.filterwarnings(PROJECTED_WEIGHTS_ARE_COPIED)
def test_forward_matches_equations(variant: str, shape: str, dtype: torch.dtype, tolerance: float, device: str) -> None:
    """Compare outputs, final states and all gradients."""
    torch.manual_seed(0)
    num_layers, bidirectional, lengths = SHAPES[shape]
    if device == "cuda":
        tolerance = min(tolerance, 1e-5)
    recurrence = randomised(VARIANTS[variant](6, 5, num_layers, bidirectional), dtype).to(device)
    x = torch.randn(11, 4, 6, dtype=dtype, device=device, requires_grad=True)
    state = random_state(recurrence, 4)

    # Values.
    output, final = recurrence(x, state, lengths)
    expected, expected_final = run_by_equations(recurrence, x, state, lengths or [11] * 4)

    assert output.shape == (11, 4, recurrence.output_size)
    for column, sequence in enumerate(expected):
        torch.testing.assert_close(output[: len(sequence), column], sequence, rtol=0, atol=tolerance)
        assert not output[len(sequence) :, column].any(), "the output on padding must be zero"
    for name, a, b in zip(final._fields, final, expected_final, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}")

    # Gradients of a random linear function of the output and the final state.
    weights = torch.randn_like(output)
    state_weights = [torch.randn_like(tensor) for tensor in final]
    loss = (output * weights).sum() + sum((a * b).sum() for a, b in zip(final, state_weights, strict=True))
    expected_loss = sum(
        ((sequence * weights[: len(sequence), column]).sum() for column, sequence in enumerate(expected)),
        sum((a * b).sum() for a, b in zip(expected_final, state_weights, strict=True)),
    )
    names = ["x", *final._fields, *(name for name, _ in recurrence.named_parameters())]
    leaves = [x, *state, *recurrence.parameters()]
    gradients = torch.autograd.grad(loss, leaves)
    expected_gradients = torch.autograd.grad(expected_loss, leaves)
    for name, a, b in zip(names, gradients, expected_gradients, strict=True):
        torch.testing.assert_close(
            a, b, rtol=0, atol=20 * tolerance, msg=lambda m, name=name: f"gradient of {name}: {m}"
        )


@variants
@pytest.mark.parametrize("lengths", [None, [3, 1]])
def test_gradients_match_finite_differences(variant: str, lengths: list[int] | None) -> None:
    torch.manual_seed(0)
    recurrence = randomised(VARIANTS[variant](2, 4))
    names = [name for name, _ in recurrence.named_parameters()]

    def run(x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        parameters = dict(zip(names, tensors[: len(names)], strict=True))
        state = recurrence.state_type(*tensors[len(names) :])
        output, final = torch.func.functional_call(recurrence, parameters, (x, state, lengths))
        return (output, *final)

    inputs = (torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True), *recurrence.parameters())
    assert torch.autograd.gradcheck(run, (*inputs, *random_state(recurrence, 2)))


@variants
def test_inference_matches_training(variant: str) -> None:
    torch.manual_seed(0)
    recurrence = randomised(VARIANTS[variant](6, 5, 2, True), torch.float32)
    x = torch.randn(20, 3, 6)
    output, final = recurrence(x)
    with torch.inference_mode():
        inferred, inferred_final = recurrence(x)
    torch.testing.assert_close(inferred, output, rtol=0, atol=1e-6)
    for a, b in zip(inferred_final, final, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert not inferred.requires_grad


@variants
def test_carried_state_continues_the_sequence(variant: str) -> None:
    torch.manual_seed(0)
    recurrence = randomised(VARIANTS[variant](6, 5, 2))
    x = torch.randn(23, 3, 6, dtype=torch.float64)
    whole, final = recurrence(x)
    first, state = recurrence(x[:10])
    second, last = recurrence(x[10:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-12)
    for a, b in zip(last, final, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@given(
    variant=st.sampled_from(sorted(VARIANTS)),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    padding=st.integers(0, 3),
)
def test_padding_and_batch_do_not_change_the_output(variant: str, lengths: list[int], padding: int) -> None:
    """Each sequence of a padded batch gives the same output as on its own, whatever the padding contains."""
    torch.manual_seed(0)
    recurrence = randomised(VARIANTS[variant](3, 4, 2, True))
    x = torch.randn(max(lengths) + padding, len(lengths), 3, dtype=torch.float64)
    for column, length in enumerate(lengths):
        x[length:, column] = math.nan
    output, final = recurrence(x, lengths=lengths)
    for column, length in enumerate(lengths):
        alone, alone_final = recurrence(x[:length, column : column + 1])
        torch.testing.assert_close(output[:length, column : column + 1], alone, rtol=0, atol=1e-12)
        for a, b in zip(final, alone_final, strict=True):
            torch.testing.assert_close(a[:, column : column + 1], b, rtol=0, atol=1e-12)


@variants
def test_strided_input_and_empty_batch(variant: str) -> None:
    torch.manual_seed(0)
    recurrence = randomised(VARIANTS[variant](6, 5), torch.float32)
    x = torch.randn(4, 12, 12)[:, :, ::2].transpose(0, 1)
    torch.testing.assert_close(recurrence(x)[0], recurrence(x.contiguous())[0], rtol=0, atol=1e-6)
    for lengths in (None, []):
        output, final = recurrence(torch.zeros(12, 0, 6), lengths=lengths)
        assert output.shape == (12, 0, recurrence.output_size)
    assert all(tensor.shape[:2] == (1, 0) for tensor in final)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "lstm"])
@pytest.mark.parametrize("seq_len", [4, 12])
def test_step_loop_is_exact_under_autocast(variant: str, seq_len: int) -> None:
    """Compare forward and backward inside an autocast region, and accept a state that was cast."""
    torch.manual_seed(0)
    recurrence = VARIANTS[variant](6, 5)
    x = torch.randn(seq_len, 3, 6).bfloat16()
    exact, _ = recurrence(x.float())
    exact_gradients = torch.autograd.grad(exact.sum(), list(recurrence.parameters()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = recurrence(x)
        gradients = torch.autograd.grad(output.sum(), list(recurrence.parameters()))
        recurrence(x, map_state(torch.Tensor.bfloat16, state))
    torch.testing.assert_close(output, exact, rtol=0, atol=1e-6)
    for a, b in zip(gradients, exact_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lstm_under_autocast(dtype: torch.dtype) -> None:
    """Also where PyTorch's own LSTM raises an error: in float16, and in bfloat16 on a CPU without AVX-512."""
    torch.manual_seed(0)
    lstm, x = LSTM(6, 5), torch.randn(12, 3, 6)
    with torch.autocast("cpu", dtype=dtype):
        output, _ = lstm(x)
        output.float().sum().backward()
    torch.testing.assert_close(output.float(), lstm(x)[0], rtol=0, atol=0.05)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "lstm"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_exact_as_the_equations(variant: str, dtype: torch.dtype) -> None:
    """Compare small values, which an absolute error of tanh would swallow."""
    torch.manual_seed(0)
    recurrence = VARIANTS[variant](32, 32).to(dtype)
    x = (0.05 * torch.randn(6, 4, 32)).to(dtype)
    with torch.no_grad():
        output, _ = recurrence(x)
        stepped, _ = run_by_equations(recurrence, x, recurrence.initial_state(4), [6] * 4)
        recurrence.double()
        exact, _ = run_by_equations(recurrence, x.double(), recurrence.initial_state(4), [6] * 4)
    assert output.dtype == dtype
    error = (output - torch.stack(exact, dim=1)).abs().mean()
    assert error <= 2 * (torch.stack(stepped, dim=1) - torch.stack(exact, dim=1)).abs().mean()


@variants
def test_plain_tensors_as_parameters(variant: str) -> None:
    """Tools that prune, replicate or transform a module replace its parameters with plain tensors."""
    recurrence = VARIANTS[variant](3, 5)
    x = torch.randn(4, 2, 3)
    plain = {name: parameter.detach() for name, parameter in recurrence.named_parameters()}
    output, _ = torch.func.functional_call(recurrence, plain, (x,))
    torch.testing.assert_close(output, recurrence(x)[0])


@variants
def test_meta_device(variant: str) -> None:
    output, _ = VARIANTS[variant](3, 5).to("meta")(torch.empty(9, 2, 3, device="meta"))
    assert output.is_meta
    assert output.shape[:2] == (9, 2)


@variants
def test_bidirectional_encoder_learns_from_both_sides(variant: str) -> None:
    """At each position of a padded sequence, predict its first and its last character."""
    torch.manual_seed(0)
    encoder = VARIANTS[variant](3, 16, 1, True)
    head = torch.nn.Linear(encoder.output_size, 6)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.03)
    accuracy = 0.0
    for _ in range(80):
        characters = torch.randint(0, 3, (5, 32))
        lengths = torch.randint(2, 6, (32,))
        inside = torch.arange(5).unsqueeze(1) < lengths
        ends = torch.stack([characters[0], characters[lengths - 1, torch.arange(32)]])
        targets = ends.expand(5, 2, 32).transpose(1, 2)[inside]
        output, _ = encoder(torch.nn.functional.one_hot(characters, 3).float(), lengths=lengths)
        logits = head(output)[inside].unflatten(1, (2, 3))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracy = (logits.argmax(2) == targets).float().mean().item()
    assert accuracy > 0.95, accuracy


def test_repr_shows_sizes_and_options() -> None:
    assert "MGU(\n  3, 5, 2, bidirectional=True\n" in repr(MGU(3, 5, 2, True))
    assert "3, 5, 1, dropout=0.2, reset_after=True\n" in repr(GRU(3, 5, dropout=0.2, reset_after=True))
    assert "3, 5, 1, proj_size=2, output_gate=updated\n" in repr(PeepholeLSTM(3, 5, proj_size=2))


def test_second_derivative_raises() -> None:
    gru = GRU(2, 3)
    x = torch.randn(4, 1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(gru(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("onednn", [True, False])
def test_products_with_and_without_onednn(onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not onednn:
        monkeypatch.setattr(products_module, "_onednn_linear_works", lambda: False)
    torch.manual_seed(0)
    weight, bias = torch.randn(7, 5), torch.randn(7)
    x, addend = torch.randn(4, 5), torch.randn(4, 14)[:, ::2]
    before = addend.clone()
    expected = x @ weight.T + bias
    torch.testing.assert_close(linear(x, weight, bias), expected)
    other = torch.randn(4, 6)
    torch.testing.assert_close(linear(x.t(), other.t()), x.T @ other)
    product = StepProduct(weight, bias, rows=4, calls=100)
    torch.testing.assert_close(product(x), expected)
    torch.testing.assert_close(product(x, addend), expected + addend)
    assert torch.equal(addend, before)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN on this machine")
def test_onednn_product_works() -> None:
    """If a new PyTorch drops the operator, everything still works at half the speed; this test makes it noticed."""
    assert products_module._onednn_linear_works()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("arguments", [(), (torch.float32,), (torch.bfloat16,)], ids=str)
def test_whether_onednn_works_does_not_depend_on_autocast(arguments: tuple[torch.dtype, ...], dtype) -> None:
    """The answer of the first call is remembered for the whole process."""
    works = onednn_lstm._onednn_lstm_works if arguments else products_module._onednn_linear_works
    expected = works.__wrapped__(*arguments)
    with torch.autocast("cpu", dtype):
        assert works.__wrapped__(*arguments) == expected


@variants
def test_initial_weights(variant: str) -> None:
    """Recurrent matrices are orthogonal gate by gate, and the forget gate of an LSTM starts open."""
    recurrence = VARIANTS[variant](6, 8)
    weights = recurrence.layer_parameters(0)
    for block in weights["weight_hh"].chunk(len(recurrence.gates)):
        width = block.shape[1]
        torch.testing.assert_close(block.T @ block, torch.eye(width), rtol=0, atol=1e-5)
    biases = dict(zip(recurrence.gates, weights["bias"].chunk(len(recurrence.gates)), strict=True))
    lstm = isinstance(recurrence, (LSTM, PeepholeLSTM))
    for gate, bias in biases.items():
        assert bias.tolist() == [1.0 if lstm and gate == "forget" else 0.0] * 8, gate
    assert not weights.get("weight_ch", torch.zeros(1)).any(), "a peephole LSTM must start as an LSTM"
    assert not weights.get("bias_hh", torch.zeros(1)).any()


def test_variational_dropout_uses_one_mask_and_keeps_the_mean() -> None:
    dropout = VariationalDropout(0.4)
    dropout.generator = torch.Generator().manual_seed(1)
    x = torch.ones(5, 20, 500)
    dropped = dropout(x)
    assert (dropped == dropped[0]).all()
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.4, abs=0.03)
    assert dropout.eval()(x) is x


@pytest.mark.parametrize("lengths", [None, [4, 2, 1]])
def test_dropout_acts_between_layers_in_training_only(lengths: list[int] | None) -> None:
    torch.manual_seed(0)
    gru = GRU(3, 5, num_layers=2, dropout=0.5)
    x = torch.randn(4, 3, 3)
    assert not torch.equal(gru(x, lengths=lengths)[0], gru(x, lengths=lengths)[0])
    gru.eval()
    assert torch.equal(gru(x, lengths=lengths)[0], gru(x, lengths=lengths)[0])
    one_layer = GRU(3, 5, num_layers=1, dropout=0.5)
    assert torch.equal(one_layer(x, lengths=lengths)[0], one_layer(x, lengths=lengths)[0])


def test_dropout_uses_one_mask_per_padded_sequence() -> None:
    """The rows of the mask must follow sequences of different lengths, in any order, into the packed order."""
    rnn = ElmanRNN(1, 40, num_layers=2, dropout=0.5)
    with torch.no_grad():
        for name, parameter in rnn.named_parameters():  # each layer copies its input, unit by unit
            parameter.zero_()
            if name.startswith("weight_ih"):
                parameter.copy_(torch.eye(40, parameter.shape[1]) if name.endswith("1") else torch.ones(40, 1))
    # Units that are zero at a step are those that the mask dropped.
    output, _ = rnn(torch.full((6, 5, 1), 0.3), lengths=[2, 6, 1, 4, 6])
    masks = []
    for column, length in enumerate([2, 6, 1, 4, 6]):
        kept = output[:length, column] != 0
        assert (kept == kept[0]).all(), f"the mask of sequence {column} changes"
        assert 5 < kept[0].sum() < 35
        masks.append(kept[0])
    assert len({tuple(mask.tolist()) for mask in masks}) == 5, "sequences must not share a mask"
    # Without padding, packed and dense sequences draw the same masks.
    torch.manual_seed(1)
    dense, _ = rnn(torch.full((6, 5, 1), 0.3))
    torch.manual_seed(1)
    padded, _ = rnn(torch.full((6, 5, 1), 0.3), lengths=[6] * 5)
    torch.testing.assert_close(padded, dense)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LSTM(0, 5), "input_size must be a positive integer, got 0"),
        (lambda: MGU(3, 5.0), "hidden_size must be a positive integer, got 5.0"),
        (lambda: GRU(3, 5, 0), "num_layers must be a positive integer, got 0"),
        (lambda: LSTM(3, 5, proj_size=0), "proj_size must be a positive integer, got 0"),
        (lambda: LSTM(3, 5, proj_size=5), r"proj_size must be smaller than hidden_size \(5\), got 5"),
        (lambda: GRU(3, 5, reset_after="no"), "reset_after must be True or False, got 'no'"),
        (lambda: GRU(3, 5, 1, 0.1), "bidirectional must be True or False, got 0.1"),
        (lambda: GRU(3, 5).layer_parameters(1), r"GRU\(3, 5, 1\) has no layer 1 in forward direction"),
        (lambda: GRU(3, 5).layer_parameters(0, reverse=True), r"GRU\(3, 5, 1\) has no layer 0 in reverse direction"),
        (lambda: ElmanRNN(3, 5, dropout=1.0), "dropout must be at least 0 and less than 1, got 1.0"),
        (lambda: PeepholeLSTM(3, 5, output_gate="next"), "output_gate must be 'updated' or 'previous', got 'next'"),
        (lambda: GRU(3, 5)(torch.zeros(4, 3)), r"input must have shape \(seq_len, batch, 3\) .* got \(4, 3\)"),
        (lambda: GRU(3, 5)(torch.zeros(0, 2, 3)), r"at least one time step, got \(0, 2, 3\)"),
        (lambda: GRU(3, 5)(torch.zeros(4, 2, 4)), r"input must have shape \(seq_len, batch, 3\)"),
        (
            lambda: GRU(3, 5)(torch.zeros(4, 2, 3), torch.zeros(1, 2, 5)),
            r"state must be HiddenState\(hidden\), got Tensor; pass lengths by keyword",
        ),
        (
            lambda: GRU(3, 5)(torch.zeros(4, 2, 3), (torch.zeros(1, 2, 4),)),
            r"state must have the shapes hidden \(1, 2, 5\), got \(1, 2, 4\)",
        ),
        (
            lambda: LSTM(3, 5)(torch.zeros(4, 2, 3), (torch.zeros(1, 2, 5), None)),
            r"state must be LSTMState\(hidden, cell\)",
        ),
        (lambda: GRU(3, 5)([[1.0]]), "input must be a tensor, got a list"),
        (
            lambda: MGU(3, 5)(torch.zeros(4, 2, 3, dtype=torch.int64)),
            "input is torch.int64 on cpu, but the weights are",
        ),
        (
            lambda: LSTM(3, 5)(torch.zeros(4, 2, 3), (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5).double())),
            "cell is torch.float64 on cpu, but the weights are torch.float32 on cpu",
        ),
        (
            lambda: LSTM(3, 5)(torch.zeros(4, 2, 3), GRU(3, 5).initial_state(2)),
            r"cell \(1, 2, 5\), got \(1, 2, 5\)$",
        ),
        (
            lambda: GRU(3, 5)(torch.zeros(4, 2, 3), lengths=[4, 0]),
            r"lengths must be 2 integers from 1 to 4, got \[4, 0\]",
        ),
        (lambda: GRU(3, 5)(torch.zeros(4, 2, 3), lengths=[5, 1]), "from 1 to 4"),
        (lambda: GRU(3, 5)(torch.zeros(4, 2, 3), lengths=[4]), "lengths must be 2 integers"),
        (lambda: GRU(3, 5)(torch.zeros(4, 2, 3), lengths=[3.5, 1]), r"integers from 1 to 4, got \[3.5, 1\]"),
        (lambda: GRU(3, 5)(torch.zeros(4, 2, 3), lengths="ab"), "integers from 1 to 4, got ab"),
    ],
)
def test_invalid_arguments_raise(build: Callable[[], object], message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        build()
