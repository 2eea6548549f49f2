"""A tagger that is trained in a second, and the file that it is trained on."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from charembed import CharEmbedder
from charembed.pretrained.model_folder import Pretrained
from charembed.static_vectors import StaticVectors
from charembed.tagging.fitting import FitConfig
from charembed.tagging.network import EncoderName, NetworkConfig, TaggerNetwork
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagger import Tagger
from charembed.tagging.training import TaggerConfig

LAYERS = (
    TagLayer("ner", "entities", ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")),
    TagLayer("pos", "tags", ("NOUN", "PUNCT", "VERB")),
)


def untrained_tagger(
    pretrained: Pretrained, encoder: EncoderName = "bilstm", static: StaticVectors | None = None
) -> Tagger:
    """Return a tagger of two layers with large random weights, so that each vector changes the tags noticeably."""
    embedder = CharEmbedder(pretrained)
    size = embedder.embedding_dim + (0 if static is None else static.dim)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = TaggerNetwork(NetworkConfig(size, encoder, projection_size=7, hidden_size=6), LAYERS)
        for weight in network.parameters():
            weight.data.normal_(std=0.7)
        network.set_scale(torch.randn(size), 0.5)
    return Tagger(embedder, network, static, {"train": "random"})


def write_columns(path: Path, sentences: int = 40, seed: int = 1) -> Path:
    """Write sentences in columns: word, part of speech, entity. Names are told by a digit before them."""
    rng = random.Random(seed)
    lines = []
    for _ in range(sentences):
        for _ in range(rng.randint(1, 6)):
            word = "".join(rng.choices("abcdefghij", k=rng.randint(1, 5)))
            if rng.random() < 0.3:
                lines += [f"1{word}\tNOUN\tB-PER"] + [f"2{word}\tNOUN\tI-PER"] * rng.randint(0, 1)
            elif rng.random() < 0.2:
                lines.append(f"3{word}\tNOUN\tB-LOC")
            else:
                lines.append(f"{word}\t{'VERB' if word < 'e' else 'NOUN'}\tO")
        lines += [".\tPUNCT\tO", ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def tagger_config(folder: Path, pretrained: Pretrained, **changes: object) -> TaggerConfig:
    """Return the configuration of a run of three epochs in `folder`/tagger on both layers of a file."""
    model = folder / "model"
    if not model.exists():
        pretrained.save(model)
    options: dict = {
        "train": str(write_columns(folder / "columns.conll")),
        "output": str(folder / "tagger"),
        "model": str(model),
        "tag_columns": {"pos": 1, "ner": 2},
        "projection_size": 8,
        "hidden_size": 6,
        "fit": FitConfig(epochs=3, batch_size=4, learning_rate=0.02),
    }
    return TaggerConfig(**options | changes)
