"""Word vectors, compared with a reference that reads one character at a time, and what they may depend on."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from fresh_process import run_python
from helpers import (
    AWKWARD_TEXTS,
    ENGINES,
    EXCERPT,
    assert_same_vectors,
    needs,
    reference_vectors,
    small_model,
    unix_only,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from charembed import CharEmbedder, CharEmbedError, Context, WordEmbeddings
from charembed.embedding import engine_choice
from charembed.embedding.engine_choice import EngineName
from charembed.embedding.limits import EmbeddingLimits
from charembed.recurrent import onednn_lstm
from charembed.recurrent.weight_pieces import _pieces
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


@pytest.mark.parametrize(("engine", "device"), ENGINES)
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_vectors_equal_the_reference(options: dict, engine: EngineName, device: str) -> None:
    pretrained = small_model(**options)
    # The reference takes seconds for the word of 10,000 characters.
    reads_all = engine == "torch" and options == {"readout": "word"}
    items = [item for item in ITEMS if reads_all or len(item) < 1000]
    embedder = CharEmbedder(small_model(**options), device, engine)  # the reference needs its model on the CPU
    for item, result in zip(items, embedder.embed(items), strict=True):
        assert_same_vectors(result.vectors, reference_vectors(pretrained, item), result.words)


@pytest.mark.parametrize(
    ("engine", "device", "precision"),
    [
        ("torch", "cpu", "float32"),
        pytest.param("torch", "cuda", "float32", marks=pytest.mark.gpu),
        ("onnx", "cpu", "float32"),
        ("onnx", "cpu", "int8"),
    ],
)
@settings(max_examples=25)
@given(
    texts=st.lists(st.text("ab Tz\n'é\ud800", max_size=30), max_size=12),
    seed=st.integers(0, 3),
    threads=st.sampled_from([1, 2, 5]),
    batch_size=st.sampled_from([1, 3, 128]),
)
def test_vectors_depend_on_their_own_text_alone(
    engine, device, precision, texts: list[str], seed: int, threads: int, batch_size: int
) -> None:
    pretrained = small_model(num_layers=1 + seed % 2)
    # A state that differs in its last bit may be rounded to another int8 value.
    tolerance = 1e-5 if precision == "float32" else 2e-2
    one = CharEmbedder(pretrained, device, engine, precision)
    alone = {text: one.embed([text])[0] for text in texts}
    shuffled = texts * 2
    random.Random(seed).shuffle(shuffled)
    # Windows contain few texts, longer texts are embedded in parts, and batches are read in many chunks.
    limits = EmbeddingLimits(chunk_characters=5, column_multiple=2, window_characters=24, part_characters=9)
    many = CharEmbedder(pretrained, device, engine, precision, threads=threads, batch_size=batch_size, limits=limits)
    for text, result in zip(shuffled, many.embed(shuffled), strict=True):
        assert result.spans == alone[text].spans
        assert_same_vectors(result.vectors, alone[text].vectors, result.words, tolerance=tolerance)


@pytest.mark.parametrize(("engine", "device"), ENGINES)
def test_real_text_has_the_same_vectors_in_batches_and_alone(engine: EngineName, device: str) -> None:
    model = CharEmbedder(small_model(), device, engine)
    lines = EXCERPT.read_text(encoding="utf-8").splitlines()[:60]
    for line, result in zip(lines, model.embed(lines), strict=True):
        alone = model.embed([line])[0]
        assert_same_vectors(result.vectors, alone.vectors, result.words)
        assert [line[start:end] for start, end in result.spans] == result.words


@pytest.mark.parametrize("readout", ["word", "separator"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_long_text_has_the_same_vectors_in_parts(cell, readout) -> None:
    text = "The quick brown fox jumps. " * 60
    pretrained = small_model(cell=cell, readout=readout)
    whole = CharEmbedder(pretrained).embed([text, "short"])
    model = CharEmbedder(pretrained, limits=EmbeddingLimits(window_characters=200, part_characters=200))
    parts = list(model.iter_parts(["before", text, "short"]))
    assert len(parts) > 8
    assert [part.ends_text for part in parts] == [True, *[False] * (len(parts) - 3), True, True]
    for result, expected in zip(model.embed([text, "short"]), whole, strict=True):
        assert (result.words, result.spans) == (expected.words, expected.spans)
        assert_same_vectors(result.vectors, expected.vectors, result.words)
    sample = [0, 1, len(whole[0]) // 2, len(whole[0]) - 1]
    reference = reference_vectors(model.pretrained, (text, [whole[0].spans[k] for k in sample]))
    assert_same_vectors(whole[0].vectors[sample], reference, [whole[0].words[k] for k in sample])


@pytest.mark.parametrize(
    "text", ["x" * 900, " " * 900, "x" * 900 + " y", "\n" * 450 + "word" + "\t" * 450, "word" + "\n" * 900]
)
def test_long_texts_of_few_words(text: str) -> None:
    pretrained = small_model()
    limits = EmbeddingLimits(window_characters=300, part_characters=300)
    (result,) = CharEmbedder(pretrained, limits=limits).embed([text])
    assert_same_vectors(result.vectors, reference_vectors(pretrained, text), result.words)


@pytest.mark.parametrize("spans", [[(50, 60), (0, 4)], [(0, 9), (3, 5)], [(0, 4), (4, 4), (4, 9)], [(5, 5)]])
def test_a_long_text_with_words_in_any_order(spans) -> None:
    pretrained = small_model()
    item = ("The quick brown fox jumps over the lazy dog. " * 3, spans)
    (result,) = CharEmbedder(pretrained, limits=EmbeddingLimits(window_characters=40)).embed([item])
    assert_same_vectors(result.vectors, reference_vectors(pretrained, item), result.words)


def test_the_same_word_in_another_context_has_another_vector(embedder: CharEmbedder) -> None:
    first, second = embedder.embed(["a dog here", "the dog jumps"])
    assert np.abs(first.vectors[1] - second.vectors[1]).max() > 0.01


def test_forms_of_the_same_text_have_the_same_vectors(embedder: CharEmbedder) -> None:
    text = "The lazy dog"
    raw, words, spans = embedder.embed([text, text.split(), (text, [(0, 3), (4, 8), (9, 12)])])
    assert raw.spans == words.spans == spans.spans
    assert np.array_equal(raw.vectors, words.vectors)
    assert np.array_equal(raw.vectors, spans.vectors)


def test_shapes_and_types(embedder: CharEmbedder) -> None:
    two, empty = embedder.embed(["two words", ""])
    assert two.vectors.shape == (2, embedder.embedding_dim) == (2, 24)
    assert two.vectors.dtype == np.float32
    assert empty.vectors.shape == (0, 24)
    assert len(two) == 2
    assert len(empty) == 0
    assert two.spans == [(0, 3), (4, 9)]
    assert all(type(offset) is int for span in two.spans for offset in span)


def test_streaming_reads_ahead_no_more_than_its_window(pretrained) -> None:
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield f"text {taken}"

    stream = CharEmbedder(pretrained, limits=EmbeddingLimits(window_texts=4)).iter_embed(endless())
    assert [next(stream).words for _ in range(3)] == [["text", "1"], ["text", "2"], ["text", "3"]]
    assert taken == 4


def test_the_memory_for_vectors_is_bounded(pretrained) -> None:
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield "word " * 1000

    next(CharEmbedder(pretrained, memory_mb=1).iter_embed(endless()))
    assert taken == 11  # 1,000 words of 24 float32 values are 96 kB


class CharacterCounter:
    """Counts the characters that the engine of an embedder reads."""

    def __init__(self, model: CharEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.characters = 0
        engine = model._engines.setup.engine
        run = engine.run

        def counting_run(direction, ids, state, flat_positions):
            self.characters += ids.size
            return run(direction, ids, state, flat_positions)

        monkeypatch.setattr(engine, "run", counting_run)


def test_repeated_texts_are_computed_once(pretrained, monkeypatch: pytest.MonkeyPatch) -> None:
    model = CharEmbedder(pretrained)
    counter = CharacterCounter(model, monkeypatch)
    (expected,) = model.embed(["again and again"])
    once = counter.characters
    assert once > 0
    for result in model.iter_embed(["again and again"] * 3):
        assert np.array_equal(result.vectors, expected.vectors)
        result.vectors[:] = 7  # a caller that changes its array changes no other
    assert counter.characters == 2 * once


def test_the_cache_keeps_the_latest_texts_and_no_more_than_its_size(
    pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CharEmbedder(pretrained, cache_mb=1)
    counter = CharacterCounter(model, monkeypatch)
    texts = [f"text number {k} " + "word " * 500 for k in range(30)]  # 48 kB each: 20 of them fit
    expected = CharEmbedder(pretrained).embed(texts)
    for _ in range(2):
        for k in (29, 28):
            counter.characters = 0
            model.embed(texts[:k])
            assert counter.characters > 0
            model.embed([texts[k]])
            counter.characters = 0
            (result,) = model.embed([texts[k]])
            assert counter.characters == 0
            assert_same_vectors(result.vectors, expected[k].vectors, result.words)
            result.vectors[:] = 7  # a caller that changes its array changes no other
    assert 0 < model._passages.cache.size <= 1_000_000


def test_new_weights_give_new_vectors(pretrained) -> None:
    for engine in ("torch", "onnx"):
        model = CharEmbedder(pretrained, engine=engine)
        texts = ["the same text", *(f"and others {k}" for k in range(20))]
        before = model.embed(texts)
        with torch.no_grad():
            for parameter in model.model.parameters():
                parameter.mul_(1.5)
        after = model.embed(texts)
        assert np.abs(after[0].vectors - before[0].vectors).max() > 1e-3
        assert_same_vectors(after[0].vectors, reference_vectors(pretrained, texts[0]), after[0].words)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("through_data", [False, True])
def test_the_cache_drops_vectors_of_earlier_weights(pretrained, engine: EngineName, through_data: bool) -> None:
    model = CharEmbedder(pretrained, engine=engine, cache_mb=1, limits=EmbeddingLimits(window_characters=40))
    texts = ["the same text", *(f"and others {k}" for k in range(20))]
    model.embed(texts)
    with torch.no_grad():
        for parameter in model.model.parameters():
            (parameter.data if through_data else parameter).mul_(1.5)
    model.embed(["a long text, which is embedded in parts and not cached"])
    for text, result in zip(texts, model.embed(texts), strict=True):
        assert_same_vectors(result.vectors, reference_vectors(pretrained, text), result.words)


def test_vectors_of_earlier_weights_do_not_enter_the_cache(pretrained, monkeypatch: pytest.MonkeyPatch) -> None:
    model = CharEmbedder(pretrained, engine="torch", cache_mb=1)
    model.embed(["prepared"])
    engine = model._engines.setup.engine
    run = engine.run

    def run_while_weights_change(*arguments):
        result = run(*arguments)
        with torch.no_grad():
            for parameter in model.model.parameters():
                parameter.mul_(1.5)
        model._passages._refresh()  # as another thread does before it embeds
        return result

    monkeypatch.setattr(engine, "run", run_while_weights_change)
    model.embed(["the same text"])
    monkeypatch.setattr(engine, "run", run)
    (result,) = model.embed(["the same text"])
    assert_same_vectors(result.vectors, reference_vectors(pretrained, "the same text"), result.words)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("step", ["_prepare", "run"])
def test_vectors_of_weights_that_return_do_not_enter_the_cache(
    pretrained, monkeypatch: pytest.MonkeyPatch, engine: EngineName, step: str
) -> None:
    """Another thread tries other weights for a moment, as an average of weights is tried during training."""
    model = CharEmbedder(pretrained, engine=engine, cache_mb=1)
    used = model._engines.setup.engine
    usual = getattr(used, step)
    weights = [parameter.data.clone() for parameter in model.model.parameters()]

    def with_other_weights(*arguments):
        for parameter in model.model.parameters():
            parameter.data.mul_(2)  # through `.data`, which PyTorch does not count
        return usual(*arguments)

    monkeypatch.setattr(used, step, with_other_weights)
    model.embed(["the same text"])
    monkeypatch.setattr(used, step, usual)
    for parameter, weight in zip(model.model.parameters(), weights, strict=True):
        parameter.data.copy_(weight)
    (result,) = model.embed(["the same text"])
    assert_same_vectors(result.vectors, reference_vectors(pretrained, "the same text"), result.words)


def test_a_model_in_training_embeds_without_dropout() -> None:
    pretrained = small_model(num_layers=2)
    model = CharEmbedder(pretrained, engine="torch")
    pretrained.model.train()
    (result,) = model.embed(["one text alone"])
    assert pretrained.model.forward_lm.rnn.training
    assert_same_vectors(result.vectors, reference_vectors(pretrained, "one text alone"), result.words)


def test_weights_made_in_inference_mode(pretrained, tmp_path: Path) -> None:
    pretrained.save(tmp_path / "model")
    with torch.inference_mode():
        result = CharEmbedder.from_pretrained(tmp_path / "model").embed(["a text"])[0]
    assert_same_vectors(result.vectors, reference_vectors(pretrained, "a text"), result.words)


def test_a_single_str_is_refused(embedder: CharEmbedder) -> None:
    for call in (embedder.embed, embedder.iter_embed, embedder.iter_parts):
        with pytest.raises(TypeError, match="got a single str: put it in a list"):
            call("one text")


def test_a_saved_model_has_the_same_vectors_after_loading(embedder: CharEmbedder, tmp_path: Path) -> None:
    embedder.save_pretrained(tmp_path / "model")
    again = CharEmbedder.from_pretrained(tmp_path / "model")
    texts = ["The same vectors", "after loading."]
    for a, b in zip(embedder.embed(texts), again.embed(texts), strict=True):
        assert np.array_equal(a.vectors, b.vectors)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("options", [{}, {"engine": "onnx"}, {"precision": "int8", "cache_mb": 1}], ids=str)
def test_copies_embed_too(pretrained, options: dict, copied) -> None:
    model = CharEmbedder(pretrained, **options)
    expected = model.embed(["a copy"])[0].vectors
    other = copied(model)
    assert repr(other) == repr(model)
    assert np.array_equal(other.embed(["a copy"])[0].vectors, expected)


@unix_only
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_process_embeds_too(embedder: CharEmbedder) -> None:
    expected = embedder.embed(["forked"])[0].vectors
    with multiprocessing.get_context("fork").Pool(1) as pool:
        result = pool.apply_async(embedder.embed, (["forked"],)).get(timeout=60)
    assert np.array_equal(result[0].vectors, expected)


@unix_only
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_process_forked_while_another_thread_embeds(pretrained, engine: EngineName) -> None:
    """The other thread is not in the new process, where it never releases the locks that it holds."""
    model = CharEmbedder(pretrained, engine=engine, cache_mb=1)
    expected = model.embed(["forked"])[0].vectors
    holds, may_release = threading.Event(), threading.Event()

    def hold_locks() -> None:
        with model._passages._lock, model._passages.cache._lock, _pieces.lock:
            holds.set()
            may_release.wait()

    def embed() -> None:
        assert np.array_equal(model.embed(["forked"])[0].vectors, expected)

    thread = threading.Thread(target=hold_locks)
    thread.start()
    holds.wait()
    child = multiprocessing.get_context("fork").Process(target=embed)
    child.start()
    child.join(timeout=20)
    child.kill()
    may_release.set()
    thread.join()
    child.join()
    assert child.exitcode == 0


def test_embedding_in_asyncio(embedder: CharEmbedder) -> None:
    async def embed_twice() -> list[list[WordEmbeddings]]:
        return await asyncio.gather(*(asyncio.to_thread(embedder.embed, ["one text"]) for _ in range(2)))

    expected = embedder.embed(["one text"])[0].vectors
    assert all(np.array_equal(result[0].vectors, expected) for result in asyncio.run(embed_twice()))


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_several_threads_share_an_embedder(pretrained, engine: EngineName) -> None:
    model = CharEmbedder(pretrained, engine=engine, cache_mb=1)
    texts = [f"thread number {k}" for k in range(20)]
    expected = [model.embed([text])[0].vectors for text in texts]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda text: model.embed([text])[0].vectors, texts))
    assert all(np.array_equal(a, b) for a, b in zip(results, expected, strict=True))


def test_embedding_does_not_change_the_thread_settings_of_torch() -> None:
    code = (
        "import threading, torch; torch.set_num_threads(2)\n"
        "from charembed import CharEmbedder\nfrom helpers import small_model\n"
        "CharEmbedder(small_model()).embed(['x'])\n"
        "seen = [torch.get_num_threads()]\n"
        "t = threading.Thread(target=lambda: seen.append(torch.get_num_threads())); t.start(); t.join()\n"
        "print(seen)"
    )
    done = run_python(code)
    assert done.stdout.strip() == "[2, 2]", done.stderr


def test_readout_overrides_the_model_folder(pretrained, tmp_path: Path) -> None:
    pretrained.save(tmp_path / "model")
    result = CharEmbedder.from_pretrained(tmp_path / "model", readout="separator").embed(["The dog"])[0]
    expected = reference_vectors(small_model(readout="separator"), "The dog")
    assert_same_vectors(result.vectors, expected, result.words)


def test_bfloat16_is_close_to_float32(pretrained) -> None:
    texts = [text for text in AWKWARD_TEXTS if len(text) < 1000]
    exact = CharEmbedder(pretrained).embed(texts)
    coarse = CharEmbedder(pretrained, precision="bfloat16").embed(texts)
    difference = max(np.abs(a.vectors - b.vectors).max(initial=0) for a, b in zip(exact, coarse, strict=True))
    assert 1e-5 < difference < 0.05
    assert pretrained.model.forward_lm.decoder.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("has_units", "smallest", "cell", "engine", "expected"),
    [
        (True, 12, "lstm", "auto", "bfloat16"),
        (True, 12, "lstm", "torch", "bfloat16"),
        (True, 13, "lstm", "auto", "float32"),
        pytest.param(True, 12, "lstm", "onnx", "float32", marks=needs("onnx")),
        (True, 12, "gru", "auto", "float32"),
        (False, 12, "lstm", "auto", "float32"),
    ],
)
def test_auto_is_bfloat16_for_an_lstm_where_the_cpu_has_units(
    monkeypatch, has_units, smallest, cell, engine, expected
) -> None:
    monkeypatch.setattr(engine_choice, "has_bfloat16_units", lambda _device: has_units)
    monkeypatch.setattr(engine_choice, "MIN_BFLOAT16_HIDDEN_SIZE", smallest)
    monkeypatch.setattr(onednn_lstm, "_onednn_lstm_works", lambda dtype: dtype in (torch.float32, torch.bfloat16))
    embedder = CharEmbedder(small_model(cell=cell), engine=engine, precision="auto")
    assert embedder.precision == expected
    monkeypatch.setattr(engine_choice, "has_bfloat16_units", lambda _device: not has_units)
    # A copy in another process, perhaps on another machine, gives the same vectors.
    assert pickle.loads(pickle.dumps(embedder)).precision == expected


@pytest.mark.parametrize(("cell", "expected"), [("lstm", "bfloat16"), ("gru", "float32")])
def test_auto_on_a_gpu(monkeypatch, cell, expected) -> None:
    monkeypatch.setattr(engine_choice, "has_bfloat16_units", lambda _device: True)
    model = small_model(cell=cell).model.to("meta")  # any device but the CPU
    assert engine_choice.choose_precision("auto", "auto", model) == expected


@pytest.mark.parametrize("engine", ["auto", "torch", "onnx"])
def test_tf32_is_float32_on_a_cpu(engine: EngineName, pretrained) -> None:
    texts = ["The lazy dog.", "A quick fox"]
    exact, tf32 = (CharEmbedder(pretrained, engine=engine, precision=name) for name in ("float32", "tf32"))
    assert (tf32.precision, tf32.engine) == ("tf32", exact.engine)
    for result, expected in zip(tf32.embed(texts), exact.embed(texts), strict=True):
        assert np.array_equal(result.vectors, expected.vectors)


@needs("onnx")
def test_auto_reports_the_chosen_engine(pretrained) -> None:
    assert CharEmbedder(pretrained).engine == "onnx"
    assert CharEmbedder(pretrained, precision="int8").engine == "onnx"
    assert CharEmbedder(pretrained, precision="bfloat16").engine == "torch"
    assert "readout='word', engine='onnx', precision='int8'" in repr(CharEmbedder(pretrained, precision="int8"))


def test_auto_is_torch_if_onnxruntime_is_not_installed() -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from charembed import CharEmbedder\nfrom helpers import small_model\n"
        "print(CharEmbedder(small_model()))"
    )
    done = run_python(code)
    assert "engine='torch'" in done.stdout, done.stderr


@needs("onnx")
def test_int8_without_onnxruntime_names_the_extra_to_install() -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from charembed import CharEmbedder\nfrom helpers import small_model\n"
        "CharEmbedder(small_model(), precision='int8')"
    )
    done = run_python(code)
    assert "the engine onnx needs onnxruntime: pip install 'charembed[onnx]'" in done.stderr


def test_a_data_set_is_mapped(embedder: CharEmbedder) -> None:
    datasets = pytest.importorskip("datasets")
    from datasets.fingerprint import Hasher

    texts = ["", "Two words", "", "lazy dog."]
    # The first batch has no words: its columns have types all the same.
    mapped = datasets.Dataset.from_dict({"text": texts}).map(embedder.mapper(), batched=True, batch_size=1)
    for row, expected in zip(mapped, embedder.embed(texts), strict=True):
        assert row["words"] == expected.words
        assert list(zip(row["starts"], row["ends"], strict=True)) == expected.spans
        assert_same_vectors(np.array(row["vectors"], np.float32).reshape(-1, 24), expected.vectors, expected.words)
    assert Hasher.hash(embedder.mapper()) == Hasher.hash(embedder.mapper()), "datasets cannot reuse its cache"
    with pytest.raises(CharEmbedError, match="no column 'body'; the columns are text"):
        embedder.mapper("body")({"text": texts})
    with pytest.raises(CharEmbedError, match="call map with batched=True"):
        embedder.mapper()({"text": texts[0]})


@pytest.mark.parametrize("format_type", ["numpy", "arrow", "pandas"])
def test_a_data_set_in_another_format_is_mapped(format_type: str, embedder: CharEmbedder) -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"words": [["a", "b"], ["c"]]}).with_format(format_type)
    mapped = data.map(embedder.mapper("words"), batched=True).with_format(None)
    assert [np.shape(vectors) for vectors in mapped["vectors"]] == [(2, 24), (1, 24)]


def test_context_of_a_document_in_batches(pretrained) -> None:
    lines = ["The lazy dog.", "It jumps.", "The fox is quick.", "", "Another fox."]
    results = CharEmbedder(pretrained, batch_size=2).embed(lines, Context(sentences=1))
    contexts = [("", " It jumps."), ("The lazy dog. ", " The fox is quick."), ("It jumps. ", ""), ("", ""), ("", "")]
    for line, (before, after), result in zip(lines, contexts, results, strict=True):
        shift = len(before)
        forward = reference_vectors(pretrained, (before + line, [(a + shift, b + shift) for a, b in result.spans]))
        backward = reference_vectors(pretrained, (line + after, result.spans))
        assert_same_vectors(result.vectors, np.concatenate([forward[:, :12], backward[:, 12:]], axis=1), result.words)


def test_from_pretrained_refuses_unknown_names() -> None:
    with pytest.raises(CharEmbedError, match=r"no model 'absent/folder': .*Train a model with: charembed train"):
        CharEmbedder.from_pretrained("absent/folder")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "fast"}, "engine must be one of auto, torch, onnx, got 'fast'"),
        ({"precision": "int3"}, "precision must be one of auto, float32, tf32, int8, bfloat16, got 'int3'"),
        ({"engine": "torch", "precision": "int8"}, "the engine torch does not support int8"),
        ({"engine": "onnx", "precision": "bfloat16"}, "the engine onnx does not support bfloat16"),
        ({"readout": "middle"}, "readout must be one of word, separator, got 'middle'"),
        ({"threads": 0}, "threads must be a whole number from 1 to 1024, got 0"),
        ({"batch_size": 1.5}, "batch_size must be a whole number of at least 1, got 1.5"),
        ({"memory_mb": -1}, "memory_mb must be a whole number of at least 1, got -1"),
        ({"cache_mb": True}, "cache_mb must be a whole number of at least 0, got True"),
    ],
)
def test_options_are_checked(pretrained, options: dict, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        CharEmbedder(pretrained, **options)
