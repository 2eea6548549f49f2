"""A run that is killed, ended or goes wrong loses no more than the time since its last checkpoint, and no bit."""

from __future__ import annotations

import dataclasses
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import EXCERPT, assert_same_weights, needs_bf16_lstm, read_log, tiny_config, weights_of

from charembed import CharEmbedError, CharLMConfig, CharVocab, TrainConfig, train
from charembed.pretrained.model_folder import Pretrained
from charembed.text.corpus import CorpusConfig
from charembed.text.vocab import VocabConfig
from charembed.training import config as train_config
from charembed.training import meter
from charembed.training.checkpoint import Checkpoint, saved_checkpoints
from charembed.training.direction_trainer import DirectionTrainer, StepResult
from charembed.training.distributed import DistributedContext
from charembed.training.meter import DivergedError, Meter
from charembed.training.report import Report
from charembed.training.schedule import BudgetConfig
from charembed.training.trainer import Trainer, TrainResult

STEPS = 220
TIMES = ("seconds", "characters_per_second")
"""What may differ between a run in one piece and one in several."""
ANY: dict = {"seconds": 0.0, "characters_per_second": 0.0, "validations": [], "best": None, "config": {}}
"""Times, and what holds times, in a report; what the bits were is compared elsewhere."""


def resumable(folder: Path, **changes: object) -> TrainConfig:
    """Some epochs with dropout, a checkpoint at every chance."""
    text = folder / "text.txt"
    if not text.exists():
        text.write_text(EXCERPT.read_text(encoding="utf-8")[:6_000], encoding="utf-8")
    options: dict = {
        "data": CorpusConfig(train=str(text), held_out=0.1),
        "budget": BudgetConfig(steps=STEPS),
        "checkpoint_minutes": 1e-6,
        "validations": 5,
        "accumulation_steps": 2,
    }
    return tiny_config(folder, **options | changes)


def assert_same_run(found: Path, wanted: Path) -> None:
    """Everything but times is the same: weights, the optimiser, carried states, generators, log, best score."""
    assert_same_weights(weights_of(found), weights_of(wanted))
    assert_same_weights(
        Pretrained.load(found / "best").model.state_dict(), Pretrained.load(wanted / "best").model.state_dict()
    )
    one, other = (Checkpoint.load(saved_checkpoints(folder / "checkpoints")[0]) for folder in (found, wanted))
    assert_same_weights(one.tensors, other.tensors)
    for name in ("step", "epoch", "step_of_epoch", "documents", "lowest", "pending", "validations_done", "lr_factor"):
        assert one.facts[name] == other.facts[name], name
    assert one.facts["best"]["scores"] == other.facts["best"]["scores"]
    logs = [[{k: v for k, v in r.items() if k not in TIMES} for r in read_log(folder)] for folder in (found, wanted)]
    valid = [[record for record in log if record["kind"] == "valid"] for log in logs]
    assert valid[0] == valid[1]
    steps = [record["step"] for record in logs[0]]
    assert steps == sorted(steps), "no step twice in the log"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = resumable(tmp_path_factory.mktemp("whole"))
    result = train(config)
    facts = Checkpoint.load(saved_checkpoints(result.folder / "checkpoints")[0]).facts
    assert facts["epoch"] >= 2, "the test itself: it reads the text several times"
    return result.folder


def run_and_kill(config: TrainConfig, patch: str) -> int:
    """The status of a process that runs this, after a patch that may kill it."""
    code = (
        "import itertools, os, signal, jsonargparse\n"
        "from charembed import *\n"
        "from charembed.training import checkpoint, direction_trainer, config as train_config, trainer as run\n"
        "from charembed.util import files\nfrom charembed.pretrained import model_folder\n"
        "def die(): os.kill(os.getpid(), signal.SIGKILL)\n"
        "def die_at_call(function, number):\n"
        "    counter = itertools.count(1)\n"
        "    return lambda *a, **k: die() if next(counter) == number else function(*a, **k)\n"
        f"{patch}\n"
        "parser = jsonargparse.ArgumentParser()\n"
        "parser.add_class_arguments(TrainConfig)\n"
        f"train(TrainConfig(**vars(parser.instantiate(parser.parse_string({json.dumps(dataclasses.asdict(config))!r})))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


STEP = "direction_trainer.DirectionTrainer.step = die_at_call(direction_trainer.DirectionTrainer.step, {})"
KILLS = {
    "in the first step": [STEP.format(1)],
    "in steps, again and again": [STEP.format(n) for n in (121, 90, 7, 130)],
    "in a checkpoint, before it is renamed": ["files.os.replace = die_at_call(os.replace, 5)"],
    "in the second half of a checkpoint": ["files.os.fsync = die_at_call(os.fsync, 7)"],
    "between the renames of a model": [
        "original = os.replace\nos.replace = lambda a, b: (original(a, b), die() if str(b).endswith('old') else None)"
    ],
    "in a validation": ["run.score_all = die_at_call(run.score_all, 3)"],
    "between the last validation and the end": [
        "original = run.Trainer._save_checkpoint\n"
        f"run.Trainer._save_checkpoint = lambda self: die() if self._step == {STEPS} else original(self)"
    ],
}


@pytest.mark.parametrize("kills", KILLS.values(), ids=KILLS.keys())
def test_killed_runs_end_bit_for_bit_where_the_whole_one_does(
    tmp_path: Path, uninterrupted: Path, kills: list[str]
) -> None:
    config = resumable(tmp_path, checkpoint_minutes=0.001)
    for patch in kills:
        assert run_and_kill(config, patch) == -signal.SIGKILL, "the test itself: it was killed"
    result = train(config)
    assert result.interrupted is None
    assert_same_run(result.folder, uninterrupted)
    assert [path.name for path in result.folder.rglob(".*")] == [".charembed.lock"], "nothing half-written stays"
    assert dataclasses.replace(result.report, **ANY) == dataclasses.replace(Report.load(uninterrupted), **ANY)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_a_checkpoint(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    config = resumable(tmp_path, checkpoint_minutes=60.0)
    original = Trainer._take_step

    def signalled(self: Trainer, spent: float) -> None:
        original(self, spent)
        if self._step == 77:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", signalled)
        result = train(config)
    assert result.interrupted == number
    assert result.report.state == "interrupted"
    assert result.report.steps == 77
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "handlers are set back"
    assert_same_run(train(config).folder, uninterrupted)


@needs_bf16_lstm
def test_mixed_precision_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"precision": "bfloat16", "budget": BudgetConfig(steps=40)}
    whole = train(resumable(tmp_path, output=str(tmp_path / "whole"), **options))
    original = Trainer._take_step

    def ended(self: Trainer, spent: float) -> None:
        if self._step == 25:
            raise KeyboardInterrupt
        original(self, spent)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", ended)
        with pytest.raises(KeyboardInterrupt):
            train(resumable(tmp_path, **options))
    assert_same_run(train(resumable(tmp_path, **options)).folder, whole.folder)


def test_a_run_in_bfloat16_does_not_go_on_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_precision", "bfloat16")  # in its checkpoints
        train(resumable(tmp_path, precision="auto", budget=BudgetConfig(steps=1)))
    monkeypatch.setattr(train_config, "runs_bfloat16_lstm", lambda _: False)
    with pytest.raises(CharEmbedError, match="was begun in bfloat16, in which PyTorch cannot run an LSTM on this CPU"):
        train(resumable(tmp_path, precision="auto", budget=BudgetConfig(steps=2)))


def test_a_run_goes_on_with_the_precision_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun in float32, gone on with where bfloat16 would be the choice."""
    with monkeypatch.context() as patch:
        patch.setattr(train_config, "has_bfloat16_units", lambda _: False)
        train(resumable(tmp_path, precision="auto", budget=BudgetConfig(steps=1)))
    config = resumable(tmp_path, precision="auto")
    for units in (False, True):
        monkeypatch.setattr(train_config, "has_bfloat16_units", lambda _, units=units: units)
        assert train(config).report.precision == "float32"


def test_a_kill_never_leaves_a_worse_best_model(tmp_path: Path) -> None:
    """Between checkpoints by the clock, what is validated is kept as a checkpoint too."""
    config = resumable(tmp_path, checkpoint_minutes=60.0)
    run_and_kill(config, STEP.format(2 * 95))
    best = Pretrained.load(Path(config.output) / "best").provenance["characters_seen"]
    checkpoint = Checkpoint.load(saved_checkpoints(Path(config.output) / "checkpoints")[0])
    assert checkpoint.facts["step"] * 128 >= best > 0


def test_the_second_signal_leaves_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def signalled(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_take_step", signalled)
    with pytest.raises(KeyboardInterrupt):
        train(resumable(tmp_path))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_says_how_to_go_on(tmp_path: Path, number: int, status: int) -> None:
    command = [sys.executable, "-m", "charembed", "train", "--data.train", str(EXCERPT), "--model.hidden_size", "8"]
    command += ["--output", str(tmp_path / "out"), "--budget.steps", "1000000", "--batch_size", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "out" / "log.jsonl").exists() or not (tmp_path / "out" / "log.jsonl").stat().st_size:
            assert time.monotonic() < deadline, "the test itself: no step was logged"
            time.sleep(0.05)
        process.send_signal(number)
        assert process.stderr is not None
        errors = process.stderr.read()
    assert process.returncode == status, errors
    assert "run the same command again (without overwrite) to go on from there" in errors
    assert "Traceback" not in errors


def test_a_finished_run_is_left_alone_and_can_be_prolonged(tmp_path: Path) -> None:
    first = train(resumable(tmp_path))
    again = train(resumable(tmp_path))
    assert again.best == first.best
    assert_same_weights(weights_of(again.folder), weights_of(first.folder))
    longer = train(resumable(tmp_path, budget=BudgetConfig(steps=300)))
    steps = [record["step"] for record in read_log(longer.folder) if record["kind"] == "valid"]
    assert steps[:5] == [44, 88, 132, 176, 220]
    assert steps[5:] == [240, 300], "the rest of the longer budget is divided anew"


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, uninterrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = resumable(tmp_path)
    run_and_kill(config, STEP.format(301))
    paths = saved_checkpoints(Path(config.output) / "checkpoints")
    assert len(paths) == 2, "the last two are kept"
    paths[0].write_bytes(paths[0].read_bytes()[:-1000])
    result = train(config)
    assert "trying the one before" in caplog.text
    assert_same_run(result.folder, uninterrupted)
    for path in saved_checkpoints(result.folder / "checkpoints"):
        path.write_bytes(b"nothing")
    with pytest.raises(CharEmbedError, match=r"no checkpoint in .* can be read: name another output, or say overwrite"):
        train(config)


def test_a_full_disk_keeps_the_checkpoints_before(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the first checkpoint fits, with the optimiser's moments it
    does not."""
    config = resumable(tmp_path, model=CharLMConfig(hidden_size=64))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))\n"
        "from charembed.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "train", "--data.train", str(config.data.train), "--output", config.output]
    options = ["--model.hidden_size", "64", "--data.held_out", "0.1", "--budget.steps", "40", "--batch_size", "4"]
    options += ["--checkpoint_minutes", "0.00001", "--seq_len", "16"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("charembed: error: [Errno 27] File too large")
    checkpoints = saved_checkpoints(Path(config.output) / "checkpoints")
    assert [path.name for path in checkpoints] == ["000000000000.safetensors"]
    assert Checkpoint.load(checkpoints[0]).facts["step"] == 0
    assert [path.name for path in checkpoints[0].parent.iterdir()] == [checkpoints[0].name], "nothing half-written"
    command[2] = code.replace("900_000", str(resource.RLIM_INFINITY))
    assert subprocess.run([*command, *options], capture_output=True, check=False).returncode == 0, "room was made"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "charembed", "train", "--data.train", str(EXCERPT), "--output", "/proc/run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("charembed: error: ")
    assert len(done.stderr.splitlines()) == 1


def test_another_configuration_is_refused_by_name(tmp_path: Path, uninterrupted: Path) -> None:
    for changes, message in (
        ({"seq_len": 17}, "seq_len 16 → 17"),
        ({"seed": 2}, "seed 1 → 2"),
        ({"model": CharLMConfig(hidden_size=17, embedding_dim=8, dropout=0.2)}, "model.hidden_size 16 → 17"),
        ({"direction": "forward"}, "direction 'both' → 'forward'"),
    ):
        config = dataclasses.replace(resumable(tmp_path, **changes), output=str(uninterrupted))
        with pytest.raises(CharEmbedError, match=message):
            train(config)


def broken_once(monkeypatch: pytest.MonkeyPatch, *, at: int, times: int = 1) -> list[float]:
    """Have a step give NaN some times, weights and all; the learning rates of the steps that were taken."""
    original = DirectionTrainer.step
    rates: list[float] = []
    left = [times]

    def step(self: DirectionTrainer, number: int, lr: float) -> StepResult:
        rates.append(lr)
        result = original(self, number, lr)
        if len(rates) >= at and left[0]:
            left[0] -= 1
            with torch.no_grad():
                next(self.lm.parameters()).fill_(float("nan"))
            return StepResult(result.bits_per_character * float("nan"), result.gradient_norm)
        return result

    monkeypatch.setattr(DirectionTrainer, "step", step)
    return rates


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_what_was_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_once(monkeypatch, at=2 * 119 + 1)
    config = resumable(tmp_path)
    with pytest.raises(
        CharEmbedError, match=r"loss is nan at step 120: lower optimizer.lr \(it was 0.003\).*rollbacks"
    ):
        train(config)
    out = Path(config.output)
    assert json.loads((out / "report.json").read_text())["state"] == "diverged"
    newest = Checkpoint.load(saved_checkpoints(out / "checkpoints")[0])
    assert newest.facts["step"] == 119
    assert all(bool(tensor.isfinite().all()) for tensor in newest.tensors.values() if tensor.is_floating_point())
    assert Pretrained.load(out / "last").provenance["characters_seen"] == 88 * 2 * 4 * 16


def test_rollback_goes_on_from_the_last_checkpoint_with_half_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = broken_once(monkeypatch, at=2 * 119 + 1)
    result = train(resumable(tmp_path, rollbacks=1))
    assert result.report.rollbacks == 1
    assert result.last is not None
    assert result.last.step == STEPS
    (record,) = [record for record in read_log(result.folder) if record["kind"] == "rollback"]
    assert record["step"] == 119
    assert record["lr"] == pytest.approx(0.0015)
    before, after = rates[2 * 119], rates[2 * 120]
    assert after == pytest.approx(0.5 * before), "step 120, then the same again"


def test_rollbacks_come_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_once(monkeypatch, at=2 * 119 + 1, times=10_000)
    with pytest.raises(CharEmbedError, match="loss is nan"):
        train(resumable(tmp_path, rollbacks=2))


def results(*bits: float) -> list[dict]:
    return [{"forward": StepResult(torch.tensor(b), torch.tensor(1.0))} for b in bits]


def test_the_meter_tells_an_explosion_from_noise() -> None:
    watch = Meter(["forward"], DistributedContext())
    for step, bits in enumerate([[4.0, 3.0], [2.5, 2.3], [3.3, 3.3]], start=1):
        for result in results(*bits):
            watch.add(result)
        means = watch.take(2 * step)
        assert means.bits_per_character["forward"] == pytest.approx(sum(bits) / 2)
    for result in results(3.0, 4.0):
        watch.add(result)
    with pytest.raises(DivergedError, match=r"rose from 2.40 to 3.50 bits per character by step 8 \(from step 7 on\)"):
        watch.take(8)
    assert meter.EXPLODED == 1.0


@pytest.mark.parametrize(
    ("bits", "norm", "name"), [(float("inf"), 1.0, "loss is inf"), (1.0, float("nan"), "gradient")]
)
def test_the_meter_names_the_step(bits: float, norm: float, name: str) -> None:
    watch = Meter(["forward"], DistributedContext())
    for result in results(2.0, 2.0):
        watch.add(result)
    watch.add({"forward": StepResult(torch.tensor(bits), torch.tensor(norm))})
    with pytest.raises(DivergedError, match=f"the forward model's {name}.* at step 13"):
        watch.take(13)


def test_other_text_is_refused(tmp_path: Path) -> None:
    valid = tmp_path / "valid.txt"
    valid.write_text("Some text to validate on.")
    config = resumable(tmp_path)
    data = CorpusConfig(train=config.data.train, valid=str(valid))
    tokenizer = tmp_path / "tokenizer.json"
    CharVocab("abc ").save(tokenizer)
    config = dataclasses.replace(config, data=data, vocab=VocabConfig(path=str(tokenizer)))
    run_and_kill(config, STEP.format(50))
    for path, change in (
        (valid, lambda: valid.write_text("Other text to validate on.")),
        (tokenizer, lambda: CharVocab("cba ").save(tokenizer)),
        (tmp_path / "text.txt", lambda: (tmp_path / "text.txt").write_text("Other text. " * 600)),
    ):
        before = path.read_bytes()
        change()
        with pytest.raises(
            CharEmbedError, match="holds a run on other text, or with another vocabulary: give the same"
        ):
            train(config)
        path.write_bytes(before)
    assert train(config).report.state == "finished"


def test_files_of_others_are_left_alone(tmp_path: Path, uninterrupted: Path) -> None:
    config = resumable(tmp_path, keep_checkpoints=1)
    run_and_kill(config, STEP.format(200))
    out = Path(config.output)
    (out / "checkpoints" / "backup.safetensors").write_bytes(saved_checkpoints(out / "checkpoints")[0].read_bytes())
    (out / "text" / "notes").mkdir()
    assert_same_run(train(config).folder, uninterrupted)
    assert (out / "checkpoints" / "backup.safetensors").exists()
    assert (out / "text" / "notes").exists()


def test_a_lost_log_is_no_matter(tmp_path: Path) -> None:
    config = resumable(tmp_path)
    run_and_kill(config, STEP.format(200))
    (Path(config.output) / "log.jsonl").unlink()
    assert all(record["step"] >= 95 for record in read_log(train(config).folder))


def test_a_budget_that_is_spent_between_validations_still_gives_a_model(tmp_path: Path) -> None:
    config = resumable(tmp_path, validations=1)
    run_and_kill(config, STEP.format(200))
    result = train(dataclasses.replace(config, budget=BudgetConfig(steps=50)))
    assert result.best is not None
    assert (result.folder / "best").exists()
    assert Report.load(result.folder).state == "finished"


def test_a_run_inside_the_folder_of_its_text(tmp_path: Path) -> None:
    config = resumable(tmp_path)
    inside = dataclasses.replace(config, data=CorpusConfig(train=str(tmp_path), held_out=0.1))
    run_and_kill(inside, STEP.format(100))
    assert train(inside).report.state == "finished", "what it wrote is not taken for text"


def test_a_folder_that_moved_goes_on(tmp_path: Path, uninterrupted: Path) -> None:
    config = resumable(tmp_path)
    run_and_kill(config, STEP.format(200))
    Path(config.output).rename(tmp_path / "elsewhere")
    result: TrainResult = train(dataclasses.replace(config, output=str(tmp_path / "elsewhere")))
    assert_same_run(result.folder, uninterrupted)
