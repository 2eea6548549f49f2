"""Files and folders at addresses: complete or absent, whoever looks and whenever a copy is interrupted."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from charembed.errors import CharEmbedError
from charembed.text.sources import find_sources
from charembed.util import remote_folder
from charembed.util.remote_folder import COMPLETE, get_folder, put_folder
from charembed.util.shared_folder import SharedFolder

FILES = {"config.json": "{}", "model/weights.bin": "0123456789"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "charembed"


@pytest.fixture
def memory() -> Iterator[str]:
    """An empty folder in the memory of this process."""
    file_system = fsspec.filesystem("memory")
    file_system.store.clear()
    yield "memory://bucket/folder"
    file_system.store.clear()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "model"


@pytest.mark.parametrize("is_local", [True, False])
def test_a_file_appears_when_it_is_complete(tmp_path: Path, memory: str, is_local: bool) -> None:
    folder = SharedFolder(str(tmp_path) if is_local else memory)

    def write_half() -> None:
        with folder.file("a.bin") as path:
            path.write_bytes(b"half")
            assert folder.read("a.bin") is None
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert "a.bin" not in folder.names()
    for content in (b"first", b"second"):
        with folder.file("a.bin") as path:
            path.write_bytes(content)
        assert folder.read("a.bin") == content
    assert folder.names() == {"a.bin"}
    folder.remove(["a.bin", "absent"])
    assert folder.names() == set()
    assert pickle.loads(pickle.dumps(folder)).name == folder.name


def test_an_interrupted_upload_leaves_no_file(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.bin").write_bytes(b"0123456789")
    folder = SharedFolder(memory)

    def put_half(file_system: MemoryFileSystem, path: str, target: str) -> None:
        file_system.pipe_file(target, Path(path).read_bytes()[:5])
        raise ConnectionResetError

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_half)
    with pytest.raises(ConnectionResetError):
        folder.put(tmp_path / "a.bin", "a.bin")
    assert all(name.startswith(".") for name in folder.names())


def test_a_folder_comes_back_as_it_was(memory: str, model: Path, cache: Path) -> None:
    put_folder(model, memory)
    copy = get_folder(memory, [*FILES, "absent"])
    assert copy.parent == cache
    assert {name: (copy / name).read_text() for name in FILES} == FILES
    before = (copy / "config.json").stat().st_mtime_ns
    assert get_folder(memory, FILES) == copy
    assert (copy / "config.json").stat().st_mtime_ns == before, "downloaded again"
    (model / "config.json").write_text('{"new": 1}')
    put_folder(model, memory)
    assert (get_folder(memory, FILES) / "config.json").read_text() == '{"new": 1}'


def test_only_named_files_are_downloaded(memory: str, model: Path) -> None:
    put_folder(model, memory)
    copy = get_folder(memory, ["config.json"])
    assert {path.name for path in copy.iterdir()} == {"config.json", COMPLETE}
    assert (get_folder(memory, FILES) / "model" / "weights.bin").exists()


@pytest.mark.parametrize("uploads", range(3))
def test_a_folder_whose_upload_was_interrupted_is_refused(
    memory: str, model: Path, uploads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_folder(model, memory)
    (model / "config.json").write_text('{"new": 1}')
    original, calls = SharedFolder.put, []

    def put(self: SharedFolder, path: Path, name: str) -> None:
        if len(calls) == uploads:
            raise ConnectionResetError
        calls.append(name)
        original(self, path, name)

    monkeypatch.setattr(SharedFolder, "put", put)
    with pytest.raises(ConnectionResetError):
        put_folder(model, memory)
    with pytest.raises(CharEmbedError, match="there is no complete folder: either the address is wrong, or its upload"):
        get_folder(memory, FILES)
    monkeypatch.undo()
    put_folder(model, memory)


def test_a_folder_that_is_replaced_while_it_is_read_is_refused(
    memory: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_folder(model, memory)
    original: Callable[[SharedFolder, str], bytes | None] = SharedFolder.read

    def read(self: SharedFolder, name: str) -> bytes | None:
        return b"newer" if name == "config.json" else original(self, name)

    monkeypatch.setattr(remote_folder.SharedFolder, "read", read)
    with pytest.raises(CharEmbedError, match=r"config.json is not the file of this folder: it is being replaced"):
        get_folder(memory, FILES)


def test_digests_are_of_the_files(memory: str, model: Path) -> None:
    put_folder(model, memory)
    digests = json.loads(SharedFolder(memory).read(COMPLETE) or b"")
    assert digests["config.json"] == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of {}


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("address", "message"),
    [("s4://a", "s4://a: cannot be opened: Protocol not known: s4"), ("memory://x", "there is no complete folder")],
)
def test_addresses_that_cannot_be_read_are_reported(address: str, message: str) -> None:
    with pytest.raises(CharEmbedError, match=message):
        get_folder(address, FILES)


def test_folders_and_globs_of_text_at_an_address(memory: str) -> None:
    names = ["b.txt", "a.jsonl.gz", "sub/c.parquet", ".hidden.txt", "image.png", "run/.charembed.lock", "run/d.txt"]
    for name in names:
        fsspec.filesystem("memory").pipe_file(f"{memory}/{name}", b"text")
    found = [str(source) for source in find_sources(f"{memory}/")]
    assert found == [f"memory:///bucket/folder/{name}" for name in ("a.jsonl.gz", "b.txt", "sub/c.parquet")]
    assert [str(source) for source in find_sources(f"{memory}/*.txt")] == ["memory:///bucket/folder/b.txt"]
    assert [str(source) for source in find_sources(f"{memory}/b.txt")] == [f"{memory}/b.txt"]
    with pytest.raises(CharEmbedError, match=r"\*\.csv: no file matches it"):
        find_sources(f"{memory}/*.csv")
    with pytest.raises(CharEmbedError, match="no file in this folder ends in"):
        find_sources("memory://bucket/elsewhere/")
