"""Find the folder of a model by its name: a bundled model, a local folder or a repository on the Hugging Face Hub."""

from __future__ import annotations

import importlib
import importlib.resources
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.pretrained.model_files import FILES
from charembed.util.files import user_path
from charembed.util.remote_folder import get_folder
from charembed.util.shared_folder import is_address

SCHEME = "hf://"
BUNDLED_MODELS = Path(str(importlib.resources.files("charembed.pretrained").joinpath("models")))
"""Folder of the models that are part of this package."""
_CONNECTION_ERRORS = {
    "requests": ("ConnectionError", "Timeout"),  # before 1.0
    "httpx": ("TransportError",),  # since 1.0
    "httpx2": ("TransportError",),  # since 2.0
}
_ADDRESS = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+?)(?:@(?P<revision>[^@]+))?/?")


def bundled_models() -> list[str]:
    """Return the names of the models that are part of this package."""
    return sorted(config.parent.name for config in BUNDLED_MODELS.glob("*/config.json"))


def resolve_folder(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a model; a local folder need not exist.

    Only names with `://` are looked up elsewhere, so a mistyped path never causes a network request. With
    the environment variable HF_HUB_OFFLINE=1, models are taken from the local cache and no request is made.

    Args:
        name: a path; the name of a bundled model, unless a local folder of the same name contains a model;
            `hf://owner/name` or `hf://owner/name@revision`; or an address to which the folder was copied, such as
            `s3://bucket/runs/mine/best`.

    Raises:
        CharEmbedError: the Hub has no such model, denies access to it or cannot be reached.
    """
    if isinstance(name, str) and is_address(name):
        return fetch(name, FILES)
    path = user_path(name)
    # A folder without a model does not hide a bundled one: the run of a model named en may be the folder en.
    is_bundled = isinstance(name, str) and name in bundled_models() and not (path / "config.json").is_file()
    return BUNDLED_MODELS / name if is_bundled else path


def fetch(address: str, files: Sequence[str]) -> Path:
    """Return the folder in a local cache that holds the files of a folder at an address.

    Args:
        address: an address of the Hub, as in `download`, or one of `fsspec` that `put_folder` has copied the folder to.
        files: paths of the files in the folder. No others are downloaded: some may be unsafe to load.

    Raises:
        CharEmbedError: there is no such folder, or it cannot be read.
    """
    return download(address, files) if address.startswith(SCHEME) else get_folder(address, files)


def download(address: str, files: Sequence[str]) -> Path:
    """Return the folder in the local cache that holds the files of a repository, after downloading what is missing.

    Args:
        address: `hf://owner/name` or `hf://owner/name@revision`.
        files: paths of the files in the repository. No others are downloaded: some may be unsafe to load.

    Raises:
        CharEmbedError: not an address, or the Hub has no such repository, denies access to it or cannot be reached.
    """
    from huggingface_hub import snapshot_download

    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise CharEmbedError(
            f"{address} is not the address of a model: expected {SCHEME}owner/name or {SCHEME}owner/name@revision"
        )
    with _hub_errors(address):
        return Path(snapshot_download(match["repo"], revision=match["revision"], allow_patterns=[*files]))


def model_not_found(name: str | os.PathLike[str]) -> CharEmbedError:
    """Return the error for a name that is neither a folder nor a bundled model."""
    return CharEmbedError(
        f"no model '{os.fspath(name)}': there is no such folder, and the bundled models are"
        f" {', '.join(bundled_models())}."
        " Train a model with: charembed train --data.train YOUR_TEXT.txt --output FOLDER;"
        f" to load one from the Hugging Face Hub, write {SCHEME}owner/name"
    )


def upload(files: Mapping[str, bytes], repo_id: str, *, private: bool | None, message: str) -> str:
    """Commit files to a model repository on the Hub, which is created if it does not exist.

    Args:
        files: contents by file name.
        repo_id: owner/name of the repository.
        private: whether a new repository is private; None leaves it to the owner's settings.
        message: commit message.

    Returns:
        URL of the commit.

    Raises:
        CharEmbedError: the Hub refuses the request or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    with _hub_errors(SCHEME + repo_id):
        api = HfApi()
        # The Hub returns the full id, including the owner if only a name was given.
        full_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        return str(api.create_commit(full_id, operations, commit_message=message).commit_url)


@contextmanager
def _hub_errors(address: str) -> Iterator[None]:
    """Raise the errors of `huggingface_hub` as `CharEmbedError`, with the address, the cause and a remedy."""
    from huggingface_hub.utils import HFValidationError  # type: ignore[attr-defined]

    # HTTP errors and those of the cache derive from OSError; a failed upload of a large file is a RuntimeError.
    handled: tuple[type[Exception], ...] = (OSError, RuntimeError, HFValidationError, *_connection_errors())
    try:
        yield
    except handled as error:
        raise CharEmbedError(f"{address}: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    """Return the cause and the remedy of an error of `huggingface_hub`, in one line."""
    from huggingface_hub import constants

    # This module has all of them in every release since 0.23, huggingface_hub.errors only in later ones.
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE:
            return "not in the local cache, and HF_HUB_OFFLINE is set: unset it to download the model"
        # The library looks into the cache whenever a request fails, so the reason is in the error before this one.
        cause = error.__cause__
        reason = _explain(cause) if isinstance(cause, HfHubHTTPError) else "the Hub cannot be reached"
        return f"not in the local cache, and {reason}"
    if isinstance(error, OfflineModeIsEnabled):
        return "the Hub cannot be reached because HF_HUB_OFFLINE is set: unset it"
    if isinstance(error, GatedRepoError):  # a subclass of RepositoryNotFoundError
        return (
            "access to this repository is restricted: request access on its page, then log in with `hf auth login` or"
            " set HF_TOKEN"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            "the Hub has no such repository, or it is private: check the name, or log in with `hf auth login` or set"
            " HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision: name an existing branch, tag or commit after the @"
    if isinstance(error, HfHubHTTPError):
        # The Hub's own message says more than the library's, which begins with the request's id and URL.
        status = getattr(error.response, "status_code", "error")
        return f"the Hub refused the request (HTTP {status}): {_first_line(error.server_message or str(error))}"
    if isinstance(error, _connection_errors()):
        return "the Hub cannot be reached"
    return _first_line(str(error)) or type(error).__name__


def _connection_errors() -> tuple[type[Exception], ...]:
    """Return the errors for failed connections of the HTTP libraries that `huggingface_hub` has used so far."""
    errors: list[type[Exception]] = []
    for library, names in _CONNECTION_ERRORS.items():
        with suppress(ImportError):
            module = importlib.import_module(library)
            errors += [getattr(module, name) for name in names]
    return tuple(errors)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
