"""The files of frequent words: found once for a text, found again when damaged, removed when not needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import EXCERPT

from charembed.dataset import frequent_words
from charembed.dataset.encoded_corpus import EncodedCorpus, encode_corpus
from charembed.dataset.frequent_words import FrequentWords, remove_other_words
from charembed.dataset.word_marks import BEGINS
from charembed.text.corpus import CorpusConfig
from charembed.text.vocab import VocabConfig
from charembed.text.words import WORD_RULES, find_words

NUMBER = 50
NAME = f"words-{WORD_RULES}-{NUMBER}"
VISIBLE = {f"{NAME}.bin", f"{NAME}.json", f"{NAME}.lock"}


@pytest.fixture
def encoded(tmp_path: Path) -> EncodedCorpus:
    text = tmp_path / "text.txt"
    text.write_text(EXCERPT.read_text(encoding="utf-8")[:30_000], encoding="utf-8")
    return encode_corpus(CorpusConfig(train=str(text), held_out=0.2), VocabConfig(), 1, tmp_path / "encoded")


def files_of(encoded: EncodedCorpus) -> set[str]:
    return {path.name for path in encoded.folder.iterdir() if "words" in path.name}


def test_the_words_are_those_of_the_training_text(encoded: EncodedCorpus) -> None:
    texts = [encoded.vocab.decode(encoded.ids[start:end]) for start, end in encoded.segments]
    counts = Counter(text[start:end] for text in texts for start, end in find_words(text))
    frequent = FrequentWords.of(encoded, NUMBER)
    assert frequent.words == sorted(counts, key=lambda word: (-counts[word], word))[:NUMBER]
    assert frequent.counts.tolist() == [counts[word] for word in frequent.words]
    assert frequent.share == pytest.approx(frequent.counts.sum() / counts.total())
    assert isinstance(frequent.marks, np.memmap)
    assert int(((frequent.marks & BEGINS) != 0).sum()) == counts.total()
    held_out = np.ones(len(encoded.ids), dtype=bool)
    for start, end in encoded.segments:
        held_out[start:end] = False
    assert held_out.any()
    assert not frequent.marks[held_out].any(), "held-out text is marked"
    assert files_of(encoded) == VISIBLE


def test_words_are_found_once(encoded: EncodedCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """By several threads at the same time, and by later runs."""
    calls = []
    original = frequent_words._write
    monkeypatch.setattr(frequent_words, "_write", lambda *arguments: (calls.append(1), original(*arguments)))
    results: list[FrequentWords] = []
    threads = [threading.Thread(target=lambda: results.append(FrequentWords.of(encoded, NUMBER))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.append(FrequentWords.of(encoded, NUMBER))
    assert len(calls) == 1
    assert len({result.digest() for result in results}) == 1
    assert FrequentWords.of(encoded, 20).words == results[0].words[:20]
    assert len(calls) == 2, "another number of words has files of its own"


def cut_off(raw: bytes) -> bytes:
    return raw[:-10]


def shorten(raw: bytes) -> bytes:
    return json.dumps(json.loads(raw) | {"words": ["the"]}).encode()


def flip(raw: bytes) -> bytes:
    """Flip one bit in the middle."""
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 4]) + raw[middle + 1 :]


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        ("bin", cut_off),
        ("bin", lambda _: b""),
        ("json", cut_off),
        ("json", lambda _: b""),
        ("json", lambda _: b"[1]"),
        ("json", lambda _: b"{}"),
        ("json", shorten),
        ("bin", None),
        ("json", None),
        ("bin", flip),
        ("json", flip),
    ],
)
def test_damaged_files_are_written_again(
    encoded: EncodedCorpus, suffix: str, damage: Callable[[bytes], bytes] | None
) -> None:
    first = FrequentWords.of(encoded, NUMBER)
    expected = np.array(first.marks)
    path = encoded.folder / f"{NAME}.{suffix}"
    raw = path.read_bytes()
    path.unlink()  # the file that is mapped above stays as it is
    if damage is not None:
        path.write_bytes(damage(raw))
    again = FrequentWords.of(encoded, NUMBER)
    assert again.words == first.words
    assert np.array_equal(again.marks, expected)
    assert files_of(encoded) == VISIBLE


@pytest.mark.parametrize("function", ["os.fsync", "os.replace"])
@pytest.mark.parametrize("call", [1, 2])
def test_what_a_killed_run_left_is_removed(encoded: EncodedCorpus, function: str, call: int) -> None:
    code = (
        "import itertools, os, signal, sys; from pathlib import Path\n"
        "from charembed.dataset.encoded_corpus import EncodedCorpus\n"
        "from charembed.dataset.frequent_words import FrequentWords\n"
        "calls, original = itertools.count(1), " + function + "\n"
        "def deadly(*arguments):\n"
        f"    if next(calls) == {2 * call - 1 if function == 'os.fsync' else call}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return original(*arguments)\n"
        f"{function} = deadly\n"
        f"FrequentWords.of(EncodedCorpus.load(Path({str(encoded.folder)!r})), {NUMBER})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert any(name.endswith(".tmp") for name in files_of(encoded)), "the killed run was writing"
    FrequentWords.of(encoded, NUMBER)
    assert files_of(encoded) == VISIBLE


def test_a_full_disk_leaves_nothing(encoded: EncodedCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            FrequentWords.of(encoded, NUMBER)
    assert files_of(encoded) == {f"{NAME}.lock"}


def test_other_numbers_of_words_are_removed(encoded: EncodedCorpus) -> None:
    for number in (NUMBER, 20):
        FrequentWords.of(encoded, number)
    (encoded.folder / f".words-{WORD_RULES}-7.bin.123.tmp").touch()
    (encoded.folder / "words.txt").touch()
    remove_other_words(encoded, NUMBER)
    assert files_of(encoded) == {*VISIBLE, "words.txt"}
    remove_other_words(encoded, 0)
    assert files_of(encoded) == {"words.txt"}
