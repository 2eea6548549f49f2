"""Embedding and tagging on a real Ray cluster of several nodes, some of which are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_helpers import assert_same_rows, read_rows
from helpers import EXCERPT, small_model, small_tagger

from charembed import CharEmbedder, Context
from charembed.cli.main import main
from charembed.cluster.embedding import embed_on_cluster
from charembed.output import OutputConfig, write_embeddings
from charembed.text.corpus import Corpus
from charembed.util.files import MANIFEST

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs the extra ray", exc_type=ImportError)
pytestmark = [
    pytest.mark.slow,  # starting Ray and its workers takes a minute where there are two cores
    pytest.mark.filterwarnings("default"),  # Ray raises warnings of its own
]
UNIT, NODE = 500, {"num_cpus": 1, "object_store_memory": 100 << 20}
PARQUET = OutputConfig(format="parquet")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head node without cores and two nodes with one core each, each with processes of its own."""
    head = {"num_cpus": 0, "object_store_memory": 100 << 20, "include_dashboard": False}
    running = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            running.add_node(**NODE)
        yield running
    finally:
        running.shutdown()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text file and a file of records: 56 units."""
    folder = tmp_path_factory.mktemp("text")
    excerpt = EXCERPT.read_text(encoding="utf-8")
    (folder / "a.txt").write_text(excerpt[:30_000], encoding="utf-8")
    records = [json.dumps({"text": line}) for line in excerpt[30_000:42_000].split("\n")]
    (folder / "b.jsonl").write_text("\n".join(records), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    small_model().save(folder)
    return folder


@pytest.fixture(scope="module")
def expected(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The rows that one machine writes."""
    folder = tmp_path_factory.mktemp("one") / "out"
    write_embeddings(CharEmbedder(small_model()), Corpus(text), folder, PARQUET)
    return read_rows(folder)


def embed(cluster: Any, text: Path, folder: Path, context: Context | None = None) -> Any:
    embedder = CharEmbedder(small_model(), threads=1)
    return embed_on_cluster(
        embedder, Corpus(text), str(folder), PARQUET, context, address=cluster.address, unit_characters=UNIT
    )


def parts(folder: Path) -> list[Path]:
    return list(folder.glob("part-*"))


class NodeKiller(threading.Thread):
    """Kills a node as soon as a folder contains some files."""

    def __init__(self, cluster: Any, node: Any, folder: Path, files: int) -> None:
        super().__init__(daemon=True)
        self._cluster, self._node, self._folder, self._files = cluster, node, folder, files
        self.files_then = 0

    def run(self) -> None:
        while len(parts(self._folder)) < self._files:
            time.sleep(0.005)
        self._cluster.remove_node(self._node, allow_graceful=False)
        self.files_then = len(parts(self._folder))


def embed_and_kill(cluster: Any, text: Path, folder: Path, expected: Any, node: Any, files: int) -> None:
    """Embed a text, kill a node in the middle, compare the rows, and replace the node."""
    killer = NodeKiller(cluster, node, folder, files)
    killer.start()
    manifest = embed(cluster, text, folder)
    killer.join(timeout=60)
    cluster.add_node(**NODE)
    assert 0 < killer.files_then < manifest.files, "the node was not killed in the middle"
    assert (manifest.complete, manifest.words) == (True, expected.num_rows)
    assert manifest.files == len(parts(folder))
    assert_same_rows(read_rows(folder), expected)
    assert not list(folder.glob(".part*")), "unfinished files are left"


def worker_nodes(cluster: Any) -> list[Any]:
    return [node for node in cluster.list_all_nodes() if node is not cluster.head_node]


def test_a_cluster_writes_the_rows_of_one_machine(cluster: Any, text: Path, tmp_path: Path) -> None:
    context = Context(sentences=2)
    write_embeddings(CharEmbedder(small_model()), Corpus(text), tmp_path / "one", PARQUET, context)
    manifest = embed(cluster, text, tmp_path / "many", context)
    assert manifest.files == len(parts(tmp_path / "many")) > 50
    assert_same_rows(read_rows(tmp_path / "many"), read_rows(tmp_path / "one"))


def test_a_node_is_killed(cluster: Any, text: Path, expected: Any, tmp_path: Path) -> None:
    embed_and_kill(cluster, text, tmp_path / "out", expected, worker_nodes(cluster)[-1], files=10)


@pytest.mark.parametrize("number", range(20))
def test_nothing_is_lost_or_doubled_in_20_killed_runs(
    cluster: Any, text: Path, expected: Any, tmp_path: Path, number: int
) -> None:
    rng = random.Random(number)
    embed_and_kill(cluster, text, tmp_path / "out", expected, rng.choice(worker_nodes(cluster)), rng.randint(1, 40))


def test_the_command_is_killed_and_called_again(
    cluster: Any, text: Path, model: Path, expected: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    arguments = ["embed", "--model", str(model), str(text), "-o", str(folder), "--format", "parquet"]
    arguments += ["--cluster", cluster.address, "--shard-mb", "1"]
    process = subprocess.Popen([sys.executable, "-m", "charembed", *arguments], stderr=subprocess.DEVNULL)
    while process.poll() is None and not parts(folder):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert '"complete": false' in (folder / MANIFEST).read_text()
    first = {path: path.stat().st_mtime_ns for path in parts(folder)}
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(f"{folder}: {expected.num_rows:,} words in ")
    assert first == {path: path.stat().st_mtime_ns for path in first}, "files were written again"
    assert_same_rows(read_rows(folder), expected)


def test_an_error_in_a_worker_is_reported_in_one_sentence(
    cluster: Any, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.txt").write_bytes(b"good\nb\xffd\n")
    arguments = ["embed", "--model", str(model), str(tmp_path / "bad.txt"), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--format", "parquet", "--cluster", cluster.address]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"charembed: error: {tmp_path}/bad.txt, line 2: byte 6 (0xff) is not UTF-8: convert")
    assert last.endswith("to read invalid bytes as U+FFFD")


def test_tags_are_those_of_one_machine(
    cluster: Any, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_tagger(CharEmbedder(small_model())).save(tmp_path / "tagger")
    arguments = ["tag", "predict", str(tmp_path / "tagger"), str(text)]
    assert main([*arguments, "-o", str(tmp_path / "one.jsonl")]) == 0
    assert main([*arguments, "-o", str(tmp_path / "many"), "--cluster", cluster.address]) == 0
    expected = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text(encoding="utf-8").splitlines()]
    assert f"{len(expected):,} texts" in capsys.readouterr().out
    assert read_rows(tmp_path / "many").to_pylist() == expected
