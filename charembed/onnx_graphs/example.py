"""Embed the words of a sentence with the files that `charembed export-onnx` wrote. Needs numpy and onnxruntime only.

python embed.py FOLDER The words of a sentence
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise the next line contacts a telemetry host
import onnxruntime


def embed(folder: str | Path, words: list[str]) -> np.ndarray:
    config, tokenizer = (json.loads(Path(folder, name).read_bytes()) for name in ("config.json", "tokenizer.json"))
    ids, text = tokenizer["model"]["vocab"], " ".join(words)
    ends = np.cumsum([len(word) + 1 for word in words], dtype=np.int64) - 1
    starts = ends - np.array([len(word) for word in words], dtype=np.int64)
    halves = []
    for direction in config["directions"]:
        session = onnxruntime.InferenceSession(str(Path(folder, f"{direction}.onnx")))
        # The backward model reads the text reversed. A vector is read just outside the word, or on its last character.
        forward = direction == "forward"
        characters = config["delimiter"] + (text if forward else text[::-1]) + " "
        positions = len(config["delimiter"]) + (ends if forward else len(text) - starts)
        positions = positions - (1 if config["readout"] == "word" else 0)
        # The initial state is zero; id 0 stands for an unknown character.
        states = [tensor for tensor in session.get_inputs() if tensor.type == "tensor(float)"]
        feeds = {tensor.name: np.zeros((1, tensor.shape[1]), np.float32) for tensor in states}
        feeds |= {"ids": np.array([[ids.get(character, 0)] for character in characters]), "places": positions}
        halves.append(session.run(["vectors"], feeds)[0])
    return np.concatenate(halves, axis=1)  # (words, config["embedding_dim"])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for word, vector in zip(sys.argv[2:], embed(sys.argv[1], sys.argv[2:]), strict=True):
        print(word, vector.shape, vector[:4])
