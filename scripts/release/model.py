"""Make the folder of a model that comes along: two directions trained apart, joined, scored on text that neither has
seen, in float16, with a model card; and add to the card what taggers make of its vectors.

    python -m scripts.release.model join --forward runs/en/forward/best --backward runs/en/backward/best \\
      --test en_wiki/test.txt.xz --card configs/cards/en.yaml --output charembed/pretrained/models/en
    python -m scripts.release.model tagger_scores --model charembed/pretrained/models/en \\
      --results docs/benchmarks/quality.jsonl --row en
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jsonargparse import auto_cli

from charembed.lm.scoring import score_all
from charembed.pretrained.model_folder import Pretrained
from charembed.pretrained.model_folder import join as join_directions
from charembed.text.corpus import Corpus, document_texts
from charembed.util.workers import WorkerPool
from scripts.quality.embedders import weights_digest
from scripts.quality.results import TaggerName, read_results, summary

PER_DIRECTION = ("characters_seen", "minutes")
TAGGER_TITLES: dict[TaggerName, str] = {"probe": "probe (BiLSTM-CRF)", "flair": "Flair's SequenceTagger"}
SHARED = ("corpus_sha256", "corpus_documents", "training_characters", "seed", "torch_version")


def join(forward: str, backward: str, test: str, card: str, output: str) -> None:
    """Join two directions, score them and write the pair.

    Args:
        forward: model folder of the forward direction.
        backward: model folder of the backward direction.
        test: text that is in neither training nor validation.
        card: YAML file of what the model card says beside what training knows; lists become its sections.
        output: model folder to write; one that is there is replaced.

    Raises:
        CharEmbedError: the two models are no pair, or the output is something else.
        SystemExit: they were trained with different text, seeds or releases of PyTorch; no text, no card.
    """
    pair = join_directions(Pretrained.load(forward), Pretrained.load(backward))
    known: dict[str, Any] = pair.provenance
    differing = [key for key in SHARED if known["forward"][key] != known["backward"][key]]
    if differing:
        sys.exit(f"{forward} and {backward} were trained with different {', '.join(differing)}")
    told = yaml.load(Path(card).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # dates are text on a card
    if not isinstance(told, dict):
        sys.exit(f"{card} holds no names and values")
    pieces = [pair.vocab.encode(piece) for piece in document_texts(Corpus(test))]
    if not pieces:
        sys.exit(f"{test} holds no text")
    ids = np.concatenate(pieces)
    scores = score_all(pair.model.eval(), ids, pair.vocab, WorkerPool())
    provenance = {key: value for key, value in told.items() if not isinstance(value, list)}
    provenance |= {key: known["forward"][key] for key in SHARED}
    for key in PER_DIRECTION:
        provenance[key] = {direction: known[direction][key] for direction in known}
    provenance["test_characters"] = len(ids)
    provenance["test_bits_per_character"] = {
        direction: round(score.bits_per_character, 4) for direction, score in scores.items()
    }
    provenance |= {key: value for key, value in told.items() if isinstance(value, list)}
    pair.provenance = provenance
    _write(pair, output)
    print(f"{output}: {pair.model.parameter_count():,} weights, test bits {provenance['test_bits_per_character']}")


def tagger_scores(model: str, results: str, row: str) -> None:
    """Put the scores of taggers on a model's card, in the place of those that are there.

    Args:
        model: folder that `join` has written.
        results: file of `evaluate_quality.py`.
        row: the model's name in it.

    Raises:
        CharEmbedError: no model folder.
        SystemExit: no such scores, or those of other weights.
    """
    own = [one for one in read_results(results) if one.embedder == row]
    if not own:
        sys.exit(f"{results} has no scores of {row}")
    pretrained = Pretrained.load(model)
    if {one.weights for one in own} != {weights_digest([pretrained.model])}:
        sys.exit(f"{results} has scores of {row} with other weights than {model} has")
    pretrained.provenance["tagger_scores"] = [
        f"{task}, {metric}, {TAGGER_TITLES[tagger]},"
        f" {len(found)} {'seed' if len(found) == 1 else 'seeds'}: {summary(found)}"
        for task, metric, tagger in sorted({(one.task, one.metric, one.tagger) for one in own})
        if (found := [one for one in own if (one.task, one.tagger) == (task, tagger)])
    ]
    _write(pretrained, model)
    print(f"{model}: {'; '.join(pretrained.provenance['tagger_scores'])}")


def _write(pretrained: Pretrained, folder: str) -> None:
    pretrained.save(folder, dtype="float16", address=Path(folder).resolve().name)


if __name__ == "__main__":
    auto_cli([join, tagger_scores], as_positional=False)
