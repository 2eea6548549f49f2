"""No command and no integration connects anywhere or writes outside the folders it is given."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import EXCERPT, ROOT, small_model

from charembed import CharEmbedder
from charembed.integrations.onnx import export_onnx

COMMANDS = """
train --data.train text.txt --output run --model.hidden_size 8 --batch_size 2 --seq_len 16 --budget.steps 2 --words none
report run
embed --model run/best short.txt --output vectors
embed --model run/best short.txt --output vectors-torch --engine torch --precision bfloat16
evaluate --model run/best short.txt
generate --model run/best --characters 5
neighbors --model run/best short.txt --sentence fox --word fox --count 2
add-words --model run/best --words words.vec --output with-words --buckets 5
add-projection --model run/best short.txt --dim 2 --output reduced
tag train --train train.conll --model run/best --output tagger --fit.epochs 1
tag predict tagger short.txt --output tags.jsonl
tag evaluate tagger train.conll
probe --train train.conll --models [run/best] --seeds [1] --fit.epochs 1 --output probe.json
"""
"""One command line a line, in the folder of `inputs`, for every command except `explore`, which serves until Ctrl-C."""
FLAIR_COMMANDS = """
import-flair forward.pt backward.pt imported
"""
ONNX_COMMANDS = """
embed --model run/best short.txt --output vectors-int8 --precision int8
export-onnx --model run/best exported
export-onnx --model tagger exported-tagger
"""
BUNDLED_COMMANDS = """
embed --model en short.txt --output vectors-en
generate --model en --characters 5
tag predict en-ner short.txt --output tags-en.jsonl
"""

RUN_WATCHED = """
import json, os, sys
seen = []

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"):
        seen.append([event, repr(arguments)])
        raise OSError(f"{event}{arguments} although offline")
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    if event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & writes:
        seen.append([event, os.path.realpath(os.fsdecode(arguments[0]))])
    elif event in ("os.mkdir", "os.rename", "os.link", "os.symlink"):
        path = arguments[0 if event == "os.mkdir" else 1]
        seen.append([event, os.path.realpath(os.fsdecode(path))])

sys.addaudithook(watch)
from charembed.cli.main import main
for command in filter(None, sys.stdin.read().splitlines()):
    print(command, file=sys.stderr)
    assert main(command.split()) == 0
print(json.dumps(seen))
"""
"""Runs command lines in one process, from its imports on, and prints at last what Python's audit events say of them."""

INTEGRATIONS = {
    "spacy": """
import spacy
nlp = spacy.blank("en")
nlp.add_pipe("charembed", config={"model": "en"})
nlp.add_pipe("charembed_tagger", config={"tagger": "en-ner"})
assert nlp("George Washington went home.").ents
nlp.to_disk("pipeline")
""",
    "sklearn": """
from charembed.integrations.sklearn import CharEmbedTransformer
print(CharEmbedTransformer("en").fit_transform([(["He", "runs"], 0)]).shape)
""",
    "flair": """
from charembed.integrations.flair import CharEmbedderEmbeddings
from flair.data import Sentence
CharEmbedderEmbeddings("en").embed(Sentence("He runs"))
""",
    "onnxruntime": """
import runpy, sys
sys.argv = ["embed.py", "exported", "The", "fox"]
runpy.run_path("exported/embed.py", run_name="__main__")  # it must not rely on charembed to turn telemetry off
""",
}
"""Code that uses an integration, by the package that it needs."""
SYSTEM_CALLS = "connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat"
_CONNECTS = re.compile(r"\bconnect\(\d+<[^>]*>, {sa_family=(?!AF_UNIX)|\bsend\w+\(")
_CREATES = re.compile(
    r"\b(?:open\w*|creat)\(.*\bO_(?:WRONLY|RDWR|CREAT)\b.* = \d+<(?P<opened>[^>]*)>$"
    r"|\bmkdir(?:at)?\((?:AT_FDCWD<.*?>, )?\"(?P<made>.*)\", 0\d+\) += 0$"
)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with what the commands read."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "text.txt").write_text(EXCERPT.read_text(encoding="utf-8")[:20_000], encoding="utf-8")
    (folder / "short.txt").write_text("The quick fox\nand the lazy dog\n", encoding="utf-8")
    (folder / "words.vec").write_text("2 2\nfox 1 2\ndog 3 4\n", encoding="utf-8")
    (folder / "train.conll").write_text("The O\nfox B-A\n\nlazy O\ndog B-A\n\n" * 4, encoding="utf-8")
    if importlib.util.find_spec("flair"):
        from charembed.integrations.flair import export_flair

        export_flair(CharEmbedder(small_model()), folder / "forward.pt", folder / "backward.pt")
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Environment variables that point the home, the cache and temporary files to folders that are empty."""
    folders = {name: tmp_path / name for name in ("home", "cache", "temporary")}
    for folder in folders.values():
        folder.mkdir()
    home, cache, temporary = map(str, folders.values())
    set_here = ("HF_", "ORT_", "TORCHINDUCTOR_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(set_here)}
    added = {"HOME": home, "USERPROFILE": home, "XDG_CACHE_HOME": cache}
    added |= dict.fromkeys(("TMPDIR", "TMP", "TEMP"), temporary)
    # matplotlib, which draws the report of a run, and Flair have folders of their own.
    added |= dict.fromkeys(("MPLCONFIGDIR", "FLAIR_CACHE_ROOT"), str(tmp_path / "work"))
    return kept | added | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def assert_left_alone(folder: Path) -> None:
    """Fail if something is in the home, the cache or the folder of temporary files.

    PyTorch's compiler makes an empty folder for temporary files when it is imported.
    """
    left = [path for name in ("home", "cache", "temporary") for path in (folder / name).rglob("*")]
    assert not [path for path in left if not path.name.startswith("torchinductor_")], f"left behind: {left}"


def commands_for_here() -> str:
    """Return the commands that the installed packages allow."""
    optional = {"flair": FLAIR_COMMANDS, "onnxruntime": ONNX_COMMANDS}
    return COMMANDS + "".join(lines for name, lines in optional.items() if importlib.util.find_spec(name))


def test_commands_are_silent(inputs: Path, environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN_WATCHED],
        cwd=inputs,
        env=environment,
        input=commands_for_here(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert any(path.endswith("vectors") for _, path in seen), "the audit hook has seen nothing"
    allowed = (str(tmp_path.resolve() / "work"), str(tmp_path.resolve() / "temporary"), os.path.realpath(os.devnull))
    elsewhere = [(event, path) for event, path in seen if not path.startswith(allowed)]
    assert not elsewhere
    assert_left_alone(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("code", [RUN_WATCHED, *INTEGRATIONS.values()], ids=["commands", *INTEGRATIONS])
def test_no_system_call_connects_or_writes_elsewhere(
    code: str, inputs: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """What Python's audit events do not show: the system calls of the libraries that Python calls."""
    if not all(map(shutil.which, ("strace", "unshare"))):
        pytest.skip("needs strace and unshare")
    for package, uses_it in INTEGRATIONS.items():
        if code == uses_it:
            pytest.importorskip(package)
    if code == INTEGRATIONS["onnxruntime"]:
        export_onnx(small_model(), inputs / "exported")
    log = tmp_path / "calls"
    traced = ["unshare", "-rn", "strace", "-f", "--seccomp-bpf", "-y", "-s", "4096", "-e", f"trace={SYSTEM_CALLS}"]
    done = subprocess.run(
        [*traced, "-o", str(log), sys.executable, "-c", code],
        cwd=inputs,
        env=environment,
        input=commands_for_here() + BUNDLED_COMMANDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    calls = log.read_text(encoding="utf-8", errors="replace").splitlines()
    assert len(calls) > 100, "too few system calls: the trace has not worked"
    assert not [call for call in calls if _CONNECTS.search(call)]
    created = [Path(inputs, match["opened"] or match["made"]) for match in map(_CREATES.search, calls) if match]
    allowed = (inputs.resolve(), tmp_path.resolve() / "temporary", Path(os.devnull))
    elsewhere = [path for path in created if not any(map(path.is_relative_to, allowed))]
    assert not [path for path in elsewhere if not path.match("/dev/shm/sem.*")], elsewhere  # semaphores are files there
    assert_left_alone(tmp_path)
