"""Receives the name of a model; hands on its folder: one that comes along, or from the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.util.files import user_path

SCHEME = "hf://"
BUNDLED_MODELS = Path(__file__).parent / "models"
"""The folder of the models that are part of this package."""
MODEL_HELP = f"a model that comes along, such as en; the folder of one; or {SCHEME}owner/name"
_URL = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+?)(?:@(?P<revision>[^@]+))?/?")


def bundled_models() -> list[str]:
    """Names of the models that are part of this package."""
    return sorted(config.parent.name for config in BUNDLED_MODELS.glob("*/config.json"))


def resolve_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of a model, which may not be there.

    The Hub is asked only for names that begin with `hf://`: a mistyped path never leaves the machine. With the
    environment variable HF_HUB_OFFLINE=1 what has been downloaded before is used, and nothing is asked.

    Args:
        name: a path; the name of a model that comes along, unless a folder of this name holds a model; or
            `hf://owner/name` or `hf://owner/name@revision`.

    Raises:
        CharEmbedError: the Hub has no such model, will not give it, or cannot be reached.
    """
    if not isinstance(name, str) or not name.startswith(SCHEME):
        path = user_path(name)
        is_name = isinstance(name, str) and name in bundled_models() and not (path / "config.json").is_file()
        return BUNDLED_MODELS / path if is_name else path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    match = _URL.fullmatch(name)
    if match is None:
        raise CharEmbedError(f"{name} names no model: expected {SCHEME}owner/name or {SCHEME}owner/name@revision")
    try:
        patterns = ["config.json", "tokenizer.json", "model.safetensors", "README.md"]
        return Path(snapshot_download(match["repo"], revision=match["revision"], allow_patterns=patterns))
    except LocalEntryNotFoundError as error:
        raise CharEmbedError(f"{name} has not been downloaded before, and the Hub cannot be reached") from error
    except Exception as error:  # of a kind that depends on the client's version
        raise CharEmbedError(f"{name}: {_said(error)}") from error


def model_not_found(name: str | os.PathLike[str]) -> CharEmbedError:
    """The error of a name that no folder has."""
    return CharEmbedError(
        f"no model '{os.fspath(name)}': no folder has this name; models that come along:"
        f" {', '.join(bundled_models())}."
        " Train one: charembed train --data.train YOUR_TEXT.txt --output FOLDER;"
        f" one on the Hugging Face Hub is {SCHEME}owner/name"
    )


def upload(files: Mapping[str, bytes], repo_id: str, *, private: bool | None, message: str) -> str:
    """Put files on the Hub, whose repository is made where there is none.

    Args:
        files: content by name.
        repo_id: owner/name.
        private: whether a new repository is.
        message: of the change.

    Returns:
        The address of the change.

    Raises:
        CharEmbedError: the Hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    try:
        api = HfApi()
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        added = [CommitOperationAdd(name, content) for name, content in files.items()]
        return str(api.create_commit(repo_id, added, commit_message=message).commit_url)
    except Exception as error:  # of a kind that depends on the client's version
        raise CharEmbedError(f"{SCHEME}{repo_id}: {_said(error)}") from error


def _said(error: Exception) -> str:
    """What an error of the Hub's client says, in one line."""
    if type(error).__name__ in ("ConnectionError", "ConnectError", "ConnectTimeout", "ProxyError", "SSLError"):
        return "the Hub cannot be reached"
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
