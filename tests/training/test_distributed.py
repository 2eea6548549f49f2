"""Several processes, as torchrun starts them: they train one model, and end together when one is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import EXCERPT, assert_same_weights, read_log, weights_of

from charembed.training.checkpoint import Checkpoint, saved_checkpoints
from charembed.training.distributed import DistributedContext

OPTIONS = ["--data.train", str(EXCERPT), "--data.held_out", "0.02", "--model.hidden_size", "16", "--seq_len", "16"]
OPTIONS += ["--model.embedding_dim", "8", "--validations", "2", "--budget.steps", "60", "--precision", "float32"]


def command(output: Path, *options: str, processes: int = 2) -> list[str]:
    launch = [sys.executable, "-m", "charembed"]
    if processes > 1:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        launch += ["--module", "charembed"]
    return [*launch, "train", *OPTIONS, "--output", str(output), *options]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120, env=environment)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes with dropout."""
    folder = tmp_path_factory.mktemp("pair") / "out"
    done = run(command(folder, "--batch_size", "2", "--model.dropout", "0.2"))
    assert done.returncode == 0, done.stderr
    return folder


def test_two_processes_train_as_one_with_twice_the_lanes(tmp_path: Path) -> None:
    for name, processes, batch_size in (("two", 2, "2"), ("one", 1, "4")):
        done = run(command(tmp_path / name, "--batch_size", batch_size, processes=processes))
        assert done.returncode == 0, done.stderr
    found, wanted = weights_of(tmp_path / "two"), weights_of(tmp_path / "one")
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    logs = [[r for r in read_log(tmp_path / name) if r["kind"] == "valid"] for name in ("two", "one")]
    assert [record["characters"] for record in logs[0]] == [30 * 64, 60 * 64] == [r["characters"] for r in logs[1]]


def test_one_process_writes_and_talks(pair: Path) -> None:
    checkpoints = saved_checkpoints(pair / "checkpoints")
    facts = Checkpoint.load(checkpoints[0])
    assert facts.facts["world_size"] == 2
    assert facts.tensors["forward.state.hidden"].shape == (1, 4, 16), "the states of both, two lanes each"
    assert len(facts.tensors["forward.random"]) == 2
    assert not torch.equal(*facts.tensors["forward.random"]), "each has dropout of its own"
    assert len([path for path in (pair / "text").iterdir() if path.is_dir()]) == 1


def test_a_lost_process_ends_the_run_which_then_goes_on(tmp_path: Path, pair: Path) -> None:
    """The second process kills itself at step 40; no hang, an error, and the same end bit for bit."""
    code = (
        "import os, signal, sys\n"
        "from charembed.cli.main import main\nfrom charembed.training import trainer as run\n"
        "original = run.Trainer._take_step\n"
        "def step(self, spent):\n"
        "    if self._step == 40 and os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    original(self, spent)\n"
        "run.Trainer._take_step = step\n"
        "sys.exit(main())\n"
    )
    script = tmp_path / "lose_one.py"
    script.write_text(code)
    arguments = command(tmp_path / "out", "--batch_size", "2", "--model.dropout", "0.2", "--checkpoint_minutes", "1e-5")
    at = arguments.index("--module")
    broken = [*arguments[:at], str(script), *arguments[at + 2 :]]
    began = time.monotonic()
    done = run(broken)
    assert done.returncode != 0
    assert time.monotonic() - began < 60, "no hang"
    assert (
        not (tmp_path / "out" / "report.json").exists()
        or '"finished"' not in (tmp_path / "out" / "report.json").read_text()
    )
    alone = run(command(tmp_path / "out", "--batch_size", "2", "--model.dropout", "0.2", processes=1))
    assert alone.returncode == 2
    assert "was started with 2 processes, not 1: go on with as many" in alone.stderr
    again = run(arguments)
    assert again.returncode == 0, again.stderr
    assert "going on from the last checkpoint" in again.stderr
    assert_same_weights(weights_of(tmp_path / "out"), weights_of(pair))


def test_an_error_in_the_first_process_ends_all(tmp_path: Path) -> None:
    done = run(command(tmp_path / "out", "--data.train", "absent.txt"))
    assert done.returncode != 0
    assert "charembed: error: absent.txt: no such file or folder" in done.stderr


def test_the_peer_of_a_lost_process_says_so(tmp_path: Path) -> None:
    """Without torchrun, which would end it: the error comes from the connection."""
    code = (
        "import os, sys, torch\n"
        "from charembed.training.distributed import DistributedContext\n"
        "with DistributedContext.join(torch.device('cpu'), ['forward']) as distributed:\n"
        "    assert distributed.broadcast_object('text') == 'text'\n"
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
    assert "process 0 of 2 cannot go on, another one may be lost" in errors
    assert "run the same command again" in errors


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def test_alone_there_is_nobody_to_ask() -> None:
    distributed = DistributedContext()
    assert distributed.is_main_process
    assert not distributed.is_distributed
    assert distributed.broadcast_floats([1.0, 2.0]) == [1.0, 2.0]
    assert distributed.broadcast_object("text") == "text"
