"""The BiLSTM-CRF and its training."""

from __future__ import annotations

import copy
import random
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from charembed.errors import MissingExtraError
from charembed.tagging import tagger as tagger_module
from charembed.tagging.tagger import BiLSTMCRF, FitConfig, TaggedSentences, fit, random_batches


class TensorEncoder(nn.Module):
    """An encoder of sentences that are their vectors."""

    def forward(self, sentences: list[Tensor]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(sentence) for sentence in sentences])
        return pad_sequence(sentences, batch_first=True), torch.arange(int(lengths.max())) < lengths[:, None]


def small_tagger() -> tuple[BiLSTMCRF, TaggedSentences]:
    torch.manual_seed(1)
    sentences = TaggedSentences(torch.randn(6, 2).split(3), [["A", "O", "A"], ["O", "O", "A"]])
    return BiLSTMCRF(TensorEncoder(), 2, ["A", "O"], 3, 0.0), sentences


def test_the_weights_of_the_best_epoch_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    tagger, sentences = small_tagger()
    weights: list[dict[str, Tensor]] = []
    dev_scores = [30.0, 50.0, 40.0]

    def score(*_arguments: Any) -> SimpleNamespace:
        weights.append(copy.deepcopy(tagger.state_dict()))
        return SimpleNamespace(score=dev_scores[len(weights) - 1])

    monkeypatch.setattr(tagger_module, "score_layer", score)
    config = FitConfig(learning_rate=0.1, batch_size=1, epochs=3)
    assert fit(tagger, sentences, sentences, "tags", config) == 50.0
    for name, weight in tagger.state_dict().items():
        assert torch.equal(weight, weights[1][name])
    assert not torch.equal(weights[1]["linear.weight"], weights[2]["linear.weight"])


def test_padding_changes_no_prediction() -> None:
    tagger, _ = small_tagger()
    sentences = [torch.randn(length, 2) for length in (1, 7, 3)]
    assert tagger.predict(sentences) == [tagger.predict([sentence])[0] for sentence in sentences]


def test_batches_contain_each_sentence_once() -> None:
    lengths = [random.Random(1).randrange(50) for _ in range(1_000)]
    batches = random_batches(lengths, 8, random.Random(2))
    assert sorted(index for batch in batches for index in batch) == list(range(1_000))
    spread = [max(lengths[index] for index in batch) - min(lengths[index] for index in batch) for batch in batches]
    assert sum(spread) / len(spread) < 10
    assert random_batches(lengths, 8, random.Random(2)) == batches
    assert random_batches(lengths, 8, random.Random(3)) != batches


def test_a_missing_crf_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcrf", None)
    with pytest.raises(MissingExtraError, match=r"a BiLSTM-CRF tagger needs torchcrf: pip install 'charembed\[crf\]'"):
        small_tagger()
