"""Tests of bits per character, against a sum over single characters."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import small_model

from charembed import CharEmbedError, CharVocab, Corpus, evaluate
from charembed.lm.scoring import ScoringLimits, score, score_all
from charembed.util.workers import WorkerPool

TEXT = "The lazy dog jumps over the quick brown fox. " * 4


def bits_one_by_one(pretrained, text: str) -> float:
    """Sum of -log2 p over a text, one character at a time, all from one zero state."""
    lm, vocab = pretrained.model.forward_lm.eval(), pretrained.vocab
    state, bits, last = None, 0.0, "\n"
    with torch.no_grad():
        for character in text:
            logits, state = lm(torch.tensor([[int(vocab.encode(last)[0])]]), state)
            bits -= logits[0, 0].log_softmax(0)[int(vocab.encode(character)[0])].item() / math.log(2)
            last = character
    return bits


def test_score_is_the_mean_of_all_characters() -> None:
    pretrained = small_model()
    result = score(pretrained.model.forward_lm, pretrained.vocab.encode(TEXT), pretrained.vocab)
    assert result.bits_per_character == pytest.approx(bits_one_by_one(pretrained, TEXT) / len(TEXT), abs=1e-5)
    assert result.characters == len(TEXT)
    assert result.unknown_rate == 0.0


def test_lanes_and_chunks_score_every_character() -> None:
    pretrained = small_model()
    lm = pretrained.model.forward_lm.eval()
    # The predictions of this model do not depend on what it has read, so lanes must not change its score.
    with torch.no_grad():
        for parameter in lm.rnn.parameters():
            parameter.zero_()
    ids = pretrained.vocab.encode(TEXT)
    whole = score(lm, ids, pretrained.vocab)
    in_lanes = score(lm, ids, pretrained.vocab, ScoringLimits(lane=7, chunk=3))
    assert in_lanes.bits_per_character == pytest.approx(whole.bits_per_character, abs=1e-6)


def test_evaluation_in_segments_scores_every_character_once() -> None:
    pretrained = small_model()
    texts = ["The lazy dog.", "Ω", TEXT, "fox"]
    whole = evaluate(pretrained, texts)
    ids = pretrained.vocab.encode("".join(text + "\n\n" for text in texts))
    assert whole.bits_per_character["forward"] == pytest.approx(
        score(pretrained.model.forward_lm, ids, pretrained.vocab).bits_per_character, abs=1e-12
    )
    for size in (7, 50, len(ids)):
        evaluation = evaluate(pretrained, texts, limits=ScoringLimits(segment=size))
        parts = [ids[start : start + size] for start in range(0, len(ids), size)]
        scores = [score(pretrained.model.forward_lm, part, pretrained.vocab) for part in parts]
        bits = [result.characters * result.bits_per_character for result in scores]
        assert evaluation.characters == len(ids)
        assert evaluation.unknown_rate == whole.unknown_rate
        assert evaluation.bits_per_character["forward"] == pytest.approx(sum(bits) / len(ids), abs=1e-9), size


def test_unknown_characters_cost_the_bits_that_name_them() -> None:
    vocab = CharVocab("\n a")
    pretrained = small_model()
    pretrained.vocab = vocab
    ids = vocab.encode("aΩaa")
    known = score(pretrained.model.forward_lm, ids, vocab)
    assert known.unknown_rate == 0.25
    with_unknown = bits_one_by_one(pretrained, "aΩaa") / 4 + 0.25 * math.log2(0x110000 - 3)
    assert known.bits_per_character == pytest.approx(with_unknown, abs=1e-5)


def test_each_direction_reads_its_own_way_and_stays_in_training_mode() -> None:
    pretrained = small_model()
    pretrained.model.train()
    ids = pretrained.vocab.encode(TEXT)
    both = score_all(pretrained.model, ids, pretrained.vocab, WorkerPool())
    assert both["backward"] == score(pretrained.model.backward_lm, np.ascontiguousarray(ids[::-1]), pretrained.vocab)
    assert both["forward"] == score(pretrained.model.forward_lm, ids, pretrained.vocab)
    assert pretrained.model.forward_lm.training


def test_evaluate_scores_documents_with_a_blank_line_after_each(tmp_path: Path) -> None:
    pretrained = small_model()
    (tmp_path / "text.txt").write_text("The lazy dog.\n\n\nThe fox Ω.\n", encoding="utf-8")
    stream = "The lazy dog.\n\nThe fox Ω.\n\n"
    scores = score_all(pretrained.model, pretrained.vocab.encode(stream), pretrained.vocab, WorkerPool())
    evaluation = evaluate(pretrained, Corpus(tmp_path / "text.txt"))
    assert evaluation.bits_per_character == {name: result.bits_per_character for name, result in scores.items()}
    assert list(evaluation.bits_per_character) == ["forward", "backward"]
    assert evaluation.characters == len(stream)
    assert evaluation.unknown_rate == pytest.approx(stream.count("Ω") / len(stream))
    assert evaluate(pretrained, ["The lazy dog.", "The fox Ω."]) == evaluation
    assert evaluate(pretrained.model, ["The lazy dog.", "The fox Ω."], pretrained.vocab) == evaluation


def test_evaluate_needs_text_and_a_vocabulary(tmp_path: Path) -> None:
    pretrained = small_model()
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(CharEmbedError, match=r"no text in .*blank.txt"):
        evaluate(pretrained, Corpus(tmp_path / "blank.txt"))
    with pytest.raises(CharEmbedError, match="no text"):
        evaluate(pretrained, [])
    with pytest.raises(CharEmbedError, match="pass vocab"):
        evaluate(pretrained.model, ["text"])
