"""The road has one direction: embedding imports no training code, the core no optional package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import charembed
from charembed.errors import MissingExtraError, import_extra


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_front_door_is_small_and_quick() -> None:
    loaded = modules_after("import charembed")
    assert not {"torch", "numpy", "tokenizers"} & loaded


@pytest.mark.parametrize("name", charembed.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(charembed, name)
    assert name == "__version__" or thing.__doc__


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'CharEmbeder'"):
        _ = charembed.CharEmbeder


def test_embedding_imports_no_training_code() -> None:
    loaded = modules_after("from charembed import CharEmbedder")
    packages = {name.split(".")[1] for name in loaded if name.startswith("charembed.")}
    assert not packages & {"cli", "dataset", "training"}, packages
    assert "jsonargparse" not in loaded


OPTIONAL = {"flair", "spacy", "sklearn", "onnx", "onnxruntime", "datasets", "pyarrow", "tensorboard", "transformers"}


def test_training_and_the_command_line_import_no_optional_package() -> None:
    assert not OPTIONAL & modules_after(
        "import charembed.cli.main, charembed.training.train, charembed.output\n"
        "import charembed.embedding.neighbors, charembed.embedding.word_encoder"
    )


def test_a_missing_extra_says_how_to_install_it() -> None:
    with pytest.raises(MissingExtraError, match=r"reading it needs absent_package: pip install 'charembed\[train\]'"):
        import_extra("absent_package.sub", extra="train", purpose="reading it")


@pytest.mark.parametrize(
    ("package", "extra", "statement", "purpose"),
    [
        ("flair", "flair", "import charembed.integrations.flair", "charembed.integrations.flair"),
        ("spacy", "spacy", "import charembed.integrations.spacy", "charembed.integrations.spacy"),
        ("sklearn", "sklearn", "import charembed.integrations.sklearn", "charembed.integrations.sklearn"),
        (
            "onnxruntime",
            "onnx",
            "from charembed.integrations.onnx import *; export_onnx(None, 'out')",
            "exporting to ONNX",
        ),
        ("onnx", "onnx", "from charembed.integrations.onnx import *; export_onnx(None, 'out')", "exporting to ONNX"),
    ],
)
def test_what_needs_an_extra_says_so(package: str, extra: str, statement: str, purpose: str) -> None:
    code = f"import sys; sys.modules['{package}'] = None\n{statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"{purpose} needs {package}: pip install 'charembed[{extra}]'" in done.stderr
