"""Functions and dataclasses as scripts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers import unix_only

from charembed import CharEmbedError
from charembed.cli.runner import run_program, run_script
from charembed.util.files import atomic_file, atomic_folder


@dataclass
class Count:
    """Count to a number."""

    stop_at: int
    """The last number."""
    by_two: bool = False
    """Leave out odd numbers."""

    def __call__(self) -> None:
        print(*range(self.stop_at + 1)[:: 2 if self.by_two else 1])


def fail(why: str = "no reason") -> None:
    """Fail.

    Args:
        why: the message.
    """
    raise CharEmbedError(why)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs a script with arguments and returns what it prints."""

    def run(components: Callable | dict[str, Callable], *arguments: str, **options: object) -> str:
        monkeypatch.setattr(sys, "argv", ["folder/script.py", *arguments])
        run_script(components, **options)
        return capsys.readouterr().out

    return run


def test_fields_of_a_dataclass_are_options(run: Callable[..., str]) -> None:
    assert run(Count, "--stop-at", "3") == "0 1 2 3\n"
    assert run(Count, "--stop_at=3", "--by-two") == "0 2\n"
    assert run(Count, "3", as_positional=True) == "0 1 2 3\n"


def test_an_earlier_name_of_an_option_is_accepted(run: Callable[..., str]) -> None:
    for name in ("--end-at", "--end_at"):
        assert run(Count, name, "1", renamed={"end_at": "stop_at"}) == "0 1\n"


def test_several_commands(run: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    commands = {"count": Count, "fail": fail}
    assert run(commands, "count", "--stop-at", "1", "--by-two") == "0\n"
    with pytest.raises(SystemExit) as ended:
        run(commands, "fail", "--why", "it is late")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "script.py: error: it is late\n"


def test_help_of_a_script(run: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(Count, "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "Count to a number." in text
    assert "--stop-at STOP_AT The last number. (required)" in text
    assert "--by-two Leave out odd numbers." in text


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (CharEmbedError("bad value"), 2, "name: error: bad value\n"),
        (FileNotFoundError(2, "No such file", "a.txt"), 2, "name: error: [Errno 2] No such file: 'a.txt'\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_a_line_and_an_exit_status(
    error: BaseException, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def program() -> None:
        raise error

    assert run_program("name", program) == status
    assert capsys.readouterr().err == message


@unix_only
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_a_signal_leaves_no_temporary_file(
    writer: Callable, number: int, status: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # nohup ignores SIGHUP
    request.addfinalizer(lambda: signal.signal(number, before))

    def program() -> None:
        with writer(tmp_path / "out") as temporary:
            (temporary if writer is atomic_file else temporary / "file").write_text("half")
            assert list(tmp_path.iterdir())
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 1)  # the signal interrupts it

    assert run_program("name", program) == status
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(number) is signal.SIG_DFL, "the handler is not restored"


@unix_only
def test_a_second_sigterm_does_not_interrupt_the_clean_up() -> None:
    cleaned = []

    def program() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 1)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 0.1)
            cleaned.append(True)

    assert run_program("name", program) == 143
    assert cleaned == [True]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As by nohup."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_program("name", lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_program_in_another_thread_sets_no_handler() -> None:
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(run_program("name", lambda: 0)))
    thread.start()
    thread.join()
    assert statuses == [0]


@pytest.mark.parametrize("allocate", [lambda: torch.empty(2**50), lambda: bytearray(2**60)])
def test_too_little_memory_is_one_clear_error(
    allocate: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    def program() -> None:
        allocate()

    assert run_program("name", program) == 2
    assert capsys.readouterr().err == (
        "name: error: there is not enough memory: use a smaller model or a smaller batch\n"
    )


@unix_only
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["tag", "--help"]])
def test_a_help_text_that_cannot_be_written_is_an_error(arguments: list[str], unbuffered: str, tmp_path: Path) -> None:
    def forbid_writing() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "charembed", *arguments]
    with (tmp_path / "out").open("wb") as file:
        done = subprocess.run(
            command, stdout=file, stderr=subprocess.PIPE, env=environment, preexec_fn=forbid_writing, check=False
        )
    assert done.returncode == 2
    assert re.fullmatch(rb"charembed: error: .*File too large\n", done.stderr)


@unix_only
def test_a_program_can_run_with_closed_output() -> None:
    code = "from charembed.cli.runner import run_program; raise SystemExit(run_program('p', lambda: print('lost')))"
    command = f'exec "{sys.executable}" -c "{code}" >&-'
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_exit_status_of_a_program() -> None:
    assert run_program("name", lambda: None) == 0
    assert run_program("name", lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        run_program("name", lambda: 1 // 0)
