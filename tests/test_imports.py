"""Public names and imports: names are lazy, embedding loads no training code, the core needs no optional package."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fresh_process import run_python
from helpers import OPTIONAL_PACKAGES

import charembed
from charembed.errors import MissingExtraError, import_extra


def modules_after(statement: str) -> set[str]:
    """Return the names of the modules that a new process has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def packages_of(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if name.startswith("charembed.")}


def test_import_is_quick() -> None:
    loaded = modules_after("import charembed; dir(charembed)")
    assert not {"torch", "numpy", "tokenizers"} & loaded


@pytest.mark.parametrize("name", charembed.__all__)
def test_every_public_name_is_importable_documented_and_listed(name: str) -> None:
    assert name in dir(charembed)
    if name == "__version__":
        return
    value = getattr(charembed, name)
    assert value.__name__ == name
    # A docstring of its own: dataclasses without one get their signature as docstring.
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}(")


def test_every_public_name_is_lazy() -> None:
    assert set(charembed.__all__) == {*charembed._MODULES, "__version__"}
    assert charembed.__all__ == sorted(charembed.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'CharEmbeder'"):
        _ = charembed.CharEmbeder


def test_embedding_imports_no_training_code() -> None:
    names = "CharEmbedder, Context, Corpus, Pretrained, WordEmbeddings, WordEncoder, join, write_embeddings"
    loaded = modules_after(f"from charembed import {names}\nCharEmbedder.from_pretrained().embed(['A text.'])")
    assert not packages_of(loaded) & {"cli", "dataset", "training"}
    assert "jsonargparse" not in loaded


def test_loading_models_does_not_import_the_compiler_of_pytorch() -> None:
    """Its import takes seconds."""
    code = "from charembed.tagging.tagger import Tagger; Tagger.load('en-ner')"
    done = run_python(f"{code}\nimport sys; print('torch._dynamo' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_training_and_the_command_line_import_no_optional_package() -> None:
    assert not OPTIONAL_PACKAGES & modules_after(
        "import charembed.cli.main, charembed.training.train, charembed.output\n"
        "import charembed.embedding.neighbors, charembed.embedding.word_encoder"
    )


ELSEWHERE = """
import os, signal, sys, warnings
from importlib import import_module
from pkgutil import walk_packages
import filelock, torch  # what others do on this system is their affair
for name in [name for name in sys.modules if name.split(".")[0] == "charembed"]:
    del sys.modules[name]
hidden = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
sys.modules.update(dict.fromkeys(hidden))
portable = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM"}
for name in set(signal.Signals.__members__) - portable:
    delattr(signal, name)
for name in ("O_DIRECTORY", "fork", "getuid", "mkfifo", "register_at_fork", "sched_getaffinity", "sysconf"):
    delattr(os, name)
import charembed
for module in walk_packages(charembed.__path__, "charembed."):
    try:
        if module.name != "charembed.__main__":
            import_module(module.name)
    except ImportError as error:  # an extra is not installed
        if error.name in hidden:
            raise
from charembed import CharEmbedder
print(CharEmbedder.from_pretrained("en").embed(["A text."])[0].vectors.shape)
"""


@pytest.mark.slow
def test_every_module_works_without_what_only_unix_has() -> None:
    done = run_python(ELSEWHERE)
    assert done.stdout == "(3, 1408)\n", done.stderr


def test_missing_extra_names_the_command_that_installs_it() -> None:
    with pytest.raises(MissingExtraError, match=r"reading it needs absent_package: pip install 'charembed\[train\]'"):
        import_extra("absent_package.sub", extra="train", purpose="reading it")


EXPORT = "from charembed.integrations.onnx import *; export_onnx(None, 'out')"


@pytest.mark.parametrize(
    ("package", "extra", "statement", "purpose"),
    [
        ("flair", "flair", "import charembed.integrations.flair", "charembed.integrations.flair"),
        ("spacy", "spacy", "import charembed.integrations.spacy", "charembed.integrations.spacy"),
        ("sklearn", "sklearn", "import charembed.integrations.sklearn", "charembed.integrations.sklearn"),
        ("onnxruntime", "onnx", EXPORT, "exporting to ONNX"),
        ("onnx", "onnx", EXPORT, "exporting to ONNX"),
    ],
)
def test_integration_without_its_package_names_the_extra(
    package: str, extra: str, statement: str, purpose: str
) -> None:
    if statement is EXPORT:  # names the first of two that is missing
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    code = f"import sys; sys.modules['{package}'] = None\n{statement}"
    assert f"{purpose} needs {package}: pip install 'charembed[{extra}]'" in run_python(code).stderr
