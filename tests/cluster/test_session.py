"""How Ray is started: silently, and with errors in one sentence. Ray is replaced by a module that records its calls."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

import pytest

from charembed.cluster.session import joined_cluster
from charembed.errors import CharEmbedError, MissingExtraError


class FakeRay(ModuleType):
    """Knows no cluster except one."""

    def __init__(self, cluster: str) -> None:
        super().__init__("ray")
        self._cluster = cluster
        self.calls: list[dict[str, Any]] = []
        self.usage_stats: str | None = None

    def init(self, **options: Any) -> None:
        self.usage_stats = os.environ.get("RAY_USAGE_STATS_ENABLED")
        if options["address"] not in (self._cluster, "local"):
            raise ConnectionError("Could not find any running Ray instance.\nMore lines")
        self.calls.append(options)

    def shutdown(self) -> None:
        self.calls.append({})


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    fake = FakeRay("10.0.0.1:6379")
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def test_a_cluster_is_joined_and_left(ray: FakeRay) -> None:
    with joined_cluster("10.0.0.1:6379"):
        assert [call["address"] for call in ray.calls] == ["10.0.0.1:6379"]
    assert ray.calls[-1] == {}
    assert ray.usage_stats == "0"


def test_auto_starts_ray_on_this_machine_without_its_dashboard(ray: FakeRay) -> None:
    with joined_cluster("auto"):
        (call,) = ray.calls
    assert (call["address"], call["include_dashboard"]) == ("local", False)


@pytest.mark.usefixtures("ray")
def test_a_cluster_that_is_not_there_is_reported() -> None:
    message = r"no Ray cluster can be reached at 10.0.0.9:1: Could not find any running Ray instance\.$"
    with pytest.raises(CharEmbedError, match=message), joined_cluster("10.0.0.9:1"):
        pytest.fail("joined")


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(MissingExtraError, match=r"--cluster needs ray: pip install 'charembed\[ray\]'"),
        joined_cluster("auto"),
    ):
        pytest.fail("joined")
