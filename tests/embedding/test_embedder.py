"""Word vectors, against a reference that reads one character at a time, and what they may depend on."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import AWKWARD_TEXTS, EXCERPT, ROOT, assert_same_vectors, reference_vectors, small_model
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedder, CharEmbedError, Context
from charembed.embedding import batching as scheduling
from charembed.embedding import embedder
from charembed.embedding import long_text as long_passage
from charembed.embedding.embedder import EngineName
from charembed.text.words import TextInput

ITEMS: list[TextInput] = [
    *AWKWARD_TEXTS,
    ["The", "lazy", "dog", "."],
    ["empty", "", "word", ""],
    [""],
    [],
    ("The lazy dog", [(4, 8), (0, 3), (4, 4), (0, 12), (12, 12), (0, 0)]),
    ("no words here", []),
]
MODELS: list[dict] = [
    {"readout": "word"},
    {"readout": "separator"},
    {"readout": "separator", "delimiter": "\n\n"},
    {"num_layers": 2, "proj_size": 5},
    *({"cell": cell, "num_layers": layers} for cell in ("elman", "peephole_lstm", "gru", "mgu") for layers in (1, 2)),
    {"cell": "gru", "reset_after": True, "num_layers": 2},
]


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_vectors_are_those_of_the_reference(options: dict, engine: EngineName) -> None:
    pretrained = small_model(**options)
    items = [item for item in ITEMS if len(item) < 1000] if engine == "onnx" or len(options) > 1 else ITEMS
    for item, found in zip(items, CharEmbedder(pretrained, engine=engine).embed(items), strict=True):
        assert_same_vectors(found.vectors, reference_vectors(pretrained, item), found.words)


@pytest.mark.parametrize(("engine", "precision"), [("torch", "float32"), ("onnx", "float32"), ("onnx", "int8")])
@given(
    texts=st.lists(st.text("ab Tz\n'é\ud800", max_size=30), max_size=12),
    seed=st.integers(0, 3),
    threads=st.sampled_from([1, 2, 5]),
    batch_size=st.sampled_from([1, 3, 128]),
)
def test_vectors_depend_on_their_own_text_alone(
    engine, precision, texts: list[str], seed: int, threads: int, batch_size: int
) -> None:
    pretrained = small_model(num_layers=1 + seed % 2)
    # Rounding to int8 may fall to the other side where a state differs in its last bit.
    tolerance = 1e-5 if precision == "float32" else 2e-2
    one = CharEmbedder(pretrained, engine=engine, precision=precision)
    alone = {text: one.embed([text])[0] for text in texts}
    shuffled = texts * 2
    random.Random(seed).shuffle(shuffled)
    many = CharEmbedder(pretrained, engine=engine, precision=precision, threads=threads, batch_size=batch_size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduling, "CHUNK_CHARACTERS", 5)
        patch.setattr(scheduling, "FEW", 2)
        patch.setattr(embedder, "WINDOW_CHARACTERS", 24)  # windows of few texts; longer texts come in parts
        patch.setattr(long_passage, "PART_CHARACTERS", 9)
        for text, found in zip(shuffled, many.embed(shuffled), strict=True):
            assert found.spans == alone[text].spans
            assert_same_vectors(found.vectors, alone[text].vectors, found.words, tolerance=tolerance)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_real_text_in_batches_is_real_text_alone(engine: EngineName) -> None:
    model = CharEmbedder(small_model(), engine=engine)
    lines = EXCERPT.read_text(encoding="utf-8").splitlines()[:60]
    for line, found in zip(lines, model.embed(lines), strict=True):
        alone = model.embed([line])[0]
        assert_same_vectors(found.vectors, alone.vectors, found.words)
        assert [line[start:end] for start, end in found.spans] == found.words


@pytest.mark.parametrize("readout", ["word", "separator"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_long_text_in_parts_is_the_whole_text(cell, readout, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "The quick brown fox jumps. " * 120
    pretrained = small_model(cell=cell, readout=readout)
    whole = CharEmbedder(pretrained).embed([text, "short"])
    monkeypatch.setattr(embedder, "WINDOW_CHARACTERS", 200)
    monkeypatch.setattr(long_passage, "PART_CHARACTERS", 200)
    model = CharEmbedder(pretrained)
    parts = list(model.iter_parts(["before", text, "short"]))
    assert len(parts) > 10
    assert [part.ends_text for part in parts] == [True, *[False] * (len(parts) - 3), True, True]
    for found, wanted in zip(model.embed([text, "short"]), whole, strict=True):
        assert (found.words, found.spans) == (wanted.words, wanted.spans)
        assert_same_vectors(found.vectors, wanted.vectors, found.words)
    sample = [0, 1, len(whole[0]) // 2, len(whole[0]) - 1]
    wanted = reference_vectors(model.pretrained, (text, [whole[0].spans[k] for k in sample]))
    assert_same_vectors(whole[0].vectors[sample], wanted, [whole[0].words[k] for k in sample])


@pytest.mark.parametrize(
    "text", ["x" * 3000, " " * 3000, "x" * 3000 + " y", "\n" * 1500 + "word" + "\t" * 1500, "word" + "\n" * 3000]
)
def test_long_texts_of_few_words(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder, "WINDOW_CHARACTERS", 1000)
    monkeypatch.setattr(long_passage, "PART_CHARACTERS", 1000)
    pretrained = small_model()
    (found,) = CharEmbedder(pretrained).embed([text])
    assert_same_vectors(found.vectors, reference_vectors(pretrained, text), found.words)


@pytest.mark.parametrize("spans", [[(50, 60), (0, 4)], [(0, 9), (3, 5)], [(0, 4), (4, 4), (4, 9)], [(5, 5)]])
def test_a_long_text_with_words_in_any_order(spans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder, "WINDOW_CHARACTERS", 40)
    pretrained = small_model()
    item = ("The quick brown fox jumps over the lazy dog. " * 3, spans)
    (found,) = CharEmbedder(pretrained).embed([item])
    assert_same_vectors(found.vectors, reference_vectors(pretrained, item), found.words)


def test_same_word_in_other_contexts_has_other_vectors(embedder: CharEmbedder) -> None:
    first, second = embedder.embed(["a dog here", "the dog jumps"])
    assert np.abs(first.vectors[1] - second.vectors[1]).max() > 0.01


def test_forms_of_the_same_text_have_the_same_vectors(embedder: CharEmbedder) -> None:
    text = "The lazy dog"
    raw, words, spans = embedder.embed([text, text.split(), (text, [(0, 3), (4, 8), (9, 12)])])
    assert raw.spans == words.spans == spans.spans
    assert np.array_equal(raw.vectors, words.vectors)
    assert np.array_equal(raw.vectors, spans.vectors)


def test_shapes_and_types(embedder: CharEmbedder) -> None:
    found, empty = embedder.embed(["two words", ""])
    assert found.vectors.shape == (2, embedder.embedding_dim) == (2, 24)
    assert found.vectors.dtype == np.float32
    assert empty.vectors.shape == (0, 24)
    assert len(found) == 2
    assert len(empty) == 0
    assert found.spans == [(0, 3), (4, 9)]
    assert all(type(offset) is int for span in found.spans for offset in span)


def test_streaming_reads_ahead_no_more_than_its_window(embedder: CharEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charembed.embedding.embedder.WINDOW_TEXTS", 4)
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield f"text {taken}"

    stream = embedder.iter_embed(endless())
    assert [next(stream).words for _ in range(3)] == [["text", "1"], ["text", "2"], ["text", "3"]]
    assert taken == 4


def test_vectors_held_at_once_are_bounded(pretrained) -> None:
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield "word " * 1000

    next(CharEmbedder(pretrained, memory_mb=1).iter_embed(endless()))
    assert taken == 11  # 1,000 words of 24 float32 numbers are 96 kB


class Counting:
    """An engine that counts the characters it is given."""

    def __init__(self, engine) -> None:
        self._engine, self.characters = engine, 0

    def refresh(self) -> None:
        self._engine.refresh()

    def run(self, direction, ids, state, places):
        self.characters += ids.size
        return self._engine.run(direction, ids, state, places)


def test_repeated_texts_are_computed_once(pretrained) -> None:
    model = CharEmbedder(pretrained)
    model._engine = counting = Counting(model._engine)
    (wanted,) = model.embed(["again and again"])
    once = counting.characters
    for found in model.iter_embed(["again and again"] * 3):
        assert np.array_equal(found.vectors, wanted.vectors)
        found.vectors[:] = 7  # whoever changes what they got changes that alone
    assert counting.characters == 2 * once


def test_the_cache_keeps_the_latest_texts_and_no_more_than_its_size(pretrained) -> None:
    model = CharEmbedder(pretrained, cache_mb=1)
    model._engine = counting = Counting(model._engine)
    texts = [f"text number {k} " + "word " * 500 for k in range(30)]  # 48 kB each: 20 of them fit
    wanted = CharEmbedder(pretrained).embed(texts)
    for _ in range(2):
        for k in (29, 28):
            counting.characters = 0
            model.embed(texts[:k])
            assert counting.characters > 0
            model.embed([texts[k]])
            counting.characters = 0
            (found,) = model.embed([texts[k]])
            assert counting.characters == 0
            assert_same_vectors(found.vectors, wanted[k].vectors, found.words)
            found.vectors[:] = 7  # whoever changes what they got changes that alone
    assert model._cache.currsize <= 1_000_000


def test_new_weights_give_new_vectors(pretrained) -> None:
    for engine in ("torch", "onnx"):
        model = CharEmbedder(pretrained, engine=engine)
        texts = ["the same text"] * 1 + [f"and others {k}" for k in range(20)]
        before = model.embed(texts)
        with torch.no_grad():
            for parameter in model.model.parameters():
                parameter.mul_(1.5)
        after = model.embed(texts)
        assert np.abs(after[0].vectors - before[0].vectors).max() > 1e-3
        assert_same_vectors(after[0].vectors, reference_vectors(pretrained, texts[0]), after[0].words)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("through_data", [False, True])
def test_the_cache_forgets_what_other_weights_gave(
    pretrained, engine: EngineName, through_data: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CharEmbedder(pretrained, engine=engine, cache_mb=1)
    texts = ["the same text", *(f"and others {k}" for k in range(20))]
    model.embed(texts)
    with torch.no_grad():
        for parameter in model.model.parameters():
            (parameter.data if through_data else parameter).mul_(1.5)
    monkeypatch.setattr(embedder, "WINDOW_CHARACTERS", 40)
    model.embed(["a long text, which comes in parts and is not kept"])
    for text, found in zip(texts, model.embed(texts), strict=True):
        assert_same_vectors(found.vectors, reference_vectors(pretrained, text), found.words)


def test_a_model_in_training_embeds_without_dropout() -> None:
    pretrained = small_model(num_layers=2)
    model = CharEmbedder(pretrained, engine="torch")
    pretrained.model.train()
    (found,) = model.embed(["one text alone"])
    assert pretrained.model.forward_lm.rnn.training
    assert_same_vectors(found.vectors, reference_vectors(pretrained, "one text alone"), found.words)


def test_weights_made_in_inference_mode(pretrained, tmp_path: Path) -> None:
    pretrained.save(tmp_path / "model")
    with torch.inference_mode():
        found = CharEmbedder.from_pretrained(tmp_path / "model").embed(["a text"])[0]
    assert_same_vectors(found.vectors, reference_vectors(pretrained, "a text"), found.words)


def test_a_single_str_is_a_mistake(embedder: CharEmbedder) -> None:
    for call in (embedder.embed, embedder.iter_embed, embedder.iter_parts):
        with pytest.raises(TypeError, match="got one str: put it in a list"):
            call("one text")


def test_from_pretrained_gives_back_the_same_vectors(embedder: CharEmbedder, tmp_path: Path) -> None:
    embedder.save_pretrained(tmp_path / "model")
    again = CharEmbedder.from_pretrained(tmp_path / "model")
    texts = ["The same vectors", "after loading."]
    for a, b in zip(embedder.embed(texts), again.embed(texts), strict=True):
        assert np.array_equal(a.vectors, b.vectors)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("options", [{}, {"engine": "onnx"}, {"precision": "int8", "cache_mb": 1}], ids=str)
def test_copies_embed_too(pretrained, options: dict, copied) -> None:
    model = CharEmbedder(pretrained, **options)
    wanted = model.embed(["a copy"])[0].vectors
    other = copied(model)
    assert repr(other) == repr(model)
    assert np.array_equal(other.embed(["a copy"])[0].vectors, wanted)


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_process_embeds_too(embedder: CharEmbedder) -> None:
    wanted = embedder.embed(["forked"])[0].vectors
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(embedder.embed, (["forked"],)).get(timeout=60)
    assert np.array_equal(found[0].vectors, wanted)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_several_threads_share_an_embedder(pretrained, engine: EngineName) -> None:
    model = CharEmbedder(pretrained, engine=engine, cache_mb=1)
    texts = [f"thread number {k}" for k in range(20)]
    wanted = [model.embed([text])[0].vectors for text in texts]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: model.embed([text])[0].vectors, texts))
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_embedding_leaves_the_threads_of_torch_as_they_were() -> None:
    code = (
        "import threading, torch; torch.set_num_threads(2)\n"
        "from charembed import CharEmbedder\nfrom helpers import small_model\n"
        "CharEmbedder(small_model()).embed(['x'])\n"
        "seen = [torch.get_num_threads()]\n"
        "t = threading.Thread(target=lambda: seen.append(torch.get_num_threads())); t.start(); t.join()\n"
        "print(seen)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", capture_output=True, text=True)
    assert done.stdout.strip() == "[2, 2]", done.stderr


def test_readout_may_be_other_than_the_folder_says(pretrained, tmp_path: Path) -> None:
    pretrained.save(tmp_path / "model")
    found = CharEmbedder.from_pretrained(tmp_path / "model", readout="separator").embed(["The dog"])[0]
    wanted = reference_vectors(small_model(readout="separator"), "The dog")
    assert_same_vectors(found.vectors, wanted, found.words)


def test_bfloat16_is_near_float32(pretrained) -> None:
    texts = [text for text in AWKWARD_TEXTS if len(text) < 1000]
    exact = CharEmbedder(pretrained).embed(texts)
    coarse = CharEmbedder(pretrained, precision="bfloat16").embed(texts)
    difference = max(np.abs(a.vectors - b.vectors).max(initial=0) for a, b in zip(exact, coarse, strict=True))
    assert 1e-5 < difference < 0.05
    assert pretrained.model.forward_lm.decoder.weight.dtype == torch.float32


def test_auto_says_what_it_picked(pretrained) -> None:
    assert CharEmbedder(pretrained).engine == "onnx"
    assert CharEmbedder(pretrained, precision="int8").engine == "onnx"
    assert CharEmbedder(pretrained, precision="bfloat16").engine == "torch"
    assert "readout='word', engine='onnx', precision='int8'" in repr(CharEmbedder(pretrained, precision="int8"))


def test_auto_is_torch_where_onnxruntime_is_not_installed() -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from charembed import CharEmbedder\nfrom helpers import small_model\n"
        "print(CharEmbedder(small_model()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", capture_output=True, text=True)
    assert "engine='torch'" in done.stdout, done.stderr


def test_int8_without_onnxruntime_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from charembed import CharEmbedder\nfrom helpers import small_model\n"
        "CharEmbedder(small_model(), precision='int8')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", capture_output=True, text=True)
    assert "the engine onnx needs onnxruntime: pip install 'charembed[onnx]'" in done.stderr


def test_a_data_set_is_mapped(embedder: CharEmbedder) -> None:
    datasets = pytest.importorskip("datasets")
    from datasets.fingerprint import Hasher

    texts = ["Two words", "", "lazy dog."]
    mapped = datasets.Dataset.from_dict({"text": texts}).map(embedder.mapper(), batched=True, batch_size=2)
    for row, found in zip(mapped, embedder.embed(texts), strict=True):
        assert row["words"] == found.words
        assert list(zip(row["starts"], row["ends"], strict=True)) == found.spans
        assert_same_vectors(np.array(row["vectors"], np.float32).reshape(-1, 24), found.vectors, found.words)
    assert Hasher.hash(embedder.mapper()) == Hasher.hash(embedder.mapper()), "datasets could not reuse its cache"
    with pytest.raises(CharEmbedError, match="no column 'body', there are: text"):
        embedder.mapper("body")({"text": texts})
    with pytest.raises(CharEmbedError, match="call map with batched=True"):
        embedder.mapper()({"text": texts[0]})


def test_context_of_a_document_in_batches(pretrained) -> None:
    lines = ["The lazy dog.", "It jumps.", "The fox is quick.", "", "Another fox."]
    found = CharEmbedder(pretrained, batch_size=2).embed(lines, Context(sentences=1))
    read = [("", " It jumps."), ("The lazy dog. ", " The fox is quick."), ("It jumps. ", ""), ("", ""), ("", "")]
    for line, (before, after), each in zip(lines, read, found, strict=True):
        shift = len(before)
        forward = reference_vectors(pretrained, (before + line, [(a + shift, b + shift) for a, b in each.spans]))
        backward = reference_vectors(pretrained, (line + after, each.spans))
        assert_same_vectors(each.vectors, np.concatenate([forward[:, :12], backward[:, 12:]], axis=1), each.words)


def test_from_pretrained_refuses_names_that_are_none() -> None:
    with pytest.raises(CharEmbedError, match=r"no model 'absent/folder': .*Train one: charembed train"):
        CharEmbedder.from_pretrained("absent/folder")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "fast"}, "engine must be one of auto, torch, onnx, got 'fast'"),
        ({"precision": "int3"}, "precision must be one of float32, int8, bfloat16, got 'int3'"),
        ({"engine": "torch", "precision": "int8"}, "the engine torch has no int8"),
        ({"engine": "onnx", "precision": "bfloat16"}, "the engine onnx has no bfloat16"),
        ({"readout": "middle"}, "readout must be word or separator, got 'middle'"),
        ({"threads": 0}, "threads must be a whole number of at least 1, got 0"),
        ({"batch_size": 1.5}, "batch_size must be a whole number of at least 1, got 1.5"),
        ({"memory_mb": -1}, "memory_mb must be a whole number of at least 1, got -1"),
        ({"cache_mb": True}, "cache_mb must be a whole number of at least 0, got True"),
    ],
)
def test_options_are_checked(pretrained, options: dict, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        CharEmbedder(pretrained, **options)
