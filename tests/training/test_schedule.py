"""Budgets, and the learning rate schedule that ends with them."""

from __future__ import annotations

import pytest

from charembed import CharEmbedError
from charembed.lm.model import Cell
from charembed.training.schedule import BudgetConfig, OptimizerConfig


def test_the_share_of_each_kind_of_budget() -> None:
    assert BudgetConfig(minutes=2).spent(seconds=60, steps=9, epochs=1.8) == 0.5
    assert BudgetConfig(steps=10).spent(seconds=60, steps=9, epochs=1.8) == 0.9
    assert BudgetConfig(epochs=1.5).spent(seconds=60, steps=6, epochs=0.75) == 0.5
    assert BudgetConfig(steps=0).spent(seconds=0, steps=0, epochs=0) == 1.0


def test_the_first_budget_spent_ends_the_run() -> None:
    both = BudgetConfig(minutes=1, steps=100)
    assert both.spent(seconds=60, steps=1, epochs=0.2) == 1.0
    assert both.spent(seconds=6, steps=50, epochs=10) == 0.5


def test_the_default_is_an_hour() -> None:
    assert BudgetConfig().limit_minutes == 60.0
    assert BudgetConfig().spent(seconds=1800, steps=9, epochs=1) == 0.5
    assert BudgetConfig(steps=5).limit_minutes is None


def test_the_learning_rate_rises_then_falls_to_its_final_value() -> None:
    config = OptimizerConfig(lr=1.0, final_lr=0.1, warmup_steps=10)
    rates = [config.learning_rate(spent=step / 100, step=step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, abs=0.01)
    assert rates[:9] == sorted(rates[:9])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) <= 1.0
    assert rates[100] == pytest.approx(0.1)
    assert config.learning_rate(spent=1.3, step=130) == pytest.approx(0.1), "the rate falls below its final value"
    assert OptimizerConfig(lr=1.0, warmup_steps=0).learning_rate(spent=0.0, step=0) == 1.0


@pytest.mark.parametrize(("cell", "lr"), [("lstm", 0.003), ("elman", 0.002), ("gru", 0.0025), ("mgu", 0.0025)])
def test_the_default_learning_rate_of_each_recurrence(cell: Cell, lr: float) -> None:
    assert OptimizerConfig().for_cell(cell).lr == lr
    assert OptimizerConfig(lr=0.1).for_cell(cell).lr == 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BudgetConfig(minutes=0), "budget.minutes must be positive and finite, got 0"),
        (lambda: BudgetConfig(minutes=float("nan")), "budget.minutes"),
        (lambda: BudgetConfig(epochs=float("inf")), "budget.epochs must be positive and finite, got inf"),
        (lambda: BudgetConfig(steps=-1), "budget.steps must not be negative"),
        (lambda: OptimizerConfig(lr=0), "optimizer.lr must be positive and finite, got 0"),
        (lambda: OptimizerConfig(beta2=1.0), "optimizer.beta2 must be at least 0 and below 1"),
        (lambda: OptimizerConfig(warmup_steps=-1), "optimizer.warmup_steps must be finite and not negative"),
    ],
)
def test_values_out_of_range_are_refused(make, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        make()


def test_validations_take_at_most_their_share_of_a_budget_in_minutes() -> None:
    budget = BudgetConfig(minutes=10)  # 600 seconds, of which 120 may be spent on validations
    assert budget.allows_validation(others=100, expected=20)
    assert not budget.allows_validation(others=100, expected=21)
    assert BudgetConfig(steps=1).allows_validation(others=10**6, expected=10**6)
