"""Shared fixtures and the Hypothesis profile."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import signal
import sys
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from helpers import COLUMNS, EXCERPT, OPTIONAL_PACKAGES, ROOT, small_model, small_static_vectors
from hub_server import Hub, running_hub
from hypothesis import settings

from charembed import CharEmbedder, CharLMConfig, TrainConfig, train
from charembed.errors import MissingExtraError
from charembed.pretrained.model_folder import Pretrained
from charembed.text.corpus import CorpusConfig
from charembed.training.result import TrainResult
from charembed.training.schedule import BudgetConfig, OptimizerConfig

# Their imports need the package; other tests that need one say so when they run.
_NEEDS = {
    "onnxruntime": ["integrations/test_onnx.py", "integrations/test_onnx_tagger.py", "onnx_graphs/test_onnx_graphs.py"],
    "psutil": ["training/test_distributed.py"],
    "pyarrow": ["cluster/test_cluster.py", "cluster/test_units.py", "training/test_mirror.py"],
    "sklearn": ["integrations/test_sklearn.py"],
    "spacy": ["tagging/test_doc_bin.py"],
    "sybil": ["docs/test_code_blocks.py"],
    "zstandard": ["text/test_user_files.py"],
}
collect_ignore = [file for name, files in _NEEDS.items() if not importlib.util.find_spec(name) for file in files]

# A shell that is not interactive lets what it starts in the background ignore Ctrl-C, which tests raise.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("charembed", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("charembed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """Skip a test if a fixture of it needs what is not there."""
    yield from _skip_what_cannot_run()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Skip a test that needs what is not there, so that a base installation and every system run all the others."""
    yield from _skip_what_cannot_run()


def _skip_what_cannot_run() -> Generator[None]:
    try:
        yield
    except AttributeError as error:
        # Windows has no pipes with names and no SIGKILL. Only tests may ask for them: charembed must do without.
        asked = traceback.extract_tb(error.__traceback__)[-1].filename
        if error.obj not in (os, signal) or not Path(asked).is_relative_to(ROOT / "tests"):
            raise
        pytest.skip(f"needs {error.obj.__name__}.{error.name}")
    except (MissingExtraError, ModuleNotFoundError) as error:
        missing = error.__cause__ if isinstance(error, MissingExtraError) else error
        name = str(getattr(missing, "name", "")).split(".")[0]
        # Where the package is installed, a test has hidden it, and the error is a failure.
        if name not in OPTIONAL_PACKAGES | {"resource"} or name in sys.modules or importlib.util.find_spec(name):
            raise
        pytest.skip(f"needs {name}")


@pytest.fixture
def pretrained() -> Pretrained:
    return small_model()


@pytest.fixture
def with_words(pretrained: Pretrained) -> Pretrained:
    """The same model with static vectors."""
    return dataclasses.replace(pretrained, static=small_static_vectors())


@pytest.fixture
def embedder(pretrained: Pretrained) -> CharEmbedder:
    return CharEmbedder(pretrained)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A local server that takes the place of the Hugging Face Hub."""
    with running_hub() as running:
        yield running


@pytest.fixture
def columns(tmp_path: Path) -> Path:
    """A file of labelled sentences in columns, train.conll in the temporary folder."""
    path = tmp_path / "train.conll"
    path.write_text(COLUMNS)
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A short training run on real text: 200 steps of a small model."""
    return train(
        TrainConfig(
            output=str(tmp_path_factory.mktemp("run") / "out"),
            data=CorpusConfig(train=str(EXCERPT), held_out=0.03),
            model=CharLMConfig(hidden_size=48, embedding_dim=16),
            budget=BudgetConfig(steps=200),
            optimizer=OptimizerConfig(lr=1e-2, warmup_steps=10),
            batch_size=16,
            seq_len=32,
            validations=3,
            words="none",
        )
    )
