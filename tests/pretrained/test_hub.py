"""Models on the Hugging Face Hub: `huggingface_hub` against a local server, and offline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import with_projection
from hub_server import Hub, python

from charembed import CharEmbedder, CharEmbedError
from charembed.pretrained.hub import resolve_folder
from charembed.pretrained.model_files import FILES

WORDS = ["two", "words"]


@pytest.fixture
def model(embedder, tmp_path: Path) -> Path:
    embedder.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def shared(hub: Hub, model: Path) -> Hub:
    """A hub that has the model, and next to it a file that must not be downloaded."""
    hub.repositories["me/model"] = {path.name: path.read_bytes() for path in model.iterdir()}
    hub.repositories["me/model"]["evil.pkl"] = b"cos\nsystem\n(S'true'\ntR."
    return hub


def embedding(name: str, out: Path, options: str = "") -> str:
    return f"""
import numpy as np
from charembed import CharEmbedder
np.save({str(out)!r}, CharEmbedder.from_pretrained({name!r}{options}).embed([{WORDS!r}])[0].vectors)
"""


def test_model_is_downloaded_once_and_then_available_offline(shared: Hub, embedder, tmp_path: Path) -> None:
    expected = embedder.embed([WORDS])[0].vectors
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        before = len(shared.requests)
        done = python(embedding("hf://me/model", tmp_path / "v.npy"), shared, tmp_path / "home", **environment)
        assert done.returncode == 0, done.stderr
        assert np.array_equal(np.load(tmp_path / "v.npy"), expected)
        assert (len(shared.requests) == before) is ("HF_HUB_OFFLINE" in environment)
    assert not [request for request in shared.requests if "evil" in request]


def test_static_vectors_and_projection_are_downloaded(hub: Hub, with_words, tmp_path: Path) -> None:
    pretrained = with_projection(with_words)
    hub.repositories["me/model"] = pretrained.files()
    assert hub.repositories["me/model"].keys() == set(FILES)
    done = python(embedding("hf://me/model", tmp_path / "v.npy", ", dim=3"), hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "v.npy"), CharEmbedder(pretrained, dim=3).embed([WORDS])[0].vectors)


def test_revision_is_part_of_the_address(shared: Hub, tmp_path: Path) -> None:
    commit = shared.commit("me/model")
    out = tmp_path / "v.npy"
    assert python(embedding(f"hf://me/model@{commit}", out), shared, tmp_path / "home").returncode == 0
    done = python(embedding("hf://me/model@absent", out), shared, tmp_path / "home")
    assert "CharEmbedError: hf://me/model@absent: the repository has no such revision" in done.stderr


def test_command_line_accepts_hub_addresses(shared: Hub, tmp_path: Path) -> None:
    code = "import sys; from charembed.cli.main import main; sys.exit(main(sys.argv[1:]))"
    code = f"import sys; sys.argv[1:] = ['generate', '--model', 'hf://me/model', '--characters', '5']\n{code}"
    done = python(code, shared, tmp_path / "home")
    assert done.returncode == 0, done.stderr


def test_static_vectors_are_uploaded_and_downloaded(hub: Hub, with_words, tmp_path: Path) -> None:
    with_words.save(tmp_path / "model")
    code = f"""
from charembed import CharEmbedder
CharEmbedder.from_pretrained({str(tmp_path / "model")!r}).push_to_hub("me/words")
"""
    done = python(code, hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "static_vectors.safetensors" in hub.repositories["me/words"]
    done = python(embedding("hf://me/words", tmp_path / "v.npy"), hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "v.npy"), CharEmbedder(with_words).embed([WORDS])[0].vectors)


def test_pushed_model_can_be_downloaded(hub: Hub, model: Path, embedder, tmp_path: Path) -> None:
    code = f"""
from charembed import CharEmbedder
print(CharEmbedder.from_pretrained({str(model)!r}).push_to_hub("me/new", private=True))
"""
    done = python(code, hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{hub.address}/me/new/")
    files = hub.repositories["me/new"]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    card = files["README.md"].decode()
    assert 'from_pretrained("hf://me/new")' in card
    assert "| seed | 3 |" in card
    assert files["model.safetensors"] == (model / "model.safetensors").read_bytes()
    done = python(embedding("hf://me/new", tmp_path / "v.npy"), hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "v.npy"), embedder.embed([WORDS])[0].vectors)


@pytest.mark.parametrize(
    ("name", "environment", "message"),
    [
        ("hf://me/absent", {}, "hf://me/absent: the Hub has no such repository, or it is private"),
        ("hf://me/gated", {}, "hf://me/gated: access to this repository is restricted"),
        ("hf://me/broken", {}, "hf://me/broken: not in the local cache, and the Hub refused the request (HTTP 500)"),
        ("hf://me/absent", {"HF_HUB_OFFLINE": "1"}, "not in the local cache, and HF_HUB_OFFLINE is set: unset it"),
        (
            "hf://me/model",
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "not in the local cache, and the Hub cannot be reached",
        ),
        ("hf://me/m ine", {}, "hf://me/m ine: Repo id must use alphanumeric chars"),
    ],
)
def test_failed_download_has_a_clear_error(
    name: str, environment: dict[str, str], message: str, shared: Hub, tmp_path: Path
) -> None:
    done = python(embedding(name, tmp_path / "v.npy"), shared, tmp_path / "home", **environment)
    assert done.returncode != 0
    assert "CharEmbedError: " in done.stderr
    assert message in done.stderr


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "hf://me/forbidden: the Hub refused the request (HTTP 403): "),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "hf://me/forbidden: the Hub cannot be reached"),
        ({"HF_HUB_OFFLINE": "1"}, "hf://me/forbidden: the Hub cannot be reached because HF_HUB_OFFLINE is set"),
    ],
)
def test_failed_upload_has_a_clear_error(
    environment: dict[str, str], message: str, hub: Hub, model: Path, tmp_path: Path
) -> None:
    code = f"""
from charembed import CharEmbedder
CharEmbedder.from_pretrained({str(model)!r}).push_to_hub("me/forbidden")
"""
    done = python(code, hub, tmp_path / "home", **environment)
    assert f"CharEmbedError: {message}" in done.stderr


def test_damaged_model_on_the_hub_is_reported(shared: Hub, tmp_path: Path) -> None:
    shared.repositories["me/model"]["config.json"] = b"{}"
    done = python(embedding("hf://me/model", tmp_path / "v.npy"), shared, tmp_path / "home")
    assert "is not the config.json of a charembed model" in done.stderr
    del shared.repositories["me/model"]["model.safetensors"]
    done = python(embedding("hf://me/model", tmp_path / "v.npy"), shared, tmp_path / "home")
    assert "model.safetensors missing" in done.stderr


@pytest.mark.parametrize("name", ["hf://", "hf://me", "hf://me/model/more", "hf://me/model@", "hf://me/model@a@b"])
def test_malformed_addresses_are_refused(name: str) -> None:
    with pytest.raises(CharEmbedError, match="is not the address of a model: expected hf://owner/name"):
        resolve_folder(name)


def test_other_names_cause_no_request(shared: Hub, tmp_path: Path) -> None:
    done = python(embedding("me/model", tmp_path / "v.npy"), shared, tmp_path / "home")
    assert "no model 'me/model': there is no such folder" in done.stderr
    assert "hf://owner/name" in done.stderr
    assert shared.requests == []


def test_local_folders_cause_no_request(shared: Hub, model: Path, tmp_path: Path) -> None:
    code = f"""
from charembed import CharEmbedder
CharEmbedder.from_pretrained({str(model)!r}).save_pretrained({str(tmp_path / "again")!r})
"""
    assert python(code, shared, tmp_path / "home", HF_HUB_OFFLINE="1").returncode == 0
    assert shared.requests == []
    assert np.array_equal(
        CharEmbedder.from_pretrained(tmp_path / "again").embed([WORDS])[0].vectors,
        CharEmbedder.from_pretrained(model).embed([WORDS])[0].vectors,
    )
