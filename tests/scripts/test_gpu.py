"""The parts of `scripts/benchmarks/gpu.sh` that need no GPU: sentences, results in the output of benchmarks, table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT

from charembed.tagging.labelled_text import read_labelled
from scripts.benchmarks import gpu

OUTPUTS = {
    "tests": "...\n12 passed, 3 skipped in 20.1s",
    "recurrent": """hidden 1024

|   | training, GFLOP/s | training, relative | inference, GFLOP/s | inference, relative |
|---|---|---|---|---|
| LSTM | 60 | 0.98 | 50 | 0.97 |
| GRU | 40 | 0.61 | 30 | 0.55 |
Killed""",
    "training": "no table\nOutOfMemoryError",
    "embedding": "",
    "resume": "killed after step 80 of 400 and resumed: all 9 tensors have the same bits",
}
STATUS = {"tests": "0 21", "recurrent": "137 50", "training": "1 9", "embedding": "124 70", "resume": "0 40"}


def test_the_table_has_what_was_measured_before_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, output in OUTPUTS.items():
        (tmp_path / f"{name}.txt").write_text(output)
        (tmp_path / f"{name}.status").write_text(STATUS[name])
    gpu.table(str(tmp_path))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert rows[2:] == [
        ["tests", "ok", "21", "12 passed, 3 skipped in 20.1s"],
        ["recurrent", "out of time", "50", "LSTM: 0.98 in training and 0.97 in inference of torch.nn.LSTM"],
        ["", "", "", "GRU: 0.61 in training and 0.55 in inference of torch.nn.LSTM"],
        ["training", "failed (1)", "9", "OutOfMemoryError"],
        ["embedding", "out of time", "70", "no output"],
        ["resume", "ok", "40", OUTPUTS["resume"]],
    ]


def test_the_sentences_can_be_read_as_a_labelled_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    gpu.sentences(str(tmp_path / "sentences.conll"))
    sentences = read_labelled(tmp_path / "sentences.conll").sentences
    assert len(sentences) > 1000
    assert sentences[0].words[:2] == ["Ketoprofen,", "(RS)-2-(3-benzoylphenyl)-propionic"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_script_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": sys.executable}
    command = ["bash", str(ROOT / "scripts" / "benchmarks" / "gpu.sh"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("There is no GPU that PyTorch can use, so nothing was tested or measured.")
