"""The conditional random field, against an enumeration of all tag sequences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from charembed.tagging.crf import LinearChainCRF
from charembed.tagging.decoding import TagLattice
from charembed.tagging.tag_layer import TagLayer

ENTITIES = TagLayer("ner", "entities", ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
WORDS = TagLayer("pos", "tags", ("ADJ", "NOUN", "VERB"))
LENGTHS = [4, 1, 3]


def random_case(layer: TagLayer) -> tuple[LinearChainCRF, Tensor, Tensor]:
    """Return a field with random weights, random emissions in float64, and the mask."""
    generator = torch.Generator().manual_seed(1)
    crf = LinearChainCRF(layer).double()
    for weight in crf.parameters():
        weight.data.normal_(generator=generator)
    emissions = torch.randn(len(LENGTHS), max(LENGTHS), len(layer.tags), generator=generator, dtype=torch.float64)
    return crf, emissions, torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


def all_scores(crf: LinearChainCRF, layer: TagLayer, emissions: Tensor) -> dict[tuple[int, ...], float]:
    """Return the score of each possible sequence of tags of one sentence, computed word by word."""
    scores = {}
    emissions = emissions.detach()
    start, transitions, end = (weight.detach() for weight in (crf.start, crf.transitions, crf.end))
    for path in itertools.product(range(len(layer.tags)), repeat=len(emissions)):
        tags = [layer.tags[tag] for tag in path]
        if layer.kind == "entities" and any(
            tag.startswith("I-") and before[2:] != tag[2:] for before, tag in itertools.pairwise(["O", *tags])
        ):
            continue
        score = float(start[path[0]] + end[path[-1]])
        score += sum(float(emissions[k, tag]) for k, tag in enumerate(path))
        score += sum(float(transitions[pair]) for pair in itertools.pairwise(path))
        scores[path] = score
    return scores


def probabilities(crf: LinearChainCRF, layer: TagLayer, emissions: Tensor) -> dict[tuple[int, ...], float]:
    scores = all_scores(crf, layer, emissions)
    total = sum(np.exp(score) for score in scores.values())
    return {path: float(np.exp(score) / total) for path, score in scores.items()}


def lattice_of(crf: LinearChainCRF, emissions: Tensor) -> TagLattice:
    return TagLattice(emissions.numpy(), np.array(LENGTHS), crf.transition_scores())


@pytest.mark.parametrize("layer", [ENTITIES, WORDS], ids=["entities", "words"])
def test_likelihood_of_every_sequence_is_its_share_of_all_sequences(layer: TagLayer) -> None:
    crf, emissions, mask = random_case(layer)
    for number, length in enumerate(LENGTHS):
        for path, expected in probabilities(crf, layer, emissions[number, :length]).items():
            tags = torch.zeros(1, max(LENGTHS), dtype=torch.long)
            tags[0, :length] = torch.tensor(path)
            one = slice(number, number + 1)
            likelihood = crf.log_likelihood(emissions[one], tags, mask[one]).exp().detach()
            assert likelihood.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("layer", [ENTITIES, WORDS], ids=["entities", "words"])
def test_best_path_and_marginals_are_those_of_the_enumeration(layer: TagLayer) -> None:
    crf, emissions, _ = random_case(layer)
    lattice = lattice_of(crf, emissions)
    for number, (length, best) in enumerate(zip(LENGTHS, lattice.best_paths(), strict=True)):
        expected = probabilities(crf, layer, emissions[number, :length])
        assert tuple(best) == max(expected, key=lambda path: expected[path])
        for word, tag in itertools.product(range(length), range(len(layer.tags))):
            total = sum(probability for path, probability in expected.items() if path[word] == tag)
            assert lattice.marginals[number, word, tag] == pytest.approx(total, abs=1e-5)


def test_probability_of_an_entity_is_that_of_all_sequences_that_have_it() -> None:
    crf, emissions, _ = random_case(ENTITIES)
    lattice = lattice_of(crf, emissions)
    b, i = ENTITIES.ids["B-PER"], ENTITIES.ids["I-PER"]
    for number, length in enumerate(LENGTHS):
        expected = probabilities(crf, ENTITIES, emissions[number, :length])
        for start, end in itertools.combinations(range(length + 1), 2):
            total = sum(
                probability
                for path, probability in expected.items()
                if path[start:end] == (b, *[i] * (end - start - 1)) and (end == length or path[end] != i)
            )
            assert lattice.span_probability(number, start, end, b, i) == pytest.approx(total, abs=1e-5)


def test_probabilities_of_a_long_text_in_float32_are_exact() -> None:
    crf, _, _ = random_case(ENTITIES)
    emissions = 10 * torch.randn(1, 256, 5, generator=torch.Generator().manual_seed(2))
    single, double = (
        TagLattice(numbers.numpy(), np.array([256]), crf.transition_scores())
        for numbers in (emissions, emissions.double())
    )
    assert single.marginals.sum(axis=2) == pytest.approx(1, abs=1e-6)
    assert single.marginals == pytest.approx(double.marginals, abs=1e-6)


def test_impossible_transitions_are_never_decoded_whatever_the_words_say() -> None:
    crf, emissions, _ = random_case(ENTITIES)
    emissions[:, :, ENTITIES.ids["I-PER"]] += 50
    for path in lattice_of(crf, emissions).best_paths():
        tags = ["O", *(ENTITIES.tags[tag] for tag in path)]
        assert not any(tag == "I-PER" and before not in ("B-PER", "I-PER") for before, tag in itertools.pairwise(tags))


def test_gradients_are_finite_and_do_not_depend_on_padding() -> None:
    crf, emissions, mask = random_case(ENTITIES)
    emissions.requires_grad_()
    tags = torch.zeros(mask.shape, dtype=torch.long)
    crf.log_likelihood(emissions, tags, mask).sum().backward()
    assert emissions.grad is not None
    assert emissions.grad.isfinite().all()
    assert not emissions.grad[~mask].any()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in crf.parameters())
