"""The model folder: what goes in comes out, and what is wrong with it is said."""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from filelock import FileLock
from helpers import DATA, assert_same_vectors, small_model

from charembed import CharEmbedder, CharEmbedError, CharVocab
from charembed.pretrained.model_folder import Pretrained

COMMITTED = DATA / "model-format-1"


@pytest.fixture
def folder(pretrained: Pretrained, tmp_path: Path) -> Path:
    pretrained.save(tmp_path / "model")
    return tmp_path / "model"


def test_folder_holds_what_the_design_says(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config["format_version"] == 1
    assert config["readout"] == "word"
    names = set(safetensors.torch.load_file(folder / "model.safetensors"))
    one = {"embedding.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_l0", "decoder.weight", "decoder.bias"}
    assert names == {f"{direction}.{name}" for direction in ("forward", "backward") for name in one}


def test_round_trip(pretrained: Pretrained, folder: Path) -> None:
    again = Pretrained.load(folder)
    assert again.vocab == pretrained.vocab
    assert again.model.config == pretrained.model.config
    assert (again.readout, again.delimiter, again.provenance) == ("word", "\n", {"seed": 3})
    for name, tensor in pretrained.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


def test_what_a_kill_between_the_renames_leaves_is_mended(pretrained: Pretrained, folder: Path) -> None:
    """By who loads the folder, and by who saves there next."""
    other = small_model(seed=9)
    for left, name in ((("old", "new"), "first"), (("old",), "second")):
        aside = folder.parent / f".{folder.name}.charembed-{name}"
        aside.mkdir()
        (aside / ".lock").touch()
        for part in left:
            shutil.copytree(folder, aside / part)
        (folder.parent / f".{folder.name}.mine").mkdir(exist_ok=True)  # of somebody else
        shutil.rmtree(folder)
        assert Pretrained.load(folder).vocab == pretrained.vocab
        assert not aside.exists()
    busy, named = (folder.parent / f".{folder.name}.charembed-{name}" for name in ("busy", "named"))
    pretrained.save(named)  # somebody's model that happens to have such a name
    busy.mkdir()
    with FileLock(busy / ".lock"):  # of a process that lives
        other.save(folder)
        assert busy.exists()
    assert Pretrained.load(folder).provenance == {"seed": 9}
    other.save(folder)
    left = {path.name for path in folder.parent.iterdir()}
    assert left == {f".{folder.name}.mine", folder.name, named.name}


def test_half_precision_weights_are_read_as_float32(folder: Path) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    safetensors.torch.save_file({k: v.half() for k, v in weights.items()}, folder / "model.safetensors")
    assert {p.dtype for p in Pretrained.load(folder).model.parameters()} == {torch.float32}


def test_a_model_of_format_1_loads_for_ever() -> None:
    texts = ["The lazy dog, 東.", ["two", "words"]]
    embedder = CharEmbedder.from_pretrained(COMMITTED)
    wanted = np.load(COMMITTED.with_suffix(".npy"))
    found = embedder.embed(texts)
    assert_same_vectors(np.concatenate([f.vectors for f in found]), wanted, [w for f in found for w in f.words])


def test_saving_replaces_a_model_and_leaves_nothing_beside_it(folder: Path) -> None:
    other = small_model(seed=4)
    other.save(folder)
    assert Pretrained.load(folder).provenance == {"seed": 4}
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_a_full_disk_leaves_the_model_that_was_there(folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))  # enough for the small files, not for the weights
    try:
        with pytest.raises(OSError, match="File too large"):
            small_model(seed=4).save(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Pretrained.load(folder).provenance == {"seed": 3}
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("failing", [1, 2])
def test_an_interrupt_between_the_renames_leaves_the_model(
    folder: Path, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    original = os.replace

    def interrupted(source: Path, target: Path) -> None:
        nonlocal calls
        calls += target.name != "tokenizer.json"
        if calls == failing:
            calls += 1
            raise KeyboardInterrupt
        original(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small_model(seed=4).save(folder)
    assert Pretrained.load(folder).provenance == {"seed": 3}
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_all_files_have_the_same_permissions(folder: Path) -> None:
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_saving_through_a_link_replaces_what_it_points_to(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    small_model(seed=4).save(link)
    assert link.is_symlink()
    assert Pretrained.load(folder).provenance == {"seed": 4}


def test_saving_over_other_work_is_refused(pretrained: Pretrained, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(CharEmbedError, match="file is a file: name a folder"):
        pretrained.save(tmp_path / "file")
    (folder / "thesis.tex").write_text("years of work")  # even inside a model folder
    with pytest.raises(CharEmbedError, match=r"holds thesis.tex, which would be lost"):
        pretrained.save(folder)
    assert (folder / "thesis.tex").read_text() == "years of work"
    other = tmp_path / "bert"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CharEmbedError, match="bert is no model folder of charembed"):
        pretrained.save(other)
    (other / "config.json").rename(other / "README.md")
    with pytest.raises(CharEmbedError, match="bert is no model folder of charembed"):
        pretrained.save(other)
    (tmp_path / "empty").mkdir()
    pretrained.save(tmp_path / "empty")


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, r"format version 2, this charembed .* reads up to 1: pip install -U charembed"),
        ({"format_version": None}, "no format_version"),
        ({"format_version": True}, "no format_version"),
        ({"format_version": 0}, "no format_version"),
        ({"architecture": {"hidden_size": 10**12, "vocab_size": 45}}, "no model has such an architecture"),
        ({"architecture": {"hidden_size": 12.0}}, "hidden_size must be a whole number"),
        ({"architecture": {"hidden_size": 10**30, "vocab_size": 45}}, "no model has such an architecture"),
        ({"readout": "middle"}, "config.json: readout must be word or separator, got 'middle'"),
        ({"delimiter": None}, "delimiter is missing or not a str"),
        ({"delimiter": ""}, "delimiter must be text of at least one character"),
        ({"delimiter": "\ud800"}, "delimiter must be text"),
        ({"architecture": {"cell": "lstm", "colour": "red"}}, "unknown architecture field colour"),
        ({"architecture": {"hidden_size": 0}}, "hidden_size must be positive"),
        ({"architecture": {"vocab_size": 7}}, "says 7 characters, tokenizer.json holds"),
    ],
)
def test_a_wrong_config_is_named(folder: Path, changes: dict, message: str) -> None:
    edit_config(folder, **changes)
    with pytest.raises(CharEmbedError, match=message):
        Pretrained.load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_or_damaged_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:50])
    with pytest.raises(CharEmbedError, match=name):
        Pretrained.load(folder)
    (folder / name).unlink()
    with pytest.raises(CharEmbedError, match=f"is not a model folder: {name} missing"):
        Pretrained.load(folder)


def test_weights_that_do_not_fit_are_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)

    def saved(**changes: torch.Tensor | None) -> None:
        changed = weights | changes
        safetensors.torch.save_file({k: v for k, v in changed.items() if v is not None}, path)

    saved(**{"forward.decoder.bias": None})
    with pytest.raises(CharEmbedError, match=r"lacks tensors forward.decoder.bias"):
        Pretrained.load(folder)
    saved(extra=torch.zeros(1))
    with pytest.raises(CharEmbedError, match="holds the foreign tensors extra"):
        Pretrained.load(folder)
    saved(**{"forward.decoder.bias": torch.zeros(2)})
    with pytest.raises(CharEmbedError, match=r"forward.decoder.bias has shape \(2,\), expected"):
        Pretrained.load(folder)
    saved(**{"forward.decoder.bias": weights["forward.decoder.bias"].int()})
    with pytest.raises(CharEmbedError, match="expected floating point"):
        Pretrained.load(folder)
    saved(**{"backward.rnn.bias_l0": torch.full((48,), torch.nan)})
    with pytest.raises(CharEmbedError, match=r"backward.rnn.bias_l0 holds values that are no finite numbers"):
        Pretrained.load(folder)


def test_a_pickle_in_the_place_of_weights_is_not_run(folder: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(CharEmbedError, match="cannot be read as safetensors"):
        Pretrained.load(folder)


def test_the_folder_of_a_run_points_to_its_models(folder: Path) -> None:
    run = folder.parent / "run"
    shutil.copytree(folder, run / "best")
    with pytest.raises(CharEmbedError, match=r"it is a training run, its models are .*best"):
        Pretrained.load(run)


def test_model_card_tells_the_provenance(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: charembed\n")
    assert "| seed | 3 |" in card
    assert "hidden size 12" in card
    vocab = CharVocab.load(folder / "tokenizer.json")
    assert f"{len(vocab)} characters" in card
