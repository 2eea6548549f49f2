"""The commands, as a user runs them."""

from __future__ import annotations

import logging
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import EXCERPT, ROOT, needs

from charembed import CharEmbedder
from charembed.cli.main import main
from charembed.pretrained.model_folder import Pretrained
from charembed.training.result import TrainResult
from charembed.version import __version__

SMALL = ["--model.hidden_size", "16", "--batch_size", "4", "--seq_len", "16", "--budget.steps", "4", "--words", "none"]


@needs("onnx")
@needs("pyarrow")
def test_from_training_to_neighbors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def charembed(*arguments: str | Path) -> tuple[str, str]:
        """Run a command, and return what it prints and what it logs."""
        caplog.clear()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert status == 0, err
        return out, caplog.text

    caplog.set_level(logging.INFO)

    out = tmp_path / "run"
    trained, log = charembed("train", "--data.train", EXCERPT, "--output", out, *SMALL)
    assert re.search(r"bits per character, best +→ \d\.\d{4} ← \d\.\d{4}", trained)
    assert charembed("report", out)[0].splitlines()[1:] == trained.splitlines()[1:]
    assert "characters to train on" in log
    model = out / "best"
    text = tmp_path / "text.txt"
    text.write_text("George Washington went home.\n\nHe slept.\n")
    embedded, _ = charembed("embed", "--model", model, text, "-o", tmp_path / "vectors")
    assert "8 words in 1 file, 32 dimensions" in embedded
    assert np.load(tmp_path / "vectors" / "part-00000.npz")["vector"].shape == (8, 32)
    options = [
        "--precision",
        "int8",
        "--format",
        "parquet",
        "--dtype",
        "float16",
        "--dim",
        "4",
        "--context-sentences",
        "1",
    ]
    small, log = charembed("embed", "--model", model, text, "-o", tmp_path / "small", *options)
    assert "8 words in 1 file, 4 dimensions" in small
    assert "engine='onnx', precision='int8'" in log
    assert "41 characters" in charembed("evaluate", "--model", model, text)[0]
    generated, _ = charembed("generate", "--model", model, "--prompt", "The ", "--characters", "20", "--seed", "1")
    assert generated.startswith("The ")
    assert len(generated) == len("The ") + 20 + 1
    near, _ = charembed("neighbors", "--model", model, text, "--sentence", "He went", "--word", "went", "--count", "3")
    assert len(near.splitlines()) == 3


def test_embed_writes_the_parts_that_are_asked_for(with_words, tmp_path: Path, capsys) -> None:
    with_words.save(tmp_path / "model")
    text = tmp_path / "text.txt"
    text.write_text("The lazy dog\n")
    arguments = ["embed", "--model", str(tmp_path / "model"), str(text), "-o", str(tmp_path / "vectors"), "--parts"]
    assert main([*arguments, "words,backward"]) == 0
    assert "3 words in 1 file, 16 dimensions" in capsys.readouterr().out
    vectors = np.load(tmp_path / "vectors" / "part-00000.npz")["vector"]
    expected = CharEmbedder(with_words).embed(["The lazy dog"])[0].vectors
    np.testing.assert_allclose(vectors, expected[:, 12:], atol=1e-5)
    assert main([*arguments, "forward"]) == 2
    assert "made with parts backward,words, not forward" in capsys.readouterr().err
    for wrong in ("", "word", "words,,forward"):
        assert main([*arguments, wrong]) == 2
        assert "parts must be one or several of forward, backward, words" in capsys.readouterr().err


def test_a_projection_is_added_and_used(pretrained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, reduced = str(tmp_path / "model"), str(tmp_path / "reduced")
    pretrained.save(model)
    options = ["--dim", "8", "--readout", "separator", "--dtype", "float16"]
    assert main(["add-projection", "--model", model, str(EXCERPT), "--output", reduced, *options]) == 0
    printed = capsys.readouterr().out
    assert re.fullmatch(
        rf"{reduced}: a projection from 24 to 8 dimensions, which keeps \d\d\.\d% of the variance\n", printed
    )
    stored = Pretrained.load(reduced)
    assert (stored.readout, stored.projection.readout, stored.projection.dim) == ("separator", "separator", 8)
    text = tmp_path / "text.txt"
    text.write_text("too few words to fit\n")
    assert main(["embed", "--model", reduced, str(text), "-o", str(tmp_path / "vectors"), "--dim", "5"]) == 0
    assert "5 words in 1 file, 5 dimensions" in capsys.readouterr().out
    vectors = np.load(tmp_path / "vectors" / "part-00000.npz")["vector"]
    expected = CharEmbedder(stored, dim=5).embed(["too few words to fit"])[0].vectors
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    # A mistake is noticed before any text is read, and leaves the folder as it is.
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    assert main(["add-projection", "-m", model, "absent", "--dim", "8", "-o", str(tmp_path / "notes")]) == 2
    assert "notes holds a.txt, which would be lost" in capsys.readouterr().err


def test_evaluate_and_training_measure_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "valid.txt"
    text.write_text(EXCERPT.read_text(encoding="utf-8")[:30_000], encoding="utf-8")
    paths = ["--data.train", str(EXCERPT), "--data.valid", str(text), "--output", str(tmp_path / "out")]
    assert main(["train", *paths, *SMALL]) == 0
    measured = Pretrained.load(tmp_path / "out" / "last").provenance["bits_per_character"]
    capsys.readouterr()
    assert main(["evaluate", "--model", str(tmp_path / "out" / "last"), str(text)]) == 0
    printed = capsys.readouterr().out
    for direction in ("forward", "backward"):
        assert re.search(rf"{direction} +{measured[direction]:.4f} bits", printed), printed


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs").glob("*.yaml")))
def test_configurations_run(name: str, tmp_path: Path) -> None:
    short = ["--budget", "{steps: 2}", "--output", str(tmp_path / "out")]
    if "\ninit:" not in (ROOT / "configs" / name).read_text(encoding="utf-8"):  # whose architecture would be kept
        short += ["--model.hidden_size", "8"]
    # The default batch would take 8,192 characters a step, and a model that is continued is not small.
    short += ["--batch_size", "2", "--seq_len", "16", "--validations", "1"]
    text = tmp_path / "text.txt"
    text.write_text(EXCERPT.read_text(encoding="utf-8")[:30_000], encoding="utf-8")
    data = ["--data.train", str(text), "--data.valid", "null"]
    assert main(["train", "--config", str(ROOT / "configs" / name), *data, *short]) == 0


def test_command_line_overrides_configuration(tmp_path: Path) -> None:
    config = {"output": "elsewhere", "data": {"train": str(EXCERPT)}, "model": {"hidden_size": 8, "embedding_dim": 4}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["train", "--config", str(path), "--output", str(tmp_path / "out"), *SMALL]) == 0
    architecture = Pretrained.load(tmp_path / "out" / "best").model.config
    assert (architecture.hidden_size, architecture.embedding_dim) == (16, 4)


def test_a_budget_in_steps_has_no_minutes(tmp_path: Path) -> None:
    assert main(["train", "--data.train", str(EXCERPT), "--output", str(tmp_path / "out"), *SMALL]) == 0
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert saved["budget"] == {"minutes": None, "steps": 4, "epochs": None}


def test_the_configuration_of_a_run_can_be_run_again(run: TrainResult, tmp_path: Path) -> None:
    again = ["--output", str(tmp_path / "out"), "--budget.steps", "2", "--model.hidden_size", "8"]
    assert main(["train", "--config", str(run.folder / "config.yaml"), *again]) == 0


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("model: {hidden: 8}", "hidden"),
        ("model: {hidden_size: wide}", "hidden_size"),
        ("batch_sise: 8", "batch_sise"),
        ("budget: {minutes: [1]}", "minutes"),
        ("model: {cell: lstn}", "cell"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused_by_name(
    tmp_path: Path, config: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"output: out\ndata: {{train: {EXCERPT}}}\n{config}\n")
    with pytest.raises(SystemExit) as ended:
        main(["train", "--config", str(path)])
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data.train", "absent.txt", "--output", "out"], "absent.txt: no such file or folder"),
        (
            ["train", "--data.train", str(EXCERPT), "--output", "out", "--model.hidden_size", "0"],
            "hidden_size must be a whole number from 1 to 65536, got 0",
        ),
        (
            ["train", "--data.train", str(EXCERPT), "--output", "out", "--batch_size", "99999"],
            "too small for the batch",
        ),
        (["embed", "--model", "absent", str(EXCERPT), "-o", "x"], "no model 'absent'"),
        (["embed", "--model", "absent", str(EXCERPT), "-o", "x", "--dim", "8", "--projection", "y"], "one of the two"),
        (["add-projection", "--model", "absent", str(EXCERPT), "-o", "x", "--dim", "8"], "no model 'absent'"),
        (["add-projection", "--model", "en", str(EXCERPT), "-o", "x", "--dim", "1408"], "dim must be from 1 to 1407"),
        (["evaluate", "--model", "absent", str(EXCERPT)], "no model 'absent'"),
        (["generate", "--model", "absent"], "no model 'absent'"),
        (["train", "--data.train", "", "--output", "out"], "the name of a file or folder is empty"),
        (["train", "--data.train", str(EXCERPT), "--output", "out", "--device", "cuda:99"], "cannot be used"),
    ],
)
def test_bad_input_gives_one_line_and_writes_nothing(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.splitlines()[-1].startswith("charembed: error: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("embed --model model in.txt -o pipe", "output pipe is a device, pipe or socket: name a folder"),
        ("embed --model model in.txt -o in.txt/out", "in.txt/out cannot be created: in.txt is a file: name a folder"),
        ("embed --model model in.txt -o in.txt", "output in.txt is a file: name a folder"),
        ("train --data.train absent --output pipe", "output pipe is a device, pipe or socket: name a folder"),
        ("train --data.train absent --output in.txt/out", "cannot be created: in.txt is a file: name a folder"),
        ("tag train --train absent --output pipe", "pipe is a device, pipe or socket: name a folder"),
        pytest.param(
            "export-onnx --model model pipe", "pipe is a device, pipe or socket: name a folder", marks=needs("onnx")
        ),
        pytest.param("export-onnx --model model in.txt/out", "in.txt is a file: name a folder", marks=needs("onnx")),
        ("import-flair absent absent pipe", "pipe is a device, pipe or socket: name a folder"),
        ("add-words --model absent --words absent -o pipe", "pipe is a device, pipe or socket: name a folder"),
        ("add-projection --model absent in.txt --dim 2 -o pipe", "pipe is a device, pipe or socket: name a folder"),
        pytest.param(
            "neighbors --model model in.txt --sentence a --word a --index pipe",
            "pipe or socket: name a folder",
            marks=needs("usearch"),
        ),
        ("tag predict absent in.txt -o pipe.jsonl", "output pipe.jsonl is a device, pipe or socket: name a regular"),
        ("probe --models [absent] --train absent --output pipe", "pipe is a device, pipe or socket: name a regular"),
        ("report absent --html pipe", "output pipe is a device, pipe or socket: name a regular file"),
        ("report absent --svg pipe", "output pipe is a device, pipe or socket: name a folder"),
        ("report absent --png in.txt/out", "output in.txt/out cannot be created: in.txt is a file: name a folder"),
    ],
)
def test_an_output_that_is_something_else_is_refused_before_the_work(
    command: str,
    message: str,
    pretrained: Pretrained,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    pretrained.save("model")
    Path("in.txt").write_text("a fox")
    pipes = [Path("pipe"), Path("pipe.jsonl")]
    for pipe in pipes:
        os.mkfifo(pipe)
    before = sorted(tmp_path.iterdir())
    assert main(command.split()) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert all(pipe.is_fifo() for pipe in pipes)


def test_wrong_numbers_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["generate", "--model", "m", "--characters", "-3"], ["train", "--data", str(EXCERPT) + ".xz"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert arguments[-2].lstrip("-") in capsys.readouterr().err


def test_a_compressed_file_is_not_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt.xz").write_bytes(lzma.compress(b"text"))
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--data", str(tmp_path / "text.txt.xz"), "--output", "out"])
    assert "a configuration file is not UTF-8 text" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")  # nobody ever writes to it
    for option in ("--config", "--data", "--model"):
        with pytest.raises(SystemExit, match="2"):
            main(["train", option, str(tmp_path / "pipe")])
        assert f"error: {tmp_path / 'pipe'} is not a regular file" in capsys.readouterr().err


def test_a_closed_pipe_is_not_an_error(run: TrainResult) -> None:
    command = [sys.executable, "-m", "charembed", "generate", "--model", str(run.folder / "best"), "--seed", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert f"charembed {__version__}\n" == capsys.readouterr().out


def test_report_shows_the_runs_among_other_folders(
    tmp_path: Path, run: TrainResult, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no_run").mkdir()
    assert main(["report", str(tmp_path / "no_run"), str(run.folder)]) == 0
    out, err = capsys.readouterr()
    assert str(run.folder) in out
    assert f"left out: {tmp_path / 'no_run'} has no report.json" in err
    assert main(["report", str(tmp_path / "no_run")]) == 2


def test_standard_input_is_a_file(
    pretrained: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained.save(tmp_path / "model")
    (tmp_path / "text.txt").write_text("The lazy dog.\n" * 50)
    with (tmp_path / "text.txt").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert main(["evaluate", "--model", str(tmp_path / "model"), "-"]) == 0
    assert "701 characters" in capsys.readouterr().out
