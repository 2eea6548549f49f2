"""The run of a tagger that is trained in a second, and the file that it is trained on."""

from __future__ import annotations

import random
from pathlib import Path

from charembed.pretrained.model_folder import Pretrained
from charembed.tagging.fitting import FitConfig
from charembed.tagging.training import TaggerConfig


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


def small_options(folder: Path) -> dict[str, object]:
    """Return options that training a tagger and comparing models share: three epochs on both layers of a file."""
    return {
        "train": str(write_columns(folder / "columns.conll")),
        "tag_columns": {"pos": 1, "ner": 2},
        "projection_size": 8,
        "hidden_size": 6,
        "fit": FitConfig(epochs=3, batch_size=4, learning_rate=0.02),
    }


def tagger_config(folder: Path, pretrained: Pretrained, **changes: object) -> TaggerConfig:
    """Return the configuration of a run in `folder`/tagger."""
    model = folder / "model"
    if not model.exists():
        pretrained.save(model)
    options: dict = small_options(folder) | {"output": str(folder / "tagger"), "model": str(model)}
    return TaggerConfig(**options | changes)
