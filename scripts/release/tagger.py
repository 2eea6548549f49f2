"""Prepare a trained tagger for the package: add the facts of its card and store its weights in float16.

    python -m scripts.release.tagger --tagger runs/en-ner --card configs/cards/en-ner.yaml \
      --output charembed/tagging/models/en-ner
"""

from __future__ import annotations

from pathlib import Path

import yaml

from charembed.cli.runner import run_script
from charembed.tagging.tagger import Tagger
from charembed.tagging.tagger_folder import save_tagger


def prepare(tagger: str, card: str, output: str) -> None:
    """Write the folder of a tagger as it is published.

    Args:
        tagger: folder of the trained tagger.
        card: YAML file with facts for the card.
        output: folder to write.
    """
    trained = Tagger.load(tagger)
    trained.provenance |= yaml.safe_load(Path(card).read_text(encoding="utf-8"))
    trained.network.half()
    save_tagger(trained.files(), output, "reference", address=Path(output).name)
    size = sum(path.stat().st_size for path in Path(output).rglob("*"))
    print(f"{output}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    run_script(prepare)
