"""Translation of weights to PyTorch, Keras and ONNX and back, with their implementations as oracles."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_recurrent import VARIANTS, random_state, randomised
from torch import Tensor

from charembed import CharEmbedError
from charembed.recurrent import GRU, LSTM, MGU, ElmanRNN, PeepholeLSTM, Recurrence, map_state
from charembed.recurrent.translation import (
    keras_weights,
    load_keras_weights,
    load_onnx_weights,
    load_torch_weights,
    onnx_operator,
    onnx_weights,
    torch_weights,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def assert_same_parameters(a: Recurrence[Any], b: Recurrence[Any]) -> None:
    for (name, one), (_, other) in zip(a.named_parameters(), b.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")


# PyTorch -------------------------------------------------------------------------------------------------------------

TORCH = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "lstm projected": torch.nn.LSTM, "gru reset_after": torch.nn.GRU}


def torch_module(variant: str, *sizes: Any, **options: Any) -> torch.nn.RNNBase:
    if variant == "lstm projected":
        options["proj_size"] = 3
    return TORCH[variant](*sizes, **options).double()


@pytest.mark.parametrize("variant", TORCH)
@pytest.mark.parametrize("lengths", [None, [9, 2, 7]])
def test_matches_torch(variant: str, lengths: list[int] | None) -> None:
    torch.manual_seed(0)
    ours = randomised(VARIANTS[variant](3, 5, 2, True))
    theirs = torch_module(variant, 3, 5, 2, bidirectional=True)
    theirs.load_state_dict(torch_weights(ours))
    x = torch.randn(9, 3, 3, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    state = map_state(torch.detach, random_state(ours, 3))

    output, final = ours(x, state, lengths)
    packed: Any = y
    if lengths:
        packed = torch.nn.utils.rnn.pack_padded_sequence(y, torch.tensor(lengths), enforce_sorted=False)
    expected, expected_final = theirs(packed, tuple(state) if len(state) == 2 else state[0])
    if lengths:
        expected, _ = torch.nn.utils.rnn.pad_packed_sequence(expected)
    expected_final = expected_final if isinstance(expected_final, tuple) else (expected_final,)
    for a, b in zip((output, *final), (expected, *expected_final), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)

    # Gradients: charembed has one bias where PyTorch has two with the same gradient.
    weights = torch.randn_like(output)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-12)
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        matching = name.replace("bias_l", "bias_ih_l")
        expected_gradient = gradients[matching][-5:] if name.startswith("bias_hh") else gradients[matching]
        torch.testing.assert_close(parameter.grad, expected_gradient, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("variant", TORCH)
@pytest.mark.parametrize("bias", [True, False])
def test_load_torch_weights(variant: str, bias: bool) -> None:
    """Both biases of the PyTorch module are loaded into the one of charembed."""
    torch.manual_seed(0)
    theirs = torch_module(variant, 3, 5, 2, bidirectional=True, bias=bias)
    ours = VARIANTS[variant](3, 5, 2, True).double()
    load_torch_weights(ours, theirs.state_dict())
    x = torch.randn(9, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=0, atol=1e-12)


# Keras ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras() -> Iterator[Any]:
    os.environ["KERAS_BACKEND"] = "torch"
    keras = pytest.importorskip("keras")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield keras
    keras.config.set_floatx(before)


KERAS = {"elman": 1e-6, "lstm": 1e-12, "gru": 1e-6, "gru reset_after": 1e-12, "mgu": 1e-6}
"""Variant and tolerance: where Keras loops step by step, it rounds to float32 even if asked for float64."""


def keras_layer(keras: Any, variant: str, bidirectional: bool, **options: Any) -> Any:
    options |= {"units": 5, "return_sequences": True, "return_state": True, "dtype": "float64"}
    match variant:
        case "elman":
            layer = keras.layers.SimpleRNN(**options)
        case "lstm":
            layer = keras.layers.LSTM(**options)
        case _:
            layer = keras.layers.GRU(**options, reset_after=variant == "gru reset_after")
    if bidirectional:
        layer = keras.layers.Bidirectional(layer)
    layer.build((2, 9, 3))
    return layer


@pytest.mark.parametrize("variant", KERAS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_matches_keras(keras: Any, variant: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    ours = randomised(VARIANTS[variant](3, 5, 1, bidirectional))
    layer = keras_layer(keras, variant, bidirectional)
    layer.set_weights(keras_weights(ours))
    x = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    output, final = ours(x)
    expected, *states = layer(y.transpose(0, 1))
    torch.testing.assert_close(output, expected.transpose(0, 1), rtol=0, atol=KERAS[variant])
    for k, tensor in enumerate(final):
        theirs = torch.stack(states[k :: len(final)])
        torch.testing.assert_close(tensor, theirs, rtol=0, atol=KERAS[variant])
    weights = torch.randn_like(output)
    (output * weights).sum().backward()
    (expected.transpose(0, 1) * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=KERAS[variant])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2
@pytest.mark.parametrize("variant", [v for v in KERAS if v != "mgu"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_load_keras_weights(keras: Any, variant: str, use_bias: bool) -> None:
    keras.utils.set_random_seed(1)
    layer = keras_layer(keras, variant, True, use_bias=use_bias)
    if use_bias:
        layer.set_weights(
            [np.random.default_rng(k).normal(scale=0.5, size=w.shape) for k, w in enumerate(layer.get_weights())]
        )
    ours = VARIANTS[variant](3, 5, 1, True).double()
    load_keras_weights(ours, layer.get_weights())
    x = torch.randn(9, 2, 3, dtype=torch.float64)
    expected, *_ = layer(x.transpose(0, 1))
    torch.testing.assert_close(ours(x)[0], expected.transpose(0, 1), rtol=0, atol=KERAS[variant])


@pytest.mark.parametrize("variant", KERAS)
def test_keras_round_trip(variant: str) -> None:
    ours, other = (randomised(VARIANTS[variant](3, 5, 2, True)) for _ in range(2))
    for layer in range(2):
        load_keras_weights(other, keras_weights(ours, layer), layer)
    assert_same_parameters(ours, other)


# ONNX ----------------------------------------------------------------------------------------------------------------

ONNX = ("elman", "lstm", "peephole", "gru", "gru reset_after", "mgu")
Array = NDArray[np.float32]


def onnx_runtime(recurrence: Recurrence[Any], x: Tensor, lengths: list[int], state: Any) -> tuple[Array, list[Array]]:
    """Run one layer in ONNX Runtime.

    Returns:
        The output, (seq_len, batch, output_size), and the tensors of the final state.
    """
    operator, attributes = onnx_operator(recurrence)
    tensors: dict[str, Any] = {"X": x.numpy(), **onnx_weights(recurrence), "sequence_lens": np.array(lengths, np.int32)}
    tensors |= {f"initial_{name[0]}": tensor.numpy() for name, tensor in state._asdict().items()}
    input_names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    inputs = [name if name in tensors else "" for name in input_names[: 6 if operator != "LSTM" else 8]]
    outputs = ["Y", "Y_h", "Y_c"][: 1 + len(state)]
    node = onnx.helper.make_node(operator, inputs, outputs, **attributes)
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in tensors.items()
    ]
    results = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
    graph = onnx.helper.make_graph([node], "layer", values, results)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, *final = session.run(None, tensors)
    return y.transpose(0, 2, 1, 3).reshape(*y.shape[:1], y.shape[2], -1), final


@pytest.mark.parametrize("variant", ONNX)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_matches_onnx_runtime(variant: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    ours = randomised(VARIANTS[variant](3, 5, 1, bidirectional), torch.float32).requires_grad_(False)
    x, state = torch.randn(9, 3, 3), map_state(torch.detach, random_state(ours, 3))
    lengths = [9, 4, 7]
    output, final = ours(x, state, lengths)
    expected, expected_final = onnx_runtime(ours, x, lengths, state)
    torch.testing.assert_close(output.numpy(), expected, rtol=0, atol=1e-5)
    for a, b in zip(final, expected_final, strict=True):
        torch.testing.assert_close(a.numpy(), b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ONNX)
def test_onnx_round_trip(variant: str) -> None:
    ours, other = (randomised(VARIANTS[variant](3, 5, 2, True)) for _ in range(2))
    for layer in range(2):
        load_onnx_weights(other, onnx_weights(ours, layer), layer)
    assert_same_parameters(ours, other)


def operator_cases() -> list[Any]:
    """Return the test cases that the onnx package generates for RNN, GRU and LSTM."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cases of other operators overflow intentionally
        cases = collect_testcases(None)
    return [case for case in cases if case.model and case.model.graph.node[0].op_type in {"RNN", "GRU", "LSTM"}]


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    return operator_cases()


def test_onnx_operator_cases(cases: list[Any]) -> None:
    assert len(cases) >= 12, "onnx generates fewer test cases than its oldest version"
    assert {case.model.graph.node[0].op_type for case in cases} == {"RNN", "GRU", "LSTM"}
    for case in cases:
        (node,) = case.model.graph.node
        # Every attribute and input must be handled, or the case would test less than it seems to.
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        hidden_size, direction = attributes.pop("hidden_size"), attributes.pop("direction", b"forward")
        batch_first = attributes.pop("layout", 0) == 1
        reset_after = attributes.pop("linear_before_reset", 0) == 1
        assert not attributes, f"{case.name}: {attributes} not handled"
        arrays, expected_arrays = case.data_sets[0]
        inputs = dict(zip([n for n in node.input if n], arrays, strict=True))
        x = torch.from_numpy(inputs.pop("X").copy())
        sequence_lens = inputs.pop("sequence_lens", None)
        starts = [inputs.pop(name) for name in ("initial_h", "initial_c") if name in inputs]
        if batch_first:
            x = x.transpose(0, 1)
        if direction == b"reverse":  # charembed has no reverse-only direction: reverse the sequence
            x = x.flip(0)
        # Build the recurrence, load the weights and run it.
        build = {"RNN": ElmanRNN, "LSTM": PeepholeLSTM if "P" in inputs else LSTM, "GRU": GRU}[node.op_type]
        options = {"reset_after": reset_after} if build is GRU else {}
        ours = build(x.shape[2], hidden_size, 1, direction == b"bidirectional", **options).requires_grad_(False)
        load_onnx_weights(ours, inputs)
        state = ours.state_type(*map(torch.from_numpy, starts)) if starts else None
        lengths = None if sequence_lens is None else sequence_lens.tolist()

        output, final = ours(x, state, lengths)

        # Compare in the layout of ONNX: the direction is a dimension of its own.
        y = output.view(*output.shape[:2], len(ours.directions), hidden_size).transpose(1, 2)
        if direction == b"reverse":
            y = y.flip(0)
        results = {"Y": y, "Y_h": final.hidden, "Y_c": final[-1]}
        if batch_first:
            results = {"Y": y.permute(2, 0, 1, 3), "Y_h": final.hidden.transpose(0, 1)}
        for name, expected in zip([n for n in node.output if n], expected_arrays, strict=True):
            torch.testing.assert_close(
                results[name].numpy(), expected, rtol=0, atol=1e-5, msg=lambda m, case=case: f"{case.name}: {m}"
            )


# Errors and special cases --------------------------------------------------------------------------------------------


def state_dict_without_one_bias() -> dict[str, Tensor]:
    state = torch.nn.LSTM(3, 5).state_dict()
    del state["bias_ih_l0"]
    return state


def arbitrary_gru() -> dict[str, Array]:
    return onnx_weights(randomised(GRU(3, 5), torch.float32))


@pytest.mark.parametrize(
    ("translate", "message"),
    [
        (lambda: torch_weights(MGU(3, 5)), "PyTorch does not have a recurrence like MGU"),
        (lambda: torch_weights(PeepholeLSTM(3, 5)), "PyTorch does not have a recurrence like PeepholeLSTM"),
        (lambda: load_torch_weights(LSTM(3, 5), torch.nn.LSTM(3, 5)), r"expected a state_dict\(\), got LSTM"),
        (lambda: load_torch_weights(GRU(3, 5), {}), "PyTorch does not have a GRU with reset_after=False"),
        (lambda: load_torch_weights(LSTM(3, 5), torch.nn.LSTM(3, 6).state_dict()), r"the biases have shapes \(24,\)"),
        (lambda: load_torch_weights(LSTM(3, 5, 2), torch.nn.LSTM(3, 5).state_dict()), "lacks weight_[ih]h_l1"),
        (lambda: load_torch_weights(LSTM(3, 5), torch.nn.LSTM(3, 5, 2).state_dict()), "has weight_ih_l1, which"),
        (
            lambda: load_torch_weights(LSTM(3, 5), state_dict_without_one_bias()),
            "has bias_hh_l0 but not the other bias of the layer",
        ),
        (lambda: torch_weights(torch.nn.LSTM(3, 5)), "expected a recurrence of charembed.recurrent, got LSTM"),
        (lambda: onnx_operator(torch.nn.GRU(3, 5)), "expected a recurrence of charembed.recurrent, got GRU"),
        (lambda: keras_weights(LSTM(3, 5), 1), "has no layer 1 in forward direction"),
        (
            lambda: load_keras_weights(GRU(3, 5), keras_weights(GRU(3, 5, reset_after=True))),
            r"the bias has shape \(2, 15\), expected \(15,\); is reset_after the same in both\?",
        ),
        (
            lambda: load_keras_weights(GRU(3, 5, reset_after=True), keras_weights(GRU(3, 5))),
            r"the bias has shape \(15,\), expected \(2, 15\); is reset_after the same in both\?",
        ),
        (lambda: load_keras_weights(LSTM(3, 5), [np.zeros(3), np.zeros((5, 20))]), "expected two dimensions"),
        (lambda: load_keras_weights(LSTM(3, 5), [["a"], ["b"]]), "cannot be read as an array of numbers"),
        (lambda: load_onnx_weights(ElmanRNN(1, 1), {"W": [[[1]]], "R": [[[1]]], "B": [[1]]}), r"B has shape \(1, 1\)"),
        (lambda: keras_weights(PeepholeLSTM(3, 5)), "Keras does not have an LSTM with peepholes"),
        (lambda: keras_weights(LSTM(3, 5, proj_size=2)), "Keras does not have an LSTM with peepholes or a projection"),
        (lambda: load_keras_weights(LSTM(3, 5), keras_weights(LSTM(3, 6))), "shape .*, expected"),
        (lambda: load_keras_weights(LSTM(3, 5, 1, True), keras_weights(LSTM(3, 5))), "expected 6 arrays"),
        (lambda: load_keras_weights(MGU(3, 5), keras_weights(GRU(3, 5))), "this GRU is not an MGU"),
        (lambda: onnx_operator(LSTM(3, 5, proj_size=2)), "ONNX does not have an LSTM with a projection"),
        (lambda: onnx_weights(PeepholeLSTM(3, 5, output_gate="previous")), "output gate sees the previous cell state"),
        (lambda: load_onnx_weights(MGU(3, 5), arbitrary_gru()), "this GRU is not an MGU"),
        (lambda: load_onnx_weights(LSTM(3, 5), {"W": np.zeros((1, 20, 3))}), "expected the inputs B, R, W, got W"),
        (lambda: load_onnx_weights(LSTM(3, 5), onnx_weights(PeepholeLSTM(3, 5))), "got B, P, R, W"),
        (lambda: load_onnx_weights(GRU(3, 5, 1, True), arbitrary_gru()), r"expected 2 direction\(s\)"),
        (
            lambda: load_onnx_weights(GRU(3, 5), arbitrary_gru() | {"W": np.zeros((1, 16, 3))}),
            r"\(16, 3\) cannot be divided into 3 gates",
        ),
    ],
)
def test_untranslatable_weights_raise(translate: Any, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        translate()


def test_returned_weights_are_copies() -> None:
    lstm = LSTM(3, 5)
    state = torch_weights(lstm)
    before = {name: tensor.clone() for name, tensor in state.items()}
    for parameter in lstm.parameters():
        parameter.detach().zero_()
    for name, tensor in state.items():
        assert torch.equal(tensor, before[name]), name


def test_mgu_biases_are_compared_after_adding_them() -> None:
    mgu = randomised(MGU(3, 5), torch.float32)
    tensors = onnx_weights(mgu)
    moved = np.random.default_rng(0).normal(size=(1, 15)).astype(np.float32)
    tensors["B"] = tensors["B"] + np.concatenate([moved, -moved], axis=1)
    other = MGU(3, 5)
    tensors["B"] = np.round(256 * tensors["B"]).astype(np.float32) / 256  # sums without rounding
    tensors["B"][:, :5] = -tensors["B"][:, 5:10] - tensors["B"][:, 20:25] - tensors["B"][:, 15:20]
    load_onnx_weights(other, tensors)
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(other(x)[0], mgu(x)[0], rtol=0, atol=0.05)


def test_half_precision_weights_are_exported_as_float32() -> None:
    assert {array.dtype for array in onnx_weights(GRU(3, 5).bfloat16()).values()} == {np.dtype(np.float32)}


def test_failed_load_keeps_the_weights() -> None:
    lstm = LSTM(3, 5)
    before = {name: tensor.clone() for name, tensor in lstm.state_dict().items()}
    state = torch.nn.LSTM(3, 5).state_dict()
    state["weight_hh_l0"] = torch.zeros(20, 6)
    with pytest.raises(CharEmbedError, match="weight_hh has shape"):
        load_torch_weights(lstm, state)
    for name, tensor in lstm.state_dict().items():
        assert torch.equal(tensor, before[name]), name
