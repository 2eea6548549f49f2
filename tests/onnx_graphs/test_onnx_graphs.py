"""ONNX graphs of the language models: what is in them, and int8."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import AWKWARD_TEXTS, small_model, states_one_by_one

from charembed import CharEmbedder
from charembed.onnx_graphs import builder, language_model_graph, scan
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
    """All states of one reading, in ONNX Runtime alone."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    zeros = {given.name: np.zeros((1, given.shape[1]), np.float32) for given in session.get_inputs()[1:-1]}
    feeds = zeros | {"ids": ids[:, None].astype(np.int64), "places": np.arange(len(ids))}
    return session.run(["vectors"], feeds)[0]


@pytest.mark.parametrize("options", CELLS, ids=str)
def test_graphs_are_standard_onnx_and_right(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = small_model(**options).model.forward_lm
    ids = np.arange(30) % lm.config.vocab_size
    wanted = states_one_by_one(lm, ids)
    for table_up_to in (2048, 0):
        monkeypatch.setattr(scan, "_TABLE_UP_TO", table_up_to)
        for precision, tolerance in (("float32", 1e-5), ("int8", 0.03)):
            model = language_model_graph(lm, precision)
            onnx.checker.check_model(model, full_check=True)
            fused = "lstm" in options["cell"] and precision == "int8"
            assert {domain.domain for domain in model.opset_import} == {"", "com.microsoft"} if fused else {""}
            assert np.abs(run(model, ids) - wanted).max() < tolerance


@pytest.mark.parametrize("units", [True, False])
@pytest.mark.parametrize("options", CELLS, ids=str)
def test_int8_is_near_float32_and_not_the_same(options: dict, units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if units and not has_int8_units():
        pytest.skip("this CPU adds up products of int8 in 16 bits")
    monkeypatch.setattr(builder, "has_int8_units", lambda: units)
    pretrained = small_model(**options)
    texts = [text for text in AWKWARD_TEXTS if len(text) < 1000]
    exact, coarse = (
        np.concatenate([found.vectors for found in CharEmbedder(pretrained, precision=precision).embed(texts)])
        for precision in ("float32", "int8")
    )
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(coarse, axis=1)
    cosines = (exact * coarse).sum(axis=1) / norms
    assert cosines.min() > (0.9995 if units else 0.998)
    assert np.abs(exact - coarse).max() > 1e-4


@pytest.mark.parametrize(("units", "largest"), [(True, 127), (False, 63)])
def test_weights_are_rounded_row_by_row(units: bool, largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "has_int8_units", lambda: units)
    weight = np.array([[0.5, -1.0, 0.1], [100.0, 3.0, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    whole, scales = GraphBuilder().quantized(weight)
    assert np.abs(whole).max(axis=1).tolist() == [largest, largest, 0]
    assert (np.abs(whole * scales[:, None] - weight) <= scales[:, None] / 2 + 1e-7).all()
