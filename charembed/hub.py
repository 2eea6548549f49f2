"""Receives the name of a model; hands on its folder, from the Hugging Face Hub where the name says so."""

from __future__ import annotations

import os
import re
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.paths import user_path

SCHEME = "hf://"
_URL = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+?)(?:@(?P<revision>[^@]+))?/?")


def found_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of a model.

    The Hub is asked only for names that begin with `hf://`: a mistyped path never leaves the machine. With the
    environment variable HF_HUB_OFFLINE=1 what has been downloaded before is used, and nothing is asked.

    Args:
        name: a path, or `hf://owner/name` or `hf://owner/name@revision`.

    Raises:
        CharEmbedError: the Hub has no such model, will not give it, or cannot be reached.
    """
    if not isinstance(name, str) or not name.startswith(SCHEME):
        return user_path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    match = _URL.fullmatch(name)
    if match is None:
        raise CharEmbedError(f"{name} names no model: expected {SCHEME}owner/name or {SCHEME}owner/name@revision")
    try:
        patterns = ["config.json", "tokenizer.json", "model.safetensors", "README.md"]
        return Path(snapshot_download(match["repo"], revision=match["revision"], allow_patterns=patterns))
    except LocalEntryNotFoundError as error:
        raise CharEmbedError(f"{name} has not been downloaded before, and the Hub cannot be reached") from error
    except (HFValidationError, OSError) as error:  # all that the Hub answers with is an OSError
        raise CharEmbedError(f"{name}: {_first_line(error)}") from error


def upload(folder: Path, repo_id: str, *, private: bool | None, message: str) -> str:
    """Put a folder on the Hub, whose repository is made where there is none.

    Returns:
        Its address.

    Raises:
        CharEmbedError: the Hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        api = HfApi()
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message))
    except (HFValidationError, OSError) as error:
        raise CharEmbedError(f"{SCHEME}{repo_id}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
