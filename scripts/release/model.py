"""Build a bundled model: join two directions, add static vectors and a projection, write it in float16 with a card.

    python -m scripts.release.model join --forward runs/en/forward/best --backward runs/en/backward/best \\
      --test en_wiki/test.txt.xz --card configs/cards/en.yaml --output runs/en/joined
    python -m scripts.release.model complete --model runs/en/joined --test en_wiki/test.txt.xz \\
      --words runs/words/en.vec --projection-text en_wiki/train_00.txt.xz --card configs/cards/en.yaml \\
      --output charembed/pretrained/models/en
    python -m scripts.release.model tagger_scores --model charembed/pretrained/models/en \\
      --results docs/benchmarks/quality.jsonl --row en

`tagger_scores` adds the scores of taggers on the model's vectors to its card.
"""

from __future__ import annotations

import dataclasses
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
from charembed.text.corpus import Corpus, document_texts, take_characters
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


def join_and_score(forward: str, backward: str, test: str, card: str, output: str) -> None:
    """Join two directions, score them and write the pair.

    Args:
        forward: model folder of the forward direction.
        backward: model folder of the backward direction.
        test: text that is in neither the training nor the validation text.
        card: YAML file with entries of the model card that training does not know; lists become sections of the card.
        output: model folder to write; an existing one is replaced.

    Raises:
        CharEmbedError: the models do not match, or were trained with different text, seeds or releases of PyTorch; the
            test text is empty; the card is not a mapping; or the output is not a model folder.
    """
    pair = join(Pretrained.load(forward), Pretrained.load(backward))
    # Directions that were trained on different text do not belong together.
    known: dict[str, Any] = pair.provenance
    differing = [key for key in SHARED if known["forward"][key] != known["backward"][key]]
    if differing:
        raise CharEmbedError(f"{forward} and {backward} were trained with different {', '.join(differing)}")
    entries = _read_card(card)
    pieces = [pair.vocab.encode(piece) for piece in document_texts(Corpus(test))]
    if not pieces:
        raise CharEmbedError(f"{test} contains no text")
    ids = np.concatenate(pieces)
    scores = score_all(pair.model.eval(), ids, pair.vocab, WorkerPool())

    # The card lists single entries first, then what training and testing know, then the sections.
    provenance = _single(entries)
    provenance |= {key: known["forward"][key] for key in SHARED}
    for key in PER_DIRECTION:
        provenance[key] = {direction: known[direction][key] for direction in known}
    provenance["test_characters"] = len(ids)
    provenance["test_bits_per_character"] = {
        direction: round(score.bits_per_character, 4) for direction, score in scores.items()
    }
    provenance |= _sections(entries)
    pair.provenance = provenance
    _write(pair, output)
    print(f"{output}: {pair.model.parameter_count():,} weights, test bits {provenance['test_bits_per_character']}")


def complete(
    model: str,
    card: str,
    test: str,
    words: str,
    projection_text: str,
    output: str,
    readout: Readout = "separator",
    rows: int = 38_000,
    buckets: int = 6_000,
    dim: int = 256,
) -> None:
    """Add static vectors, a readout and a projection to joined models, and write the bundled folder.

    Args:
        model: folder that `join` wrote, or a bundled model of an earlier version.
        card: as for `join`; its entries replace those of the model.
        test: text in which static vectors are scaled to vary as much as the states.
        words: file of static word vectors.
        projection_text: text to fit the projection to.
        output: model folder to write; an existing one is replaced.
        readout: where the states of a word are read by default.
        rows: number of words with vectors of their own; all words of the file count for the n-grams of other words.
        buckets: number of buckets of n-grams.
        dim: dimensions of the projection.

    Raises:
        CharEmbedError: a file cannot be read, or the output is not a model folder.
    """
    pretrained = Pretrained.load(model)
    # Static vectors, with the variance of the states.
    names, vectors = read_static_vectors(words)
    static = with_ngrams(names, vectors, buckets, min_n=2, max_n=4, rows=rows)
    text = "".join(take_characters(SCALING_CHARACTERS, document_texts(Corpus(test))))[:SCALING_CHARACTERS]
    static = match_states(static, pretrained.model, pretrained.vocab, text)
    pretrained = dataclasses.replace(pretrained, readout=readout, static=static, projection=None)
    # The projection of all that.
    sample = CorpusSample.draw(Corpus(projection_text))
    pretrained = CharEmbedder(pretrained).fit_projection(sample.shuffled(), dim).pretrained
    # Scores of taggers were those of other vectors.
    entries = _read_card(card)
    kept = {key: value for key, value in pretrained.provenance.items() if key not in {*entries, "tagger_scores"}}
    pretrained.provenance = _single(entries) | kept | _sections(entries)
    _write(pretrained, output)
    print(f"{output}: {len(static):,} words, {dim} of {CharEmbedder(pretrained).embedding_dim} dimensions")


def _read_card(card: str) -> dict[str, Any]:
    """Return the entries of a card file.

    Raises:
        CharEmbedError: it is not a mapping.
    """
    entries = yaml.load(Path(card).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # dates stay text
    if not isinstance(entries, dict):
        raise CharEmbedError(f"{card} must contain names and values")
    return entries


def _single(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that are single values, which a card lists first."""
    return {key: value for key, value in entries.items() if not isinstance(value, list)}


def _sections(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that are lists, which a card shows last."""
    return {key: value for key, value in entries.items() if isinstance(value, list)}


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
    """Write a model folder. Its card names it as users load it: by name, or in `models/` of the repository."""
    path = Path(folder)
    address = f"models/{path.name}" if path.parent == Path("models") else path.resolve().name
    pretrained.save(folder, dtype="float16", address=address)


if __name__ == "__main__":
    run_script({"join": join_and_score, "complete": complete, "tagger_scores": tagger_scores})
