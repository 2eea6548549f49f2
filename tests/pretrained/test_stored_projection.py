"""The projection in a model folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers import small_model, with_projection

from charembed import CharEmbedError, Pretrained, join
from charembed.lm.model import BiCharLM

FILE = "projection.safetensors"


def test_it_is_saved_loaded_and_replaced(pretrained: Pretrained, tmp_path: Path) -> None:
    reducible = with_projection(pretrained)
    reducible.save(tmp_path / "model", dtype="float16")
    assert (tmp_path / "model" / FILE).stat().st_size < 7 * 24 * 2 + 600  # two bytes per value
    for again in (Pretrained.load(tmp_path / "model"), Pretrained.from_files(reducible.files(), "the files")):
        for field in dataclasses.fields(reducible.projection):
            expected, actual = (getattr(each.projection, field.name) for each in (reducible, again))
            assert np.array_equal(actual, expected), field.name
    pretrained.save(tmp_path / "model")  # replaces the folder, projection included
    assert Pretrained.load(tmp_path / "model").projection is None
    assert not (tmp_path / "model" / FILE).exists()


def test_the_digest_covers_it(pretrained: Pretrained, tmp_path: Path) -> None:
    reducible = with_projection(pretrained)
    digests = {each.digest() for each in (pretrained, reducible, with_projection(pretrained, dim=6))}
    assert len(digests) == 3
    reducible.save(tmp_path / "model")
    assert Pretrained.load(tmp_path / "model").digest() == reducible.digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": ("forward",)}, "of 24 dimensions with the parts forward, but the model's parts are forward .12 dim"),
        ({"parts": ("forward", "words")}, "with the parts forward, words, but the model's parts"),
        ({"parts": ()}, "with the parts .unknown., but the model's parts"),
        ({"mean": np.zeros(9, np.float32), "components": np.eye(7, 9, dtype=np.float32)}, "vectors of 9 dimensions"),
    ],
)
def test_one_that_does_not_fit_the_model_is_refused(changes: dict, message: str, pretrained, tmp_path: Path) -> None:
    wrong = dataclasses.replace(with_projection(pretrained).projection, **changes)
    with pytest.raises(CharEmbedError, match=message):
        dataclasses.replace(pretrained, projection=wrong)
    with_projection(pretrained).save(tmp_path / "model")
    (tmp_path / "model" / FILE).write_bytes(wrong.to_bytes())
    with pytest.raises(CharEmbedError, match=f"model/{FILE}: the projection is .*{message}"):
        Pretrained.load(tmp_path / "model")


def test_a_damaged_file_is_refused(pretrained: Pretrained, tmp_path: Path) -> None:
    with_projection(pretrained).save(tmp_path / "model")
    (tmp_path / "model" / FILE).write_bytes(b"damaged")
    with pytest.raises(CharEmbedError, match=f"model/{FILE} is not a projection: "):
        Pretrained.load(tmp_path / "model")


@pytest.mark.parametrize("same", [True, False])
def test_joined_models_keep_a_projection_that_both_have(same: bool, pretrained: Pretrained) -> None:
    forward, backward = (with_projection(pretrained, dim=dim) for dim in (6, 6 if same else 5))
    joined = join(forward, backward)
    assert (joined.projection is forward.projection) is same
    assert (joined.projection is None) is not same


def test_a_projection_of_one_direction_alone(pretrained: Pretrained) -> None:
    single = BiCharLM(pretrained.model.config, ["forward"])
    only_forward = with_projection(dataclasses.replace(pretrained, model=single))
    assert only_forward.projection.parts == ("forward",)
    assert join(only_forward, small_model()).projection is None
