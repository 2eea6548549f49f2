"""The taggers that are part of the package, and one in the first format, which must load for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from charembed.tagging.tagger import Tagger
from charembed.tagging.tagger_card import tagger_card
from charembed.tagging.tagger_folder import BUNDLED_TAGGERS, bundled_taggers

DATA = Path(__file__).parents[1] / "data"
SENTENCES = {
    "de-ner": ("Angela Merkel wohnt in Berlin.", [("Angela Merkel", "PER"), ("Berlin", "LOC")]),
    "en-ner": ("George Washington went to Washington.", [("George Washington", "PER"), ("Washington", "LOC")]),
    "en-pos": ("The dog sleeps .", ["DET", "NOUN", "VERB", "PUNCT"]),
}


def test_every_bundled_tagger_is_tested() -> None:
    assert bundled_taggers() == sorted(SENTENCES)


@pytest.mark.parametrize("name", sorted(SENTENCES))
def test_bundled_tagger_tags_a_sentence(name: str) -> None:
    text, expected = SENTENCES[name]
    [tagged] = Tagger.load(name).predict([text])
    found = [(entity.text, entity.label) for entity in tagged.entities] or tagged.tags["upos"]
    assert found == expected


@pytest.mark.parametrize("name", sorted(SENTENCES))
def test_bundled_tagger_is_small_and_its_card_has_scores_and_terms(name: str) -> None:
    folder = BUNDLED_TAGGERS / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("## Scores", "## Attribution", "license: cc-by", f'Tagger.load("{name}")'):
        assert part in card
    tagger = Tagger.load(name)
    assert card == tagger_card(tagger.layers, tagger.provenance, name), "the card is not the one that the code writes"


def test_folder_of_the_first_format_predicts_what_it_did() -> None:
    tagger = Tagger.load(DATA / "tagger-format-1")
    stored = json.loads((DATA / "tagger-format-1.json").read_text(encoding="utf-8"))
    for tagged, expected in zip(tagger.predict([one["text"] for one in stored]), stored, strict=True):
        assert tagged.tags == expected["tags"]
        assert [entity.score for entity in tagged.entities] == pytest.approx(expected["scores"], abs=1e-4)
