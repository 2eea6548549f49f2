"""Taggers on the Hugging Face Hub: `huggingface_hub` against a local server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import small_model, small_static_vectors, small_tagger
from hub_server import Hub, python

from charembed import CharEmbedder, Tagger

TEXTS = ["The quick fox jumps over the lazy dog.", "東 fox"]
NOT_TAGGERS = {
    "hf://me/absent": "hf://me/absent: the Hub has no such repository, or it is private",
    "hf://me/gated": "hf://me/gated: access to this repository is restricted",
    "hf://me/model": "hf://me/model is a language model, not a tagger: train a tagger with charembed tag train",
    "hf://me/else": "hf://me/else is not a tagger: the repository has no tagger.json",
    "hf://me/part": "is not a complete tagger folder: tagger.safetensors missing",
}
"""Addresses, each with a part of its error."""


@pytest.fixture
def tagger() -> Tagger:
    """A tagger that has all files which a tagger can have."""
    return small_tagger(CharEmbedder(small_model()), static=small_static_vectors())


def test_pushed_tagger_comes_back(hub: Hub, tagger: Tagger, tmp_path: Path) -> None:
    tagger.save(tmp_path / "tagger")
    # What is in the repository in addition is not downloaded: it may be unsafe to load.
    hub.repositories["me/tagger"] = dict.fromkeys(
        ["evil.pkl", "language_model/evil.pkl"], b"cos\nsystem\n(S'true'\ntR."
    )
    code = f"""
import json
from charembed import Tagger
print(Tagger.load({str(tmp_path / "tagger")!r}).push_to_hub("hf://me/tagger"))
print(json.dumps([[text.tags, text.entities[0].score] for text in Tagger.load("hf://me/tagger").predict({TEXTS!r})]))
"""
    done = python(code, hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    commit, predicted = done.stdout.splitlines()
    assert commit.startswith(f"{hub.address}/me/tagger/")
    expected = [[text.tags, pytest.approx(text.entities[0].score, abs=1e-6)] for text in tagger.predict(TEXTS)]
    assert json.loads(predicted) == expected
    assert not [request for request in hub.requests if "evil" in request]

    # The repository has the files of the folder; only the card names another address.
    files = {name: content for name, content in hub.repositories["me/tagger"].items() if "evil" not in name}
    folder = {path.relative_to(tmp_path / "tagger").as_posix(): path for path in (tmp_path / "tagger").rglob("*.*")}
    assert files.keys() == folder.keys()
    assert 'Tagger.load("hf://me/tagger")' in files.pop("README.md").decode()
    assert all(content == folder[name].read_bytes() for name, content in files.items())


def test_what_is_no_tagger_has_a_clear_error(hub: Hub, tagger: Tagger, tmp_path: Path) -> None:
    hub.repositories["me/model"] = small_model().files()
    hub.repositories["me/else"] = {"README.md": b"something else"}
    hub.repositories["me/part"] = {"tagger.json": tagger.files().contents("auto")["tagger.json"]}
    code = f"""
from charembed import CharEmbedError, Tagger
for name in {[*NOT_TAGGERS]!r}:
    try:
        Tagger.load(name)
    except CharEmbedError as error:
        print(error)
"""
    done = python(code, hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    for error, message in zip(done.stdout.splitlines(), NOT_TAGGERS.values(), strict=True):
        assert message in error
