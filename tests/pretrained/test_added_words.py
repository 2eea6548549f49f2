"""Static vectors that are added to a model: their scale, and what becomes of the rest of the model."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from helpers import EXCERPT, assert_same_vectors, small_model, small_static_vectors

from charembed import CharEmbedder, Pretrained, StaticVectors, add_words
from charembed.cli.main import main

WORDS = list(dict.fromkeys(EXCERPT.read_text(encoding="utf-8")[:20_000].split()))


def many_static_vectors(scale: float = 1.0) -> StaticVectors:
    vectors = np.random.default_rng(7).normal(size=(len(WORDS), 6), scale=scale)
    return StaticVectors.from_arrays(WORDS, vectors)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_static_vectors_vary_as_much_as_the_states(scale: float, pretrained: Pretrained) -> None:
    """In a text in which words are as frequent as in real text."""
    model = add_words(pretrained, many_static_vectors(scale))
    ranks = np.arange(1, len(WORDS) + 1)
    text = " ".join(np.random.default_rng(1).choice(WORDS, 4000, p=1 / ranks / (1 / ranks).sum()))
    variances = CharEmbedder(model).embed([text])[0].vectors.var(axis=0)
    assert variances[24:].mean() == pytest.approx(variances[:24].mean(), rel=0.15)


def test_the_model_is_otherwise_the_same(pretrained: Pretrained) -> None:
    static = small_static_vectors()
    model = add_words(pretrained, static, source="vectors.txt")
    assert model.model is pretrained.model
    assert pretrained.static is None
    assert model.static is not None
    # The same vectors, multiplied by one factor.
    factors = model.static.scales / static.scales
    assert factors == pytest.approx(factors[0], rel=1e-6)
    assert np.array_equal(model.static.rows, static.rows)
    summary = {"source": "vectors.txt", "words": 7, "buckets": 30, "dimensions": 4}
    assert model.provenance == {"seed": 3, "static_vectors": summary}
    # Other static vectors replace them.
    assert add_words(model, many_static_vectors()).static.dim == 6


@pytest.mark.parametrize(
    "static", [small_static_vectors(), StaticVectors.from_arrays([], np.zeros((0, 4)), np.ones((3, 4)))]
)
def test_the_result_does_not_depend_on_chance(static: StaticVectors, pretrained: Pretrained) -> None:
    digests = {add_words(small_model(), static).digest() for _ in range(2)}
    assert digests == {add_words(pretrained, static).digest()}


def test_a_projection_of_former_static_vectors_is_dropped(
    pretrained: Pretrained, caplog: pytest.LogCaptureFixture
) -> None:
    text = [EXCERPT.read_text(encoding="utf-8")[:5000]]
    with caplog.at_level(logging.WARNING):
        states = CharEmbedder(pretrained).fit_projection(text, 4).pretrained
        model = add_words(states, small_static_vectors())
        assert model.projection is states.projection
        assert caplog.text == ""
        everything = CharEmbedder(add_words(pretrained, small_static_vectors())).fit_projection(text, 4).pretrained
        assert add_words(everything, small_static_vectors(3)).projection is None
    assert "the model loses its projection" in caplog.text


def test_the_command_writes_a_model_with_static_vectors(
    pretrained: Pretrained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained.save(tmp_path / "model", dtype="float16")
    (tmp_path / "words.vec").write_text("3 2\nThe 1 2\nlazy 3 4\ndog 5 6\n")
    arguments = ["add-words", "--model", str(tmp_path / "model"), "--words", str(tmp_path / "words.vec")]
    options = ["--limit", "2", "--buckets", "50", "--dtype", "float16", "-o", str(tmp_path / "out")]
    assert main([*arguments, *options]) == 0
    assert "static vectors of 2 words and 50 buckets of n-grams, 2 dimensions" in capsys.readouterr().out
    embedder = CharEmbedder.from_pretrained(tmp_path / "out")
    assert embedder.parts == ("forward", "backward", "words")
    (result,) = embedder.embed(["The lazy doge"])
    assert result.vectors.shape == (3, 26)
    assert result.vectors[:, 24:].any(axis=1).all(), "unknown words have vectors too"
    states = CharEmbedder.from_pretrained(tmp_path / "model").embed(["The lazy doge"])[0].vectors
    assert_same_vectors(result.vectors[:, :24], states, result.words)
    # The vectors of one model can be given to another.
    taken = ["--words", str(tmp_path / "out"), "-o", str(tmp_path / "other")]
    assert main([*arguments[:3], *taken]) == 0
    other = Pretrained.load(tmp_path / "other").static
    assert other is not None
    assert other.words == ["The", "lazy"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--words", "absent.vec"], "absent.vec: cannot be read: No such file or directory"),
        (["--model", "absent"], "no model 'absent'"),
        (["--output", "{tmp}"], "holds model, which would be lost: name another folder"),
        (["--words", "{tmp}/other.vec"], "other.vec is incomplete: it has 1 of 3 words"),
    ],
)
def test_bad_input_writes_nothing(change, message: str, pretrained, tmp_path: Path, capsys) -> None:
    pretrained.save(tmp_path / "model")
    (tmp_path / "words.vec").write_text("1 2\nThe 1 2\n")
    (tmp_path / "other.vec").write_text("3 2\nThe 1 2\n")
    options = {"--model": "{tmp}/model", "--words": "{tmp}/words.vec", "--output": "{tmp}/out"}
    options |= dict([change])
    before = sorted(tmp_path.iterdir())
    arguments = [part.format(tmp=tmp_path) for option in options.items() for part in option]
    assert main(["add-words", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
