"""A small sample of the mutations that scripts/reliability/mutate.py makes."""

from __future__ import annotations

import sys

import pytest

from scripts.reliability.mutate import run_numbers, targets


@pytest.mark.skipif(sys.platform == "win32", reason="time limits need SIGALRM")
def test_mutated_files_are_refused_or_give_finite_vectors() -> None:
    findings = run_numbers(range(120), seed=7)
    assert not findings.failures, "\n".join(findings.failures)
    # Some of both kinds, or the mutations would be too strong or too weak to find anything.
    assert all(findings.outcomes[f"{name}: {end}"] for name in targets() for end in ("accepted", "refused"))
