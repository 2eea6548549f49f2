"""Model cards: metadata for the Hub, facts about the model, and text that stays text."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import small_model
from huggingface_hub import ModelCard

from charembed import CharEmbedder
from charembed.lm.model import BiCharLM
from charembed.pretrained import Pretrained
from charembed.pretrained.model_card import model_card
from charembed.static_vectors import StaticVectors

AWKWARD_NAMES = [
    "<script>alert(1)</script>",
    "a|b\nc",
    "# heading",
    "- item",
    "---",
    "1. item",
    "`code` *bold* __init__ ~~x~~ [link](url) $x$ \\(x\\)",
    "&amp; &#92;",
    "bell \x07, undecodable \udc80, right-to-left \u202e",
]


def card_of(provenance: dict, address: str = "path") -> str:
    return model_card(small_model().model, provenance, address)


def displayed(markdown: str) -> str:
    """Return the text that a Markdown viewer shows for one line in which everything is escaped."""
    text = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&#92;", "\\"), ("&amp;", "&")):
        text = text.replace(entity, character)
    return text


def test_card_states_provenance_and_architecture(pretrained: Pretrained) -> None:
    card = model_card(pretrained.model, pretrained.provenance, "path")
    assert card.startswith("---\nlibrary_name: charembed\n")
    assert "| seed | 3 |" in card
    assert "LSTM with 1 layer, hidden size 12" in card
    assert f"{len(pretrained.vocab)} characters" in card
    assert "with 24 dimensions" in card


def test_card_states_static_vectors(pretrained: Pretrained) -> None:
    static = StaticVectors.from_arrays(["a", "b"], np.eye(2, 3, dtype=np.float32), np.ones((4, 3), dtype=np.float32))
    card = model_card(pretrained.model, {}, "path", static)
    assert "with 24 dimensions,\nand of its static vector, with 3 dimensions." in card
    assert "Static vectors of 2 words and, for all other words, of 4 buckets" in card


def test_hub_reads_the_metadata() -> None:
    provenance = {
        "language": "no",  # which unquoted YAML reads as false
        "license": "cc-by-sa-3.0",
        "base_model": "owner/name",
        "corpus": ["dataset:owner/text,split=train", "/home/text.txt"],
    }
    data = ModelCard(card_of(provenance)).data
    assert data.library_name == "charembed"
    assert data.pipeline_tag == "feature-extraction"
    assert "token-embeddings" in data.tags
    assert (data.language, data.license, data.base_model) == ("no", "cc-by-sa-3.0", "owner/name")
    assert data.datasets == ["owner/text"]
    assert ModelCard(card_of({"datasets": ["owner/other"], "language": ["en", "de"]})).data.language == ["en", "de"]


def test_local_folder_is_not_listed_as_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("owner", "text").mkdir(parents=True)
    assert ModelCard(card_of({"corpus": "dataset:owner/text"})).data.datasets is None


@pytest.mark.parametrize("name", AWKWARD_NAMES, ids=ascii)
def test_provenance_is_displayed_as_text(name: str) -> None:
    card = card_of({"corpus": name, "license": name, "sources": [name], name: 1})
    visible = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(name.split()))
    lines = card.splitlines()
    cell = next(line for line in lines if line.startswith("| corpus | "))
    item = lines[lines.index("## Sources") + 2]
    assert displayed(cell) == f"| corpus | {visible} |"
    assert displayed(item) == f"- {visible}"
    # No character keeps a meaning: outside the escapes, none of Markdown's or HTML's is left.
    for text in (cell.removeprefix("| corpus | ").removesuffix(" |"), item.removeprefix("- ")):
        assert not re.search(r"^(?:[#+=-]|\d+[.)])", text)
        plain = re.sub(r"\\.|&(?:lt|gt|amp|#92);|(?<=[a-z])_(?=[a-z])", "", text)
        assert not re.search(r"[<>&`*_\[\]|~$\\]", plain)
        assert text.isprintable()
    assert isinstance(ModelCard(card).data.to_dict(), dict)


def test_folder_with_awkward_provenance_loads(tmp_path: Path) -> None:
    pretrained = small_model()
    pretrained.provenance = {"corpus": AWKWARD_NAMES}
    pretrained.save(tmp_path / "model")
    assert Pretrained.load(tmp_path / "model").provenance == pretrained.provenance


@pytest.mark.parametrize("address", ['a"b', "a\\b", "a\nb", "modèle", "``` \u2028"], ids=ascii)
def test_example_loads_from_the_address(address: str) -> None:
    code = card_of({}, address).split("```python\n")[1].split("\n```\n")[0]
    call = ast.parse(code).body[1].value
    assert ast.literal_eval(call.args[0]) == address


def test_card_of_one_direction_describes_one() -> None:
    pair = small_model()
    alone = Pretrained(BiCharLM(pair.model.config, ["backward"]), pair.vocab)
    card = model_card(alone.model, {}, "path")
    assert "A backward character-level language model" in card
    assert f"with {CharEmbedder(alone).embedding_dim} dimensions" in card
    assert "Not recorded." in card
