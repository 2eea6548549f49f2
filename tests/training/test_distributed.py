"""Several processes, started by torchrun, train one model, and end together when one of them is lost."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from helpers import EXCERPT, assert_same_weights, read_log, weights_of

from charembed.cli.main import main
from charembed.training.checkpoint import Checkpoint, saved_checkpoints
from charembed.training.distributed import DistributedContext

OPTIONS = ["--data.train", str(EXCERPT), "--data.held_out", "0.02", "--model.hidden_size", "16", "--seq_len", "16"]
OPTIONS += ["--model.embedding_dim", "8", "--validations", "2", "--budget.steps", "60", "--precision", "float32"]
WORDS = ["--words", "train", "--static_vectors.dim", "8", "--static_vectors.words", "300"]
DROPOUT = ["--batch_size", "2", "--model.dropout", "0.2"]


def arguments(output: Path, *options: str) -> list[str]:
    """Return the arguments of the command `charembed`, for a model without words unless the options name some."""
    words = [] if "--words" in options else ["--words", "none"]
    return ["train", *OPTIONS, *words, "--output", str(output), *options]


def run_two(program: list[str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program in two processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launch, *program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


CHAREMBED = ["--module", "charembed"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two processes with dropout."""
    folder = tmp_path_factory.mktemp("pair") / "out"
    done = run_two(CHAREMBED, arguments(folder, *DROPOUT))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_two_processes_train_like_one_with_twice_the_lanes(tmp_path: Path) -> None:
    done = run_two(CHAREMBED, arguments(tmp_path / "two", "--batch_size", "2", *WORDS))
    assert done.returncode == 0, done.stderr
    assert main(arguments(tmp_path / "one", "--batch_size", "4", *WORDS)) == 0
    files = [(tmp_path / name / "static_vectors.safetensors").read_bytes() for name in ("two", "one")]
    assert files[0] == files[1]
    weights, expected = weights_of(tmp_path / "two"), weights_of(tmp_path / "one")
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    logs = [[r for r in read_log(tmp_path / name) if r["kind"] == "valid"] for name in ("two", "one")]
    assert [record["characters"] for record in logs[0]] == [30 * 64, 60 * 64] == [r["characters"] for r in logs[1]]


@pytest.mark.slow
@pytest.mark.parametrize("words", ["2", "300"])
def test_two_processes_predict_the_words_that_one_predicts(tmp_path: Path, words: str) -> None:
    """With two words, many windows have none of them, in one of the processes or in both."""
    options = ["--objective.words", words, "--objective.ahead", "2", "--accumulation_steps", "2"]
    done = run_two(CHAREMBED, arguments(tmp_path / "two", "--batch_size", "1", *options))
    assert done.returncode == 0, done.stderr
    assert main(arguments(tmp_path / "one", "--batch_size", "2", *options)) == 0
    two, one = (Checkpoint.load(saved_checkpoints(tmp_path / name / "checkpoints")[0]) for name in ("two", "one"))
    for name, tensor in one.tensors.items():
        if ".model." in name or ".head." in name:
            torch.testing.assert_close(two.tensors[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    logs = [[r for r in read_log(tmp_path / name) if r["kind"] == "train"] for name in ("two", "one")]
    for record, expected in zip(*(log[-1:] for log in logs), strict=True):
        for direction in ("forward", "backward"):
            name = f"nats_per_word_{direction}"
            assert record[name] == pytest.approx(expected[name], rel=1e-3)


@pytest.mark.slow
def test_one_process_writes_the_states_of_both(pair: Path) -> None:
    checkpoint = Checkpoint.load(saved_checkpoints(pair / "checkpoints")[0])
    assert checkpoint.state.world_size == 2
    assert checkpoint.tensors["forward.state.hidden"].shape == (1, 4, 16), "two lanes of each process"
    assert len(checkpoint.tensors["forward.random"]) == 2
    assert not torch.equal(*checkpoint.tensors["forward.random"]), "both drop the same units"
    assert len([path for path in (pair / "text").iterdir() if path.is_dir()]) == 1


@pytest.mark.slow
def test_a_lost_process_ends_the_run_which_then_resumes(
    tmp_path: Path, pair: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second process kills itself at step 40: the first ends with an error, and the resumed run with the same
    bits."""
    code = (
        "import os, signal, sys\n"
        "from charembed.cli.main import main\n"
        "from charembed.training.trainer import Trainer\n"
        "original = Trainer._take_step\n"
        "def take_step(self, spent):\n"
        "    if self.state.step == 40 and os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    original(self, spent)\n"
        "Trainer._take_step = take_step\n"
        "sys.exit(main())\n"
    )
    script = tmp_path / "lose_one.py"
    script.write_text(code)
    command = arguments(tmp_path / "out", *DROPOUT, "--checkpoint_minutes", "1e-5")
    began = time.monotonic()
    assert run_two([str(script)], command).returncode != 0
    assert time.monotonic() - began < 100, "the first process hangs"
    report = tmp_path / "out" / "report.json"
    assert not report.exists() or '"finished"' not in report.read_text()
    assert main(command) == 2
    assert "was started with 2 processes, not 1: resume it with 2" in capsys.readouterr().err
    again = run_two(CHAREMBED, command)
    assert again.returncode == 0, again.stderr
    assert "from its last checkpoint" in again.stderr
    assert_same_weights(weights_of(tmp_path / "out"), weights_of(pair))


@pytest.mark.slow
def test_an_error_in_the_main_process_ends_all(tmp_path: Path) -> None:
    command = [option.replace(str(EXCERPT), "absent.txt") for option in arguments(tmp_path / "out")]
    done = run_two(CHAREMBED, command)
    assert done.returncode != 0
    assert "charembed: error: absent.txt: no such file or folder" in done.stderr


def launch_host(number: int, port: int, script: Path, arguments: list[str]) -> subprocess.Popen[str]:
    """Start the launcher of one host of two; hosts are addresses of the loopback."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=3"]
    launch += ["--rdzv-backend=c10d", "--rdzv-id=run", f"--rdzv-endpoint=127.0.0.1:{port}"]
    launch += [f"--local-addr=127.0.0.{number + 1}", "--monitor-interval=0.1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return subprocess.Popen([*launch, str(script), *arguments], env=environment, stderr=subprocess.PIPE, text=True)


def lose_host(host: subprocess.Popen[str]) -> None:
    """Kill a launcher and its processes."""
    launcher = psutil.Process(host.pid)
    for process in [*launcher.children(recursive=True), launcher]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def end_hosts(hosts: list[subprocess.Popen[str]]) -> list[str]:
    """Wait for the launchers and return what they have printed; end those that hang."""
    errors = []
    for host in hosts:
        try:
            errors.append(host.communicate(timeout=240)[1])
        except subprocess.TimeoutExpired:
            lose_host(host)
            errors.append("hangs: " + host.communicate()[1])
    return errors


def slow_steps(folder: Path, at_step: str) -> Path:
    """Return a program that trains, slowly enough to be killed, and does something at each step."""
    script = folder / "train_slowly.py"
    script.write_text(
        "import os, pathlib, signal, sys, time\n"
        "from charembed.cli.main import main\n"
        "from charembed.training.trainer import Trainer\n"
        "original = Trainer._take_step\n"
        "def take_step(self, spent):\n"
        "    time.sleep(0.05)\n"
        f"    {at_step}\n"
        "    original(self, spent)\n"
        "Trainer._take_step = take_step\n"
        "sys.exit(main())\n"
    )
    return script


@pytest.mark.slow
def test_a_lost_host_is_replaced(tmp_path: Path, pair: Path) -> None:
    """One launcher is killed with its process; the other waits for a new one, and both resume with the same bits."""
    command = arguments(tmp_path / "out", *DROPOUT, "--checkpoint_minutes", "1e-5")
    script, port = slow_steps(tmp_path, "pass"), free_port()
    hosts = [launch_host(number, port, script, command) for number in range(2)]
    checkpoints = tmp_path / "out" / "checkpoints"
    deadline = time.monotonic() + 240
    while not (saved := saved_checkpoints(checkpoints)) or int(saved[0].stem) < 10:
        assert time.monotonic() < deadline, end_hosts(hosts)
        time.sleep(0.02)
    # The launcher that listens at the address of the rendezvous must live on.
    lost = next(number for number, host in enumerate(hosts) if not listens(host.pid, port))
    lose_host(hosts[lost])
    hosts[lost].communicate()
    at_loss = int(saved_checkpoints(checkpoints)[0].stem)
    hosts[lost] = launch_host(lost, port, script, command)
    errors = end_hosts(hosts)
    assert [host.returncode for host in hosts] == [0, 0], errors
    assert at_loss < 60, "the host was lost after the last step"
    assert any("from its last checkpoint" in error for error in errors)
    assert_same_weights(weights_of(tmp_path / "out"), weights_of(pair))


def listens(pid: int, port: int) -> bool:
    """Return whether a process listens at a port."""
    return any(
        connection.status == "LISTEN" and connection.laddr.port == port
        for connection in psutil.Process(pid).net_connections()
    )


@pytest.mark.slow
def test_the_launchers_restart_a_lost_process(tmp_path: Path, pair: Path) -> None:
    """The process on one host is killed once, and nobody repeats the command."""
    mark = tmp_path / "lost"
    lose_once = (
        "if self.state.step == 40 and os.environ['RANK'] == '1' and not pathlib.Path(%r).exists():"
        " pathlib.Path(%r).touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    script = slow_steps(tmp_path, lose_once % (str(mark), str(mark)))
    command = arguments(tmp_path / "out", *DROPOUT, "--checkpoint_minutes", "1e-5")
    port = free_port()
    hosts = [launch_host(number, port, script, command) for number in range(2)]
    errors = end_hosts(hosts)
    assert [host.returncode for host in hosts] == [0, 0], errors
    assert mark.exists()
    assert any("from its last checkpoint" in error for error in errors)
    assert_same_weights(weights_of(tmp_path / "out"), weights_of(pair))


def test_the_peer_of_a_lost_process_reports_it(tmp_path: Path) -> None:
    """Without torchrun, which would end it: the error comes from the connection."""
    code = (
        "import os, sys, torch\n"
        "from charembed.training.distributed import DistributedContext\n"
        "with DistributedContext.join(torch.device('cpu'), ['forward']) as distributed:\n"
        "    mine = ['text', None][distributed.rank]\n"
        "    assert distributed.broadcast_object(mine) == 'text'\n"
        "    if distributed.rank == 1: os._exit(7)\n"
        "    while True: distributed.broadcast_floats([1.0])\n"
    )
    script = tmp_path / "peers.py"
    script.write_text(code)
    environment = os.environ | {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    peers = [
        subprocess.Popen(
            [sys.executable, str(script)], env=environment | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        assert peers[1].wait(timeout=60) == 7
        _, errors = peers[0].communicate(timeout=60)
    finally:
        for peer in peers:
            peer.kill()
            peer.communicate()
    assert peers[0].returncode == 1
    assert "process 0 of 2 has lost contact with the others" in errors
    assert "run the same command again" in errors


def free_port() -> int:
    """Return a TCP port that is not in use."""
    with socket.socket() as connection:
        connection.bind(("localhost", 0))
        return int(connection.getsockname()[1])


def test_a_single_process_exchanges_nothing() -> None:
    distributed = DistributedContext()
    assert distributed.is_main_process
    assert not distributed.is_distributed
    assert distributed.broadcast_floats([1.0, 2.0]) == [1.0, 2.0]
    assert distributed.broadcast_object("text") == "text"
