"""Training: it learns, it keeps to its budget, it gives the same again, and it ends well or says why not."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import EXCERPT
from filelock import FileLock

from charembed import CharEmbedder, CharEmbedError, CharLM, CharLMConfig, TrainConfig, train, trainer
from charembed.corpus import CorpusConfig
from charembed.pretrained import Pretrained
from charembed.recurrent import LSTMState, map_state
from charembed.schedule import BudgetConfig, OptimizerConfig
from charembed.stream import WindowStream, read_streams
from charembed.trainer import DirectionTrainer, TrainResult


def tiny_config(folder: Path, **changes: object) -> TrainConfig:
    options: dict = {
        "output": str(folder / "out"),
        "data": CorpusConfig(train=str(EXCERPT), held_out=0.02),
        "model": CharLMConfig(hidden_size=16, embedding_dim=8, dropout=0.2),
        "budget": BudgetConfig(steps=6),
        "batch_size": 4,
        "seq_len": 16,
        "validations": 2,
    }
    return TrainConfig(**options | changes)


def read_log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_both_directions_learn_more_than_character_frequencies(run: TrainResult) -> None:
    text = EXCERPT.read_text(encoding="utf-8")
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
    for direction, score in run.last.scores.items():
        assert score.bits_per_character < entropy - 0.7, direction
    assert run.best.bits_per_character <= run.last.bits_per_character


def test_a_run_leaves_models_log_and_configuration(run: TrainResult) -> None:
    visible = sorted(p.name for p in run.folder.iterdir() if not p.name.startswith("."))
    assert visible == ["best", "config.yaml", "last", "log.jsonl"]
    records = read_log(run.folder)
    valid = [record for record in records if record["kind"] == "valid"]
    assert len(valid) == 3, "as many validations as asked for, the last at the end"
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
        result = train(tiny_config(tmp_path, output=str(tmp_path / name), seed=seed))
        weights.append(Pretrained.load(result.folder / "last").model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not any(torch.equal(weights[0][name], weights[2][name]) for name in weights[0] if "weight" in name)


def test_training_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    train(tiny_config(tmp_path))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_states_are_carried_from_step_to_step(tmp_path: Path) -> None:
    seen: list[tuple[int, LSTMState | None]] = []
    original = DirectionTrainer.step

    def spy(self: DirectionTrainer, number: int, lr: float) -> torch.Tensor:
        seen.append((number, self.state))
        return original(self, number, lr)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DirectionTrainer, "step", spy)
        train(tiny_config(tmp_path))
    assert sorted(number for number, _ in seen) == sorted(2 * [0, 1, 2, 3, 4, 5]), "6 steps in each direction"
    for number, state in seen:
        assert (state is None) == (number == 0)


def test_one_step_is_one_of_adamw_on_the_gradient_of_the_window(tmp_path: Path) -> None:
    """Against the same step written out with PyTorch's parts, from a carried state."""
    config = tiny_config(tmp_path, model=CharLMConfig(hidden_size=16, embedding_dim=8))
    streams = read_streams(config.data, config.vocab, config.seed)
    lm = CharLM(dataclasses.replace(config.model, vocab_size=len(streams.vocab)))
    windows = WindowStream(streams.train, 4, 16, seed=1)
    options = OptimizerConfig(weight_decay=0.0, clip_norm=0.05)
    one = DirectionTrainer(copy.deepcopy(lm), windows, options)
    plain = torch.optim.AdamW(lm.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    state = None
    for number in range(3):
        bits = one.step(number, 0.01)
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
        assert float(bits) == pytest.approx(float(loss.detach()) / math.log(2), abs=1e-5)
    for (name, found), wanted in zip(one.lm.named_parameters(), lm.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-4, msg=name)


def test_zero_steps_write_the_untrained_model(tmp_path: Path) -> None:
    result = train(tiny_config(tmp_path, budget=BudgetConfig(steps=0)))
    assert result.last.characters == 0
    assert result.last.bits_per_character > 6
    assert Pretrained.load(result.folder / "best").provenance["characters_seen"] == 0


def test_the_best_model_is_not_the_last_when_it_gets_worse(tmp_path: Path) -> None:
    """A learning rate that wrecks the model: the untrained-like first validation is better than the last."""
    wrecking = OptimizerConfig(lr=3.0, warmup_steps=6, final_lr=1.0)
    result = train(tiny_config(tmp_path, optimizer=wrecking, validations=6))
    bits = [r["bits_per_character_forward"] for r in read_log(result.folder) if r["kind"] == "valid"]
    assert result.best.step < result.last.step
    best = Pretrained.load(result.folder / "best").provenance["bits_per_character"]["forward"]
    last = Pretrained.load(result.folder / "last").provenance["bits_per_character"]["forward"]
    assert best < last
    assert last == pytest.approx(bits[-1], abs=1e-4)


def test_weight_decay_leaves_biases_alone(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    streams = read_streams(config.data, config.vocab, config.seed)
    lm = CharLM(dataclasses.replace(config.model, vocab_size=len(streams.vocab)))
    one = DirectionTrainer(lm, WindowStream(streams.train, 4, 16, seed=1), OptimizerConfig(weight_decay=0.5))
    decay = {id(p): group["weight_decay"] for group in one.optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in lm.named_parameters()} == {
        name: 0.0 if "bias" in name else 0.5 for name, _ in lm.named_parameters()
    }


def test_two_runs_in_one_folder_the_second_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".charembed.lock"):
        code = (
            "import sys; from charembed.cli import main\n"
            f"sys.exit(main(['train', '--data.train', {str(EXCERPT)!r}, '--output', {str(tmp_path / 'out')!r},"
            " '--budget.steps', '1', '--model.hidden_size', '8']))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is in use by another run" in done.stderr


def test_a_run_that_left_no_model_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".charembed.lock").touch()
    (tmp_path / "out" / "config.yaml").write_text("what a run that failed at once leaves")
    assert train(tiny_config(tmp_path)).last.step == 6


def test_paths_and_numpy_numbers_are_taken(tmp_path: Path) -> None:
    model = CharLMConfig(hidden_size=np.int64(8), embedding_dim=4)
    text = CorpusConfig(train=[EXCERPT], held_out=0.02)
    assert train(tiny_config(tmp_path, output=tmp_path / "out", model=model, data=text)).last.step == 6


def test_a_file_name_that_is_no_text_does_not_end_the_run(tmp_path: Path) -> None:
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


def test_budget_in_minutes_ends_the_run_and_the_schedule(tmp_path: Path) -> None:
    result = train(tiny_config(tmp_path, budget=BudgetConfig(minutes=0.05)))
    last = read_log(result.folder)[-2]
    assert last["kind"] == "train"
    assert last["seconds"] >= 3.0
    highest = OptimizerConfig().for_cell("lstm").lr
    assert last["lr"] < 0.02 * highest, "the learning rate is at its end when the time is up"


def test_ctrl_c_keeps_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = DirectionTrainer.step

    def interrupted(self: DirectionTrainer, number: int, lr: float) -> torch.Tensor:
        if number == 3:
            raise KeyboardInterrupt
        return original(self, number, lr)

    monkeypatch.setattr(DirectionTrainer, "step", interrupted)
    result = train(tiny_config(tmp_path))
    assert result.interrupted
    assert result.last.step == 3
    assert Pretrained.load(result.folder / "last").provenance["characters_seen"] == 3 * 4 * 16


def test_ctrl_c_in_the_last_validation_still_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = trainer.score_both
    calls = []

    def interrupted(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(trainer, "score_both", interrupted)
    result = train(tiny_config(tmp_path, validations=1))
    assert result.interrupted
    assert Pretrained.load(result.folder / "best").provenance["characters_seen"] == 6 * 4 * 16


def test_ctrl_c_twice_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "score_both", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_config(tmp_path, validations=1))


def test_a_run_that_fails_keeps_the_models_it_was_to_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tiny_config(tmp_path))

    def broken(*_: object) -> torch.Tensor:
        return torch.tensor(float("nan"))

    monkeypatch.setattr(DirectionTrainer, "step", broken)
    with pytest.raises(CharEmbedError, match="loss is nan"):
        train(tiny_config(tmp_path, overwrite=True, validations=1))
    assert Pretrained.load(tmp_path / "out" / "best").provenance["characters_seen"] == 6 * 4 * 16


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = DirectionTrainer.step

    def broken(self: DirectionTrainer, number: int, lr: float) -> torch.Tensor:
        loss = original(self, number, lr)
        return loss * float("nan") if number == 5 else loss

    monkeypatch.setattr(DirectionTrainer, "step", broken)
    with pytest.raises(CharEmbedError, match=r"loss is nan by step 6: lower optimizer.lr"):
        train(tiny_config(tmp_path))
    assert Pretrained.load(tmp_path / "out" / "last").provenance["characters_seen"] == 3 * 4 * 16


def test_an_output_folder_in_use_is_refused_before_the_corpus_is_read(tmp_path: Path) -> None:
    train(tiny_config(tmp_path))
    with pytest.raises(CharEmbedError, match="holds a run already"):
        train(tiny_config(tmp_path, data=CorpusConfig(train="absent")))
    assert train(tiny_config(tmp_path, overwrite=True, budget=BudgetConfig(steps=1))).last.step == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("of another program")
    with pytest.raises(CharEmbedError, match="is no training run"):
        train(tiny_config(tmp_path, output=str(tmp_path / "other"), overwrite=True))
    (tmp_path / "out" / "best" / "notes.txt").write_text("my notes on the best model")
    with pytest.raises(CharEmbedError, match=r"holds notes.txt, which is no part of a model"):
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
def test_nothing_is_written_when_the_corpus_will_not_do(
    tmp_path: Path, data: CorpusConfig, batch_size: int, message: str
) -> None:
    with pytest.raises(CharEmbedError, match=message):
        train(tiny_config(tmp_path, data=data, batch_size=batch_size))
    assert not (tmp_path / "out").exists()


def test_the_configuration_that_is_kept_is_the_one_that_ran(run: TrainResult) -> None:
    kept = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert kept["model"]["hidden_size"] == 48
    assert kept["budget"] == {"minutes": None, "steps": 200, "epochs": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be positive, got 0"),
        ({"validations": 0}, "validations must be positive"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"seed": -1}, "seed must be from 0 to 2147483647, got -1"),
    ],
)
def test_configuration_refuses(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        tiny_config(tmp_path, **changes)


def test_tensorboard_on_request(tmp_path: Path) -> None:
    result = train(tiny_config(tmp_path, tensorboard=True))
    assert list(result.folder.glob("events.out.tfevents.*"))
