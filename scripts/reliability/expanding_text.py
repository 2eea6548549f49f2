"""Read text files that expand to 10 GB, lines without end, nesting and wrong schemas; print what happens and how much
memory it takes.

    python -m scripts.reliability.expanding_text

Each file is read in a process of its own, as `charembed train` and `charembed embed` read text. Needs Linux.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PIECE = 100_000_000
COPIES = 100
READ = """
import re, sys
from pathlib import Path
from charembed.text.corpus import Corpus
try:
    what = f"{sum(len(text.text) for text in Corpus(sys.argv[1]).texts()):,} characters"
except ValueError as error:
    what = f"{type(error).__name__}: {error}"
# Not ru_maxrss, which counts the memory of the process that started this one.
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(int(peak) // 1024, what, sep="\\t")
"""


def hostile_files(folder: Path) -> Iterator[Path]:
    """Write the files, one after the other."""

    def write(name: str, content: bytes, copies: int = 1) -> Path:
        path = folder / name
        with path.open("wb") as file:
            for _ in range(copies):
                file.write(content)
        return path

    line, lines = b"a" * PIECE, (b"a" * 999 + b"\n") * (PIECE // 1000)
    for suffix, compress in (("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress)):
        yield write(f"line.txt.{suffix}", compress(line), COPIES)
        yield write(f"nulls.txt.{suffix}", compress(bytes(PIECE)), COPIES)
        yield write(f"twice.txt.{suffix}", compress(compress(line)))
    yield write("line.jsonl.gz", gzip.compress(b'{"text": "' + line), COPIES)
    yield write("line.json.gz", gzip.compress(b'[{"text": "' + line), COPIES)
    yield write("quote.csv.gz", gzip.compress(b'text\n"' + lines), COPIES)
    yield write("lines.txt.gz", gzip.compress(lines), 10)
    yield write("nesting.json", b"[" * 10_000_000)
    yield write("nesting.jsonl", b'{"text":' * 10_000_000)
    yield write("schema.json", b'{"rows": [1, 2, 3]}')
    yield write("schema.jsonl", b'{"text": {"a": "b"}}\n')
    yield write("schema.csv", b"id;body\n1;text\n")
    yield Path("/dev/zero")


def main() -> None:
    """Print a table in Markdown."""
    print("| File | MB | Seconds | Memory, MB | Result |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for path in hostile_files(Path(folder)):
            begin = time.perf_counter()
            result = subprocess.run(
                [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True, timeout=600
            )
            seconds = time.perf_counter() - begin
            memory, what = result.stdout.replace(f"{folder}/", "").strip().split("\t")
            megabytes = path.stat().st_size / 1e6
            print(f"| `{path.name}` | {megabytes:.1f} | {seconds:.1f} | {memory} | {what} |", flush=True)
            if path.is_relative_to(folder):
                path.unlink()


if __name__ == "__main__":
    main()
