"""Training learns, keeps to its budget, is reproducible, and ends well or with a clear error."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import os
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from fresh_process import run_python
from helpers import (
    EXCERPT,
    assert_same_weights,
    needs_bfloat16_lstm,
    read_log,
    tiny_config,
    weights_of,
)

from charembed import CharEmbedder, CharEmbedError, CharLM, CharLMConfig, TrainConfig, train
from charembed.dataset.encoded_corpus import encode_corpus
from charembed.dataset.windows import Epochs, EpochText, WindowStream
from charembed.pretrained.model_folder import Pretrained
from charembed.recurrent import LSTMState, map_state
from charembed.text.corpus import CorpusConfig
from charembed.text.vocab import VocabConfig
from charembed.training import precision as training_precision
from charembed.training import trainer as trainer_module
from charembed.training.direction_trainer import DirectionTrainer, StepResult
from charembed.training.distributed import DistributedContext
from charembed.training.meter import LOG_EVERY
from charembed.training.model_trainer import ModelTrainer
from charembed.training.result import TrainResult
from charembed.training.schedule import BudgetConfig, OptimizerConfig


def test_both_directions_learn_more_than_character_frequencies(run: TrainResult) -> None:
    text = EXCERPT.read_text(encoding="utf-8")
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
    for direction, score in run.last.scores.items():
        assert score.bits_per_character < entropy - 0.7, direction
    assert run.best.bits_per_character <= run.last.bits_per_character


def test_a_run_writes_models_log_and_configuration(run: TrainResult) -> None:
    visible = sorted(p.name for p in run.folder.iterdir() if not p.name.startswith("."))
    assert visible == ["best", "checkpoints", "config.yaml", "last", "log.jsonl", "report.json", "text"]
    records = read_log(run.folder)
    valid = [record for record in records if record["kind"] == "valid"]
    assert len(valid) == 3, "the number of validations is not the configured one"
    assert [record["step"] for record in valid][-1] == 200
    assert valid[-1]["characters"] == 200 * 16 * 32
    trained = [record for record in records if record["kind"] == "train"]
    assert trained[-1]["characters_per_second"] > 0
    provenance = Pretrained.load(run.folder / "last").provenance
    assert provenance["characters_seen"] == 200 * 16 * 32
    assert provenance["bits_per_character"]["forward"] == round(valid[-1]["bits_per_character_forward"], 4)
    assert len(provenance["corpus_sha256"]) == 64


def test_the_trained_model_embeds(run: TrainResult) -> None:
    embedder = CharEmbedder.from_pretrained(run.folder / "best")
    assert embedder.embed(["A trained model."])[0].vectors.shape == (4, 96)


def test_same_seed_same_weights_bit_for_bit(tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        weights.append(weights_of(train(tiny_config(tmp_path, output=str(tmp_path / name), seed=seed)).folder))
    assert_same_weights(weights[1], weights[0])
    assert not any(torch.equal(weights[0][name], weights[2][name]) for name in weights[0] if "weight" in name)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_direction_alone_is_the_same_as_in_both(tmp_path: Path, direction: str, run_of_both: TrainResult) -> None:
    result = train(tiny_config(tmp_path, direction=direction))
    pair = Pretrained.load(run_of_both.folder / "last").model.direction(direction).state_dict()
    alone = Pretrained.load(result.folder / "last")
    assert_same_weights(alone.model.direction(direction).state_dict(), pair)
    assert alone.model.directions == (direction,)
    assert CharEmbedder(alone).embed(["One direction."])[0].vectors.shape == (3, 16)
    other = {"forward": "backward", "backward": "forward"}[direction]
    with pytest.raises(CharEmbedError, match=f"this model has no {other} direction: only {direction} was trained"):
        alone.model.direction(other)


@pytest.fixture(scope="module")
def run_of_both(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(tiny_config(tmp_path_factory.mktemp("both")))


def test_accumulated_windows_give_the_gradient_of_their_mean_loss(tmp_path: Path) -> None:
    """Against the mean loss of consecutive windows, written out."""
    config = tiny_config(tmp_path, model=CharLMConfig(hidden_size=16, embedding_dim=8), accumulation_steps=3)
    lm, text = model_and_text(config, tmp_path)
    one = DirectionTrainer(copy.deepcopy(lm), "forward", config.step_options, DistributedContext())
    one.start_epoch(text)
    result = one.step(0, lr=0.0)
    windows = WindowStream(text, 4, 16)
    state, loss = None, torch.zeros(())
    for number in range(3):
        window = windows.window(number)
        logits, state = lm(window.inputs, None if state is None else map_state(torch.detach, state))
        loss = loss + torch.nn.functional.cross_entropy(logits.flatten(0, 1), window.targets.flatten()) / 3
    loss.backward()
    norm = float(torch.cat([parameter.grad.flatten() for parameter in lm.parameters()]).norm())
    assert float(result.gradient_norm) == pytest.approx(norm, rel=1e-4)
    assert float(result.bits_per_character) == pytest.approx(float(loss.detach()) / math.log(2), rel=1e-5)
    assert one.steps_per_epoch == windows.windows // 3


@needs_bfloat16_lstm
def test_bfloat16_learns_like_float32(tmp_path: Path) -> None:
    bits = {}
    for precision in ("float32", "bfloat16"):
        config = tiny_config(tmp_path, output=str(tmp_path / precision), precision=precision)
        result = train(dataclasses.replace(config, budget=BudgetConfig(steps=60)))
        bits[precision] = result.last.bits_per_character
        assert {tensor.dtype for tensor in weights_of(result.folder).values()} == {torch.float32}
    assert bits["bfloat16"] != bits["float32"], "bfloat16 is not used"
    assert bits["bfloat16"] == pytest.approx(bits["float32"], abs=0.05)


def model_and_text(config: TrainConfig, folder: Path) -> tuple[CharLM, EpochText]:
    """Return an untrained model for the text of a run, and that text."""
    encoded = encode_corpus(config.data, config.vocab, config.seed, folder / "encoded")
    lm = CharLM(dataclasses.replace(config.model, vocab_size=len(encoded.vocab)))
    return lm, Epochs(encoded, config.data, config.seed).text


def test_training_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    train(tiny_config(tmp_path))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_states_are_carried_from_step_to_step(tmp_path: Path) -> None:
    seen: list[tuple[int, LSTMState | None]] = []
    original = DirectionTrainer.step

    def spy(self: DirectionTrainer, number: int, lr: float) -> StepResult:
        seen.append((number, self._state))
        return original(self, number, lr)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DirectionTrainer, "step", spy)
        train(tiny_config(tmp_path))
    assert sorted(number for number, _ in seen) == sorted(2 * [0, 1, 2, 3, 4, 5]), "6 steps in each direction"
    for number, state in seen:
        assert (state is None) == (number == 0)


def test_a_step_is_one_of_adamw_on_the_clipped_gradient_of_a_window(tmp_path: Path) -> None:
    """Against the same steps written out in PyTorch, with the state carried from one to the next."""
    model = CharLMConfig(hidden_size=16, embedding_dim=8)
    config = tiny_config(tmp_path, model=model, optimizer=OptimizerConfig(weight_decay=0.0, clip_norm=0.05))
    lm, text = model_and_text(config, tmp_path)
    windows = WindowStream(text, 4, 16)
    one = DirectionTrainer(copy.deepcopy(lm), "forward", config.step_options, DistributedContext())
    one.start_epoch(text)
    plain = torch.optim.AdamW(lm.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    state = None
    for number in range(3):
        result = one.step(number, 0.01)
        window = windows.window(number)
        logits, state = lm(window.inputs, state)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), window.targets.flatten())
        plain.zero_grad()
        loss.backward()
        norm = torch.cat([parameter.grad.flatten() for parameter in lm.parameters()]).norm()
        for parameter in lm.parameters():
            parameter.grad *= min(1.0, 0.05 / float(norm))
        plain.step()
        state = map_state(torch.detach, state)
        assert float(result.bits_per_character) == pytest.approx(float(loss.detach()) / math.log(2), abs=1e-5)
        assert float(result.gradient_norm) == pytest.approx(float(norm), rel=1e-4)
    for (name, weights), expected in zip(one.lm.named_parameters(), lm.parameters(), strict=True):
        torch.testing.assert_close(weights, expected, rtol=0, atol=2e-4, msg=name)


def test_zero_steps_write_the_untrained_model(tmp_path: Path) -> None:
    result = train(tiny_config(tmp_path, budget=BudgetConfig(steps=0)))
    assert result.last.characters == 0
    text = EXCERPT.read_text(encoding="utf-8")
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
    assert result.last.bits_per_character == pytest.approx(entropy, abs=0.3), (
        "it does not predict the frequencies of characters"
    )
    assert Pretrained.load(result.folder / "best").provenance["characters_seen"] == 0


def test_the_best_model_is_not_the_last_when_it_gets_worse(tmp_path: Path) -> None:
    """A learning rate that ruins the model: the first validation is better than the last."""
    ruinous = OptimizerConfig(lr=3.0, warmup_steps=6, final_lr=1.0)
    result = train(tiny_config(tmp_path, optimizer=ruinous, validations=6))
    bits = [r["bits_per_character_forward"] for r in read_log(result.folder) if r["kind"] == "valid"]
    assert result.best.step < result.last.step
    best = Pretrained.load(result.folder / "best").provenance["bits_per_character"]["forward"]
    last = Pretrained.load(result.folder / "last").provenance["bits_per_character"]["forward"]
    assert best < last
    assert last == pytest.approx(bits[-1], abs=1e-4)


def test_biases_are_not_decayed(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, optimizer=OptimizerConfig(weight_decay=0.5))
    lm, _ = model_and_text(config, tmp_path)
    one = DirectionTrainer(lm, "forward", config.step_options, DistributedContext())
    decay = {id(p): group["weight_decay"] for group in one.optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in lm.named_parameters()} == {
        name: 0.0 if "bias" in name else 0.5 for name, _ in lm.named_parameters()
    }


def test_a_second_run_in_one_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".charembed.lock"):
        code = (
            "import sys; from charembed.cli.main import main\n"
            f"sys.exit(main(['train', '--data.train', {str(EXCERPT)!r}, '--output', {str(tmp_path / 'out')!r},"
            " '--budget.steps', '1', '--model.hidden_size', '8']))"
        )
        done = run_python(code)
    assert done.returncode == 2
    assert "is in use by another run" in done.stderr


def test_a_run_that_left_no_model_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".charembed.lock").touch()
    (tmp_path / "out" / "config.yaml").write_text("left by a run that failed before its first step")
    assert train(tiny_config(tmp_path)).last.step == 6


def test_paths_and_numpy_numbers_are_accepted(tmp_path: Path) -> None:
    model = CharLMConfig(hidden_size=np.int64(8), embedding_dim=4)
    text = CorpusConfig(train=[EXCERPT], held_out=0.02)
    assert train(tiny_config(tmp_path, output=tmp_path / "out", model=model, data=text)).last.step == 6


def test_a_file_name_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
    shutil.copy(EXCERPT, name)
    result = train(tiny_config(tmp_path, data=CorpusConfig(train=name, held_out=0.02)))
    assert Pretrained.load(result.folder / "last").provenance["corpus"].endswith("caf\\udce9.txt")


def test_budget_in_epochs(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Document {k}." for k in range(100)))
    data = CorpusConfig(train=str(text), held_out=0.1)
    result = train(tiny_config(tmp_path, data=data, budget=BudgetConfig(epochs=2.5)))
    assert result.last.characters == pytest.approx(2.5 * 0.9 * (len(text.read_text()) + 2), rel=0.1)


def test_budget_in_minutes_ends_the_run_and_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that ticks whenever it is read: on a busy machine, one step might take a large share of three seconds.
    ticks = itertools.count()
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(monotonic=lambda: 0.01 * next(ticks)))
    result = train(tiny_config(tmp_path, budget=BudgetConfig(minutes=0.05), validations=1))
    assert result.report.seconds >= 3.0
    last = read_log(result.folder)[-2]
    assert (last["kind"], last["step"]) == ("train", result.report.steps)
    assert last["seconds"] == pytest.approx(3.0, abs=0.1), "the run ends late, or its last step is not logged"
    highest = OptimizerConfig().for_cell("lstm").lr
    assert last["lr"] < 0.02 * highest, "the learning rate is not at its final value when the time is up"


def test_validations_leave_time_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A validation takes a sixth of the budget on this clock, on which ten of them would leave no time for steps."""
    now = [0.0]
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def take_time(method: str, seconds: float) -> None:
        original = getattr(ModelTrainer, method)

        def slow(*arguments: object) -> object:
            now[0] += seconds
            return original(*arguments)

        monkeypatch.setattr(ModelTrainer, method, slow)

    take_time("step", 0.05)
    take_time("score", 0.5)
    caplog.set_level("INFO")
    data = CorpusConfig(train=str(EXCERPT), held_out=0.002)
    result = train(tiny_config(tmp_path, data=data, budget=BudgetConfig(minutes=0.05), validations=10))
    assert len(result.report.validations) == 2, "one within the budget, one at its end"
    assert caplog.text.count("validation left out, and others may be, because they take at most 20% of budget") == 1
    assert f"ended after {result.report.steps} steps, within its warm-up of 100" in caplog.text


@pytest.mark.parametrize("steps", [LOG_EVERY, 2 * LOG_EVERY, 2 * LOG_EVERY + 1])
def test_the_last_step_is_logged_once(tmp_path: Path, steps: int) -> None:
    result = train(tiny_config(tmp_path, budget=BudgetConfig(steps=steps), validations=1))
    logged = [record["step"] for record in read_log(result.folder) if record["kind"] == "train"]
    assert logged == sorted(set(logged))
    assert logged[-1] == steps


def test_a_run_that_fails_keeps_the_models_that_it_would_have_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_config(tmp_path))
    nan = torch.tensor(float("nan"))
    monkeypatch.setattr(DirectionTrainer, "step", lambda *_: StepResult(nan, nan))
    with pytest.raises(CharEmbedError, match="loss of the forward model is nan"):
        train(tiny_config(tmp_path, overwrite=True, validations=1))
    assert Pretrained.load(tmp_path / "out" / "best").provenance["characters_seen"] == 6 * 4 * 16


def test_an_output_folder_in_use_is_refused_before_the_corpus_is_read(tmp_path: Path) -> None:
    train(tiny_config(tmp_path))
    with pytest.raises(CharEmbedError, match=r"another configuration \(batch_size 4 → 5\): to resume it"):
        train(tiny_config(tmp_path, data=CorpusConfig(train="absent"), batch_size=5))
    with pytest.raises(CharEmbedError, match=r"contains a run on other text"):
        train(tiny_config(tmp_path, data=CorpusConfig(train=[str(EXCERPT), __file__], held_out=0.02)))
    assert train(tiny_config(tmp_path, overwrite=True, budget=BudgetConfig(steps=1))).last.step == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("of another program")
    with pytest.raises(CharEmbedError, match="contains files that are not of a training run"):
        train(tiny_config(tmp_path, output=str(tmp_path / "other"), overwrite=True))
    (tmp_path / "out" / "best" / "notes.txt").write_text("my notes on the best model")
    with pytest.raises(CharEmbedError, match=r"holds notes.txt, which would be lost"):
        train(tiny_config(tmp_path, overwrite=True))
    with pytest.raises(CharEmbedError, match="is a file"):
        train(tiny_config(tmp_path, output=str(EXCERPT)))


@pytest.mark.parametrize(
    ("data", "batch_size", "message"),
    [
        (CorpusConfig(train="absent.txt"), 4, "absent.txt: no such file"),
        (CorpusConfig(train=str(EXCERPT)), 100_000, "too small for the batch: .* batch_size 100000 × seq_len 16 needs"),
    ],
)
def test_nothing_is_written_if_the_corpus_cannot_be_used(
    tmp_path: Path, data: CorpusConfig, batch_size: int, message: str
) -> None:
    with pytest.raises(CharEmbedError, match=message):
        train(tiny_config(tmp_path, data=data, batch_size=batch_size))
    assert not (tmp_path / "out").exists()


def test_config_yaml_is_the_configuration_of_the_run(run: TrainResult) -> None:
    written = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert written["model"]["hidden_size"] == 48
    assert written["budget"] == {"minutes": None, "steps": 200, "epochs": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"validations": 0}, "validations must be a whole number of at least 1"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"seed": -1}, "seed must be from 0 to 2147483647, got -1"),
        ({"accumulation_steps": 0}, "accumulation_steps must be a whole number of at least 1"),
        ({"checkpoint_minutes": 0}, "checkpoint_minutes must be positive, got 0"),
        ({"keep_checkpoints": 0}, "keep_checkpoints must be a whole number of at least 1"),
        ({"rollbacks": -1}, "rollbacks must be a whole number of at least 0, got -1"),
        ({"direction": "sideways"}, "direction must be both, forward or backward, got 'sideways'"),
        ({"precision": "int4"}, "precision must be auto, float32, tf32 or bfloat16, got 'int4'"),
        ({"vocab": VocabConfig(grow=True)}, "vocab.grow needs a vocabulary to start from"),
        ({"init": "a", "vocab": VocabConfig(path="b")}, "init has a vocabulary of its own"),
    ],
)
def test_values_that_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        tiny_config(tmp_path, **changes)


def test_bfloat16_needs_a_cpu_that_runs_lstms_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_precision, "runs_bfloat16_lstm", lambda _: False)
    with pytest.raises(
        CharEmbedError, match=r"precision bfloat16: PyTorch cannot run an LSTM .* on this CPU: use auto"
    ):
        tiny_config(tmp_path, precision="bfloat16")
    gru = CharLMConfig(cell="gru")
    assert tiny_config(tmp_path, precision="bfloat16", model=gru).step_options.precision == "bfloat16"
    assert tiny_config(tmp_path, precision="bf16", model=gru) == tiny_config(tmp_path, precision="bfloat16", model=gru)


def test_tensorboard_on_request(tmp_path: Path) -> None:
    result = train(tiny_config(tmp_path, tensorboard=True))
    assert list(result.folder.glob("events.out.tfevents.*"))


@pytest.mark.gpu
def test_the_host_does_not_wait_for_a_gpu_within_a_step(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, device="cuda", model=CharLMConfig(hidden_size=16, vocab_size=20, dropout=0.2))
    one = DirectionTrainer(CharLM(config.model).cuda(), "forward", config.step_options, DistributedContext())
    ids = np.random.default_rng(1).integers(20, size=4_000).astype(np.uint16)
    one.start_epoch(EpochText(ids, np.array([[0, len(ids)]]), seed=1, epoch=0))
    for number in range(10):
        torch.cuda.set_sync_debug_mode("error" if number >= 5 else "default")  # libraries are loaded before
        one.step(number, lr=1e-3)
    torch.cuda.set_sync_debug_mode("default")
    assert one.step(10, lr=1e-3).bits_per_character.isfinite()
