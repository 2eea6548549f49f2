"""The network: scaling of its input, padding, batches."""

from __future__ import annotations

import random

import pytest
import torch

from charembed.tagging.fitting import random_batches
from charembed.tagging.network import EncoderName, NetworkConfig, TaggerNetwork
from charembed.tagging.tag_layer import TagLayer

LAYER = TagLayer("pos", "tags", ("A", "B", "C"))


def test_vectors_of_any_scale_give_the_same_scores() -> None:
    vectors = torch.randn(1_000, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 2, 3, 4])
    networks = []
    for scaled in (vectors, vectors * 50 + 7):
        torch.manual_seed(1)
        network = TaggerNetwork(NetworkConfig(4, "linear"), [LAYER]).eval()
        network.set_scale(scaled.mean(dim=0), float(scaled.var(dim=0).mean()))
        [scores], _ = network.emissions([scaled[:9]])
        networks.append(scores)
    assert torch.allclose(*networks, atol=1e-4)


def test_vectors_that_do_not_vary_are_not_divided_by_zero() -> None:
    network = TaggerNetwork(NetworkConfig(2), [LAYER])
    network.set_scale(torch.ones(2), 0.0)
    [scores], _ = network.emissions([torch.ones(3, 2)])
    assert scores.isfinite().all()


@pytest.mark.parametrize("encoder", ["bilstm", "linear"])
def test_padding_changes_no_score(encoder: EncoderName) -> None:
    network = TaggerNetwork(NetworkConfig(2, encoder), [LAYER]).eval()
    sentences = [torch.randn(length, 2) for length in (1, 7, 3)]
    [together], mask = network.emissions(sentences)
    assert mask.sum(dim=1).tolist() == [1, 7, 3]
    for row, sentence in zip(together, sentences, strict=True):
        [[alone]], _ = network.emissions([sentence])
        assert torch.allclose(row[: len(sentence)], alone, atol=1e-6)


def test_batches_contain_each_sentence_once() -> None:
    lengths = [random.Random(1).randrange(50) for _ in range(1_000)]
    batches = random_batches(lengths, 8, random.Random(2))
    assert sorted(index for batch in batches for index in batch) == list(range(1_000))
    spread = [max(lengths[index] for index in batch) - min(lengths[index] for index in batch) for batch in batches]
    assert sum(spread) / len(spread) < 10
