"""Shared test data and helpers: awkward texts, small models and reference implementations."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import json
import runpy
import sys
import unicodedata
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from charembed import CharEmbedder, CharLMConfig, CharVocab, TrainConfig
from charembed.lm.model import BiCharLM, Cell, CharLM, Readout
from charembed.pretrained.model_folder import Pretrained
from charembed.projection import Projection
from charembed.recurrent import LSTMState, map_state
from charembed.recurrent.autocast import runs_bfloat16_lstm
from charembed.static_vectors import StaticVectors
from charembed.tagging.network import EncoderName, NetworkConfig, TaggerNetwork
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagger import Tagger
from charembed.text.corpus import CorpusConfig
from charembed.text.words import SpannedText, TextInput
from charembed.training.schedule import BudgetConfig

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
EXCERPT = ROOT / "configs" / "data" / "en_excerpt.txt"
"""Half a megabyte of English text."""

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs signals or processes of Unix")
"""Mark of tests that would end the test process on Windows, or that start processes as only Unix does."""

OPTIONAL_PACKAGES = {
    "datasets",
    "flair",
    "gensim",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "sklearn",
    "spacy",
    "tensorboard",
    "transformers",
    "zstandard",
}
"""Packages that come with extras, by the names they are imported by. The core imports none of them."""

AWKWARD_TEXTS = [
    "",
    " ",
    "a",
    "Plain words, with a comma.",
    "two  spaces,\ttab\nand newline ",
    "İstanbul'da ILGAZ ﬁne ẞ",
    "e\u0301te\u0301 \u0301 alone",
    "👩‍🔬 and 👨‍👩‍👧‍👦🇩🇪🇫🇷 👍🏽!",
    "zero\u200bwidth \u200b \ufeffbom",
    "שלום, עולם: مرحبا بالعالم",
    "東京は日本の首都です。",
    "हिन्दी में शब्द",
    "lone \ud800 surrogate \udfff",
    "control \x00 \x07 and \x85 \u2028 lines",
    "x" * 10_000,
    "never seen: ꙮ ⵣ 𓀀",
    "<unk> is five characters",
]

COLUMNS = "EU B-ORG\nrejects O\nGerman B-MISC\ncall O\n\t\nPeter B-PER\nBlackburn I-PER\n\nBRUSSELS B-LOC\n"
TREEBANK = """# text = I don't  go (now).
1\tI\tI\tPRON\t_\t_\t0\t_\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\t_\t_\t0\t_\t_\t_
3\tn't\tnot\tPART\t_\t_\t0\t_\t_\t_
3.1\tgone\tgo\tVERB\t_\t_\t_\t_\t_\t_
4\tgo\tgo\tVERB\t_\t_\t0\t_\t_\tSpaceAfter=No
5\t(\t(\tPUNCT\t_\t_\t0\t_\t_\t_
6\tnow\tnow\tADV\t_\t_\t0\t_\t_\t_
7\t)\t)\tPUNCT\t_\t_\t0\t_\t_\t_
8\t.\t.\tPUNCT\t_\t_\t0\t_\t_\t_

# text = im Haus
1-2\tim\t_\t_\t_\t_\t_\t_\t_\t_
1\tin\tin\tADP\t_\t_\t0\t_\t_\t_
2\tdem\tder\tDET\t_\t_\t0\t_\t_\t_
3\tHaus\tHaus\tNOUN\t_\t_\t0\t_\t_\t_

"""
"""Two sentences in CoNLL-U: with a multi-word token, an empty node and white space, and with a contraction."""

EMBEDDER_OPTIONS = {
    "readout": "separator",
    "parts": ["backward", "forward"],
    "precision": "int8",
    "threads": 1,
    "device": "cpu",
    "engine": "onnx",
    "batch_size": 3,
    "memory_mb": 7,
    "cache_mb": 5,
    "dim": 4,
}
"""A value other than the default for each option of `CharEmbedder`, for a model that `with_projection` returned for
the readout "separator"."""

INVALID_EMBEDDER_OPTIONS = [
    ({"precision": "int4"}, "precision must be one of auto, float32, tf32, int8, bfloat16, got 'int4'"),
    ({"readout": "middle"}, "readout must be one of word, separator, got 'middle'"),
    ({"parts": ["middle"]}, "parts must be one or several of forward, backward, words, in a list, got"),
    ({"parts": ["words"]}, "parts: the model has no words, only forward, backward"),
    ({"threads": 0}, "threads must be "),
    ({"device": "abacus"}, "device 'abacus' cannot be used"),
    ({"dim": 0}, "dim must be a whole number of at least 1, got 0"),
    ({"dim": 8}, "vectors cannot be reduced to 8 dimensions, because "),
]
"""Invalid options of `CharEmbedder`, each with the beginning of its error."""


def needs(package: str) -> pytest.MarkDecorator:
    """Skip a test whose command or program asks for a package that is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"needs {package}")


def small_model(
    seed: int = 3,
    *,
    num_layers: int = 1,
    proj_size: int | None = None,
    readout: Readout = "word",
    delimiter: str = "\n",
    cell: Cell = "lstm",
    reset_after: bool = False,
) -> Pretrained:
    """Return untrained models whose random weights are large, so that each character changes the states noticeably."""
    vocab = CharVocab.build(["The quick brown fox jumps over the lazy dog. 0123456789,'é東"], coverage=1.0)
    config = CharLMConfig(
        cell=cell,
        reset_after=reset_after,
        embedding_dim=5,
        hidden_size=12,
        num_layers=num_layers,
        proj_size=proj_size,
        vocab_size=len(vocab),
        dropout=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BiCharLM(config)
    return Pretrained(model, vocab, readout, delimiter, {"seed": seed})


def small_static_vectors(dim: int = 4, buckets: int = 30) -> StaticVectors:
    """Return static vectors of a few words, and random vectors for the n-grams of others."""
    generator = np.random.default_rng(dim)
    words = ["The", "the", "lazy", "dog", ".", "quick", "東"]
    table = generator.normal(size=(buckets, dim)) if buckets else None
    return StaticVectors.from_arrays(words, generator.normal(size=(len(words), dim)), table)


def small_tagger(
    embedder: CharEmbedder,
    layers: Sequence[TagLayer] | None = None,
    static: StaticVectors | None = None,
    encoder: EncoderName = "bilstm",
) -> Tagger:
    """Return an untrained tagger whose random weights are large, so that it gives many different tags."""
    layers = layers or [
        TagLayer("ner", "entities", ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")),
        TagLayer("upos", "tags", ("ADJ", "NOUN", "VERB")),
    ]
    size = embedder.embedding_dim + (0 if static is None else static.dim)
    config = NetworkConfig(size, encoder, projection_size=6, hidden_size=4)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = TaggerNetwork(config, layers)
        for weight in network.parameters():
            torch.nn.init.normal_(weight)
        network.set_scale(torch.randn(size), 0.3)
    return Tagger(embedder, network, static, {"seed": 5})


def with_projection(pretrained: Pretrained, dim: int = 7, readout: Readout | None = None) -> Pretrained:
    """Return the models with a random projection, for their own readout by default."""
    parts = pretrained.part_sizes
    random = np.random.default_rng(1)
    rows = np.linalg.qr(random.normal(size=(sum(parts.values()), dim)))[0].T
    mean, shares = random.normal(size=rows.shape[1]), np.linspace(0.2, 0.01, dim)
    mean, rows, shares = (np.ascontiguousarray(array, np.float32) for array in (mean, rows, shares))
    projection = Projection(mean, rows, shares, tuple(parts), readout or pretrained.readout).rounded()
    return dataclasses.replace(pretrained, projection=projection)


def tiny_config(folder: Path, **changes: object) -> TrainConfig:
    """Return the configuration of a run of six steps on the excerpt, with its output in `folder`/out."""
    options: dict = {
        "output": str(folder / "out"),
        "data": CorpusConfig(train=str(EXCERPT), held_out=0.02),
        "model": CharLMConfig(hidden_size=16, embedding_dim=8, dropout=0.2),
        "budget": BudgetConfig(steps=6),
        "batch_size": 4,
        "seq_len": 16,
        "validations": 2,
        "precision": "float32",  # the same on every machine
        "words": "none",  # training static vectors takes seconds
    }
    return TrainConfig(**options | changes)


def read_log(folder: Path) -> list[dict]:
    """Return the log records of a run."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the last model of a run."""
    return Pretrained.load(folder / "last").model.state_dict()


def assert_same_weights(
    weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], what: str = "weights"
) -> None:
    """Fail with the names of the tensors that differ in a single bit, and by how much they differ."""
    assert weights.keys() == expected.keys(), f"{what}: {sorted(weights.keys() ^ expected.keys())} in one of them only"
    different = {
        name: (weights[name].double() - tensor.double()).abs().max().item()
        for name, tensor in expected.items()
        if not torch.equal(weights[name], tensor)
    }
    assert not different, f"{what}: {len(different)} of {len(expected)} tensors differ, by at most {different}"


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
"""Values of a parameter `device` of a test."""
ENGINES = [("torch", "cpu"), ("onnx", "cpu"), pytest.param("torch", "cuda", marks=pytest.mark.gpu)]
"""Values of the parameters `engine` and `device` of a test, where vectors in float32 must be the same."""
needs_bfloat16_lstm = pytest.mark.skipif(
    not runs_bfloat16_lstm(torch.device("cpu")), reason="PyTorch runs no LSTM in bfloat16 on this CPU"
)


def execute_script(path: Path, *arguments: str | Path) -> None:
    """Run a script as `python PATH` does, but in this process, which spares it the imports."""
    # Like Python, find modules in the folder of the script.
    with (
        mock.patch.object(sys, "argv", [str(path), *map(str, arguments)]),
        mock.patch.object(sys, "path", [str(path.parent.resolve()), *sys.path]),
    ):
        runpy.run_path(str(path), run_name="__main__")


def run_script(name: str, *arguments: str | Path) -> str:
    """Run a script of `scripts/` in this process and return what it prints; fail with its errors."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(io.StringIO()) as errors,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")  # the libraries of a script raise warnings of their own
        try:
            execute_script(ROOT / "scripts" / name, *arguments)
        except SystemExit as end:
            if end.code:
                pytest.fail(f"{name}: {errors.getvalue()}")
    return output.getvalue()


def states_one_by_one(lm: CharLM, ids: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the states after each character, computed one character at a time: slow and easy to verify.

    The LSTM is PyTorch's cell. The other cells are our equations, which other tests compare with other libraries.

    Shape: (characters, output_size)
    """
    cells = []
    if lm.config.cell == "lstm":
        for layer in range(lm.config.num_layers):
            weights = lm.rnn.layer_parameters(layer)
            cell = torch.nn.LSTMCell(weights["weight_ih"].shape[1], lm.config.hidden_size)
            biases = {"bias_ih": weights["bias"], "bias_hh": torch.zeros_like(weights["bias"])}
            cell.load_state_dict({name: weights[name] for name in ("weight_ih", "weight_hh")} | biases)
            cells.append(lambda x, state, cell=cell: LSTMState(*cell(x, state)))
    else:
        cells = [partial(lm.rnn.step, layer=layer) for layer in range(lm.config.num_layers)]
    states = [map_state(lambda tensor: tensor[0], lm.rnn.initial_state(1)) for _ in cells]
    outputs = []
    with torch.no_grad():
        for id_ in ids:
            x = lm.embedding(torch.tensor([int(id_)]))
            for layer, cell in enumerate(cells):
                states[layer] = cell(x, states[layer])
                x = states[layer].hidden
            outputs.append(x[0] if lm.proj is None else lm.proj(x)[0])
    return torch.stack(outputs).numpy()


def reference_vectors(pretrained: Pretrained, item: TextInput) -> NDArray[np.float32]:
    """Return the word vectors of a text as the literature defines them, from `states_one_by_one`.

    Shape: (words, embedding_dim)
    """
    if isinstance(item, str):  # the vocabularies of tests have é, and no accents of their own
        item = unicodedata.normalize("NFC", item)
    spanned = SpannedText.of(item)
    vocab, model = pretrained.vocab, pretrained.model
    before = len(pretrained.delimiter)
    forward = states_one_by_one(model.forward_lm, vocab.encode(pretrained.delimiter + spanned.text + " "))
    backward = states_one_by_one(model.backward_lm, vocab.encode(pretrained.delimiter + spanned.text[::-1] + " "))
    outside = 1 if pretrained.readout == "separator" else 0
    vectors = []
    for start, end in spanned.spans:
        last_character_read = before + end - 1 + outside
        first_character_read = before + len(spanned.text) - start - 1 + outside
        vectors.append(np.concatenate([forward[last_character_read], backward[first_character_read]]))
    return np.array(vectors, dtype=np.float32).reshape(len(spanned.spans), model.embedding_dim)


def assert_same_vectors(
    vectors: NDArray[np.float32], expected: NDArray[np.float32], words: list[str], *, tolerance: float = 1e-5
) -> None:
    """Fail with the word that differs most and its difference."""
    assert vectors.shape == expected.shape, f"shape {vectors.shape}, expected {expected.shape}"
    if not len(words):
        return
    difference = np.abs(vectors - expected).max(axis=1)
    worst = int(difference.argmax())
    assert difference[worst] <= tolerance, f"{words[worst]!r} (word {worst}) differs by {difference[worst]:.2e}"


def flip_bit(path: Path, bit: int) -> None:
    """Flip one bit of a file, counted from its beginning, as a failing disk does. The file is replaced: a map of it
    stays as it was."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.unlink()
    path.write_bytes(content)
