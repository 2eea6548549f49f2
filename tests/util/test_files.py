"""Tests of writing files and folders atomically."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from charembed import CharEmbedError
from charembed.util import files
from charembed.util.files import (
    atomic_file,
    atomic_folder,
    atomic_write,
    check_contains_only,
    escape_undecodable,
    recover_folder,
    remove_leftovers,
    run_path,
    scratch_folder,
    sole_writer,
    user_path,
)
from charembed.util.outputs import check_output_folder

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
needs_links = pytest.mark.skipif(sys.platform == "win32", reason="needs links, which Windows lets few users make")


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def write_half(path: Path, error: BaseException) -> None:
    path.write_text("half")
    raise error


def test_a_file_is_replaced_or_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    atomic_write(path, "first é")
    assert path.read_text(encoding="utf-8") == "first é"
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as temporary:
        write_half(temporary, KeyboardInterrupt())
    assert path.read_text(encoding="utf-8") == "first é"
    atomic_write(path, b"second")
    assert path.read_bytes() == b"second"
    assert names_in(tmp_path) == {"file.txt"}


def test_a_folder_is_replaced_or_left_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "parent" / "folder"
    for content in ("first", "second"):
        with atomic_folder(target) as new:
            (new / content).write_text(content)
        assert names_in(target) == {content}
    with pytest.raises(OSError, match="no space"), atomic_folder(target) as new:
        write_half(new / "third", OSError("no space"))
    assert names_in(target) == {"second"}
    assert names_in(target.parent) == {"folder"}


def test_windows_is_asked_to_flush_only_files_that_are_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses others, and folders cannot even be opened there."""
    flushed = []

    def fsync_of_windows(handle: int) -> None:
        os.write(handle, b"")  # raises EBADF where the file is open for reading only
        flushed.append(handle)

    monkeypatch.setattr(files, "_IS_POSIX", False)
    monkeypatch.setattr(os, "fsync", fsync_of_windows)
    atomic_write(tmp_path / "file.txt", "content")
    with atomic_folder(tmp_path / "folder") as new:
        (new / "within").write_text("content")
    assert len(flushed) == 2


@pytest.mark.parametrize("moment", ["content", "first rename", "second rename"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_whose_writer_was_killed_is_recovered(tmp_path: Path, moment: str, exists: bool) -> None:
    """The process is killed in the middle of the content, or right before one of the two renames."""
    target = tmp_path / "folder"
    if exists:
        target.mkdir()
        (target / "before").touch()
    elif moment == "second rename":
        return  # nothing to move out of the way: there is only one rename
    code = (
        "import os, signal; from pathlib import Path; from charembed.util import files\n"
        "def kill(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"renames, moment = iter([{moment == 'second rename'}, False]), {moment!r}\n"
        "replace = os.replace\n"
        "os.replace = lambda *paths: replace(*paths) if next(renames) else kill()\n"
        f"with files.atomic_folder(Path({str(target)!r})) as new:\n"
        "    (new / 'after').touch()\n"
        "    if moment == 'content': kill()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert any(name.startswith(".folder.charembed-") for name in names_in(tmp_path)), "the process left something"
    recover_folder(target)
    expected = {"after"} if moment == "second rename" else {"before"}
    assert (names_in(target) if target.exists() else None) == (expected if exists else None)
    assert names_in(tmp_path) == ({"folder"} if exists else set())


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_errors_name_the_target(writer: Callable, tmp_path: Path) -> None:
    target = tmp_path / "target"
    with (
        pytest.raises(FileNotFoundError, match=rf"No such file or directory: '{target}'$"),
        writer(target) as temporary,
    ):
        (temporary / "absent" / "file").touch()


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(CharEmbedError, match=rf"output {tmp_path}/target is a folder: name a regular file"):
        atomic_write(tmp_path / "target", "text")
    with pytest.raises(CharEmbedError), atomic_file(tmp_path / "target"):
        pytest.fail("the folder is found only after the work")
    assert names_in(tmp_path) == {"target"}


@needs_pipes
def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for name in ("pipe", "link"):
        with pytest.raises(CharEmbedError, match=rf"{name} is a device, pipe or socket: name a regular file"):
            atomic_write(tmp_path / name, "text")
        with pytest.raises(CharEmbedError, match=rf"{name} is a device, pipe or socket: name a folder"):
            check_output_folder(tmp_path / name)
    with pytest.raises(CharEmbedError), atomic_folder(pipe):
        pytest.fail("the pipe is found only after the work")
    assert pipe.is_fifo()
    assert names_in(tmp_path) == {"pipe", "link"}


@needs_links
def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(Path("folder", "file"))
    (tmp_path / "circle").symlink_to("circle")
    for content in ("new", "replaced"):  # at first the link leads to nothing
        atomic_write(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder" / "file").read_text() == content
    assert names_in(tmp_path / "folder") == {"file"}
    with pytest.raises(CharEmbedError, match="circle is a link to nothing: name a regular file"):
        atomic_write(tmp_path / "circle", "text")


def test_a_folder_cannot_be_below_a_file(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "absent" / "folder")
    (tmp_path / "file").touch()
    for check in (check_output_folder, lambda path: atomic_folder(path).__enter__()):
        with pytest.raises(CharEmbedError, match=r"a cannot be created: .*file is a file: name a folder"):
            check(tmp_path / "file" / "a")


@needs_links
def test_a_link_to_nothing_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("absent")
    with pytest.raises(CharEmbedError, match="link is a link to nothing: name a folder"):
        check_output_folder(tmp_path / "link")


def test_folders_of_live_processes_and_of_others_are_left_alone(tmp_path: Path) -> None:
    live, other = (tmp_path / f".folder.charembed-{name}" for name in ("live", "other"))
    live.mkdir()
    other.mkdir()
    (other / ".lock").touch()
    (other / "somebody's work").touch()
    with FileLock(live / ".lock"):
        recover_folder(tmp_path / "folder")
        assert live.exists()
    recover_folder(tmp_path / "folder")
    assert not live.exists()
    assert names_in(other) == {".lock", "somebody's work"}


def test_errors_of_a_full_disk_name_the_target(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from charembed.util.files import atomic_file, atomic_folder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "target, content = Path(sys.argv[1]), np.zeros(1000)\n"
        "for write in (lambda file: file.write(content.tobytes()), lambda file: np.save(file, content)):\n"
        "    for writer in (atomic_file, atomic_folder):\n"
        "        try:\n"
        "            with writer(target) as temporary:\n"
        "                path = temporary if writer is atomic_file else temporary / 'file'\n"
        "                with path.open('wb') as file:\n"
        "                    write(file)\n"
        "        except OSError as error:\n"
        "            print(error.filename)\n"
    )
    target = str(tmp_path / "target")
    done = subprocess.run([sys.executable, "-c", code, target], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [target] * 4, done
    assert names_in(tmp_path) == set()


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    ours, others = {".a.txt.12.tmp", ".b.txt.3.tmp"}, {".a.txt.tmp", "a.txt.1.tmp", ".notes.tmp", "a.txt"}
    for name in ours | others:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, "a.txt")
    assert names_in(tmp_path) == others | {".b.txt.3.tmp"}
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == others


def test_one_process_writes_a_file_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    (tmp_path / ".out.txt.12.tmp").touch()
    with sole_writer(path):
        assert names_in(tmp_path) == {".out.txt.lock"}
        with pytest.raises(CharEmbedError, match=r"output .*out.txt is in use by another run"), sole_writer(path):
            pytest.fail("two write at a time")
    assert names_in(tmp_path) == set()
    with pytest.raises(CharEmbedError, match="no such folder: "), sole_writer(tmp_path / "absent" / "out.txt"):
        pytest.fail("the folder does not exist")


def test_scratch_folders_of_killed_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, signal; from charembed.util.files import scratch_folder\n"
        "with scratch_folder('test', {'*.bin'}) as folder:\n"
        "    (folder / 'a.bin').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -signal.SIGKILL
    [left] = names_in(tmp_path)
    foreign = tmp_path / "charembed-test-foreign"
    foreign.mkdir()
    (foreign / ".lock").touch()
    (foreign / "thesis.txt").touch()
    with scratch_folder("test", {"*.bin"}) as first, scratch_folder("test", {"*.bin"}) as second:
        assert names_in(tmp_path) == {foreign.name, first.name, second.name}, left
    assert names_in(tmp_path) == {foreign.name}


def test_a_folder_with_other_content_is_not_replaced(tmp_path: Path) -> None:
    check_contains_only(tmp_path / "absent", {"a"})
    (tmp_path / "a").touch()
    check_contains_only(tmp_path, {"a", "b"})
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CharEmbedError, match=r"holds notes.txt, which would be lost: name another folder"):
        check_contains_only(tmp_path, {"a"})
    with pytest.raises(CharEmbedError, match="is a file: name a folder"):
        check_contains_only(tmp_path / "a", {"a"})


def test_paths_that_users_name() -> None:
    assert user_path("~/a") == Path.home() / "a"
    with pytest.raises(CharEmbedError, match="~nosuchuser/a: Could not determine home directory"):
        user_path("~nosuchuser/a")
    assert escape_undecodable(os.fsdecode(b"caf\xe9 \xc3\xa9")) == "caf\\udce9 é"


def test_names_that_are_not_utf8_can_be_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"l\xe4uf.txt")
    atomic_write(tmp_path / "a.json", json.dumps({"name": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": name}


def test_a_run_needs_a_name_in_utf8() -> None:
    assert run_path("läuf") == Path("läuf")
    with pytest.raises(CharEmbedError, match=r"output l\\udce4uf: the name is not UTF-8"):
        run_path(os.fsdecode(b"l\xe4uf"))
