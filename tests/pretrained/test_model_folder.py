"""Model folders: saving, loading, atomic replacement and error messages."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from filelock import FileLock
from helpers import DATA, assert_same_vectors, small_model, small_static_vectors

from charembed import BiCharLM, CharEmbedder, CharEmbedError, join
from charembed.lm.model import Direction
from charembed.pretrained import model_files
from charembed.pretrained.model_folder import Pretrained
from charembed.static_vectors import StaticVectors
from charembed.util.files import atomic_folder
from charembed.util.reading import read_file

COMMITTED = DATA / "model-format-1"


@pytest.fixture
def folder(pretrained: Pretrained, tmp_path: Path) -> Path:
    pretrained.save(tmp_path / "model")
    return tmp_path / "model"


def test_folder_has_the_documented_files_and_tensors(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config["format_version"] == 2
    assert config["readout"] == "word"
    names = set(safetensors.torch.load_file(folder / "model.safetensors"))
    per_direction = {
        "embedding.weight",
        "rnn.weight_ih_l0",
        "rnn.weight_hh_l0",
        "rnn.bias_l0",
        "decoder.weight",
        "decoder.bias",
    }
    assert names == {f"{direction}.{name}" for direction in ("forward", "backward") for name in per_direction}


def test_loading_restores_what_was_saved(pretrained: Pretrained, folder: Path) -> None:
    loaded = Pretrained.load(folder)
    assert loaded.vocab == pretrained.vocab
    assert loaded.model.config == pretrained.model.config
    assert (loaded.readout, loaded.delimiter, loaded.provenance) == ("word", "\n", {"seed": 3})
    for name, tensor in pretrained.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name


def test_model_is_recovered_after_a_kill_between_the_renames(pretrained: Pretrained, folder: Path) -> None:
    """The next process that loads or saves the model recovers it."""
    other = small_model(seed=9)
    for parts, name in ((("old", "new"), "first"), (("old",), "second")):
        aside = folder.parent / f".{folder.name}.charembed-{name}"
        aside.mkdir()
        (aside / ".lock").touch()
        for part in parts:
            shutil.copytree(folder, aside / part)
        (folder.parent / f".{folder.name}.other").mkdir(exist_ok=True)  # of another program
        shutil.rmtree(folder)
        assert Pretrained.load(folder).vocab == pretrained.vocab
        assert not aside.exists()
    busy, named = (folder.parent / f".{folder.name}.charembed-{name}" for name in ("busy", "named"))
    pretrained.save(named)  # a model that happens to have a name of this form
    busy.mkdir()
    with FileLock(busy / ".lock"):  # held by a process that is still running
        other.save(folder)
        assert busy.exists()
    assert Pretrained.load(folder).provenance == {"seed": 9}
    other.save(folder)
    remaining = {path.name for path in folder.parent.iterdir()}
    assert remaining == {f".{folder.name}.other", folder.name, named.name}


def test_half_precision_weights_are_loaded_as_float32(pretrained: Pretrained, folder: Path) -> None:
    pretrained.save(folder, "float16")
    assert {p.dtype for p in Pretrained.load(folder).model.parameters()} == {torch.float32}


def test_model_of_format_1_still_loads() -> None:
    texts = ["The lazy dog, 東.", ["two", "words"]]
    embedder = CharEmbedder.from_pretrained(COMMITTED)
    expected = np.load(COMMITTED.with_suffix(".npy"))
    results = embedder.embed(texts)
    words = [word for result in results for word in result.words]
    assert_same_vectors(np.concatenate([result.vectors for result in results]), expected, words)


def test_saving_replaces_a_model_and_leaves_no_other_files(folder: Path) -> None:
    other = small_model(seed=4)
    other.save(folder)
    assert Pretrained.load(folder).provenance == {"seed": 4}
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_full_disk_leaves_the_existing_model(folder: Path) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))  # enough for the small files, but not for the weights
    try:
        with pytest.raises(OSError, match="File too large"):
            small_model(seed=4).save(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Pretrained.load(folder).provenance == {"seed": 3}
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("failing", [1, 2])
def test_interrupt_between_the_renames_leaves_the_existing_model(
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


def test_saving_through_a_symbolic_link_replaces_its_target(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    small_model(seed=4).save(link)
    assert link.is_symlink()
    assert Pretrained.load(folder).provenance == {"seed": 4}


def test_saving_over_other_files_is_refused(pretrained: Pretrained, folder: Path, tmp_path: Path) -> None:
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
    with pytest.raises(CharEmbedError, match="bert is not a model folder of charembed"):
        pretrained.save(other)
    (other / "config.json").rename(other / "README.md")
    with pytest.raises(CharEmbedError, match="bert is not a model folder of charembed"):
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
        (
            {"format_version": 3},
            r"format version 3, but this version of charembed .* up to 2: upgrade with pip install -U charembed",
        ),
        ({"format_version": None}, "no format_version"),
        ({"format_version": True}, "no format_version"),
        ({"format_version": 0}, "no format_version"),
        (
            {"architecture": {"hidden_size": 10**12, "vocab_size": 45}},
            "hidden_size must be a whole number from 1 to 65536",
        ),
        ({"architecture": {"hidden_size": 12.0}}, "hidden_size must be a whole number"),
        (
            {"architecture": {"hidden_size": 10**30, "vocab_size": 45}},
            "hidden_size must be a whole number from 1 to 65536",
        ),
        ({"readout": "middle"}, "config.json: readout must be one of word, separator, got 'middle'"),
        ({"delimiter": None}, "delimiter is missing or not a str"),
        ({"delimiter": ""}, "delimiter must be text of at least one character"),
        ({"delimiter": "\ud800"}, "delimiter must be text"),
        ({"architecture": {"cell": "lstm", "colour": "red"}}, "unknown architecture field colour"),
        ({"architecture": {"hidden_size": 0}}, "hidden_size must be a whole number from 1 to 65536, got 0"),
        ({"architecture": {"vocab_size": 7}}, "states 7 characters, but tokenizer.json has"),
    ],
)
def test_invalid_config_is_reported(folder: Path, changes: dict, message: str) -> None:
    edit_config(folder, **changes)
    with pytest.raises(CharEmbedError, match=message):
        Pretrained.load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_or_damaged_file_is_reported(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:50])
    with pytest.raises(CharEmbedError, match=name):
        Pretrained.load(folder)
    (folder / name).unlink()
    with pytest.raises(CharEmbedError, match=f"is not a model folder: {name} missing"):
        Pretrained.load(folder)


def test_weights_that_do_not_fit_are_reported(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()}  # not of the file

    def save(**changes: torch.Tensor | None) -> None:
        changed = weights | changes
        safetensors.torch.save_file({k: v for k, v in changed.items() if v is not None}, path)

    save(**{"forward.decoder.bias": None})
    with pytest.raises(CharEmbedError, match=r"lacks the tensors 'forward.decoder.bias'"):
        Pretrained.load(folder)
    save(extra=torch.zeros(1))
    with pytest.raises(CharEmbedError, match="has unexpected tensors 'extra'"):
        Pretrained.load(folder)
    save(**{"x" * 5000: torch.zeros(1)})
    with pytest.raises(CharEmbedError, match=r"has unexpected tensors 'x{199}…"):
        Pretrained.load(folder)
    save(**{"forward.decoder.bias": torch.zeros(2)})
    with pytest.raises(CharEmbedError, match=r"forward.decoder.bias has shape \(2,\), expected"):
        Pretrained.load(folder)
    save(**{"forward.decoder.bias": torch.zeros([1] * 5000)})
    with pytest.raises(CharEmbedError, match=r"forward.decoder.bias has shape \(1, [1, ]{196}…, expected"):
        Pretrained.load(folder)
    save(**{"forward.decoder.bias": weights["forward.decoder.bias"].int()})
    with pytest.raises(CharEmbedError, match="int32, expected a floating-point type"):
        Pretrained.load(folder)
    save(**{"backward.rnn.bias_l0": torch.full((48,), torch.nan)})
    with pytest.raises(CharEmbedError, match=r"backward.rnn.bias_l0 has values that are NaN, infinite"):
        Pretrained.load(folder)


def test_pickled_weights_are_not_loaded(folder: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(CharEmbedError, match="cannot be read as safetensors"):
        Pretrained.load(folder)


def test_error_for_a_run_folder_names_its_models(folder: Path) -> None:
    run = folder.parent / "run"
    shutil.copytree(folder, run / "best")
    with pytest.raises(CharEmbedError, match=r"the folder of a training run, whose models are .*best"):
        Pretrained.load(run)


@pytest.fixture
def folder_with_words(with_words: Pretrained, tmp_path: Path) -> Path:
    with_words.save(tmp_path / "words")
    return tmp_path / "words"


def test_static_vectors_are_an_optional_file(with_words: Pretrained, folder_with_words: Path) -> None:
    names = {"README.md", "config.json", "model.safetensors", "static_vectors.safetensors", "tokenizer.json"}
    assert {path.name for path in folder_with_words.iterdir()} == set(with_words.files()) == names
    loaded = Pretrained.load(folder_with_words)
    for other in (loaded, Pretrained.from_files(with_words.files(), "the pipeline")):
        assert other.static is not None
        assert other.parts == ("forward", "backward", "words")
        assert other.static.digest() == with_words.static.digest()
        assert other.digest() == with_words.digest()


def test_the_digest_depends_on_the_static_vectors(with_words: Pretrained, pretrained: Pretrained) -> None:
    others = [dataclasses.replace(pretrained, static=static) for static in (None, small_static_vectors(3))]
    assert len({model.digest() for model in (with_words, *others)}) == 3
    # Outputs and taggers of version 0.1.0 have stored this value.
    assert Pretrained.load(COMMITTED).digest() == ("661035e08bbd6f703d2c3f02ad73180c45ded51bbc1942daf7f455c457e858c6")


def test_a_model_with_static_vectors_is_replaced_by_one_without(folder_with_words: Path) -> None:
    small_model(seed=4).save(folder_with_words)
    assert not (folder_with_words / "static_vectors.safetensors").exists()
    assert Pretrained.load(folder_with_words).static is None


def test_lost_static_vectors_are_reported(with_words: Pretrained, folder_with_words: Path) -> None:
    """Without the file the model would have other vectors, of fewer dimensions."""
    (folder_with_words / "static_vectors.safetensors").unlink()
    with pytest.raises(CharEmbedError, match=r"not a complete model folder: static_vectors.safetensors missing"):
        Pretrained.load(folder_with_words)
    files = with_words.files()
    for files["static_vectors.safetensors"] in (None, "text", b"damaged"):
        with pytest.raises(CharEmbedError, match=r"static_vectors.safetensors"):
            Pretrained.from_files(files, "the pipeline")
    edit_config(folder_with_words, static_vectors="yes")
    with pytest.raises(CharEmbedError, match=r"config.json: static_vectors must be true or false"):
        Pretrained.load(folder_with_words)


def test_joined_models_keep_the_static_vectors_of_either(pretrained: Pretrained) -> None:
    def one_direction(direction: Direction, static: StaticVectors | None) -> Pretrained:
        return dataclasses.replace(pretrained, model=BiCharLM(pretrained.model.config, [direction]), static=static)

    static = small_static_vectors()
    for forward, backward in ((static, None), (None, static), (static, small_static_vectors())):
        joined = join(one_direction("forward", forward), one_direction("backward", backward))
        assert joined.static is not None
        assert joined.static.digest() == static.digest()
    assert join(one_direction("forward", None), one_direction("backward", None)).static is None
    with pytest.raises(CharEmbedError, match="they differ in their static vectors"):
        join(one_direction("forward", static), one_direction("backward", small_static_vectors(3)))


def test_a_file_of_another_version_of_the_folder_is_refused(folder: Path) -> None:
    """Its shapes fit, so that nothing but the digest can tell."""
    other = small_model(seed=4)
    (folder / "model.safetensors").write_bytes(other.files()["model.safetensors"])
    with pytest.raises(CharEmbedError, match=r"model\.safetensors is not the file that config\.json was written with"):
        Pretrained.load(folder)


def test_folders_without_digests_are_loaded(pretrained: Pretrained, folder: Path) -> None:
    edit_config(folder, sha256=None)
    assert Pretrained.load(folder).digest() == pretrained.digest()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_load_during_a_save_gets_one_version(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is replaced after one of its files has been read."""
    other = small_model(seed=4)
    replacements = iter([other])

    def read_and_replace(path: Path, *limits: int) -> bytes:
        content = read_file(path, *limits)
        if path.name == name:
            for model in replacements:
                model.save(folder)
        return content

    monkeypatch.setattr(model_files, "read_file", read_and_replace)
    assert Pretrained.load(folder).digest() == other.digest()


def test_a_load_waits_between_the_two_renames_of_a_save(pretrained: Pretrained, folder: Path) -> None:
    with ThreadPoolExecutor(1) as pool, atomic_folder(folder) as new:
        shutil.copytree(folder, new, dirs_exist_ok=True)
        hidden = folder.rename(folder.with_name("hidden"))
        load = pool.submit(Pretrained.load, folder)
        with pytest.raises(TimeoutError):
            load.result(timeout=0.05)
        hidden.rename(folder)
        assert load.result().digest() == pretrained.digest()


def test_a_loaded_model_does_not_depend_on_its_file(pretrained: Pretrained, folder: Path) -> None:
    """If the weights were a map of the file, reading them would end the process."""
    loaded = Pretrained.load(folder)
    os.truncate(folder / "model.safetensors", 0)
    assert loaded.digest() == pretrained.digest()


@pytest.mark.parametrize("value", [1e300, 3.4e38, 1e13, torch.inf])
def test_weights_that_overflow_are_refused(folder: Path, value: float) -> None:
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["forward.rnn.weight_hh_l0"] = weights["forward.rnn.weight_hh_l0"].double().fill_(value)
    safetensors.torch.save_file(weights, path)
    with pytest.raises(CharEmbedError, match=r"forward.rnn.weight_hh_l0 has values that are NaN, infinite or larger"):
        Pretrained.load(folder)


@pytest.mark.parametrize("layers", [100, 20_000, 10**9])
def test_layers_without_weights_are_refused_before_they_are_built(folder: Path, layers: int) -> None:
    architecture = json.loads((folder / "config.json").read_text())["architecture"]
    edit_config(folder, architecture=architecture | {"num_layers": layers})
    with pytest.raises(CharEmbedError, match=r"states 100 layers, but .* has 12 tensors|must be a whole number"):
        Pretrained.load(folder)
