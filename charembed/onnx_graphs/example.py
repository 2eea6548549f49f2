"""Embed the words of a sentence with the files that `charembed export-onnx` wrote. Needs numpy and onnxruntime only.

python embed.py FOLDER The words of a sentence
"""

import json
import os
import re
import sys
import unicodedata
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise the next line contacts a telemetry host
import onnxruntime


def embed(folder: str | Path, words: list[str]) -> np.ndarray:
    """Return the vectors of words: as many dimensions as "embedding_dim" in config.json says."""
    vectors = embed_all_dimensions(folder, words)
    path = Path(folder, "projection.safetensors")
    if path.exists():
        _, projection = read_safetensors(path)
        vectors = (vectors - projection["mean"]) @ projection["components"].astype(np.float32).T
    return vectors


def embed_all_dimensions(folder: str | Path, words: list[str]) -> np.ndarray:
    config, tokenizer = (json.loads(Path(folder, name).read_bytes()) for name in ("config.json", "tokenizer.json"))
    ids = tokenizer["model"]["vocab"]
    words = [compose(word, ids) for word in words]
    text = " ".join(words)
    ends = np.cumsum([len(word) + 1 for word in words], dtype=np.int64) - 1
    starts = ends - np.array([len(word) for word in words], dtype=np.int64)
    parts = []
    for direction in config["directions"]:
        session = onnxruntime.InferenceSession(Path(folder, f"{direction}.onnx").read_bytes())
        # The backward model reads the text reversed. A vector is read just outside the word, or on its last character.
        forward = direction == "forward"
        characters = config["delimiter"] + (text if forward else text[::-1]) + " "
        positions = len(config["delimiter"]) + (ends if forward else len(text) - starts)
        positions = positions - (1 if config["readout"] == "word" else 0)
        # The initial state is zero; id 0 stands for an unknown character.
        states = [tensor for tensor in session.get_inputs() if tensor.type == "tensor(float)"]
        feeds = {tensor.name: np.zeros((1, tensor.shape[1]), np.float32) for tensor in states}
        feeds |= {"ids": np.array([[ids.get(character, 0)] for character in characters]), "places": positions}
        parts.append(session.run(["vectors"], feeds)[0])
    if config["static_vectors"]:
        parts.append(look_up(Path(folder, "static_vectors.safetensors"), words))
    return np.concatenate(parts, axis=1)


def compose(word: str, ids: dict[str, int]) -> str:
    """Return a word in which a letter and its accent are one character where the vocabulary has that and not both."""
    characters: list[str] = []
    for character in word:
        both = unicodedata.normalize("NFC", characters[-1] + character) if characters else character
        if characters and both in ids and not {characters[-1], character} <= ids.keys():
            characters[-1] = both
        else:
            characters.append(character)
    return "".join(characters)


def look_up(path: Path, words: list[str]) -> np.ndarray:
    """Return the static vectors of words."""
    metadata, tensors = read_safetensors(path)
    options = json.loads(metadata["static_vectors"])
    rows, scales = tensors["vectors"], tensors["scales"]
    known = tensors["words"].tobytes().decode().split("\n")[: options["words"]]
    row_of = {word: row for row, word in enumerate(known)}
    vectors = np.zeros((len(words), rows.shape[1]), np.float32)
    for vector, word in zip(vectors, words, strict=True):
        # The word's own row, or that of its lower-case form, or the mean of the rows of its n-grams.
        row = row_of.get(word, row_of.get(word.lower()))
        if row is not None:
            vector[:] = rows[row] * scales[row]
        elif len(rows) > len(known) and (ngrams := list_ngrams(word, options["min_n"], options["max_n"])):
            buckets = [len(known) + fnv1a(ngram) % (len(rows) - len(known)) for ngram in ngrams]
            vector[:] = (rows[buckets] * scales[buckets, None]).mean(axis=0)
    return vectors


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return the metadata and the tensors of a safetensors file."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata, tensors = header.pop("__metadata__"), {}
    for name, tensor in header.items():
        dtype = {"I8": np.int8, "U8": np.uint8, "F16": np.float16, "F32": np.float32}[tensor["dtype"]]
        first, last = (start + offset for offset in tensor["data_offsets"])
        tensors[name] = np.frombuffer(content[first:last], dtype).reshape(tensor["shape"])
    return metadata, tensors


def list_ngrams(word: str, min_n: int, max_n: int) -> list[str]:
    """Return the n-grams of "<word>", without "<" and ">" alone."""
    marked = f"<{word[:256]}>"
    spans = [(start, start + n) for n in range(min_n, max_n + 1) for start in range(len(marked) - n + 1)]
    return [marked[start:end] for start, end in spans if (start, end) not in ((0, 1), (len(marked) - 1, len(marked)))]


def fnv1a(text: str) -> int:
    """Return fastText's hash of a text: FNV-1a over signed bytes."""
    value = 2166136261
    for byte in text.encode("utf-8", "surrogatepass"):
        value = (value ^ (byte if byte < 128 else byte + 0xFFFFFF00)) * 16777619 % 2**32
    return value


def escape_controls(text: str) -> str:
    r"""Return text with control characters as `\uXXXX`: printed as they are, they would act on the terminal."""
    controls = "[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
    return re.sub(controls, lambda match: f"\\u{ord(match[0]):04x}", text)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for word, vector in zip(sys.argv[2:], embed(sys.argv[1], sys.argv[2:]), strict=True):
        print(escape_controls(word), vector.shape, vector[:4])
