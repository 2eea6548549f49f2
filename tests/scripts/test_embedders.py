"""The embedders of the comparison, each against an independent computation of its vectors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TREEBANK, small_static_vectors

from charembed import CharEmbedder, CharEmbedError, Context
from charembed.lm.model import BiCharLM
from charembed.pretrained.model_folder import Pretrained
from charembed.tagging.labelled_text import LabelledSentence, read_labelled
from scripts.quality.embedders import EmbedderConfig, load_embedder, weights_digest

SENTENCES = [
    LabelledSentence(["George", "went"], {"ner": ["B-PER", "O"]}),
    LabelledSentence(["to", "Washington", "unbelievably"], {"ner": ["O", "B-LOC", "O"]}),
]


def embed(config: EmbedderConfig) -> list[np.ndarray]:
    """Return the vectors of `SENTENCES`."""
    return load_embedder(config).read(SENTENCES)


def assert_same(vectors: Iterable[np.ndarray], expected: Iterable[np.ndarray]) -> None:
    for of_sentence, expected_vectors in zip(vectors, expected, strict=True):
        np.testing.assert_allclose(of_sentence, expected_vectors, atol=1e-5)


def test_charembed_models(model: Path) -> None:
    words = [sentence.words for sentence in SENTENCES]

    def reference(context: Context | None = None, **options: str) -> list[np.ndarray]:
        own = CharEmbedder.from_pretrained(model, **options)
        return [embeddings.vectors for embeddings in own.embed(words, context)]

    plain = reference()
    assert_same(embed(EmbedderConfig(model=str(model))), plain)
    assert_same(embed(EmbedderConfig(model=str(model), readout="separator")), reference(readout="separator"))

    # Contexts end with the document.
    with_context = EmbedderConfig(model=str(model), context_sentences=1)
    assert_same(embed(with_context), reference(Context(sentences=1)))
    documents = [replace(sentence, document=number) for number, sentence in enumerate(SENTENCES)]
    assert_same(load_embedder(with_context).read(documents), plain)
    characters = EmbedderConfig(model=str(model), context_characters=3)
    assert_same(embed(characters), reference(Context(characters=3)))

    # int8 is close to float32, but not equal.
    int8 = reference(precision="int8")
    assert np.abs(int8[0] - plain[0]).max() > 1e-4
    assert_same(embed(EmbedderConfig(model=str(model), precision="int8")), int8)


def test_directions_in_two_folders(model: Path, embedder) -> None:
    for direction in ("forward", "backward"):
        lm = BiCharLM(embedder.model.config, [direction])
        lm.direction(direction).load_state_dict(embedder.model.direction(direction).state_dict())
        Pretrained(lm, embedder.pretrained.vocab).save(model.parent / direction)
    two_folders = EmbedderConfig(model=str(model.parent / "forward"), backward=str(model.parent / "backward"))
    pair = EmbedderConfig(model=str(model))
    assert_same(embed(two_folders), embed(pair))
    assert load_embedder(two_folders).weights == load_embedder(pair).weights


def test_parts_of_a_model_with_static_vectors(with_words: Pretrained, tmp_path: Path) -> None:
    folder = str(tmp_path / "model")
    with_words.save(folder)
    whole = embed(EmbedderConfig(model=folder))
    states = embed(EmbedderConfig(model=folder, parts=["forward", "backward"]))
    static = embed(EmbedderConfig(model=folder, parts=["words"]))
    assert_same([np.concatenate(pair, axis=1) for pair in zip(states, static, strict=True)], whole)
    assert with_words.static is not None
    assert_same(static, [with_words.static.lookup(sentence.words) for sentence in SENTENCES])
    assert_same(embed(EmbedderConfig(model=folder, engine="torch")), whole)

    # Sizes and digests are those of the parts that are used.
    forward, backward, both, words, everything = (
        load_embedder(EmbedderConfig(model=folder, parts=parts))
        for parts in (["forward"], ["backward"], ["forward", "backward"], ["words"], None)
    )
    assert forward.megabytes == backward.megabytes > 0
    assert both.megabytes == pytest.approx(forward.megabytes + backward.megabytes)
    assert everything.megabytes == pytest.approx(both.megabytes + words.megabytes)
    assert both.weights == weights_digest([with_words.model]) != everything.weights
    replace(with_words, static=small_static_vectors(dim=5)).save(folder)
    assert load_embedder(EmbedderConfig(model=folder)).weights != everything.weights
    assert load_embedder(EmbedderConfig(model=folder, parts=["forward", "backward"])).weights == both.weights

    # A model whose folder says another readout is another model, unless the row names the readout.
    for readout in (None, "word"):
        before = load_embedder(EmbedderConfig(model=folder, readout=readout)).weights
        replace(Pretrained.load(folder), readout="separator").save(folder)
        after = load_embedder(EmbedderConfig(model=folder, readout=readout)).weights
        assert (before == after) == (readout == "word")


def test_reduced_vectors(with_words: Pretrained, tmp_path: Path) -> None:
    """The reference projects the whole vectors with the stored components."""
    folder = str(tmp_path / "model")
    texts = [f"The quick brown fox {number} jumps over the lazy dog." for number in range(20)]
    embedder = CharEmbedder(with_words).fit_projection(texts, 6)
    embedder.save_pretrained(folder)
    projection = Pretrained.load(folder).projection
    assert projection is not None
    whole = load_embedder(EmbedderConfig(model=folder))
    reduced = [load_embedder(EmbedderConfig(model=folder, dim=dim)) for dim in (6, 4)]
    expected = [(vectors - projection.mean) @ projection.components.T for vectors in whole.read(SENTENCES)]
    assert_same(reduced[0].read(SENTENCES), expected)
    assert_same(reduced[1].read(SENTENCES), [vectors[:, :4] for vectors in expected])
    width = projection.components.shape[1]
    assert reduced[0].megabytes - whole.megabytes == pytest.approx(6 * width * 4 / 1e6)

    # The projection is part of the digest only where it is used.
    CharEmbedder(with_words).fit_projection(texts[:10], 6).save_pretrained(folder)
    assert load_embedder(EmbedderConfig(model=folder)).weights == whole.weights
    assert load_embedder(EmbedderConfig(model=folder, dim=4)).weights != reduced[1].weights
    assert len({whole.weights, *(each.weights for each in reduced)}) == 3


def test_an_untrained_model_has_the_shape_but_not_the_weights(model: Path) -> None:
    trained = embed(EmbedderConfig(model=str(model)))
    config = EmbedderConfig(model=str(model), untrained=True)
    untrained = embed(config)
    assert untrained[0].shape == trained[0].shape
    assert np.abs(untrained[0] - trained[0]).max() > 0.01
    assert_same(embed(config), untrained)


def test_sentences_as_they_were_written(model: Path, embedder, tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(TREEBANK)
    sentences = read_labelled(tmp_path / "a.conllu").sentences
    for original in (True, False):
        texts = [sentence.text if original else sentence.words for sentence in sentences]
        expected = [embeddings.vectors for embeddings in embedder.embed(texts)]
        assert_same(load_embedder(EmbedderConfig(model=str(model), original=original)).read(sentences), expected)
    assert sentences[0].text != sentences[0].words


def test_flair_models(model: Path, embedder, tmp_path: Path) -> None:
    from charembed.integrations.flair import export_flair

    files = [str(tmp_path / f"{direction}.pt") for direction in ("forward", "backward")]
    export_flair(embedder, *files)
    assert_same(embed(EmbedderConfig(flair=files)), embed(EmbedderConfig(model=str(model), readout="separator")))
    # Neither counts the decoder. PyTorch's LSTM has two biases, one of which is zero.
    megabytes = load_embedder(EmbedderConfig(model=str(model))).megabytes
    assert load_embedder(EmbedderConfig(flair=files)).megabytes == pytest.approx(megabytes, rel=0.05)
    with pytest.raises(CharEmbedError, match=r"no such file: absent\.pt"):
        load_embedder(EmbedderConfig(flair=["absent.pt"]))


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("transformer")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "george", "went", "to", "washing", "##ton", "un", "##able"]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(pieces), **shape)).save_pretrained(folder)
    return folder


def test_transformers(transformer: Path, model: Path) -> None:
    """The reference runs the transformer on one sentence at a time, with the ids of its pieces written by hand."""
    from transformers import BertModel

    bert = BertModel.from_pretrained(transformer).eval()
    with torch.inference_mode():
        layers = bert(torch.tensor([[2, 7, 8, 9, 1, 3]]), output_hidden_states=True).hidden_states
    states = sum(layers)[0].numpy() / 3
    vectors = embed(EmbedderConfig(transformer=str(transformer)))
    np.testing.assert_allclose(vectors[1], [states[1], (states[2] + states[3]) / 2, states[4]], atol=1e-5)

    concatenated = embed(EmbedderConfig(model=str(model), transformer=str(transformer)))
    assert_same([each[:, -8:] for each in concatenated], vectors)
    assert_same([each[:, :-8] for each in concatenated], embed(EmbedderConfig(model=str(model))))
    for absent in ("/absent", "absent/model"):
        with pytest.raises(CharEmbedError, match=r"no transformer .*: neither a folder nor"):
            load_embedder(EmbedderConfig(transformer=absent))


def test_word_vectors(model: Path, tmp_path: Path) -> None:
    """Files of word2vec have a header, those of GloVe have none; a word may contain a space."""
    file = tmp_path / "words.txt"
    config = EmbedderConfig(words=str(file))
    file.write_text("3 2\nwent 1 2\nWashington 3 4\nat once -1 5e-1\n")
    vectors = embed(config)
    assert_same(vectors, [np.array([[0, 0], [1, 2]]), np.array([[0, 0], [3, 4], [0, 0]])])
    assert load_embedder(config).megabytes == pytest.approx(3 * 2 * 4 / 1e6)
    concatenated = embed(EmbedderConfig(model=str(model), words=str(file)))
    assert_same([each[:, -2:] for each in concatenated], vectors)
    assert_same([each[:, :-2] for each in concatenated], embed(EmbedderConfig(model=str(model))))

    # The digest depends on every word; a word that is missing gets the vector of its lower-case form.
    digests = {load_embedder(config).weights}
    for content in ("went 1 2\nTO 7 8\nto 5 6\n", "want 1 2\nTO 7 8\nto 5 6\n"):
        file.write_text(content)
        assert_same(embed(config)[1:], [np.array([[5, 6], [0, 0], [0, 0]])])
        digests.add(load_embedder(config).weights)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("content", "line"), [("went 1 2\nto 5\n", 2), ("2 2\nThey went to\n", 2), ("", 1), ("2 2\n\nto 5 6", 2)]
)
def test_damaged_word_vectors_are_refused(content: str, line: int, tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text(content)
    with pytest.raises(CharEmbedError, match=rf"words\.txt, line {line} is not a word and as many numbers"):
        load_embedder(EmbedderConfig(words=str(file)))
    with pytest.raises(CharEmbedError, match=r"no such file: absent\.txt"):
        load_embedder(EmbedderConfig(words="absent.txt"))


def test_a_row_without_an_embedder_is_refused() -> None:
    with pytest.raises(CharEmbedError, match="at least one of model, flair, transformer and words"):
        load_embedder(EmbedderConfig())
