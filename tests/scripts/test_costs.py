"""The cost model of docs/scale.md."""

from __future__ import annotations

import runpy

import pytest
from helpers import ROOT, run_script

from charembed import CharEmbedError

estimate = runpy.run_path(str(ROOT / "scripts" / "benchmarks" / "costs.py"))["estimate"]


def test_the_formulas() -> None:
    cost = estimate(5.5e9, 1000, dim=100, efficiency=0.5, hour=0.1, gb_month=0.02, thousand_requests=0.005)
    assert cost.hours == pytest.approx(5.5e9 / 500 / 3600)
    assert cost.written_bytes == pytest.approx(1e9 * 500)
    assert cost.files == pytest.approx(500e9 / 64e6)
    assert cost.money == pytest.approx(cost.hours * 0.1 + 500 * 0.02 + cost.files * 4 / 1000 * 0.005)


def test_costs_grow_with_the_corpus_and_the_passes() -> None:
    one, many = estimate(1e9, 2000, dim=10, hour=1), estimate(1e12, 2000, dim=10, hour=1)
    assert many.money == pytest.approx(1000 * one.money)
    assert many.written_bytes == pytest.approx(1000 * one.written_bytes)
    assert estimate(1e9, 2000, passes=3).hours == pytest.approx(3 * one.hours)
    assert estimate(1e9, 2000).written_bytes == 0


@pytest.mark.parametrize("options", [{"efficiency": 0}, {"efficiency": 1.1}, {"passes": 0}])
def test_impossible_numbers_are_refused(options: dict) -> None:
    with pytest.raises(CharEmbedError, match="must be positive and efficiency at most 1"):
        estimate(1e9, 1000, **options)


def test_the_script_prints_a_table() -> None:
    printed = run_script("benchmarks/costs.py", "--characters", "[1e9, 1e12]", "--rate", "2000", "--hour", "0.05")
    assert [line.split("|")[2].strip() for line in printed.splitlines()[2:]] == ["139", "138,889"]
