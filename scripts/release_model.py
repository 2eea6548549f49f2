"""Make the folder of a model that comes along: two directions trained apart, joined, scored on text that neither has
seen, in float16, with a model card.

    python scripts/release_model.py --forward runs/en/forward/best --backward runs/en/backward/best \\
      --test en_wiki/test.txt.xz --card configs/cards/en.yaml --output charembed/models/en
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jsonargparse import auto_cli
from quality_results import TaggerName, read_results, summary

from charembed.corpus import Corpus
from charembed.encoded import pieces_of
from charembed.pretrained import Pretrained, join
from charembed.scoring import score_all
from charembed.workers import WorkerPool

PER_DIRECTION = ("characters_seen", "minutes")
SHARED = ("corpus_sha256", "corpus_documents", "training_characters", "seed", "torch_version")


def main(
    forward: str,
    backward: str,
    test: str,
    card: str,
    output: str,
    results: str | None = None,
    row: str | None = None,
    tagger: TaggerName = "flair",
) -> None:
    """Join, score and write a model.

    Args:
        forward: model folder of the forward direction.
        backward: model folder of the backward direction.
        test: text that is in neither training nor validation.
        card: YAML file of what the model card says beside what training knows; lists become its sections.
        output: model folder to write; one that is there is replaced.
        results: file of `evaluate_quality.py` with the scores of taggers.
        row: the model's name in it.
        tagger: whose scores the card gives.

    Raises:
        CharEmbedError: the two models are no pair, or the output is something else.
    """
    pair = join(Pretrained.load(forward), Pretrained.load(backward))
    ids = np.concatenate([pair.vocab.encode(piece) for piece in pieces_of(Corpus(test))])
    scores = score_all(pair.model.eval(), ids, pair.vocab, WorkerPool())
    known: dict[str, Any] = pair.provenance
    told = yaml.safe_load(Path(card).read_text(encoding="utf-8"))
    provenance = {key: value for key, value in told.items() if not isinstance(value, list)}
    provenance |= {key: known["forward"][key] for key in SHARED}
    for key in PER_DIRECTION:
        provenance[key] = {direction: known[direction][key] for direction in known}
    provenance["test_characters"] = len(ids)
    provenance["test_bits_per_character"] = {
        direction: round(score.bits_per_character, 4) for direction, score in scores.items()
    }
    if results is not None:
        own = [one for one in read_results(results) if (one.embedder, one.tagger) == (row, tagger)]
        provenance["tagger_scores"] = [
            f"{task}, {metric}: {summary([one for one in own if one.task == task])}"
            for task, metric in {one.task: one.metric for one in own}.items()
        ]
    provenance |= {key: value for key, value in told.items() if isinstance(value, list)}
    pair.provenance = provenance
    pair.save(output, dtype="float16", address=Path(output).name)
    print(f"{output}: {pair.model.parameter_count():,} weights, test bits {provenance['test_bits_per_character']}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
