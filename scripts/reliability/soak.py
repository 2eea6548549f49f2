"""Embed varied text for a while and report the memory of the process each minute, to see whether it keeps growing.

    python -m scripts.reliability.soak --model en --engine torch --minutes 60

Every call embeds another number of texts of other lengths: sentences of words, runs of one character, and random
Unicode. The largest calls come first, so that memory that grows later is not that of a larger one. Reads the memory
from /proc, so it needs Linux. Exit status 1 if the memory is at any time more than 5 % above or below that after five
minutes.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from charembed import CharEmbedder
from charembed.cli.runner import run_script
from charembed.embedding.engine_choice import EngineName, EnginePrecision

_WORDS = [
    "The",
    "harbour",
    "is",
    "quiet",
    "today",
    ".",
    "Schiffe",
    "fahren",
    "über",
    "das",
    "Meer",
    ",",
    "2026",
    "–",
    "東京",
]
_CODE_POINTS = [*range(32, 0x800, 7), 0x4E00, 0x1F600]
_MAX_TEXTS = 150
_MAX_CHARACTERS = 400
_LARGEST_CALLS = 20
_SETTLING_MINUTES = 5
_TOLERANCE = 0.05
_BYTES_PER_MB = 1_000_000


def _text(generator: random.Random, characters: int | None = None) -> str:
    """Return a text of a random kind, and of random length if none is given."""
    characters = generator.randint(0, _MAX_CHARACTERS) if characters is None else characters
    kind = generator.choice(["words", "words", "words", "run", "unicode"])
    if kind == "words":
        return " ".join(generator.choices(_WORDS, k=characters // 6))
    if kind == "run":
        return generator.choice("aä.1Ж") * characters
    return "".join(chr(generator.choice(_CODE_POINTS)) for _ in range(characters))


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kilobytes) * 1024 / _BYTES_PER_MB


def soak(
    model: str = "en",
    engine: EngineName = "auto",
    precision: EnginePrecision = "float32",
    minutes: int = 60,
    seed: int = 1,
) -> None:
    """Embed varied text for a number of minutes and print the resident memory after each.

    Args:
        model: name or folder of the model.
        engine: engine of the embedder.
        precision: precision of the embedder.
        minutes: how long to embed.
        seed: seed of the texts.
    """
    embedder = CharEmbedder.from_pretrained(model, engine=engine, precision=precision)
    generator = random.Random(seed)
    for _ in range(_LARGEST_CALLS):
        embedder.embed([_text(generator, _MAX_CHARACTERS) for _ in range(_MAX_TEXTS)])
    memory: list[float] = []
    texts = words = 0
    started = time.monotonic()
    while len(memory) < minutes:
        batch = [_text(generator) for _ in range(generator.randint(1, _MAX_TEXTS))]
        texts += len(batch)
        words += sum(map(len, embedder.iter_embed(batch)))
        if time.monotonic() - started >= 60 * (len(memory) + 1):
            memory.append(_resident_mb())
            print(f"minute {len(memory)}: {memory[-1]:.0f} MB, {texts:,} texts, {words:,} words", flush=True)
    settled = memory[min(_SETTLING_MINUTES, minutes) - 1 :]
    change = max(abs(resident / settled[0] - 1) for resident in settled)
    print(f"{embedder!r}: at most {100 * change:.1f} % from the {settled[0]:.0f} MB after {_SETTLING_MINUTES} minutes")
    if change > _TOLERANCE:
        sys.exit(1)


if __name__ == "__main__":
    run_script(soak)
