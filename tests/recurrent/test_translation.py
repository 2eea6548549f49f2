"""Weights to other libraries and back, whose own implementations are the oracles of ours."""

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


def same_parameters(a: Recurrence[Any], b: Recurrence[Any]) -> None:
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
def test_values_and_gradients_are_those_of_torch(variant: str, lengths: list[int] | None) -> None:
    torch.manual_seed(0)
    ours = randomised(VARIANTS[variant](3, 5, 2, True))
    theirs = torch_module(variant, 3, 5, 2, bidirectional=True)
    theirs.load_state_dict(torch_weights(ours))
    x = torch.randn(9, 3, 3, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    state = map_state(torch.detach, random_state(ours, 3))

    found, final = ours(x, state, lengths)
    packed: Any = y
    if lengths:
        packed = torch.nn.utils.rnn.pack_padded_sequence(y, torch.tensor(lengths), enforce_sorted=False)
    wanted, wanted_final = theirs(packed, tuple(state) if len(state) == 2 else state[0])
    if lengths:
        wanted, _ = torch.nn.utils.rnn.pad_packed_sequence(wanted)
    wanted_final = wanted_final if isinstance(wanted_final, tuple) else (wanted_final,)
    for a, b in zip((found, *final), (wanted, *wanted_final), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)

    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-12)
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        matching = name.replace("bias_l", "bias_ih_l")
        wanted_gradient = gradients[matching][-5:] if name.startswith("bias_hh") else gradients[matching]
        torch.testing.assert_close(parameter.grad, wanted_gradient, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("variant", TORCH)
@pytest.mark.parametrize("bias", [True, False])
def test_from_torch(variant: str, bias: bool) -> None:
    """Two biases of theirs, both at work, become ours."""
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
"""Variant and tolerance: where Keras loops step by step, it rounds to float32 on the way, though asked for float64."""


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
def test_values_and_gradients_are_those_of_keras(keras: Any, variant: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    ours = randomised(VARIANTS[variant](3, 5, 1, bidirectional))
    layer = keras_layer(keras, variant, bidirectional)
    layer.set_weights(keras_weights(ours))
    x = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    found, final = ours(x)
    wanted, *states = layer(y.transpose(0, 1))
    torch.testing.assert_close(found, wanted.transpose(0, 1), rtol=0, atol=KERAS[variant])
    for k, tensor in enumerate(final):
        theirs = torch.stack(states[k :: len(final)])
        torch.testing.assert_close(tensor, theirs, rtol=0, atol=KERAS[variant])
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (wanted.transpose(0, 1) * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=KERAS[variant])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2
@pytest.mark.parametrize("variant", [v for v in KERAS if v != "mgu"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_from_keras(keras: Any, variant: str, use_bias: bool) -> None:
    keras.utils.set_random_seed(1)
    layer = keras_layer(keras, variant, True, use_bias=use_bias)
    if use_bias:
        layer.set_weights(
            [np.random.default_rng(k).normal(scale=0.5, size=w.shape) for k, w in enumerate(layer.get_weights())]
        )
    ours = VARIANTS[variant](3, 5, 1, True).double()
    load_keras_weights(ours, layer.get_weights())
    x = torch.randn(9, 2, 3, dtype=torch.float64)
    wanted, *_ = layer(x.transpose(0, 1))
    torch.testing.assert_close(ours(x)[0], wanted.transpose(0, 1), rtol=0, atol=KERAS[variant])


@pytest.mark.parametrize("variant", KERAS)
def test_to_keras_and_back(variant: str) -> None:
    ours, other = (randomised(VARIANTS[variant](3, 5, 2, True)) for _ in range(2))
    for layer in range(2):
        load_keras_weights(other, keras_weights(ours, layer), layer)
    same_parameters(ours, other)


# ONNX ----------------------------------------------------------------------------------------------------------------

ONNX = ("elman", "lstm", "peephole", "gru", "gru reset_after", "mgu")
Array = NDArray[np.float32]


def onnx_runtime(recurrence: Recurrence[Any], x: Tensor, lengths: list[int], state: Any) -> tuple[Array, list[Array]]:
    """One layer, run by ONNX Runtime: the output as ours, and the final state."""
    operator, attributes = onnx_operator(recurrence)
    tensors: dict[str, Any] = {"X": x.numpy(), **onnx_weights(recurrence), "sequence_lens": np.array(lengths, np.int32)}
    tensors |= {f"initial_{name[0]}": tensor.numpy() for name, tensor in state._asdict().items()}
    places = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    inputs = [name if name in tensors else "" for name in places[: 6 if operator != "LSTM" else 8]]
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
def test_values_are_those_of_onnx_runtime(variant: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    ours = randomised(VARIANTS[variant](3, 5, 1, bidirectional), torch.float32).requires_grad_(False)
    x, state = torch.randn(9, 3, 3), map_state(torch.detach, random_state(ours, 3))
    lengths = [9, 4, 7]
    found, final = ours(x, state, lengths)
    wanted, wanted_final = onnx_runtime(ours, x, lengths, state)
    torch.testing.assert_close(found.numpy(), wanted, rtol=0, atol=1e-5)
    for a, b in zip(final, wanted_final, strict=True):
        torch.testing.assert_close(a.numpy(), b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ONNX)
def test_to_onnx_and_back(variant: str) -> None:
    ours, other = (randomised(VARIANTS[variant](3, 5, 2, True)) for _ in range(2))
    for layer in range(2):
        load_onnx_weights(other, onnx_weights(ours, layer), layer)
    same_parameters(ours, other)


def operator_cases() -> list[Any]:
    """The cases that the onnx package generates for RNN, GRU and LSTM."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cases of other operators overflow on purpose
        cases = collect_testcases(None)
    return [case for case in cases if case.model and case.model.graph.node[0].op_type in {"RNN", "GRU", "LSTM"}]


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    return operator_cases()


def test_the_operator_cases_of_onnx(cases: list[Any]) -> None:
    assert len(cases) >= 18, "onnx generates fewer cases than it did"
    assert {case.model.graph.node[0].op_type for case in cases} == {"RNN", "GRU", "LSTM"}
    for case in cases:
        (node,) = case.model.graph.node
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        hidden_size, direction = attributes.pop("hidden_size"), attributes.pop("direction", b"forward")
        batch_first = attributes.pop("layout", 0) == 1
        reset_after = attributes.pop("linear_before_reset", 0) == 1
        assert not attributes, f"{case.name}: {attributes} not taken into account"
        arrays, wanted = case.data_sets[0]
        given = dict(zip([n for n in node.input if n], arrays, strict=True))
        x = torch.from_numpy(given.pop("X").copy())
        sequence_lens = given.pop("sequence_lens", None)
        starts = [given.pop(name) for name in ("initial_h", "initial_c") if name in given]
        if batch_first:
            x = x.transpose(0, 1)
        if direction == b"reverse":  # ours reads forward: turn the sequence round
            x = x.flip(0)
        build = {"RNN": ElmanRNN, "LSTM": PeepholeLSTM if "P" in given else LSTM, "GRU": GRU}[node.op_type]
        options = {"reset_after": reset_after} if build is GRU else {}
        ours = build(x.shape[2], hidden_size, 1, direction == b"bidirectional", **options).requires_grad_(False)
        load_onnx_weights(ours, given)
        state = ours.state_type(*map(torch.from_numpy, starts)) if starts else None
        lengths = None if sequence_lens is None else sequence_lens.tolist()

        output, final = ours(x, state, lengths)

        y = output.view(*output.shape[:2], len(ours.directions), hidden_size).transpose(1, 2)
        if direction == b"reverse":
            y = y.flip(0)
        results = {"Y": y, "Y_h": final.hidden, "Y_c": final[-1]}
        if batch_first:
            results = {"Y": y.permute(2, 0, 1, 3), "Y_h": final.hidden.transpose(0, 1)}
        for name, expected in zip([n for n in node.output if n], wanted, strict=True):
            torch.testing.assert_close(
                results[name].numpy(), expected, rtol=0, atol=1e-5, msg=lambda m, case=case: f"{case.name}: {m}"
            )


# What cannot be said elsewhere ---------------------------------------------------------------------------------------


def one_bias() -> dict[str, Tensor]:
    state = torch.nn.LSTM(3, 5).state_dict()
    del state["bias_ih_l0"]
    return state


def other_gru() -> dict[str, Array]:
    return onnx_weights(randomised(GRU(3, 5), torch.float32))


@pytest.mark.parametrize(
    ("translate", "message"),
    [
        (lambda: torch_weights(MGU(3, 5)), "PyTorch has no MGU"),
        (lambda: torch_weights(PeepholeLSTM(3, 5)), "PyTorch has no PeepholeLSTM"),
        (lambda: load_torch_weights(LSTM(3, 5), torch.nn.LSTM(3, 5)), r"expected a state_dict\(\), got LSTM"),
        (lambda: load_torch_weights(GRU(3, 5), {}), "PyTorch has no GRU with reset_after=False"),
        (lambda: load_torch_weights(LSTM(3, 5), torch.nn.LSTM(3, 6).state_dict()), r"biases of shapes \(24,\)"),
        (lambda: load_torch_weights(LSTM(3, 5, 2), torch.nn.LSTM(3, 5).state_dict()), "lacks weight_[ih]h_l1"),
        (lambda: load_torch_weights(LSTM(3, 5), torch.nn.LSTM(3, 5, 2).state_dict()), "holds weight_ih_l1, which"),
        (lambda: load_torch_weights(LSTM(3, 5), one_bias()), "holds bias_hh_l0, and no other bias beside it"),
        (lambda: torch_weights(torch.nn.LSTM(3, 5)), "expected a recurrence of charembed.recurrent, got LSTM"),
        (lambda: onnx_operator(torch.nn.GRU(3, 5)), "expected a recurrence of charembed.recurrent, got GRU"),
        (lambda: keras_weights(LSTM(3, 5), 1), "no layer 1 in LSTM"),
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
        (lambda: keras_weights(PeepholeLSTM(3, 5)), "Keras has no LSTM with peepholes"),
        (lambda: keras_weights(LSTM(3, 5, proj_size=2)), "Keras has no LSTM with peepholes or a projection"),
        (lambda: load_keras_weights(LSTM(3, 5), keras_weights(LSTM(3, 6))), "shape .*, expected"),
        (lambda: load_keras_weights(LSTM(3, 5, 1, True), keras_weights(LSTM(3, 5))), "expected 6 arrays"),
        (lambda: load_keras_weights(MGU(3, 5), keras_weights(GRU(3, 5))), "this GRU is no MGU"),
        (lambda: onnx_operator(LSTM(3, 5, proj_size=2)), "ONNX has no LSTM with a projection"),
        (lambda: onnx_weights(PeepholeLSTM(3, 5, output_gate="previous")), "output gate sees the previous cell state"),
        (lambda: load_onnx_weights(MGU(3, 5), other_gru()), "this GRU is no MGU"),
        (lambda: load_onnx_weights(LSTM(3, 5), {"W": np.zeros((1, 20, 3))}), "expected the inputs B, R, W, got W"),
        (lambda: load_onnx_weights(LSTM(3, 5), onnx_weights(PeepholeLSTM(3, 5))), "got B, P, R, W"),
        (lambda: load_onnx_weights(GRU(3, 5, 1, True), other_gru()), r"expected 2 direction\(s\)"),
        (
            lambda: load_onnx_weights(GRU(3, 5), other_gru() | {"W": np.zeros((1, 16, 3))}),
            r"\(16, 3\) cannot be of 3 gates",
        ),
    ],
)
def test_what_cannot_be_translated_is_refused(translate: Any, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        translate()


def test_weights_are_copies() -> None:
    lstm = LSTM(3, 5)
    state = torch_weights(lstm)
    before = {name: tensor.clone() for name, tensor in state.items()}
    for parameter in lstm.parameters():
        parameter.detach().zero_()
    for name, tensor in state.items():
        assert torch.equal(tensor, before[name]), name


def test_biases_that_only_together_are_those_of_an_mgu() -> None:
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


def test_half_precision_weights_leave_as_float32() -> None:
    assert {array.dtype for array in onnx_weights(GRU(3, 5).bfloat16()).values()} == {np.dtype(np.float32)}


def test_a_refused_weight_changes_nothing() -> None:
    lstm = LSTM(3, 5)
    before = {name: tensor.clone() for name, tensor in lstm.state_dict().items()}
    state = torch.nn.LSTM(3, 5).state_dict()
    state["weight_hh_l0"] = torch.zeros(20, 6)
    with pytest.raises(CharEmbedError, match="weight_hh has shape"):
        load_torch_weights(lstm, state)
    for name, tensor in lstm.state_dict().items():
        assert torch.equal(tensor, before[name]), name
