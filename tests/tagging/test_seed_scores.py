"""Mean, spread and difference of the scores of several seeds, compared with SciPy."""

from __future__ import annotations

import numpy as np
import pytest

from charembed.tagging.seed_scores import PairedDifference, Spread

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("count", [2, 3, 5, 12, 31])
@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_interval_is_that_of_the_paired_t_test(count: int, shift: float) -> None:
    scores, others = np.random.default_rng(count).normal(50, 1, size=(2, count))
    scores += shift
    difference = PairedDifference.of(scores.tolist(), others.tolist())
    expected = stats.ttest_rel(scores, others)
    low, high = expected.confidence_interval(0.95)
    assert difference.mean - difference.margin == pytest.approx(low, abs=1e-3 * difference.margin)
    assert difference.mean + difference.margin == pytest.approx(high, abs=1e-3 * difference.margin)
    assert difference.exceeds_spread == (expected.pvalue < 0.05)


def test_interval_of_more_seeds_than_the_table_has_is_a_little_too_wide() -> None:
    scores, others = np.random.default_rng(1).normal(50, 1, size=(2, 40))
    low, high = stats.ttest_rel(scores, others).confidence_interval(0.95)
    assert (high - low) / 2 < PairedDifference.of(scores.tolist(), others.tolist()).margin < 1.12 * (high - low) / 2


def test_equal_scores_do_not_differ_by_more_than_the_spread() -> None:
    assert not PairedDifference.of([50.0, 50.0], [50.0, 50.0]).exceeds_spread


def test_spread_of_scores() -> None:
    assert str(Spread.of([1.0, 2.0, 3.0])) == "2.00 ± 1.00"
    assert str(Spread.of([1.0])) == "1.00"
