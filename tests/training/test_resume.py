"""Runs that are killed or stopped resume from their last checkpoint, and end with the same bits."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from helpers import EXCERPT, assert_same_weights, flip_bit, needs_bfloat16_lstm, read_log, weights_of
from resumable_runs import (
    STEPS,
    Kill,
    assert_same_run,
    is_last_step,
    kill_in_step,
    moves_aside,
    newest_checkpoint,
    resumable,
    run_and_kill,
)

from charembed import CharEmbedError, CharLMConfig, CharVocab, train
from charembed.pretrained.model_folder import Pretrained
from charembed.report.run_page import RunData
from charembed.text.corpus import CorpusConfig
from charembed.text.vocab import VocabConfig
from charembed.training import precision
from charembed.training.checkpoint import Checkpoint, saved_checkpoints
from charembed.training.report import Report
from charembed.training.run_folder import load_report
from charembed.training.schedule import BudgetConfig
from charembed.training.trainer import Trainer


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in one piece."""
    folder = train(resumable(tmp_path_factory.mktemp("whole"))).folder
    assert newest_checkpoint(folder).state.epoch >= 2, "the run does not read the text several times"
    return folder


KILLS = {
    "in the first step": [kill_in_step(1)],
    "in steps, again and again": [kill_in_step(step) for step in (61, 45, 4)],
    "in a checkpoint, before it is renamed": [Kill("os.replace", call=5)],
    "in the second half of a checkpoint": [Kill("os.fsync", call=7)],
    "between the renames of a model": [Kill("os.replace", condition=moves_aside, after=True)],
    "in a validation": [Kill("charembed.training.model_trainer.score_all", call=3)],
    "between the last validation and the end": [
        Kill("charembed.training.trainer.Trainer._save_checkpoint", condition=is_last_step)
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kills",
    [pytest.param(kills, id=name) for name, kills in KILLS.items()],
)
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path, uninterrupted: Path, kills: list[Kill]) -> None:
    config = resumable(tmp_path, checkpoint_minutes=0.001)
    for kill in kills:
        run_and_kill(config, kill)
    result = train(config)
    assert result.interrupted is None
    assert_same_run(result.folder, uninterrupted)
    hidden = [path.name for path in result.folder.rglob(".*")]
    assert hidden == [".charembed.lock"], "temporary files are left"
    # Reports agree, except for times and what contains times; the validations were compared above.
    other = {"seconds": 0.0, "characters_per_second": 0.0, "validations": [], "best": None, "config": {}}
    report, expected = (dataclasses.replace(r, **other) for r in (result.report, Report.load(uninterrupted)))
    assert report == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_a_checkpoint(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, number: int
) -> None:
    # A signal that is ignored, as SIGHUP is under nohup, would stay ignored.
    request.addfinalizer(partial(signal.signal, number, signal.signal(number, signal.SIG_DFL)))
    config = resumable(tmp_path, checkpoint_minutes=60.0)
    original = Trainer._take_step

    def take_step(self: Trainer, spent: float) -> None:
        original(self, spent)
        if self.state.step == 77:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", take_step)
        result = train(config)
    assert result.interrupted == number
    assert result.report.state == "interrupted"
    assert result.report.steps == 77
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "the handlers are not restored"
    assert_same_run(train(config).folder, uninterrupted)


@needs_bfloat16_lstm
def test_mixed_precision_resumes_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"precision": "bfloat16", "budget": BudgetConfig(steps=40)}
    whole = train(resumable(tmp_path, output=str(tmp_path / "whole"), **options))
    original = Trainer._take_step

    def take_step(self: Trainer, spent: float) -> None:
        if self.state.step == 25:
            raise KeyboardInterrupt
        original(self, spent)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", take_step)
        with pytest.raises(KeyboardInterrupt):
            train(resumable(tmp_path, **options))
    assert_same_run(train(resumable(tmp_path, **options)).folder, whole.folder)


def test_a_run_in_bfloat16_is_not_resumed_without_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = train(resumable(tmp_path, precision="auto", budget=BudgetConfig(steps=1))).folder
    checkpoint = newest_checkpoint(folder)
    state = dataclasses.replace(checkpoint.state, precision="bfloat16")
    Checkpoint(checkpoint.tensors, state).save(folder / "checkpoints", keep=1)
    monkeypatch.setattr(precision, "runs_bfloat16_lstm", lambda _: False)
    with pytest.raises(CharEmbedError, match="was started in bfloat16, and PyTorch cannot run an LSTM in bfloat16"):
        train(resumable(tmp_path, precision="auto", budget=BudgetConfig(steps=2)))


def test_a_run_keeps_the_precision_it_was_started_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started in float32, and resumed where bfloat16 would be chosen."""
    with monkeypatch.context() as patch:
        patch.setattr(precision, "has_bfloat16_units", lambda _: False)
        train(resumable(tmp_path, precision="auto", budget=BudgetConfig(steps=1)))
    monkeypatch.setattr(precision, "has_bfloat16_units", lambda _: True)
    result = train(resumable(tmp_path, precision="auto", budget=BudgetConfig(steps=3)))
    assert result.report.steps == 3
    assert result.report.precision == "float32"


def test_the_best_model_is_never_newer_than_the_checkpoint(tmp_path: Path) -> None:
    """A validation saves a checkpoint too, even if none is due by the clock."""
    config = resumable(tmp_path, checkpoint_minutes=60.0)
    run_and_kill(config, kill_in_step(50))
    best = Pretrained.load(Path(config.output) / "best").provenance["characters_seen"]
    assert newest_checkpoint(Path(config.output)).state.step * 128 >= best > 0


def test_the_second_signal_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def take_step(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_take_step", take_step)
    with pytest.raises(KeyboardInterrupt):
        train(resumable(tmp_path))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_says_how_to_resume(tmp_path: Path, number: int, status: int) -> None:
    command = [sys.executable, "-m", "charembed", "train", "--data.train", str(EXCERPT), "--model.hidden_size", "8"]
    command += ["--output", str(tmp_path / "out"), "--budget.steps", "1000000", "--batch_size", "2"]
    command += ["--words", "none"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "out" / "log.jsonl").exists() or not (tmp_path / "out" / "log.jsonl").stat().st_size:
            if time.monotonic() > deadline:
                process.kill()  # leaving the context would wait for it
                pytest.fail("no step was logged")
            time.sleep(0.05)
        process.send_signal(number)
        assert process.stderr is not None
        errors = process.stderr.read()
    assert process.returncode == status, errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors


def test_a_finished_run_is_left_alone_and_can_be_prolonged(tmp_path: Path) -> None:
    first = train(resumable(tmp_path))
    again = train(resumable(tmp_path))
    assert again.best == first.best
    assert_same_weights(weights_of(again.folder), weights_of(first.folder))
    longer = train(resumable(tmp_path, budget=BudgetConfig(steps=150)))
    steps = [record["step"] for record in read_log(longer.folder) if record["kind"] == "valid"]
    assert steps[:5] == [22, 44, 66, 88, 110]
    assert steps[5:] == [120, 150], "the rest of the longer budget is not divided by its validations"


def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, uninterrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = resumable(tmp_path)
    run_and_kill(config, kill_in_step(76))
    paths = saved_checkpoints(Path(config.output) / "checkpoints")
    assert len(paths) == 2, "two checkpoints are kept by default"
    paths[0].write_bytes(paths[0].read_bytes()[:-1000])
    for folder in (Path(config.output), paths[0].parent):
        (folder / f".{paths[0].name}.123.tmp").touch()  # left by a killed process
    result = train(config)
    assert "trying the one before" in caplog.text
    assert_same_run(result.folder, uninterrupted)
    assert [path.name for path in result.folder.rglob(".*")] == [".charembed.lock"], "a temporary file is left"
    for path in saved_checkpoints(result.folder / "checkpoints"):
        path.write_bytes(b"nothing")
    with pytest.raises(CharEmbedError, match=r"no checkpoint in .* can be read: choose another output folder"):
        train(config)


def test_what_a_checkpoint_restores_is_aligned_in_memory(tmp_path: Path, uninterrupted: Path) -> None:
    """Products of matrices differ in the last bit where memory is not, as in a file with a header of any length."""
    whole = newest_checkpoint(uninterrupted)
    for digits in range(16):
        state = dataclasses.replace(whole.state, log_offset=10**digits)
        Checkpoint(whole.tensors, state).save(tmp_path, keep=1)
        restored = Checkpoint.load(saved_checkpoints(tmp_path)[0]).tensors
        assert {name for name, tensor in restored.items() if tensor.data_ptr() % 16} == set()


def test_a_flipped_bit_in_the_configuration_is_noticed(tmp_path: Path) -> None:
    config = resumable(tmp_path, budget=BudgetConfig(steps=1))
    path = train(config).folder / "config.yaml"
    intact = path.read_bytes()
    for bit in range(1, 8 * intact.index(b"# SHA-256"), 397):
        flip_bit(path, bit)
        with pytest.raises(CharEmbedError, match=r"config.yaml cannot be read, so the run cannot be resumed: "):
            train(config)
        path.write_bytes(intact)


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path: Path, uninterrupted: Path) -> None:
    intact = saved_checkpoints(uninterrupted / "checkpoints")[0]
    path = tmp_path / intact.name
    header = int.from_bytes(intact.read_bytes()[:8], "little")
    bits = 8 * intact.stat().st_size
    # The length of the header, the header, the first and the last tensor.
    for bit in (0, 20, 63, *range(64, 64 + 8 * header, 397), 64 + 8 * header, bits - 1):
        path.write_bytes(intact.read_bytes())
        Checkpoint.load(path)
        flip_bit(path, bit)
        with pytest.raises(CharEmbedError, match=r"cannot be read|another version of charembed, or is damaged"):
            Checkpoint.load(path)


@pytest.mark.slow
def test_a_full_disk_keeps_earlier_checkpoints(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the first checkpoint fits, later ones, which have the
    optimizer's moments, do not."""
    import resource

    config = resumable(tmp_path, model=CharLMConfig(hidden_size=64))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))\n"
        "from charembed.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "train", "--data.train", str(config.data.train), "--output", config.output]
    options = ["--model.hidden_size", "64", "--data.held_out", "0.1", "--budget.steps", "10", "--batch_size", "4"]
    options += ["--checkpoint_minutes", "0.00001", "--seq_len", "16", "--words", "none"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("charembed: error: [Errno 27] File too large")
    checkpoints = saved_checkpoints(Path(config.output) / "checkpoints")
    assert [path.name for path in checkpoints] == ["000000000000.safetensors"]
    assert Checkpoint.load(checkpoints[0]).state.step == 0
    names = [path.name for path in checkpoints[0].parent.iterdir()]
    assert names == [checkpoints[0].name], "a temporary file is left"
    command[2] = code.replace("900_000", str(resource.RLIM_INFINITY))
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the run does not resume when there is room again: {done.stderr}"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "charembed", "train", "--data.train", str(EXCERPT), "--output", "/proc/run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("charembed: error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_difference_in_the_configuration_is_named(tmp_path: Path, uninterrupted: Path) -> None:
    for changes, message in (
        ({"seq_len": 17}, "seq_len 16 → 17"),
        ({"seed": 2}, "seed 1 → 2"),
        ({"model": CharLMConfig(hidden_size=17, embedding_dim=8, dropout=0.2)}, "model.hidden_size 16 → 17"),
        ({"direction": "forward"}, "direction 'both' → 'forward'"),
    ):
        config = dataclasses.replace(resumable(tmp_path, **changes), output=str(uninterrupted))
        with pytest.raises(CharEmbedError, match=message):
            train(config)


def test_other_text_is_refused(tmp_path: Path) -> None:
    valid = tmp_path / "valid.txt"
    valid.write_text("Some text to validate on.")
    config = resumable(tmp_path)
    data = CorpusConfig(train=config.data.train, valid=str(valid))
    tokenizer = tmp_path / "tokenizer.json"
    CharVocab("abc ").save(tokenizer)
    config = dataclasses.replace(config, data=data, vocab=VocabConfig(path=str(tokenizer)))
    run_and_kill(config, kill_in_step(25))
    for path, change in (
        (valid, lambda: valid.write_text("Other text to validate on.")),
        (tokenizer, lambda: CharVocab("cba ").save(tokenizer)),
        (tmp_path / "text.txt", lambda: (tmp_path / "text.txt").write_text("Other text. " * 600)),
    ):
        before = path.read_bytes()
        change()
        with pytest.raises(CharEmbedError, match="contains a run on other text, or with another vocabulary: to resume"):
            train(config)
        path.write_bytes(before)
    assert train(config).report.state == "finished"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parent folder of a run that was killed in step 60, and of its text."""
    folder = tmp_path_factory.mktemp("killed")
    run_and_kill(resumable(folder), kill_in_step(60))
    return folder


@pytest.fixture
def killed_copy(tmp_path: Path, killed: Path) -> Path:
    """A copy of `killed` to resume; names of the text may change."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_killed_run_is_reported_as_killed(killed: Path) -> None:
    assert Report.load(killed / "out").state == "running"
    assert load_report(killed / "out").state == "killed"


def test_files_of_others_are_left_alone(killed_copy: Path, uninterrupted: Path) -> None:
    out = killed_copy / "out"
    checkpoint = saved_checkpoints(out / "checkpoints")[0].read_bytes()
    (out / "checkpoints" / "backup.safetensors").write_bytes(checkpoint)
    (out / "text" / "notes").mkdir()
    assert_same_run(train(resumable(killed_copy, keep_checkpoints=1)).folder, uninterrupted)
    assert (out / "checkpoints" / "backup.safetensors").exists()
    assert (out / "text" / "notes").exists()


def test_a_run_resumes_without_its_log(killed_copy: Path) -> None:
    (killed_copy / "out" / "log.jsonl").unlink()
    steps = [record["step"] for record in read_log(train(resumable(killed_copy)).folder)]
    assert steps[0] >= 59
    assert steps[-1] == STEPS


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_instead_of_files_of_a_run_are_refused_at_once(killed_copy: Path) -> None:
    out = killed_copy / "out"
    (out / "log.jsonl").unlink()
    os.mkfifo(out / "log.jsonl")
    with pytest.raises(CharEmbedError, match=r"log.jsonl is not a regular file"):
        train(resumable(killed_copy))
    with pytest.raises(CharEmbedError, match=r"log.jsonl.* is not a regular file"):
        RunData.load(out, "run")
    for path in saved_checkpoints(out / "checkpoints"):
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(CharEmbedError, match=r"no checkpoint in .* can be read"):
        train(resumable(killed_copy))


def test_text_that_is_cut_while_it_is_trained_on_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validate = Trainer._validate

    def cut_and_validate(trainer: Trainer) -> None:
        validate(trainer)
        path = trainer._encoded.folder / "ids.bin"
        # Within the last page, so that the test itself cannot end with a bus error.
        os.truncate(path, path.stat().st_size - 2)

    monkeypatch.setattr(Trainer, "_validate", cut_and_validate)
    with pytest.raises(CharEmbedError, match=r"ids.bin has become shorter while it was open"):
        train(resumable(tmp_path))


def test_a_budget_that_is_spent_between_validations_still_gives_a_model(tmp_path: Path) -> None:
    config = resumable(tmp_path, validations=1)
    run_and_kill(config, kill_in_step(60))
    result = train(dataclasses.replace(config, budget=BudgetConfig(steps=50)))
    assert result.best is not None
    assert (result.folder / "best").exists()
    assert Report.load(result.folder).state == "finished"


def test_a_run_inside_the_folder_of_its_text(tmp_path: Path) -> None:
    """The files that the run writes are not read as text."""
    config = resumable(tmp_path)
    inside = dataclasses.replace(config, data=CorpusConfig(train=str(tmp_path), held_out=0.1))
    run_and_kill(inside, kill_in_step(30))
    assert train(inside).report.state == "finished"


def test_a_folder_that_was_moved_resumes(killed_copy: Path, uninterrupted: Path) -> None:
    (killed_copy / "out").rename(killed_copy / "elsewhere")
    result = train(resumable(killed_copy, output=str(killed_copy / "elsewhere")))
    assert_same_run(result.folder, uninterrupted)
