"""Tag the words of a sentence with the files that `charembed export-onnx` wrote. Needs numpy and onnxruntime only.

python tag.py FOLDER The words of a sentence
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise the next line contacts a telemetry host
import onnxruntime


def tag(folder: str | Path, words: list[str]) -> dict[str, list[str]]:
    """Return the tags of the words of a sentence, by layer of tags. Entities have BIO tags."""
    from embed import embed, look_up  # embed.py, which is in the same folder

    vectors = embed(folder, words)
    static_vectors = Path(folder, "tagger_static_vectors.safetensors")
    if static_vectors.exists():
        vectors = np.concatenate([vectors, look_up(static_vectors, words)], axis=1)
    return tag_vectors(folder, vectors)


def tag_vectors(folder: str | Path, vectors: np.ndarray) -> dict[str, list[str]]:
    """Return the tags of words by their vectors."""
    layers = json.loads(Path(folder, "layers.json").read_bytes())["layers"]
    if not len(vectors):
        return {layer["name"]: [] for layer in layers}
    session = onnxruntime.InferenceSession(Path(folder, "tagger.onnx").read_bytes())
    tags = {}
    for layer, emissions in zip(layers, session.run(None, {"vectors": vectors}), strict=True):
        start, transitions, end = (np.array(layer[name], np.float32) for name in ("start", "transitions", "end"))
        tags[layer["name"]] = [layer["tags"][number] for number in viterbi(emissions, start, transitions, end)]
    return tags


def viterbi(emissions: np.ndarray, start: np.ndarray, transitions: np.ndarray, end: np.ndarray) -> list[int]:
    """Return the numbers of the best tags: the sum of their scores and of those of adjacent tags is the largest."""
    best, previous = start + emissions[0], []
    for scores in emissions[1:]:
        candidates = best[:, None] + transitions  # each tag of the word before, with each tag of this word
        previous.append(candidates.argmax(axis=0))
        best = candidates.max(axis=0) + scores
    path = [int((best + end).argmax())]
    for tag_before in reversed(previous):
        path.append(int(tag_before[path[-1]]))
    return path[::-1]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    from embed import escape_controls

    for columns in zip(sys.argv[2:], *tag(sys.argv[1], sys.argv[2:]).values(), strict=True):
        print(*map(escape_controls, columns))
