"""The loss of words: against PyTorch written out, and in runs that resume, start from a model and read streams."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import EXCERPT, assert_same_weights, read_log, tiny_config
from hypothesis import given
from hypothesis import strategies as st
from resumable_runs import assert_same_run, kill_in_step, newest_checkpoint, resumable, run_and_kill
from torch import Tensor
from torch.nn import functional

from charembed import CharEmbedError, CharLM, CharLMConfig, TrainConfig, train
from charembed.cli.main import main
from charembed.dataset.encoded_corpus import encode_corpus
from charembed.dataset.frequent_words import FrequentWords
from charembed.dataset.windows import Epochs, EpochText, WindowStream
from charembed.dataset.word_targets import WordTargets
from charembed.lm.scoring import ScoringLimits, score
from charembed.pretrained.model_folder import Pretrained
from charembed.recurrent import map_state
from charembed.text.corpus import CorpusConfig
from charembed.text.words import find_words
from charembed.training.checkpoint import Checkpoint
from charembed.training.direction_trainer import DirectionTrainer, StepResult
from charembed.training.distributed import DistributedContext
from charembed.training.dry_run import DryRunLimits, dry_run
from charembed.training.initial_model import load_initial
from charembed.training.meter import Meter
from charembed.training.model_trainer import ModelTrainer, encode_text
from charembed.training.objective import Objective, ObjectiveConfig, WordHead
from charembed.training.report import table
from charembed.training.schedule import BudgetConfig, OptimizerConfig
from charembed.training.trainer import Trainer
from charembed.training.word_scorer import WordScorer

WORDS = ObjectiveConfig(words=200, ahead=2, weight=0.5)


def log_probabilities(head: WordHead, states: Tensor) -> Tensor:
    """Return the logarithm of the probability of each word, as Grave et al. (2017) define it. Shape: (states, words)"""
    projected = states @ head.projection.weight.T + head.projection.bias
    bounds = [0, *head.softmax.cutoffs]
    first = functional.log_softmax(projected @ head.softmax.head.weight.T + head.softmax.head.bias, dim=1)
    parts = [first[:, : bounds[1]]]
    for cluster, (down, up) in enumerate(head.softmax.tail):
        in_cluster = functional.log_softmax(projected @ down.weight.T @ up.weight.T, dim=1)
        parts.append(first[:, bounds[1] + cluster, None] + in_cluster)
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("words", [2, 3, 500, 2001, 12_000])
def test_the_head_is_a_softmax_over_all_words(words: int) -> None:
    torch.manual_seed(0)
    counts = np.sort(np.random.default_rng(0).integers(1, 1000, words))[::-1].copy()
    head = WordHead(20, counts)
    states = torch.randn(7, 20)
    expected = log_probabilities(head, states)
    assert expected.shape == (7, words)
    torch.testing.assert_close(expected.exp().sum(dim=1), torch.ones(7))
    targets = torch.tensor([0, 1, words // 2, words // 2 + 1, words - 2, words - 1, words - 1]).clamp(0, words - 1)
    torch.testing.assert_close(head(states, targets), -expected[torch.arange(7), targets], rtol=1e-4, atol=1e-5)


def test_the_head_starts_with_the_frequencies_of_words() -> None:
    counts = np.array([50] + [10] * 1999 + [1] * 100)
    head = WordHead(4, counts)
    with torch.no_grad():
        for parameter in [head.projection.bias, head.projection.weight]:
            parameter.zero_()
    probabilities = log_probabilities(head, torch.zeros(1, 4)).exp()[0]
    torch.testing.assert_close(probabilities.double(), torch.from_numpy(counts / counts.sum()), rtol=1e-4, atol=1e-7)


def test_losses_and_gradients_of_the_head_in_bfloat16() -> None:
    """Matrix products are rounded, the softmax is not: the losses are float32 and unbiased."""
    torch.manual_seed(0)
    head = WordHead(20, np.arange(12_000, 0, -1))
    states, words = torch.randn(500, 20), torch.randint(12_000, (500,))
    expected = head(states, words)
    gradients = torch.autograd.grad(expected.mean(), list(head.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        losses = head(states, words)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, expected, rtol=0, atol=0.1)
    assert losses.mean().item() == pytest.approx(expected.mean().item(), abs=0.002)
    for gradient, exact in zip(torch.autograd.grad(losses.mean(), list(head.parameters())), gradients, strict=True):
        assert (gradient - exact).norm() < 0.02 * exact.norm()


def plain_loss(
    lm: CharLM,
    head: WordHead,
    config: ObjectiveConfig,
    states: Tensor,
    characters: Tensor,
    words: WordTargets,
) -> tuple[Tensor, Tensor]:
    """Return the loss of a window and that of its words, word by word."""
    logits = states @ lm.decoder.weight.T + lm.decoder.bias
    losses = -functional.log_softmax(logits, dim=2)
    positions, lanes = np.indices(characters.shape)
    total = losses[positions, lanes, characters].sum()
    nats = torch.zeros(())
    for position, numbers in zip(words.positions.tolist(), words.words.tolist(), strict=True):
        state = states[position // states.shape[1], position % states.shape[1]]
        for number in numbers:
            if number >= 0:
                nats = nats - log_probabilities(head, state[None])[0, number]
    return (total + config.weight * nats / config.ahead) / characters.numel(), nats


@given(
    st.lists(st.lists(st.sampled_from([-1, 0, 1, 5, 11]), min_size=2, max_size=2), max_size=8),
    st.floats(0.1, 3.0),
)
def test_the_loss_of_a_window_and_its_gradient(numbers: list[list[int]], weight: float) -> None:
    torch.manual_seed(len(numbers))
    lm = CharLM(CharLMConfig(hidden_size=6, embedding_dim=4, vocab_size=9))
    head, config = WordHead(6, np.arange(12, 0, -1)), ObjectiveConfig(words=12, ahead=2, weight=weight)
    inputs, targets = torch.randint(9, (2, 5, 3)).unbind()
    positions = torch.arange(len(numbers)) * 2 % 15
    words = WordTargets(positions, torch.tensor(numbers, dtype=torch.int64).reshape(-1, 2))
    plain_lm, plain_head = copy.deepcopy((lm, head))

    loss, _ = Objective(lm, config, head)(inputs, targets, words, None)
    loss.total.backward()
    expected, nats = plain_loss(plain_lm, plain_head, config, plain_lm.hidden_states(inputs)[0], targets, words)
    expected.backward()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.words.item() == pytest.approx(nats.item(), rel=1e-4, abs=1e-6)
    assert loss.word_count == sum(number >= 0 for of_state in numbers for number in of_state)
    for module, plain in ((lm, plain_lm), (head, plain_head)):
        for (name, parameter), other in zip(module.named_parameters(), plain.parameters(), strict=True):
            gradient = torch.zeros_like(other) if other.grad is None else other.grad
            assert parameter.grad is not None, f"{name} is unused, for which other processes would wait"
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6, msg=name)


def text_and_models(config: TrainConfig, folder: Path) -> tuple[EpochText, CharLM, WordHead]:
    encoded = encode_corpus(config.data, config.vocab, config.seed, folder / "encoded")
    frequent = FrequentWords.of(encoded, config.objective.words)
    lm = CharLM(dataclasses.replace(config.model, vocab_size=len(encoded.vocab)))
    text = Epochs(encoded, config.data, config.seed, frequent=frequent).text
    return text, lm, WordHead(config.model.output_size, frequent.counts)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_step_is_one_of_adamw_on_the_clipped_gradient_of_both(tmp_path: Path, direction: str) -> None:
    """Against the same steps written out in PyTorch, with two windows in each."""
    config = tiny_config(
        tmp_path,
        model=CharLMConfig(hidden_size=16, embedding_dim=8),
        optimizer=OptimizerConfig(weight_decay=0.0, clip_norm=0.1),
        objective=WORDS,
        accumulation_steps=2,
    )
    text, lm, head = text_and_models(config, tmp_path)
    backward = direction == "backward"
    windows = WindowStream(text, 4, 16, backward=backward, words=WORDS.prediction)
    one = DirectionTrainer(copy.deepcopy(lm), direction, config.step_options, DistributedContext(), copy.deepcopy(head))
    one.start_epoch(text)
    parameters = [*lm.parameters(), *head.parameters()]
    plain = torch.optim.AdamW(parameters, lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    state = None
    for step in range(2):
        result = one.step(step, 0.01)
        plain.zero_grad()
        word_nats = 0.0
        for number in (2 * step, 2 * step + 1):
            window = windows.window(number)
            assert window.words is not None
            states, state = lm.hidden_states(window.inputs, state)
            state = map_state(torch.detach, state)
            loss, nats = plain_loss(lm, head, WORDS, states, window.targets, window.words)
            (loss / 2).backward()
            word_nats += nats.item()
        norm = float(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm())
        assert float(result.gradient_norm) == pytest.approx(norm, rel=1e-4)
        assert float(result.word_nats) == pytest.approx(word_nats, rel=1e-4)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= min(1.0, 0.1 / norm)
        plain.step()
    for (name, weights), expected in zip(one.lm.named_parameters(), lm.parameters(), strict=True):
        torch.testing.assert_close(weights, expected, rtol=0, atol=2e-4, msg=name)


def test_characters_alone_are_trained_as_before(tmp_path: Path) -> None:
    """A direction trainer with and without the words of a weight that is next to nothing."""
    weights = []
    for objective in (ObjectiveConfig(), ObjectiveConfig(words=50, weight=1e-30)):
        result = train(tiny_config(tmp_path, output=str(tmp_path / str(objective.words)), objective=objective))
        weights.append(Pretrained.load(result.folder / "last").model.state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a run stop without a word before a step, as if it were killed."""
    original = Trainer._take_step

    def take_step(self: Trainer, spent: float) -> None:
        if self.state.step == step:
            raise KeyboardInterrupt
        original(self, spent)

    monkeypatch.setattr(Trainer, "_take_step", take_step)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="both directions"),
        # PyTorch runs a GRU in bfloat16 on every CPU, which it does not do with an LSTM.
        pytest.param(
            {
                "precision": "bfloat16",
                "direction": "backward",
                "model": CharLMConfig(cell="gru", hidden_size=8, embedding_dim=4),
                "seq_len": 8,
            },
            id="bfloat16",
        ),
    ],
)
def test_a_run_that_predicts_words_resumes_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict
) -> None:
    options = {"objective": WORDS, "budget": BudgetConfig(steps=60), "validations": 2} | changes
    whole = train(resumable(tmp_path, output=str(tmp_path / "whole"), **options))
    with monkeypatch.context() as patch:
        stop_at(45, patch)
        with pytest.raises(KeyboardInterrupt):
            train(resumable(tmp_path, **options))
    result = train(resumable(tmp_path, **options))
    assert_same_run(result.folder, whole.folder)
    assert any("head." in name for name in newest_checkpoint(result.folder).tensors)
    assert result.report.validations[-1]["nats_per_word"] == whole.report.validations[-1]["nats_per_word"]


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = train(resumable(tmp_path, objective=WORDS, output=str(tmp_path / "whole")))
    config = resumable(tmp_path, objective=WORDS, checkpoint_minutes=0.001)
    for step in (61, 20):
        run_and_kill(config, kill_in_step(step))
    assert_same_run(train(config).folder, whole.folder)


def test_a_direction_alone_is_the_same_as_in_both(tmp_path: Path) -> None:
    both = train(tiny_config(tmp_path, objective=WORDS, output=str(tmp_path / "both")))
    for direction in ("forward", "backward"):
        alone = train(tiny_config(tmp_path, objective=WORDS, direction=direction, output=str(tmp_path / direction)))
        pair, own = newest_checkpoint(both.folder).tensors, newest_checkpoint(alone.folder).tensors
        assert_same_weights(own, {name: tensor for name, tensor in pair.items() if name.startswith(direction)})
        assert not torch.equal(own[f"{direction}.head.projection.bias"], torch.zeros(256))


def test_words_are_learned_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"optimizer": OptimizerConfig(lr=0.01, warmup_steps=5), "budget": BudgetConfig(steps=120)}
    result = train(tiny_config(tmp_path, objective=ObjectiveConfig(words=1000), batch_size=8, **changes))
    other = train(tiny_config(tmp_path, output=str(tmp_path / "other")))
    records = read_log(result.folder)
    for direction in ("forward", "backward"):
        trained = [r[f"nats_per_word_{direction}"] for r in records if r["kind"] == "train"]
        validated = [r[f"nats_per_word_{direction}"] for r in records if r["kind"] == "valid"]
        assert 0 < trained[-1] < math.log(1000)
        assert validated[1] < validated[0] < math.log(1000)
        assert [v["nats_per_word"][direction] for v in result.report.validations] == validated
    assert not any("nats_per_word" in name for record in read_log(other.folder) for name in record)
    lines = table({"words": result.report, "characters": other.report}).splitlines()
    assert [line.split()[-2:] for line in lines if line.startswith("words predicted")] == [["1,000", "no"]]
    assert [line.split()[-1] for line in lines if line.startswith("nats per word, last")] == ["none"]
    # The heads are not part of the model.
    assert result.report.weights == other.report.weights
    pretrained = Pretrained.load(result.folder / "best")
    assert pretrained.provenance["words_predicted"] == 1000
    assert pretrained.model.state_dict().keys() == Pretrained.load(other.folder / "best").model.state_dict().keys()
    # The report of a run of 0.1.0 says nothing of words.
    report = json.loads((other.folder / "report.json").read_text())
    del report["config"]["objective"]
    (other.folder / "report.json").write_text(json.dumps(report))
    assert main(["report", str(other.folder)]) == 0
    assert "words predicted" in capsys.readouterr().out


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("position", ["word", "separator"])
@pytest.mark.parametrize(("lane", "max_states"), [(4096, 1000), (200, 1000), (4096, 80)])
def test_words_of_validation_text_are_scored_one_by_one(
    tmp_path: Path, backward: bool, position: str, lane: int, max_states: int
) -> None:
    """Against a reading of the validation text in plain Python."""
    objective = ObjectiveConfig(words=100, ahead=2, position=position)
    config = tiny_config(tmp_path, objective=objective)
    trainer = ModelTrainer(config, encode_text(config, tmp_path / "text", None), None, DistributedContext())
    frequent, encoded = trainer.frequent, trainer.encoded
    direction = "backward" if backward else "forward"
    lm, head, ids = trainer.model.direction(direction), trainer._heads[direction], encoded.valid[:1000]
    limits = ScoringLimits(lane=lane, chunk=50)
    marks = frequent.marker.mark(ids, np.array([[0, len(ids)]]))
    order = slice(None, None, -1 if backward else 1)
    scorer = WordScorer(
        head, marks[order], objective.prediction, backward=backward, limits=limits, max_states=max_states
    )
    score(lm, ids[order], encoded.vocab, limits, observe=scorer)
    # Read each lane from the zero state, after the character before it.
    text = encoded.vocab.decode(ids)
    spans = find_words(text).tolist()
    ends = [len(text) - 1 - start if backward else end - 1 for start, end in spans][order]
    firsts = [len(text) - end if backward else start for start, end in spans][order]
    words = [text[start:end] for start, end in spans][order]
    numbers = [frequent.words.index(word) if word in frequent.words else -1 for word in words]
    lanes = max(1, 1000 // lane)
    length = 1000 // lanes
    nats: dict[int, list[float]] = {}
    """The losses of the words that each state predicts."""
    with torch.no_grad():
        stream = torch.from_numpy(np.concatenate([encoded.vocab.encode("\n"), ids[order]]).astype(np.int64))
        states = torch.cat([lm.eval().hidden_states(s[:, None])[0][:, 0] for s in stream[:1000].split(length)])
        for k, end in enumerate(ends):
            state = end + 1 + (position == "separator")
            if state >= 1000 or state // length != (end + 1) // length:
                continue
            following = [number for j, number in enumerate(numbers) if j > k and firsts[j] >= state][:2]
            for number in following:
                if number >= 0:
                    loss = -float(log_probabilities(head, states[state, None])[0, number])
                    nats.setdefault(state, []).append(loss)
    # If there are too many states, those of every second or third chunk are scored.
    every = math.ceil(len(nats) / max_states)
    assert (every > 1) == (max_states == 80)
    scored = [loss for state, losses in nats.items() for loss in losses if state % length // 50 % every == 0]
    assert scorer.nats_per_word == pytest.approx(sum(scored) / len(scored), rel=1e-4)
    assert len(scored) > 50


def test_text_without_words_has_no_loss_of_words() -> None:
    scorer = WordScorer(WordHead(4, np.array([2, 1])), np.zeros(10, "<u2"), WORDS.prediction, backward=False)
    scorer(torch.zeros(10, 1, 4))
    assert scorer.nats_per_word is None


def test_the_mean_is_over_words_not_steps() -> None:
    meter = Meter(["forward"], DistributedContext())
    for nats, count in ((8.0, 4.0), (0.0, 0.0), (10.0, 2.0)):
        meter.add({"forward": StepResult(*map(torch.tensor, (2.0, 1.0, nats, count)))})
    assert meter.take(3).nats_per_word == {"forward": pytest.approx(3.0)}
    meter.add({"forward": StepResult(*map(torch.tensor, (2.0, 1.0, 0.0, 0.0)))})
    assert meter.take(4).nats_per_word == {}
    meter.add({"forward": StepResult(*map(torch.tensor, (2.0, 1.0, float("nan"), 1.0)))})
    with pytest.raises(CharEmbedError, match="the loss of words of the forward model is nan at step 5"):
        meter.take(5)


def test_a_model_without_a_head_can_be_the_beginning(tmp_path: Path) -> None:
    first = train(tiny_config(tmp_path, output=str(tmp_path / "first")))
    config = tiny_config(tmp_path, objective=WORDS, init=str(first.folder / "last"), budget=BudgetConfig(steps=0))
    result = train(config)
    weights, expected = (Pretrained.load(run.folder / "last").model.state_dict() for run in (result, first))
    assert_same_weights(weights, expected)
    initial = load_initial(config.init, config.directions)
    assert ModelTrainer(config, encode_text(config, tmp_path / "t", initial), initial, DistributedContext()).frequent


def test_the_objective_of_a_run_cannot_change(tmp_path: Path) -> None:
    train(tiny_config(tmp_path))
    with pytest.raises(CharEmbedError, match=r"objective.words 0 → 200"):
        train(tiny_config(tmp_path, objective=WORDS))
    config = tmp_path / "out" / "config.yaml"
    text = config.read_text()
    begin = text.index("objective:")
    # A configuration of 0.1.0 has no objective and no digest.
    config.write_text(text[:begin] + text[text.index("init:", begin) : text.index("# SHA-256")])
    with pytest.raises(CharEmbedError, match=r"objective.words 0 → 200"):
        train(tiny_config(tmp_path, objective=WORDS))
    assert train(tiny_config(tmp_path, budget=BudgetConfig(steps=7))).report.steps == 7


def test_a_run_with_other_words_is_not_resumed(tmp_path: Path) -> None:
    folder = train(tiny_config(tmp_path, objective=WORDS)).folder
    checkpoint = newest_checkpoint(folder)
    state = dataclasses.replace(checkpoint.state, text=checkpoint.state.text | {"words_sha256": "of other words"})
    Checkpoint(checkpoint.tensors, state).save(folder / "checkpoints", keep=1)
    with pytest.raises(CharEmbedError, match="was started with other frequent words, as another version"):
        train(tiny_config(tmp_path, objective=WORDS, budget=BudgetConfig(steps=7)))


def test_files_of_words_that_a_run_does_not_need_are_removed(tmp_path: Path) -> None:
    for words in (200, 100):
        result = train(tiny_config(tmp_path, objective=ObjectiveConfig(words=words), overwrite=True))
    names = {path.name.split(".")[0] for path in result.folder.glob("text/*/words-*")}
    assert len(names) == 1
    assert names.pop().endswith("-100")


def test_a_text_of_one_word(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(["same " * k for k in range(2, 60)]))
    data = CorpusConfig(train=str(text), held_out=0.1)
    with pytest.raises(CharEmbedError, match=r"objective.words needs a text with at least two different words"):
        train(tiny_config(tmp_path, data=data, objective=WORDS))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"words": -1}, "objective.words must be 0 or from 2 to 32766, got -1"),
        ({"words": 1}, "objective.words must be 0 or from 2 to 32766, got 1"),
        ({"words": 32_767}, "objective.words must be 0 or from 2 to 32766, got 32767"),
        ({"ahead": 0}, "objective.ahead must be positive, got 0"),
        ({"weight": 0.0}, "objective.weight must be positive, got 0.0"),
        ({"weight": float("nan")}, "objective.weight must be positive"),
        ({"position": "middle"}, "objective.position must be one of word, separator, both, got 'middle'"),
    ],
)
def test_values_that_are_refused(values: dict, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        ObjectiveConfig(**values)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--data.train", str(EXCERPT), "--output", str(tmp_path / "out"), "--model.hidden_size", "8"]
    assert main([*arguments, "--objective.words", "1"]) == 2
    assert "objective.words must be 0 or from 2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "--objective.words" in capsys.readouterr().out


def test_a_dry_run_counts_the_words(tmp_path: Path) -> None:
    limits = DryRunLimits(warm_up_seconds=0.0, measured_seconds=0.1, scored_characters=500)
    forecast = dry_run(tiny_config(tmp_path, objective=WORDS), limits)
    assert forecast.words == 200
    assert 0.3 < forecast.share_of_words < 1
    assert f"next words       200 to predict, {forecast.share_of_words:.1%} of the words of the text" in str(forecast)
    without = dry_run(tiny_config(tmp_path), limits)
    assert "to predict" not in str(without)
    assert forecast.weights == without.weights


def test_pieces_of_the_adaptive_softmax_cover_all_words() -> None:
    for words in (2, 2000, 2001, 10_000, 10_001, 32_766):
        cutoffs = [0, *WordHead(2, np.ones(words, dtype=np.int64)).softmax.cutoffs]
        assert cutoffs[-1] == words
        assert all(start < stop for start, stop in pairwise(cutoffs))
