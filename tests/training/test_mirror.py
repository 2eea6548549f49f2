"""The copy of a run at an address, in a local S3 server: never incomplete, and good to resume on another machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from helpers import EXCERPT, assert_same_weights, small_tagger, tiny_config, weights_of

from charembed import CharEmbedder, CharEmbedError, train
from charembed.cli.main import main
from charembed.pretrained.model_folder import Pretrained
from charembed.tagging.tagger import Tagger
from charembed.training.schedule import BudgetConfig
from charembed.training.trainer import Trainer
from charembed.util.remote_folder import COMPLETE, put_folder
from charembed.util.shared_folder import SharedFolder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that speaks the protocol of S3."""
    pytest.importorskip("s3fs", reason="needs the extra s3")
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    running = moto.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def memory() -> Iterator[str]:
    """An empty file system in the memory of this process."""
    fsspec.filesystem("memory").store.clear()
    yield "memory://bucket"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def bucket_of_s3(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket of the server."""
    import boto3

    values = {"ENDPOINT_URL": server, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    for entry in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=entry["Key"])
    return "s3://bucket"


@pytest.fixture(params=["memory", pytest.param("bucket_of_s3", marks=pytest.mark.slow)])
def bucket(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def test_a_run_moves_to_another_machine(bucket: str, tmp_path: Path) -> None:
    address = f"{bucket}/runs/mine"
    train(tiny_config(tmp_path / "first", budget=BudgetConfig(steps=3), mirror=address))
    assert SharedFolder(address).names() == {"best", "last", "checkpoints", "config.yaml", "log.jsonl", "report.json"}
    local = {path.name for path in (tmp_path / "first" / "out" / "checkpoints").iterdir()}
    assert SharedFolder(f"{address}/checkpoints").names() == local
    shutil.rmtree(tmp_path / "first")
    result = train(tiny_config(tmp_path / "second", budget=BudgetConfig(steps=6), mirror=address))
    assert result.report.steps == 6
    assert json.loads(SharedFolder(address).read("report.json") or b"")["state"] == "finished"
    pretrained = Pretrained.load(f"{address}/last")
    assert_same_weights(pretrained.model.state_dict(), weights_of(tmp_path / "second" / "out"))


def test_a_resumed_run_has_the_weights_of_one_in_one_piece(bucket: str, tmp_path: Path) -> None:
    """A budget that is raised changes the schedule, so the first run is stopped instead."""
    config = tiny_config(tmp_path / "first", mirror=f"{bucket}/runs/mine", checkpoint_minutes=1e-6)
    with pytest.MonkeyPatch.context() as patch:
        original = Trainer._take_step

        def stop_at_four(trainer: Trainer, spent: float) -> None:
            if trainer.state.step == 4:
                raise ConnectionAbortedError
            original(trainer, spent)

        patch.setattr(Trainer, "_take_step", stop_at_four)
        with pytest.raises(ConnectionAbortedError):
            train(config)
    train(tiny_config(tmp_path / "second", mirror=f"{bucket}/runs/mine", checkpoint_minutes=1e-6))
    train(tiny_config(tmp_path / "whole"))
    assert_same_weights(weights_of(tmp_path / "second" / "out"), weights_of(tmp_path / "whole" / "out"))


def test_training_survives_a_mirror_that_cannot_be_written(
    memory: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(*_: object) -> None:
        raise ConnectionResetError("the line is dead")

    monkeypatch.setattr(SharedFolder, "put", put)
    with pytest.raises(CharEmbedError, match=r"run cannot be written: ConnectionResetError: the line is dead; to try"):
        train(tiny_config(tmp_path, mirror=f"{memory}/run"))
    assert "the next checkpoint tries again" in caplog.text
    assert (tmp_path / "out" / "best" / "config.json").exists()
    monkeypatch.undo()
    train(tiny_config(tmp_path, mirror=f"{memory}/run"))
    assert "best" in SharedFolder(f"{memory}/run").names()


def test_corpus_and_output_at_an_address(bucket: str, tmp_path: Path, embedder: CharEmbedder) -> None:
    folder = SharedFolder(f"{bucket}/corpus")
    text = EXCERPT.read_text(encoding="utf-8")[:2000]
    folder.write("a.txt", text.encode())
    folder.write("b.jsonl", b'{"text": "The lazy dog."}\n')
    embedder.save_pretrained(tmp_path / "model")
    put_folder(tmp_path / "model", f"{bucket}/model")
    options = ["embed", "-m", f"{bucket}/model", "-o", str(tmp_path / "out"), "--format", "parquet"]
    assert main([*options, f"{bucket}/corpus/"]) == 0
    rows = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    sources = {source.rpartition("/")[2] for source in rows["source"].to_pylist()}
    assert sources == {"a.txt", "b.jsonl"}
    (expected,) = embedder.embed(["The lazy dog."])
    assert rows["word"].to_pylist()[-4:] == expected.words


def test_a_tagger_at_an_address(bucket: str, tmp_path: Path, embedder: CharEmbedder) -> None:
    tagger = small_tagger(embedder)
    tagger.save(tmp_path / "tagger")
    put_folder(tmp_path / "tagger", f"{bucket}/tagger")
    assert Tagger.load(f"{bucket}/tagger").predict(["The lazy dog."]) == tagger.predict(["The lazy dog."])
    SharedFolder(f"{bucket}/tagger").remove([COMPLETE])
    with pytest.raises(CharEmbedError, match="there is no complete folder"):
        Tagger.load(f"{bucket}/tagger")


def test_a_mirror_is_an_address(tmp_path: Path) -> None:
    with pytest.raises(CharEmbedError, match="mirror must be an address such as s3://bucket/runs/mine, got runs/mine"):
        tiny_config(tmp_path, mirror="runs/mine")
