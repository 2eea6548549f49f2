"""Word vectors, against a reference that reads one character at a time, and what they may depend on."""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import AWKWARD_TEXTS, EXCERPT, assert_same_vectors, reference_vectors, small_model
from hypothesis import given
from hypothesis import strategies as st

from charembed import CharEmbedder, CharEmbedError, embedder, engine
from charembed.words import TextInput

ITEMS: list[TextInput] = [
    *AWKWARD_TEXTS,
    ["The", "lazy", "dog", "."],
    ["empty", "", "word", ""],
    [""],
    [],
    ("The lazy dog", [(4, 8), (0, 3), (4, 4), (0, 12), (12, 12), (0, 0)]),
    ("no words here", []),
]


@pytest.mark.parametrize(
    "options",
    [
        {"readout": "word"},
        {"readout": "separator"},
        {"readout": "separator", "delimiter": "\n\n"},
        {"num_layers": 2, "proj_size": 5},
    ],
    ids=str,
)
def test_vectors_are_those_of_the_reference(options: dict) -> None:
    pretrained = small_model(**options)
    for item, found in zip(ITEMS, CharEmbedder(pretrained).embed(ITEMS), strict=True):
        assert_same_vectors(found.vectors, reference_vectors(pretrained, item), found.words)


@given(st.lists(st.text("ab Tz\n'é\ud800", max_size=30), max_size=12), st.integers(0, 3))
def test_vectors_depend_on_their_own_text_alone(texts: list[str], seed: int) -> None:
    model = CharEmbedder(small_model())
    alone = {text: model.embed([text])[0] for text in texts}
    shuffled = texts * 2
    random.Random(seed).shuffle(shuffled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "MAX_BATCH", 3)
        patch.setattr(engine, "CHUNK", 4)
        patch.setattr(embedder, "WINDOW_CHARACTERS", 40)
        for text, found in zip(shuffled, model.embed(shuffled), strict=True):
            assert found.spans == alone[text].spans
            assert_same_vectors(found.vectors, alone[text].vectors, found.words)


def test_real_text_in_batches_is_real_text_alone(embedder: CharEmbedder) -> None:
    lines = EXCERPT.read_text(encoding="utf-8").splitlines()[:60]
    for line, found in zip(lines, embedder.embed(lines), strict=True):
        alone = embedder.embed([line])[0]
        assert_same_vectors(found.vectors, alone.vectors, found.words)
        assert [line[start:end] for start, end in found.spans] == found.words


def test_a_text_longer_than_many_chunks(embedder: CharEmbedder) -> None:
    text = "The quick brown fox jumps. " * 400
    found = embedder.embed([text, "short"])[0]
    sample = [0, 1, len(found) // 2, len(found) - 1]
    wanted = reference_vectors(embedder.pretrained, (text, [found.spans[k] for k in sample]))
    assert_same_vectors(found.vectors[sample], wanted, [found.words[k] for k in sample])


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


def test_streaming_reads_ahead_no_more_than_its_window(embedder: CharEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charembed.embedder.WINDOW_TEXTS", 4)
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield f"text {taken}"

    stream = embedder.iter_embed(endless())
    assert [next(stream).words for _ in range(3)] == [["text", "1"], ["text", "2"], ["text", "3"]]
    assert taken == 4


def test_a_single_str_is_a_mistake(embedder: CharEmbedder) -> None:
    for call in (embedder.embed, embedder.iter_embed):
        with pytest.raises(TypeError, match="got one str: put it in a list"):
            call("one text")


def test_from_pretrained_gives_back_the_same_vectors(embedder: CharEmbedder, tmp_path: Path) -> None:
    embedder.save_pretrained(tmp_path / "model")
    again = CharEmbedder.from_pretrained(tmp_path / "model")
    texts = ["The same vectors", "after loading."]
    for a, b in zip(embedder.embed(texts), again.embed(texts), strict=True):
        assert np.array_equal(a.vectors, b.vectors)


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_process_embeds_too(embedder: CharEmbedder) -> None:
    wanted = embedder.embed(["forked"])[0].vectors
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(embedder.embed, (["forked"],)).get(timeout=60)
    assert np.array_equal(found[0].vectors, wanted)


def test_several_threads_share_an_embedder(embedder: CharEmbedder) -> None:
    texts = [f"thread number {k}" for k in range(20)]
    wanted = [embedder.embed([text])[0].vectors for text in texts]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: embedder.embed([text])[0].vectors, texts))
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_embedding_leaves_the_threads_of_torch_as_they_were() -> None:
    code = (
        "import threading, torch; torch.set_num_threads(2)\n"
        "from conftest import CharEmbedder, small_model; CharEmbedder(small_model()).embed(['x'])\n"
        "seen = [torch.get_num_threads()]\n"
        "t = threading.Thread(target=lambda: seen.append(torch.get_num_threads())); t.start(); t.join()\n"
        "print(seen)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.stdout.strip() == "[2, 2]", done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no model 'en'.*Train one: charembed train"),
        ({"name_or_path": "absent/folder"}, "no model 'absent/folder'"),
        ({"engine": "fast"}, "engine must be auto or torch, got 'fast'"),
        ({"precision": "int3"}, "precision must be float32, got 'int3'"),
    ],
)
def test_from_pretrained_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        CharEmbedder.from_pretrained(**arguments)
