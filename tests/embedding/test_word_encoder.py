"""The PyTorch module: the embedder's vectors as a layer of a network, with fixed or trained language models."""

from __future__ import annotations

import copy
import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    AWKWARD_TEXTS,
    EMBEDDER_OPTIONS,
    INVALID_EMBEDDER_OPTIONS,
    assert_same_vectors,
    needs,
    small_model,
    small_static_vectors,
    with_projection,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from charembed import CharEmbedder, CharEmbedError, WordEncoder
from charembed.embedding.word_encoder import vectors_with_gradients

SENTENCES = [["two", "words"], [], "A raw text, of six.", ("spans here", [(0, 5), (6, 10)]), ["x"]]
KINDS: list[dict] = [
    {"cell": "lstm"},
    {"cell": "lstm", "num_layers": 2, "proj_size": 5, "readout": "separator"},
    {"cell": "peephole_lstm"},
    {"cell": "elman"},
    {"cell": "gru"},
    {"cell": "gru", "reset_after": True},
    {"cell": "mgu", "delimiter": "\n\n"},
]


@pytest.mark.parametrize("trainable", [True, False])
def test_padded_vectors_and_mask(trainable: bool, embedder) -> None:
    encoder = WordEncoder(embedder, trainable=trainable).eval()
    vectors, mask = encoder(SENTENCES)
    assert vectors.shape == (5, 7, encoder.output_size)
    assert mask.sum(dim=1).tolist() == [2, 0, 7, 2, 1]
    assert vectors[~mask].abs().sum() == 0
    assert vectors.requires_grad is trainable
    for row, expected in zip(vectors.detach().numpy(), embedder.embed(SENTENCES), strict=True):
        assert_same_vectors(row[: len(expected)], expected.vectors, expected.words)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_vectors_with_gradients_equal_those_of_the_engine(options: dict) -> None:
    pretrained = small_model(**options)
    pretrained.model.eval()
    texts = [text for text in AWKWARD_TEXTS if len(text) < 1000]
    # A chunk has 8,192 characters. Only PyTorch's LSTM and the simplest of the other cells read as many quickly.
    texts.append("x" * (9000 if options["cell"] in ("lstm", "elman") else 100))
    embeddings = CharEmbedder(pretrained).embed(texts)
    for vectors, expected in zip(vectors_with_gradients(pretrained, texts), embeddings, strict=True):
        assert_same_vectors(vectors.detach().numpy(), expected.vectors, expected.words)


@settings(max_examples=25)
@given(st.lists(st.lists(st.text("ab é", min_size=0, max_size=30), max_size=6), min_size=1, max_size=20))
def test_gradients_do_not_depend_on_the_rest_of_the_batch(texts: list[list[str]]) -> None:
    pretrained = small_model()
    pretrained.model.eval()
    together = vectors_with_gradients(pretrained, texts)
    total = sum((vectors.sin().sum() for vectors in together), torch.zeros(()))
    weights = [w for lm in (pretrained.model.forward_lm, pretrained.model.backward_lm) for w in lm.rnn.parameters()]
    if not total.requires_grad:
        assert not any(texts)
        return
    expected = [torch.zeros_like(weight) for weight in weights]
    for text in filter(None, texts):
        alone = torch.autograd.grad(vectors_with_gradients(pretrained, [text])[0].sin().sum(), weights)
        expected = [sum(pair) for pair in zip(expected, alone, strict=True)]
    for gradient, expected_gradient in zip(torch.autograd.grad(total, weights), expected, strict=True):
        assert torch.allclose(gradient, expected_gradient, atol=1e-4)


def test_frozen_weights_have_no_gradients_and_no_dropout(embedder) -> None:
    encoder = WordEncoder(embedder, projection_size=3).train()
    assert not encoder.model.training
    first, second = encoder(SENTENCES)[0], encoder(SENTENCES)[0]
    assert torch.equal(first, second)
    first.sum().backward()
    assert {name for name, weight in encoder.named_parameters() if weight.grad is not None} == {
        "projection.weight",
        "projection.bias",
    }


def test_trained_weights_have_gradients_and_dropout(embedder) -> None:
    encoder = WordEncoder(embedder, trainable=True).train()
    first, second = encoder(SENTENCES)[0], encoder(SENTENCES)[0]
    assert not torch.equal(first, second)
    first.sum().backward()
    without = {name for name, weight in encoder.named_parameters() if weight.grad is None}
    assert without == {f"model.{d}_lm.decoder.{part}" for d in ("forward", "backward") for part in ("weight", "bias")}
    with torch.no_grad():
        assert not encoder(SENTENCES)[0].requires_grad


def test_training_changes_what_the_engine_computes(embedder) -> None:
    encoder = WordEncoder(embedder, trainable=True)
    before = embedder.embed([["two", "words"]])[0].vectors
    optimizer = torch.optim.SGD(encoder.parameters(), lr=1.0)
    encoder([["two", "words"]])[0].sum().backward()
    optimizer.step()
    after = embedder.embed([["two", "words"]])[0].vectors
    assert np.abs(after - before).max() > 1e-3


def test_a_projection_is_zero_in_the_padding(embedder) -> None:
    encoder = WordEncoder(embedder, projection_size=3)
    nn.init.ones_(encoder.projection.bias)
    vectors, mask = encoder(SENTENCES)
    assert vectors.shape == (5, 7, 3)
    assert vectors[~mask].abs().sum() == 0
    assert encoder.output_size == 3


@pytest.mark.parametrize("projection_size", [None, 3])
def test_no_sentences(projection_size: int | None, embedder) -> None:
    encoder = WordEncoder(embedder, projection_size=projection_size)
    vectors, mask = encoder([])
    assert vectors.shape == (0, 0, encoder.output_size)
    assert mask.shape == (0, 0)
    assert encoder([[], []])[0].shape == (2, 0, encoder.output_size)


def test_it_is_saved_and_loaded_with_its_network(embedder, tmp_path: Path) -> None:
    network = nn.ModuleDict({"words": WordEncoder(embedder, projection_size=4), "out": nn.Linear(4, 2)})
    torch.save(network.state_dict(), tmp_path / "network.pt")
    fresh = WordEncoder(CharEmbedder(small_model(seed=9)), projection_size=4)
    other = nn.ModuleDict({"words": fresh, "out": nn.Linear(4, 2)})
    assert not torch.equal(other["words"](SENTENCES)[0], network["words"](SENTENCES)[0])
    other.load_state_dict(torch.load(tmp_path / "network.pt", weights_only=True))
    assert torch.equal(other["words"](SENTENCES)[0], network["words"](SENTENCES)[0])


@pytest.mark.parametrize(
    ("options", "setting"), [({"readout": "separator"}, "readout"), ({"delimiter": "\t"}, "delimiter")]
)
def test_weights_of_models_that_read_text_differently_are_refused(options: dict, setting: str, embedder) -> None:
    state = WordEncoder(CharEmbedder(small_model(**options))).state_dict()
    with pytest.raises(CharEmbedError, match=f"their language models have another {setting} than"):
        WordEncoder(embedder).load_state_dict(state)


def test_copies_are_independent(embedder) -> None:
    encoder = WordEncoder(embedder, trainable=True).eval()
    other = copy.deepcopy(encoder)
    assert other.model is other.embedder.model
    with torch.no_grad():
        other.model.forward_lm.embedding.weight.zero_()
    assert not torch.equal(other(SENTENCES)[0], encoder(SENTENCES)[0])


@pytest.mark.parametrize("first", [True, False])
def test_language_models_are_not_trained_and_fixed_at_the_same_time(first: bool, embedder) -> None:
    encoder = WordEncoder(embedder, trainable=first)
    with pytest.raises(CharEmbedError, match=f"which {'trains' if first else 'does not train'} them: load them again"):
        WordEncoder(embedder, trainable=not first)
    assert any(weight.requires_grad for weight in encoder.parameters()) is first
    WordEncoder(embedder, trainable=first)
    WordEncoder(copy.deepcopy(embedder), trainable=not first)
    del encoder
    gc.collect()
    WordEncoder(embedder, trainable=not first)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # raised by PyTorch's compiler
def test_compiling_a_network_around_it(embedder) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = WordEncoder(embedder, trainable=True)
            self.out = nn.Linear(self.words.output_size, 2)

        def forward(self, sentences: list) -> torch.Tensor:
            vectors, mask = self.words(sentences)
            return torch.tanh(self.out(vectors)) * mask[:, :, None]

    network = Network().eval()
    compiled = torch.compile(network, backend="aot_eager")
    assert torch.allclose(compiled(SENTENCES), network(SENTENCES), atol=1e-6)
    compiled(SENTENCES).sum().backward()
    assert network.words.model.forward_lm.rnn.weight_hh_l0.grad.abs().sum() > 0


@needs("onnx")
def test_the_engine_is_chosen_again_after_the_model_has_moved(embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: the embedder's engine was set up for another device than the one the model is on."""
    expected = embedder.embed(["A text."])[0].vectors
    setup = embedder._engines.setup
    monkeypatch.setattr(embedder._engines, "setup", replace(setup, device=torch.device("cuda"), name="torch"))
    assert embedder.engine == "torch"
    assert np.array_equal(embedder.embed(["A text."])[0].vectors, expected)
    assert embedder.engine == "onnx"
    assert embedder._engines.setup.engine is not setup.engine


@pytest.mark.parametrize("trainable", [True, False])
def test_other_data_types(trainable: bool, embedder) -> None:
    expected, _ = WordEncoder(copy.deepcopy(embedder)).eval()(SENTENCES)
    encoder = WordEncoder(embedder, trainable=trainable, projection_size=3).to(torch.float64).eval()
    vectors, _ = encoder(SENTENCES)
    assert vectors.dtype == torch.float64
    encoder.projection = None
    assert torch.allclose(encoder(SENTENCES)[0].float(), expected, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("trainable", [True, False])
def test_moving_to_a_gpu(trainable: bool, embedder) -> None:
    expected, _ = WordEncoder(embedder).eval()(SENTENCES)
    encoder = WordEncoder(embedder, trainable=trainable).to("cuda").eval()
    vectors, mask = encoder(SENTENCES)
    assert vectors.is_cuda
    assert mask.is_cuda
    assert torch.allclose(vectors.cpu(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("sentences", "error", "message"),
    [
        ("one str", TypeError, "put it in a list"),
        ([3], TypeError, "a text is a str"),
        ([("ab", [(0, 9)])], CharEmbedError, "is not within the text"),
    ],
)
@pytest.mark.parametrize("trainable", [True, False])
def test_bad_input(trainable: bool, sentences: object, error: type, message: str, embedder) -> None:
    with pytest.raises(error, match=message):
        WordEncoder(embedder, trainable=trainable)(sentences)


def test_bad_options(embedder) -> None:
    for width in (0, 1.5, True):
        with pytest.raises(CharEmbedError, match="projection_size must be a whole number from 1 to 65536, got"):
            WordEncoder(embedder, projection_size=width)
    with pytest.raises(CharEmbedError, match="no model 'absent'"):
        WordEncoder("absent")


def test_options_reach_the_embedder(pretrained, tmp_path: Path) -> None:
    with_projection(pretrained, readout="separator").save(tmp_path / "model")
    encoder = WordEncoder(tmp_path / "model", **EMBEDDER_OPTIONS)
    assert encoder.embedder.options == CharEmbedder.from_pretrained(tmp_path / "model", **EMBEDDER_OPTIONS).options
    assert encoder.embedder.pretrained.readout == "separator"
    assert encoder.output_size == 4


@pytest.mark.parametrize("trainable", [True, False])
def test_vectors_of_fewer_dimensions(trainable: bool, pretrained) -> None:
    embedder = CharEmbedder(with_projection(pretrained), dim=4)
    encoder = WordEncoder(embedder, trainable=trainable).eval()
    vectors, mask = encoder(SENTENCES)
    assert vectors.shape == (5, 7, 4)
    assert vectors.requires_grad is trainable
    for row, expected in zip(vectors.detach().numpy(), embedder.embed(SENTENCES), strict=True):
        assert_same_vectors(row[: len(expected)], expected.vectors, expected.words)
    if trainable:
        (vectors * mask[:, :, None]).sin().sum().backward()
        assert all(lm.rnn.weight_hh_l0.grad.abs().sum() > 0 for lm in (encoder.model.forward_lm,))


def test_weights_are_not_loaded_into_an_encoder_with_another_projection(pretrained) -> None:
    reducible = with_projection(pretrained)
    weights = WordEncoder(CharEmbedder(reducible, dim=4)).state_dict()
    WordEncoder(CharEmbedder(with_projection(small_model(seed=9)), dim=4)).load_state_dict(weights)
    for other in (CharEmbedder(reducible, dim=3), CharEmbedder(reducible)):
        with pytest.raises(CharEmbedError, match="their language models have another projection than this encoder's"):
            WordEncoder(other).load_state_dict(weights)


@pytest.mark.parametrize(
    ("options", "message"),
    INVALID_EMBEDDER_OPTIONS,
)
def test_invalid_option_is_reported(options: dict, message: str, embedder, tmp_path: Path) -> None:
    embedder.save_pretrained(tmp_path / "model")
    with pytest.raises(CharEmbedError, match=message):
        WordEncoder(tmp_path / "model", **options)


def test_options_for_an_existing_embedder_are_refused(embedder) -> None:
    with pytest.raises(CharEmbedError, match="precision, threads cannot be set for an existing CharEmbedder"):
        WordEncoder(embedder, precision="float32", threads=1)
    with pytest.raises(TypeError, match="thread"):
        WordEncoder("en", thread=1)


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("parts", [["words"], ["backward", "words"], None], ids=str)
def test_parts_of_an_encoder(trainable: bool, parts, with_words) -> None:
    embedder = CharEmbedder(with_words, parts=parts)
    encoder = WordEncoder(embedder, trainable=trainable).eval()
    sentences = [["The", "lazy", "doge"], ["東"], []]
    vectors, mask = encoder(sentences)
    assert mask.sum(1).tolist() == [3, 1, 0]
    for k, expected in enumerate(embedder.embed(sentences)):
        assert_same_vectors(vectors[k, : len(expected)].detach().numpy(), expected.vectors, expected.words)
    # Only the language models among the parts are trained.
    trained = {name.split(".")[0] for name, weight in encoder.model.named_parameters() if weight.requires_grad}
    assert trained == ({f"{direction}_lm" for direction in embedder.directions} if trainable else set())


def test_two_encoders_may_train_one_direction_each(pretrained) -> None:
    encoders = [WordEncoder(CharEmbedder(pretrained, parts=[part]), trainable=True) for part in ("forward", "backward")]
    for encoder, name in zip(encoders, ("forward_lm", "backward_lm"), strict=True):
        encoder([["two", "words"]])[0].sum().backward()
        assert encoder.model.get_parameter(f"{name}.embedding.weight").grad.any()


@pytest.mark.parametrize(
    ("saved", "loaded", "differing"),
    [
        ({}, {}, None),
        ({}, {"parts": ["forward", "backward"]}, "parts, static vectors"),
        ({"parts": ["forward", "backward"]}, {}, "parts, static vectors"),
        ({"parts": ["words"]}, {"parts": ["forward"]}, "parts, static vectors"),
        ({"parts": ["forward"]}, {"parts": ["backward"]}, "parts"),
    ],
    ids=str,
)
def test_weights_are_loaded_into_encoders_of_the_same_parts_only(saved, loaded, differing, with_words) -> None:
    state = WordEncoder(CharEmbedder(with_words, **saved)).state_dict()
    encoder = WordEncoder(CharEmbedder(with_words, **loaded))
    if differing is None:
        encoder.load_state_dict(state)
    else:
        with pytest.raises(CharEmbedError, match=f"their language models have another {differing} than this"):
            encoder.load_state_dict(state)


def test_weights_of_other_static_vectors_are_refused(pretrained) -> None:
    one, other = (
        WordEncoder(CharEmbedder(replace(pretrained, static=small_static_vectors(buckets=buckets))))
        for buckets in (10, 20)
    )
    with pytest.raises(CharEmbedError, match="have another static vectors than this"):
        other.load_state_dict(one.state_dict())
