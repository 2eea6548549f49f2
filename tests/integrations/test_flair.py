"""Flair: token embeddings that train a tagger and are saved with it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import EMBEDDER_OPTIONS, INVALID_EMBEDDER_OPTIONS, run_script, with_projection

# Flair and its dependencies raise warnings of their own.
pytestmark = pytest.mark.filterwarnings("default")

TRAIN = """EU B-ORG
rejects O
German B-MISC
call O

Peter B-PER
Blackburn I-PER

BRUSSELS B-LOC
1996-08-22 O
"""


@pytest.fixture
def embeddings(embedder):
    from charembed.integrations.flair import CharEmbedderEmbeddings

    return CharEmbedderEmbeddings(embedder)


def test_tokens_get_the_vectors_of_the_embedder(embedder, embeddings) -> None:
    from flair.data import Sentence

    words = [["Tokens", "as", "they", "are", "."], ["One"]]
    sentences = [Sentence(w) for w in words]
    embeddings.embed(sentences)
    for sentence, result in zip(sentences, embedder.embed(words), strict=True):
        vectors = np.stack([token.embedding.cpu().numpy() for token in sentence])
        assert np.array_equal(vectors, result.vectors)
    assert embeddings.embedding_length == embedder.embedding_dim


def test_vectors_of_two_models_have_different_names(embeddings) -> None:
    from flair.data import Sentence
    from helpers import small_model

    from charembed import CharEmbedder
    from charembed.integrations.flair import CharEmbedderEmbeddings

    other = CharEmbedderEmbeddings(CharEmbedder(small_model(seed=9)))
    sentence = Sentence("two models")
    embeddings.embed(sentence)
    other.embed(sentence)
    assert sentence[0].get_embedding([embeddings.name]).tolist() != sentence[0].get_embedding([other.name]).tolist()
    assert CharEmbedderEmbeddings(embeddings.embedder).name == embeddings.name


def test_weights_and_vectors_stay_fixed_in_training(embeddings) -> None:
    from flair.data import Sentence

    embeddings.train()
    assert not any(parameter.requires_grad for parameter in embeddings.parameters())
    first, second = Sentence("the same text"), Sentence("the same text")
    embeddings.embed([first])
    embeddings.embed([second])
    assert (first[0].embedding == second[0].embedding).all()


def small_tagger(embeddings):
    from flair.data import Dictionary
    from flair.models import SequenceTagger

    labels = Dictionary(add_unk=False)
    for label in ("O", "S-PER", "S-LOC"):
        labels.add_item(label)
    return SequenceTagger(embeddings, labels, "ner", hidden_size=8)


def labelled(text: str):
    from flair.data import Sentence

    sentence = Sentence(text)
    sentence[0:1].add_label("ner", "PER")
    return sentence


def test_fine_tuning_trains_both_directions_and_changes_the_vectors(embedder) -> None:

    from charembed.integrations.flair import CharEmbedderEmbeddings

    embeddings = CharEmbedderEmbeddings(embedder, fine_tune=True)
    tagger = small_tagger(embeddings)
    before = embedder.embed([["Peter", "was"]])[0].vectors
    optimizer = torch.optim.SGD(tagger.parameters(), lr=1.0)
    tagger.train()
    loss, _ = tagger.forward_loss([labelled("Peter was here"), labelled("Ann, too")])
    loss.backward()
    lms = embedder.model.forward_lm, embedder.model.backward_lm
    trained = [weight for lm in lms for part in (lm.embedding, lm.rnn) for weight in part.parameters()]
    assert all(weight.grad.abs().sum() > 0 for weight in trained)
    assert all(weight.grad is None for lm in lms for weight in lm.decoder.parameters())
    optimizer.step()
    tagger.eval()
    after = embedder.embed([["Peter", "was"]])[0].vectors
    assert abs(after - before).max() > 1e-4
    assert not embeddings.static_embeddings


def test_fine_tuned_vectors_have_dropout_only_in_training(embedder) -> None:
    from flair.data import Sentence

    from charembed.integrations.flair import CharEmbedderEmbeddings

    embeddings = CharEmbedderEmbeddings(embedder, fine_tune=True)

    def vectors():
        sentence = Sentence("the same text")
        embeddings.embed([sentence])
        return torch.stack([token.embedding for token in sentence])

    embeddings.eval()
    evaluated = vectors()
    assert evaluated.requires_grad
    expected = embedder.embed([["the", "same", "text"]])[0].vectors
    assert abs(evaluated.detach().numpy() - expected).max() < 1e-5
    with torch.no_grad():
        assert not vectors().requires_grad
    embeddings.train()
    assert not torch.equal(vectors(), vectors())


def test_vectors_are_not_stored_while_their_weights_are_trained(embedder) -> None:
    from flair.data import Sentence
    from flair.training_utils import store_embeddings

    from charembed.integrations.flair import CharEmbedderEmbeddings

    for fine_tune in (True, False):
        embeddings = CharEmbedderEmbeddings(copy.deepcopy(embedder), fine_tune=fine_tune)
        sentence = Sentence("the same text")
        with torch.no_grad():
            embeddings.embed([sentence])
            before = sentence[0].embedding.clone()
            embeddings.model.forward_lm.rnn.weight_hh_l0.mul_(0.5)
            embeddings.embed([sentence])
        assert torch.equal(sentence[0].embedding, before) is not fine_tune
        store_embeddings([sentence], "cpu")
        assert len(sentence[0]._embeddings) == (0 if fine_tune else 1)


@pytest.mark.parametrize("names", [("a", "z"), ("z", "a")])
def test_stack_keeps_its_order_whatever_the_names(names: tuple[str, str], embedder, tmp_path: Path) -> None:
    """Flair sorts vectors by name, which could swap two halves; ours are a single vector with a single name."""
    from flair.data import Sentence
    from flair.embeddings import StackedEmbeddings
    from flair.models import SequenceTagger
    from helpers import small_model

    from charembed import CharEmbedder
    from charembed.integrations.flair import CharEmbedderEmbeddings

    both = embedder, CharEmbedder(small_model(seed=9))
    words = ["two", "models"]
    expected = np.concatenate([each.embed([words])[0].vectors for each in both], axis=1)
    stack = [CharEmbedderEmbeddings(each, name=name) for each, name in zip(both, names, strict=True)]
    tagger = small_tagger(StackedEmbeddings(stack))
    tagger.save(tmp_path / "tagger.pt")
    for each in (tagger, SequenceTagger.load(tmp_path / "tagger.pt")):
        sentence = Sentence(words)
        each.embeddings.embed(sentence)
        stacked = np.stack([token.get_embedding(each.embeddings.get_names()).cpu().numpy() for token in sentence])
        assert np.array_equal(stacked, expected)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("fine_tune", [True, False])
def test_settings_are_saved_with_the_tagger(fine_tune: bool, precision: str, pretrained, tmp_path: Path) -> None:
    from flair.models import SequenceTagger

    from charembed import CharEmbedder
    from charembed.integrations.flair import CharEmbedderEmbeddings

    embeddings = CharEmbedderEmbeddings(CharEmbedder(pretrained, precision=precision), fine_tune=fine_tune)
    small_tagger(embeddings).save(tmp_path / "tagger.pt")
    loaded = SequenceTagger.load(tmp_path / "tagger.pt").embeddings
    assert loaded.fine_tune is fine_tune
    assert loaded.embedder.precision == precision
    assert any(weight.requires_grad for weight in loaded.parameters()) is fine_tune


def test_options_reach_the_embedder_and_are_saved(pretrained, tmp_path: Path) -> None:
    from flair.embeddings.base import load_embeddings

    from charembed import CharEmbedder
    from charembed.integrations.flair import CharEmbedderEmbeddings

    with_projection(pretrained, readout="separator").save(tmp_path / "model")
    expected = CharEmbedder.from_pretrained(tmp_path / "model", **EMBEDDER_OPTIONS)
    embeddings = CharEmbedderEmbeddings(tmp_path / "model", **EMBEDDER_OPTIONS)
    for each in (embeddings, load_embeddings(embeddings.save_embeddings(use_state_dict=True))):
        assert each.embedder.options == expected.options
        assert each.embedder.pretrained.readout == "separator"
        assert str(next(each.model.parameters()).device) == "cpu"
        assert each.embedding_length == 4


def test_a_saved_tagger_contains_the_projection(pretrained, tmp_path: Path) -> None:
    from flair.data import Sentence
    from flair.models import SequenceTagger

    from charembed import CharEmbedder
    from charembed.integrations.flair import CharEmbedderEmbeddings

    embedder = CharEmbedder(with_projection(pretrained), dim=5)
    expected = embedder.embed([["two", "words"]])[0].vectors
    tagger = small_tagger(CharEmbedderEmbeddings(embedder))
    tagger.save(tmp_path / "tagger.pt")
    loaded = SequenceTagger.load(tmp_path / "tagger.pt").embeddings
    sentence = Sentence(["two", "words"])
    loaded.embed(sentence)
    assert np.array_equal(np.stack([token.get_embedding([loaded.name]).cpu().numpy() for token in sentence]), expected)


def test_vectors_of_different_dimensions_have_different_names(pretrained) -> None:
    from charembed import CharEmbedder
    from charembed.integrations.flair import CharEmbedderEmbeddings

    reducible = with_projection(pretrained)
    names = {CharEmbedderEmbeddings(CharEmbedder(reducible, dim=dim)).name for dim in (None, 3, 4)}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    INVALID_EMBEDDER_OPTIONS,
)
def test_invalid_option_is_reported(options: dict, message: str, embedder, tmp_path: Path) -> None:
    from charembed import CharEmbedError
    from charembed.integrations.flair import CharEmbedderEmbeddings

    embedder.save_pretrained(tmp_path / "model")
    with pytest.raises(CharEmbedError, match=message):
        CharEmbedderEmbeddings(tmp_path / "model", **options)


def test_options_for_an_existing_embedder_are_refused(embedder) -> None:
    from charembed import CharEmbedError
    from charembed.integrations.flair import CharEmbedderEmbeddings

    with pytest.raises(CharEmbedError, match="precision, threads cannot be set for an existing CharEmbedder"):
        CharEmbedderEmbeddings(embedder, precision="float32", threads=1)


@pytest.mark.parametrize("missing", [("options",), ("options", "precision", "fine_tune")], ids=str)
def test_embeddings_of_earlier_versions_load(missing: tuple[str, ...], embeddings) -> None:
    from charembed.integrations.flair import CharEmbedderEmbeddings

    params = {key: value for key, value in embeddings.to_params().items() if key not in missing}
    loaded = CharEmbedderEmbeddings.from_params(params)
    assert loaded.embedder.options == embeddings.embedder.options
    assert not loaded.fine_tune


AWKWARD = ["Hybrid mesons , qq \u0304 states", "\U0001f91f \U0001f91f  hüllo", "\uf8f9", "a\u2028b \u200c \ufe0f c"]


@pytest.mark.parametrize("text", AWKWARD, ids=ascii)
def test_every_token_gets_a_vector_whatever_the_text(text: str, embeddings) -> None:
    from flair.data import Sentence

    for sentence in (Sentence(text), Sentence(["hello", " ", "hm", " "]), Sentence("")):
        embeddings.embed(sentence)
        assert all(len(token.embedding) == embeddings.embedding_length for token in sentence)


def test_saved_embeddings_load_in_evaluation_mode(embeddings) -> None:
    from flair.data import Sentence
    from flair.embeddings.base import load_embeddings

    loaded = load_embeddings(embeddings.save_embeddings(use_state_dict=True))
    assert not loaded.training
    assert loaded.get_names() == embeddings.get_names()
    sentences = Sentence("I love Berlin"), Sentence("I love Berlin")
    for each, sentence in zip((embeddings, loaded), sentences, strict=True):
        each.embed(sentence)
    assert all((one.embedding == other.embedding).all() for one, other in zip(*sentences, strict=True))


def test_missing_model_is_reported() -> None:
    from charembed import CharEmbedError
    from charembed.integrations.flair import CharEmbedderEmbeddings

    with pytest.raises(CharEmbedError, match="no model 'absent'"):
        CharEmbedderEmbeddings("absent")


def test_copies_are_independent(embeddings) -> None:
    from flair.data import Sentence

    first, second = Sentence("a copy"), Sentence("a copy")
    embeddings.embed([first])
    copy.deepcopy(embeddings).embed([second])
    assert (first[1].embedding == second[1].embedding).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_tagger_can_be_cast(dtype: torch.dtype, embeddings) -> None:
    """`.half()` and `.double()` cast the vectors too, as they do with Flair's own embeddings."""
    from flair.data import Dictionary, Sentence
    from flair.models import SequenceTagger

    tags = Dictionary(add_unk=False)
    for tag in ("O", "PER"):
        tags.add_item(tag)
    tagger = SequenceTagger(embeddings=embeddings, tag_dictionary=tags, tag_type="ner", hidden_size=8).to(dtype)
    sentence = Sentence("Anna sails")
    tagger.predict(sentence, embedding_storage_mode="cpu")
    assert sentence[0].embedding.dtype == dtype


def test_tagger_loads_from_its_file_alone(embeddings, tmp_path: Path) -> None:
    from flair.data import Sentence
    from flair.embeddings import StackedEmbeddings
    from flair.models import SequenceTagger

    tagger = small_tagger(StackedEmbeddings([embeddings]))
    tagger.save(tmp_path / "tagger.pt")
    sentence, same = Sentence("Peter was here"), Sentence("Peter was here")
    tagger.embeddings.embed(sentence)
    loaded = SequenceTagger.load(tmp_path / "tagger.pt")
    assert loaded.embeddings.embeddings[0].embedder is not embeddings.embedder
    loaded.embeddings.embed(same)
    for token, expected in zip(same, sentence, strict=True):
        assert torch.equal(token.embedding, expected.embedding)


def train_tagger(*arguments: str | Path) -> str:
    pytest.importorskip("flair")
    return run_script("train_tagger.py", *arguments, "--hidden-size", "8", "--epochs", "1")


def test_tagger_script_on_columns(embedder, tmp_path: Path) -> None:
    embedder.save_pretrained(tmp_path / "model")
    (tmp_path / "train.conll").write_text(TRAIN * 3)
    files = ["--train", tmp_path / "train.conll", "--dev", tmp_path / "train.conll", "--test", tmp_path / "train.conll"]
    assert "entity F1 " in train_tagger("--model", tmp_path / "model", *files, "--output", tmp_path / "tagger")
    assert (tmp_path / "tagger" / "best-model.pt").exists() or (tmp_path / "tagger" / "final-model.pt").exists()


def test_tagger_script_on_tags_that_training_lacks(embedder, tmp_path: Path) -> None:
    embedder.save_pretrained(tmp_path / "model")
    sentence = "Anna PROPN\nsails VERB\n\n"
    (tmp_path / "train.conll").write_text(sentence * 12)
    (tmp_path / "dev.conll").write_text(sentence + "Oh INTJ\n")
    files = ["--train", tmp_path / "train.conll", "--dev", tmp_path / "dev.conll", "--test", tmp_path / "dev.conll"]
    printed = train_tagger("--model", tmp_path / "model", *files, "--task", "upos")
    assert "dev.conll: tags of layer upos that no training sentence has, and that count as errors: INTJ" in printed
    assert "accuracy " in printed


@pytest.mark.slow
def test_tagger_script_on_conllu(embedder, tmp_path: Path) -> None:
    import lzma

    embedder.save_pretrained(tmp_path / "model")
    words = [("1-2", "Don't", "_"), ("1", "Do", "AUX"), ("2", "n't", "PART"), ("3", "go", "VERB")]
    rows = ["\t".join([number, word, "_", tag, *["_"] * 6]) for number, word, tag in words]
    with lzma.open(tmp_path / "train.conllu.xz", "wt", encoding="utf-8") as file:
        file.write(("# text = Don't go\n" + "\n".join(rows) + "\n\n") * 12)
    accuracy = train_tagger("--model", tmp_path / "model", "--train", tmp_path / "train.conllu.xz", "--task", "upos")
    assert "accuracy " in accuracy
    assert "a quarter of" in accuracy


@pytest.mark.parametrize("parts", [None, ["words"], ["backward", "words"]], ids=str)
@pytest.mark.parametrize("fine_tune", [False, True])
def test_static_vectors_are_part_of_a_saved_tagger(parts, fine_tune: bool, with_words) -> None:
    from flair.data import Sentence
    from flair.embeddings.base import load_embeddings

    from charembed import CharEmbedder
    from charembed.integrations.flair import CharEmbedderEmbeddings

    embedder = CharEmbedder(with_words, parts=parts)
    embeddings = CharEmbedderEmbeddings(embedder, fine_tune=fine_tune).eval()
    expected = embedder.embed([["The", "lazy", "doge"]])[0].vectors
    for each in (embeddings, load_embeddings(embeddings.save_embeddings(use_state_dict=True))):
        assert each.embedding_length == expected.shape[1]
        sentence = Sentence(["The", "lazy", "doge"])
        each.eval().embed(sentence)
        vectors = np.array([token.get_embedding().detach().numpy() for token in sentence])
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_names_tell_parts_apart(with_words) -> None:
    """Flair takes stored vectors of the same name for the same."""
    from charembed import CharEmbedder
    from charembed.integrations.flair import CharEmbedderEmbeddings

    choices = (None, ["words"], ["forward"], ["forward", "words"])
    names = [CharEmbedderEmbeddings(CharEmbedder(with_words, parts=parts)).name for parts in choices]
    assert len(set(names)) == len(names)
    assert CharEmbedderEmbeddings(CharEmbedder(with_words, parts=["forward", "backward", "words"])).name == names[0]
