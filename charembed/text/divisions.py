"""Recognize folders that are divided into training, validation and test text."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.text.folders import FOLDER_SUFFIXES
from charembed.text.opening import format_suffix
from charembed.util.files import user_path

_TRAIN, _VALID, _TEST = ("train", "training"), ("valid", "validation", "val", "dev"), ("test",)
_SHARD = re.compile(r"-\d+-of-\d+")


def check_not_divided(names: str | list[str], validated_on: Collection[Path] = ()) -> None:
    """Refuse a folder that holds training text and other parts, such as test text, which nobody wants to train on.

    The parts are files or folders called train, valid (or dev) and test, as in corpora of Flair and of the Hugging Face
    Hub. They may be one folder below.

    Args:
        names: names of training text.
        validated_on: files of the validation text, which are not trained on anyway.

    Raises:
        CharEmbedError: a folder is divided.
    """
    left_out = {place for file in validated_on for place in (file.resolve(), *file.resolve().parents)}
    for name in [names] if isinstance(names, str) else names:
        folder = user_path(name)
        if folder.is_dir():
            for candidate in (folder, *(path for path in _visible(folder) if path.is_dir())):
                _check_folder(candidate, name, left_out)


def _check_folder(folder: Path, name: str, left_out: Collection[Path]) -> None:
    train, valid, test = (_parts(folder, part) for part in (_TRAIN, _VALID, _TEST))
    if not train or all(path.resolve() in left_out for path in (*valid, *test)):
        return
    advice = [f"train on {_names(train)}"]
    if valid:
        advice.append(f"validate on {_names(valid)}")
    if test:
        advice.append(f"keep {_names(test)} for charembed evaluate")
    parts = ", ".join(advice[:-1]) + f"{',' if len(advice) > 2 else ''} and {advice[-1]}"
    raise CharEmbedError(f"{name} is divided into training, validation and test text: {parts}")


def _parts(folder: Path, stems: Collection[str]) -> list[Path]:
    """Return the folders and the text files with one of these names, which may have suffixes and a number."""
    return [
        path
        for path in _visible(folder)
        if _SHARD.sub("", path.name.lower().partition(".")[0]) in stems
        and (path.is_dir() or format_suffix(path) in FOLDER_SUFFIXES)
    ]


def _names(paths: list[Path]) -> str:
    """Return the names of parts as a user gives them: the files of a folder by a glob, whatever their suffixes."""
    return " ".join(f"'{path}/*'" if path.is_dir() else str(path) for path in paths)


def _visible(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing if it cannot be read, which reading the text reports."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
