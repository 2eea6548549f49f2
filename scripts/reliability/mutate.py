"""Load mutated model folders, tagger folders, Flair checkpoints and vocabularies, and report everything that is wrong.

Each mutation must be accepted, with vectors that are finite and a model that can be saved and loaded again, or refused
with one CharEmbedError on one line; within seconds and megabytes, and without starting a program or a connection.

    python -m scripts.reliability.mutate --mutations 100000
"""

from __future__ import annotations

import io
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from charembed import CharEmbedder, CharEmbedError, CharLMConfig, CharVocab
from charembed.cli.runner import run_script
from charembed.lm.model import DIRECTIONS, BiCharLM
from charembed.pretrained.flair_checkpoint import read_flair
from charembed.pretrained.model_folder import Pretrained
from charembed.projection import Projection
from charembed.static_vectors import StaticVectors
from charembed.tagging.network import NetworkConfig, TaggerNetwork
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagger import Tagger

Files = dict[str, bytes]
TEXTS = ["The lazy dog, 東.", "x" * 60]
_MAX_SECONDS, _MAX_BYTES = 2.0, 200_000_000
_MAX_ADDRESSES = 2_000_000_000
"""Limit of the address space, of which the C library reserves much that is never used."""
_CHUNK = 1000
"""Mutations of one process, so that a crash is found without losing the others."""
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "exec")
"""Audit events of Python that no file may cause."""
_HOSTILE_VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 100, 20_000, 200_000, 2**31, 2**63, 10**30, -(10**9), 0.5, 1e300, float("nan")),
    *("", "\x1b[31m", "\ud800", "\x00", "a" * 5000, "../../etc/passwd", "linear", "gru", "separator", [], {}, [[]]),
    *([1] * 1000, {"a": {}}, ["forward"], ["forward", "forward"], ["words"], "F8_E4M3", "F64", "BOOL", "I64"),
]


@dataclass
class Findings:
    """What has happened."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """Number of accepted and refused mutations by target."""
    failures: list[str] = field(default_factory=list)
    """One line for each mutation that was neither, with its number."""

    def add(self, other: Findings) -> None:
        """Add the findings of another process."""
        self.outcomes.update(other.outcomes)
        self.failures += other.failures


class _TooSlow(BaseException):
    """The time is up. No handler of `Exception` may catch it."""


# What is mutated ---------------------------------------------------------------------------------------------------


def _pretrained() -> Pretrained:
    vocab = CharVocab.build(["The quick brown fox jumps over the lazy dog. 0123456789,'é東"], coverage=1.0)
    torch.manual_seed(1)
    model = BiCharLM(CharLMConfig(embedding_dim=5, hidden_size=12, vocab_size=len(vocab)))
    generator = np.random.default_rng(1)
    words = ["The", "lazy", "dog"]
    static = StaticVectors.from_arrays(words, generator.normal(size=(3, 4)), generator.normal(size=(20, 4)))
    rows = np.ascontiguousarray(np.linalg.qr(generator.normal(size=(28, 7)))[0].T, np.float32)
    projection = Projection(np.zeros(28, np.float32), rows, np.full(7, 0.1, np.float32), (*DIRECTIONS, "words"), "word")
    return Pretrained(model, vocab, provenance={"seed": 1, "parts": [1.5, "a"]}, static=static, projection=projection)


def _tagger_files(pretrained: Pretrained) -> Files:
    layers = [TagLayer("ner", "entities", ("O", "B-PER", "I-PER")), TagLayer("upos", "tags", ("ADJ", "NOUN"))]
    embedder = CharEmbedder(replace(pretrained, projection=None), engine="torch")
    network = TaggerNetwork(NetworkConfig(embedder.embedding_dim, projection_size=6, hidden_size=4), layers)
    return Tagger(embedder, network).files().contents("float32")


def _flair_files() -> Files:
    """Return a pair of Flair checkpoints. Flair is not needed: a class of the same name is stored in the same way."""
    dictionary = type("Dictionary", (), {"__module__": "flair.data"})
    module = types.ModuleType("flair.data")
    module.Dictionary = dictionary  # type: ignore[attr-defined]
    files = {}
    for direction in DIRECTIONS:
        instance = dictionary()
        instance.item2idx = {character.encode(): row for row, character in enumerate("\u0001abcdefghij .\n")}
        lm = torch.nn.ModuleDict({"encoder": torch.nn.Embedding(14, 5), "rnn": torch.nn.LSTM(5, 8)})
        state = {"state_dict": lm.state_dict(), "dictionary": instance, "is_forward_lm": direction == "forward"}
        sizes = {"hidden_size": 8, "nlayers": 1, "embedding_size": 5, "nout": None, "document_delimiter": "\n"}
        buffer = io.BytesIO()
        with mock.patch.dict(sys.modules, {"flair": types.ModuleType("flair"), "flair.data": module}):
            torch.save(state | sizes | {"dropout": 0.1}, buffer, _use_new_zipfile_serialization=direction == "forward")
        files[f"{direction}.pt"] = buffer.getvalue()
    return files


def _use(embedder: CharEmbedder) -> None:
    for text in embedder.embed(TEXTS):
        assert np.isfinite(text.vectors).all(), "a vector is not finite"


def _load_model(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    pretrained = Pretrained.load(folder)
    _use(CharEmbedder(pretrained, engine="torch"))
    assert Pretrained.from_files(pretrained.files(), "saved").digest() == pretrained.digest(), "saving changes it"


def _load_tagger(files: Files, _: Path) -> None:
    tagger = Tagger.from_contents(files, "files", engine="torch")
    tagger.predict(TEXTS)
    _use(tagger.embedder)


def _load_flair(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    pretrained = read_flair(folder / "forward.pt", folder / "backward.pt")
    _use(CharEmbedder(pretrained, engine="torch"))
    assert Pretrained.from_files(pretrained.files(), "saved").digest() == pretrained.digest(), "saving changes it"


def _load_vocabulary(files: Files, folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(files["tokenizer.json"])
    vocab = CharVocab.load(folder / "tokenizer.json")
    ids = vocab.encode("The lazy dog, 東")
    assert len(vocab.decode(ids)) == len(ids), "decoded text has another length"
    assert CharVocab.from_json(vocab.to_json()) == vocab, "saving changes it"


_Load = Callable[[Files, Path], None]


def targets() -> dict[str, tuple[Files, _Load]]:
    """Return the files to mutate and the function that loads them, by name."""
    pretrained = _pretrained()
    return {
        "model folder": (pretrained.files(), _load_model),
        "tagger folder": (_tagger_files(pretrained), _load_tagger),
        "Flair checkpoint": (_flair_files(), _load_flair),
        "vocabulary": ({"tokenizer.json": pretrained.vocab.to_json().encode()}, _load_vocabulary),
    }


# How it is mutated -------------------------------------------------------------------------------------------------


def mutate(files: Files, generator: random.Random) -> Files:
    """Return files of which one or several are changed."""
    files = dict(files)
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        name = generator.choice([name for name in files if not name.endswith(".md")])
        kinds = [_flip, _flip, _cut, _overwrite, _repeat]
        if name.endswith(".json"):
            kinds += [_change_json] * 12
        if name.endswith(".safetensors"):
            kinds += [_change_header] * 6 + [_change_numbers] * 4
        files[name] = generator.choice(kinds)(files[name], generator)
        if generator.random() < 0.02:
            files[name] = files[generator.choice(list(files))]
        elif name not in ("forward.pt", "backward.pt", "tokenizer.json") and generator.random() < 0.01:
            del files[name]
    # The digests would refuse nearly everything before it is used.
    for name in ("config.json", "tagger.json", "language_model/config.json"):
        if name in files and generator.random() < 0.9:
            files[name] = files[name].replace(b'"sha256"', b'"other"')
    return files


def _flip(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 8))):
        if changed:
            changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _cut(content: bytes, generator: random.Random) -> bytes:
    start = generator.randrange(len(content) + 1)
    return content[:start] if generator.random() < 0.5 else content[:start] + content[start + generator.randrange(99) :]


def _overwrite(content: bytes, generator: random.Random) -> bytes:
    start = generator.randrange(len(content) + 1)
    piece = generator.choice((b"\xff" * 8, b"\x00" * 8, b"\x7f" * 4, generator.randbytes(8)))
    return content[:start] + piece + content[start + len(piece) :]


def _repeat(content: bytes, generator: random.Random) -> bytes:
    start = generator.randrange(len(content) + 1)
    return content[:start] + content[start : start + 40] * generator.choice((2, 3, 100)) + content[start + 40 :]


def _change_json(content: bytes, generator: random.Random) -> bytes:
    try:
        value = json.loads(content)
        _change_value(value, generator)
        return json.dumps(value, ensure_ascii=generator.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # no JSON, or nested too deeply by several changes
        return _flip(content, generator)


def _change_value(value: Any, generator: random.Random) -> None:
    """Change a value somewhere in a JSON value."""
    places = [(value, key) for key in _keys(value)]
    for container, key in places:
        child = container[key]
        if len(places) < 300:
            places += [(child, inner) for inner in _keys(child)]
    if not places:
        return
    container, key = generator.choice(places)
    choice = generator.random()
    if choice < 0.1:
        del container[key]
    elif choice < 0.15:
        nested: Any = generator.choice(_HOSTILE_VALUES)
        for _ in range(generator.choice((5, 60, 900))):
            nested = [nested] if generator.random() < 0.5 else {"a": nested}
        container[key] = nested
    elif choice < 0.25 and isinstance(container, dict):
        container[generator.choice(("", "x", "\x1b", "name", "words"))] = container.pop(key)
    elif choice < 0.4 and type(container[key]) is int:
        container[key] += generator.choice((-1, 1, 7, 10**6))
    else:
        container[key] = generator.choice(_HOSTILE_VALUES)


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []


def _change_header(content: bytes, generator: random.Random) -> bytes:
    """Change the header of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    header = _change_json(content[8 : 8 + length], generator)
    size = len(header) if generator.random() < 0.9 else generator.choice((0, 1, 2**40, 2**63, len(content)))
    return size.to_bytes(8, "little") + header + content[8 + length :]


def _change_numbers(content: bytes, generator: random.Random) -> bytes:
    """Replace a number of a safetensors file."""
    start = 8 + int.from_bytes(content[:8], "little")
    numbers = np.frombuffer(content[start : start + (len(content) - start) // 4 * 4], np.float32).copy()
    if len(numbers):
        count = generator.choice((1, 1, len(numbers)))
        for position in generator.sample(range(len(numbers)), count):
            numbers[position] = generator.choice((np.nan, np.inf, -np.inf, 3.4e38, -3e38, 1e20, 1e12, 1e-45, 0.0))
    return content[:start] + numbers.tobytes() + content[start + numbers.nbytes :]


# How it is checked -------------------------------------------------------------------------------------------------


def check(load: _Load, files: Files, folder: Path, events: list[str]) -> str | None:
    """Load files and use what they contain.

    Args:
        load: function that loads and uses them.
        files: the files.
        folder: an empty folder to write them to.
        events: list to which forbidden events are added.

    Returns:
        None if they are accepted, otherwise the message of the error that refuses them.

    Raises:
        AssertionError: neither: another error, a message of several lines, too slow, or a forbidden event.
    """
    events.clear()
    started = time.process_time()
    message = None
    try:
        with _time_limit(20 * _MAX_SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(files, folder)
    except CharEmbedError as error:
        message = str(error)
    except (_TooSlow, Exception) as error:
        raise AssertionError(f"{type(error).__name__}: {str(error)[:200]!r}") from error
    seconds = time.process_time() - started  # other programs may share the machine
    assert seconds < _MAX_SECONDS, f"took {seconds:.1f} s"
    assert not events, f"caused {events}"
    assert message is None or ("\n" not in message and len(message) < 1500), f"not one line: {message[:300]!r}"
    return message


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_numbers(numbers: Sequence[int], seed: int, report: Callable[[int], None] = lambda _: None) -> Findings:
    """Make and check mutations in this process.

    Args:
        numbers: numbers of the mutations, each of which stands for one mutation of one target.
        seed: seed of all mutations.
        report: called with each number before its mutation is checked.
    """
    findings, events = Findings(), []
    is_checking = [True]

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if is_checking[0] and event in _FORBIDDEN and not (event == "exec" and _is_installed(arguments[0])):
            events.append(event)

    chosen = list(targets().items())
    sys.addaudithook(audit)
    for number in numbers:
        report(number)
        generator = random.Random(f"{seed} {number}")
        name, (files, load) = chosen[number % len(chosen)]
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            try:
                message = check(load, mutate(files, generator), Path(folder), events)
                findings.outcomes[f"{name}: {'accepted' if message is None else 'refused'}"] += 1
            except AssertionError as error:
                findings.failures.append(f"{number} ({name}): {error}")
    is_checking[0] = False
    return findings


def _is_installed(code: types.CodeType) -> bool:
    """Return whether code is that of an installed module, which Python executes when it imports the module."""
    return code.co_filename.startswith((sys.base_prefix, sys.prefix))


def _work(numbers: range, seed: int, pipe: Any, current: Any) -> None:
    """Run in a process of its own, with little memory beyond that of its imports."""
    import resource  # not on Windows, where this script cannot run

    torch.set_num_threads(1)
    run_numbers(range(8), seed=0)  # what is imported and allocated once
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    limit = pages * resource.getpagesize() + _MAX_ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def report(number: int) -> None:
        current.value = number

    findings = run_numbers(numbers, seed, report)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    if grown > _MAX_BYTES:
        findings.failures.append(f"{numbers.start} to {numbers.stop - 1}: {grown / 1e6:.0f} MB of memory")
    pipe.send(findings)


def main(mutations: int = 20_000, seed: int = 1, first: int = 0, minutes: float = float("inf")) -> None:
    """Check mutations and print what has happened.

    Args:
        mutations: number of mutations, at most.
        seed: seed of all mutations.
        first: number of the first mutation, to repeat one.
        minutes: when they end, even if there are fewer mutations.
    """
    context = multiprocessing.get_context("spawn")
    total, started = Findings(), time.perf_counter()
    position = first
    while position < first + mutations and time.perf_counter() - started < 60 * minutes:
        known = len(total.failures)
        numbers = range(position, min(position + _CHUNK, first + mutations))
        receiver, sender = context.Pipe(duplex=False)
        current = context.Value("q", position)
        process = context.Process(target=_work, args=(numbers, seed, sender, current))
        process.start()
        sender.close()
        try:
            total.add(receiver.recv())
            position = numbers.stop
        except EOFError:
            process.join()
            total.failures.append(f"{current.value}: the process ended with {process.exitcode}")
            position = current.value + 1
        process.join()
        spent = (time.perf_counter() - started) / 60
        print(f"{position - first:,} mutations in {spent:.1f} min, {len(total.failures)} failures", flush=True)
        print("".join(f"{failure}\n" for failure in total.failures[known:]), end="", flush=True)
    for outcome, count in sorted(total.outcomes.items()):
        print(f"{outcome} {count:,}")


if __name__ == "__main__":
    run_script(main)
