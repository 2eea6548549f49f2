"""Scores of taggers that differ in their seed: mean, spread, and whether two models differ by more than it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# 97.5 % quantiles of Student's t distribution for 1, 2, … degrees of freedom. With more, the last one is a little too
# large, so the interval is a little too wide.
_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_ROUNDING = 0.005
"""Margin below which the scores do not vary enough to say anything about their spread."""


@dataclass(frozen=True)
class Spread:
    """Mean and spread of the scores of several seeds."""

    mean: float
    """The mean."""
    deviation: float | None
    """The standard deviation; None for a single score."""

    @classmethod
    def of(cls, scores: Sequence[float]) -> Spread:
        """Return the mean and spread of at least one score."""
        return cls(statistics.mean(scores), statistics.stdev(scores) if len(scores) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + ("" if self.deviation is None else f" ± {self.deviation:.2f}")


@dataclass(frozen=True)
class PairedDifference:
    """How much higher the scores of one model are than those of another, seed by seed (paired t-test)."""

    mean: float
    """Mean of the differences."""
    margin: float
    """Half the width of the 95 % confidence interval of the mean."""
    seeds: int
    """Number of seeds."""

    @classmethod
    def of(cls, scores: Sequence[float], others: Sequence[float]) -> PairedDifference:
        """Compare the scores of two models.

        Args:
            scores: scores of one model, for at least two seeds.
            others: scores of the other one, for the same seeds in the same order.
        """
        differences = [score - other for score, other in zip(scores, others, strict=True)]
        count = len(differences)
        quantile = _QUANTILES[min(count - 1, len(_QUANTILES)) - 1]
        margin = quantile * statistics.stdev(differences) / count**0.5
        return cls(statistics.mean(differences), margin, count)

    @property
    def exceeds_spread(self) -> bool:
        """Whether the interval does not contain 0: the seeds alone would hardly make such a difference."""
        return abs(self.mean) > self.margin and self.has_spread

    @property
    def has_spread(self) -> bool:
        """Whether the differences vary at all, beyond rounding. Few seeds on a small file can agree by chance."""
        return self.margin > _ROUNDING

    def __str__(self) -> str:
        return (
            f"{self.mean:+.2f} points, 95 % interval {self.mean - self.margin:+.2f} to {self.mean + self.margin:+.2f}"
            f" (paired t-test over {self.seeds} seeds)"
        )
