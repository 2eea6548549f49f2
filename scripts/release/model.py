"""Build a bundled model: join two directions, score them on test text and write them in float16 with a model card.

    python -m scripts.release.model join --forward runs/en/forward/best --backward runs/en/backward/best \\
      --test en_wiki/test.txt.xz --card configs/cards/en.yaml --output charembed/pretrained/models/en \
      --additions.readout separator --additions.words runs/words/en.vec \
      --additions.projection_text en_wiki/train_00.txt.xz
    python -m scripts.release.model tagger_scores --model charembed/pretrained/models/en \\
      --results docs/benchmarks/quality.jsonl --row en

`tagger_scores` adds the scores of taggers on the model's vectors to its card.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from charembed import CharEmbedder, CharEmbedError
from charembed.cli.runner import run_script
from charembed.lm.model import Readout
from charembed.lm.scoring import score_all
from charembed.output.sample import CorpusSample
from charembed.pretrained.model_folder import Pretrained, join
from charembed.pretrained.word_scale import match_states
from charembed.static_vectors import read_static_vectors, with_ngrams
from charembed.text.corpus import Corpus, document_texts
from charembed.util.workers import WorkerPool
from scripts.quality.embedders import model_digest
from scripts.quality.results import TaggerName, read_results, summary

SCALING_CHARACTERS = 20_000
"""Characters of the test text on which the variance of states and of static vectors is measured."""
PER_DIRECTION = ("characters_seen", "minutes")
"""Provenance that differs between the directions."""
SHARED = ("corpus_sha256", "corpus_documents", "training_characters", "seed", "torch_version")
"""Provenance that must be the same in both directions."""
TAGGER_TITLES: dict[TaggerName, str] = {
    "probe": "probe (BiLSTM-CRF)",
    "flair": "Flair's SequenceTagger",
    "linear": "logistic regression",
}


@dataclass
class Additions:
    """What a bundled model has besides its language models."""

    readout: Readout = "word"
    """Where the states of a word are read by default."""
    words: str | None = None
    """File of static word vectors; none by default."""
    rows: int = 38_000
    """Number of words with vectors of their own; all words of the file count for the n-grams of other words."""
    buckets: int = 6_000
    """Number of buckets of n-grams."""
    projection_text: str | None = None
    """Text to fit a projection to; no projection by default."""
    dim: int = 256
    """Dimensions of the projection."""


DEFAULT_ADDITIONS = Additions()


def join_and_score(
    forward: str, backward: str, test: str, card: str, output: str, additions: Additions = DEFAULT_ADDITIONS
) -> None:
    """Join two directions, score them, add what the embedder needs and write the model folder.

    Args:
        forward: model folder of the forward direction.
        backward: model folder of the backward direction.
        test: text that is in neither the training nor the validation text.
        card: YAML file with entries of the model card that training does not know; lists become sections of the card.
        output: model folder to write; an existing one is replaced.
        additions: readout, static vectors and projection.

    Raises:
        CharEmbedError: the models do not match, or were trained with different text, seeds or releases of PyTorch; the
            test text is empty; the card is not a mapping; a file of `additions` cannot be read; or the output is not a
            model folder.
    """
    pair = join(Pretrained.load(forward), Pretrained.load(backward))
    # Directions that were trained on different text do not belong together.
    known: dict[str, Any] = pair.provenance
    differing = [key for key in SHARED if known["forward"][key] != known["backward"][key]]
    if differing:
        raise CharEmbedError(f"{forward} and {backward} were trained with different {', '.join(differing)}")
    entries = yaml.load(Path(card).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # dates stay text
    if not isinstance(entries, dict):
        raise CharEmbedError(f"{card} must contain names and values")
    pieces = [pair.vocab.encode(piece) for piece in document_texts(Corpus(test))]
    if not pieces:
        raise CharEmbedError(f"{test} contains no text")
    ids = np.concatenate(pieces)
    scores = score_all(pair.model.eval(), ids, pair.vocab, WorkerPool())

    # The card lists single entries first, then what training and testing know, then the sections.
    provenance = {key: value for key, value in entries.items() if not isinstance(value, list)}
    provenance |= {key: known["forward"][key] for key in SHARED}
    for key in PER_DIRECTION:
        provenance[key] = {direction: known[direction][key] for direction in known}
    provenance["test_characters"] = len(ids)
    provenance["test_bits_per_character"] = {
        direction: round(score.bits_per_character, 4) for direction, score in scores.items()
    }
    provenance |= {key: value for key, value in entries.items() if isinstance(value, list)}
    pair.provenance = provenance
    pair = _add(pair, additions, pair.vocab.decode(ids[:SCALING_CHARACTERS]))
    _write(pair, output)
    print(f"{output}: {pair.model.parameter_count():,} weights, test bits {provenance['test_bits_per_character']}")


def _add(pretrained: Pretrained, additions: Additions, text: str) -> Pretrained:
    """Return a model with readout, static vectors and projection.

    Args:
        pretrained: the model.
        additions: what to add.
        text: text in which static vectors vary as much as the states.
    """
    pretrained = dataclasses.replace(pretrained, readout=additions.readout)
    if additions.words is not None:
        words, vectors = read_static_vectors(additions.words)
        static = with_ngrams(words, vectors, additions.buckets, min_n=2, max_n=4, rows=additions.rows)
        static = match_states(static, pretrained.model, pretrained.vocab, text)
        pretrained = dataclasses.replace(pretrained, static=static)
    if additions.projection_text is not None:
        sample = CorpusSample.draw(Corpus(additions.projection_text))
        pretrained = CharEmbedder(pretrained).fit_projection(sample.shuffled(), additions.dim).pretrained
    return pretrained


def tagger_scores(model: str, results: str, row: str) -> None:
    """Write the scores of taggers on the card of a model, in place of earlier ones.

    Args:
        model: folder that `join` wrote.
        results: results file of `scripts.quality.evaluate`.
        row: name of the model in the results file.

    Raises:
        CharEmbedError: not a model folder, or the file has no scores of the row, or scores of other weights.
    """
    of_row = [result for result in read_results(results) if result.embedder == row]
    if not of_row:
        raise CharEmbedError(f"{results} has no scores of {row}: choose another --row")
    pretrained = Pretrained.load(model)
    # Scores of an earlier model of the same name must not reach the card of this one.
    if any(result.weights != model_digest(pretrained, result.settings) for result in of_row):
        raise CharEmbedError(
            f"{results} has scores of {row} with other weights than those of {model}: evaluate it again"
        )
    lines = []
    for task, metric, tagger in sorted({(result.task, result.metric, result.tagger) for result in of_row}):
        group = [result.score for result in of_row if (result.task, result.tagger) == (task, tagger)]
        seeds = "1 seed" if len(group) == 1 else f"{len(group)} seeds"
        lines.append(f"{task}, {metric}, {TAGGER_TITLES[tagger]}, {seeds}: {summary(group)}")
    pretrained.provenance["tagger_scores"] = lines
    _write(pretrained, model)
    print(f"{model}: {'; '.join(lines)}")


def _write(pretrained: Pretrained, folder: str) -> None:
    pretrained.save(folder, dtype="float16", address=Path(folder).resolve().name)


if __name__ == "__main__":
    run_script({"join": join_and_score, "tagger_scores": tagger_scores})
