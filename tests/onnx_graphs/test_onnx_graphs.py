"""ONNX graphs of language models: operators, values and int8 weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import AWKWARD_TEXTS, small_model, states_one_by_one

from charembed import CharEmbedder
from charembed.onnx_graphs import builder, language_model_graph
from charembed.onnx_graphs.builder import GraphBuilder
from charembed.util.devices import has_int8_units

CELLS: list[dict] = [
    {"cell": "elman"},
    {"cell": "lstm", "num_layers": 2, "proj_size": 5},
    {"cell": "peephole_lstm"},
    {"cell": "gru"},
    {"cell": "gru", "reset_after": True},
    {"cell": "mgu"},
]


def run(model: onnx.ModelProto, ids: np.ndarray) -> np.ndarray:
    """Return the vectors at all positions of one text, computed by ONNX Runtime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    states = {tensor.name: np.zeros((1, tensor.shape[1]), np.float32) for tensor in session.get_inputs()[1:-1]}
    feeds = states | {"ids": ids[:, None].astype(np.int64), "places": np.arange(len(ids))}
    return session.run(["vectors"], feeds)[0]


@pytest.mark.parametrize("options", CELLS, ids=str)
def test_graphs_are_valid_and_match_the_equations(options: dict) -> None:
    lm = small_model(**options).model.forward_lm
    ids = np.arange(30) % lm.config.vocab_size
    expected = states_one_by_one(lm, ids)
    for max_table_rows in (2048, 0):
        for precision, tolerance in (("float32", 1e-5), ("int8", 0.03)):
            model = language_model_graph(lm, precision, max_table_rows=max_table_rows)
            onnx.checker.check_model(model, full_check=True)
            uses_int8_lstm = "lstm" in options["cell"] and precision == "int8"
            domains = {"", "com.microsoft"} if uses_int8_lstm else {""}
            assert {opset.domain for opset in model.opset_import} == domains
            assert np.abs(run(model, ids) - expected).max() < tolerance


@pytest.mark.parametrize("int8_units", [True, False])
@pytest.mark.parametrize("options", CELLS, ids=str)
def test_int8_is_close_to_float32(options: dict, int8_units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Close, but not equal: int8 must really be used."""
    if int8_units and not has_int8_units():
        pytest.skip("this CPU adds products of int8 in 16 bits")
    monkeypatch.setattr(builder, "has_int8_units", lambda: int8_units)
    pretrained = small_model(**options)
    texts = [text for text in AWKWARD_TEXTS if len(text) < 1000]
    exact, approximate = (
        np.concatenate([embedded.vectors for embedded in CharEmbedder(pretrained, precision=precision).embed(texts)])
        for precision in ("float32", "int8")
    )
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(approximate, axis=1)
    cosines = (exact * approximate).sum(axis=1) / norms
    assert cosines.min() > (0.9995 if int8_units else 0.998)
    assert np.abs(exact - approximate).max() > 1e-4


@pytest.mark.parametrize(("int8_units", "largest"), [(True, 127), (False, 63)])
def test_weights_are_quantized_row_by_row(int8_units: bool, largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "has_int8_units", lambda: int8_units)
    weight = np.array([[0.5, -1.0, 0.1], [100.0, 3.0, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    integers, scales = GraphBuilder().quantize(weight)
    assert np.abs(integers).max(axis=1).tolist() == [largest, largest, 0]
    assert (np.abs(integers * scales[:, None] - weight) <= scales[:, None] / 2 + 1e-7).all()
