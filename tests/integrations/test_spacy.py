"""spaCy: components trained on word vectors, documents with vectors, and pipelines that are saved with their models."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from fresh_process import run_python
from helpers import EMBEDDER_OPTIONS, ROOT, assert_same_vectors, needs, with_projection

from charembed import CharEmbedder, CharEmbedError

# spaCy and its dependencies raise warnings of their own.
pytestmark = pytest.mark.filterwarnings("default")

TEXT = "The lazy  dog, don't\n東."
TAGS = {"fox": "NOUN", "dog": "NOUN", "jumps": "VERB", "runs": "VERB", "the": "DET", "a": "DET"}
SENTENCES = ["the fox jumps", "a dog runs", "the dog jumps", "a fox runs"]


@pytest.fixture
def folder(pretrained, tmp_path: Path) -> Path:
    with_projection(pretrained, readout="separator").save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def nlp(folder: Path):
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("charembed", config={"model": str(folder)})
    return pipeline


def spans_of(doc) -> tuple[str, list[tuple[int, int]]]:
    return doc.text, [(token.idx, token.idx + len(token)) for token in doc]


def test_tokens_get_the_vectors_at_their_offsets(nlp, embedder) -> None:
    doc = nlp(TEXT)
    expected = embedder.embed([spans_of(doc)])[0].vectors
    assert len(doc) > 5
    assert_same_vectors(doc.tensor, expected, [token.text for token in doc])
    for token, vector in zip(doc, expected, strict=True):
        assert np.array_equal(token.vector, vector)
        assert token.has_vector
    assert np.allclose(doc[1:4].vector, expected[1:4].mean(axis=0), atol=1e-6)
    assert np.allclose(doc.vector, expected.mean(axis=0), atol=1e-6)


def test_contextual_vectors_take_precedence_over_static_ones(nlp, embedder) -> None:
    from spacy.vectors import Vectors

    nlp.vocab.vectors = Vectors(shape=(10, 3))
    nlp.vocab.set_vector("dog", np.ones(3, dtype=np.float32))
    doc = nlp(TEXT)
    expected = embedder.embed([spans_of(doc)])[0].vectors
    assert np.array_equal(doc[3].vector, expected[3])
    assert doc[3].has_vector
    assert np.allclose(doc[1:4].vector, expected[1:4].mean(axis=0), atol=1e-6)
    assert np.allclose(doc.vector, expected.mean(axis=0), atol=1e-6)
    assert doc[0:0].vector.tolist() == [0.0] * embedder.embedding_dim


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"n_process": 2}], ids=str)
def test_pipe_equals_single_documents(options: dict, nlp) -> None:
    texts = ["one text", "", "and another, longer one", " "] * 2
    for doc, text in zip(nlp.pipe(texts, **options), texts, strict=True):
        assert doc.text == text
        assert_same_vectors(doc.tensor, nlp(text).tensor, [token.text for token in doc])
        assert all(np.array_equal(token.vector, doc.tensor[token.i]) for token in doc)


@pytest.mark.parametrize("destination", ["disk", "bytes"])
def test_saved_pipeline_needs_no_model_folder(destination: str, nlp, folder: Path, tmp_path: Path) -> None:
    import spacy

    expected = nlp(TEXT).tensor
    if destination == "disk":
        nlp.to_disk(tmp_path / "pipeline")
        nlp.to_disk(tmp_path / "pipeline")  # replaces the first
        shutil.rmtree(folder)
        again = spacy.load(tmp_path / "pipeline")
    else:
        data = nlp.to_bytes()
        shutil.rmtree(folder)
        again = spacy.blank("en")
        again.add_pipe("charembed", config={"model": str(folder)})
        again.from_bytes(data)
    assert np.array_equal(again(TEXT).tensor, expected)


def test_missing_model_is_reported() -> None:
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("charembed", config={"model": "absent"})
    with pytest.raises(CharEmbedError, match="no model 'absent'"):
        pipeline("text")


def test_damaged_pipeline_is_reported(nlp, tmp_path: Path) -> None:
    import spacy

    nlp("load the model")
    nlp.to_disk(tmp_path / "pipeline")
    weights = tmp_path / "pipeline" / "charembed" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CharEmbedError, match="cannot be read as safetensors"):
        spacy.load(tmp_path / "pipeline")
    with pytest.raises(CharEmbedError, match=r"the saved pipeline contains no model: config\.json"):
        nlp.get_pipe("charembed").from_bytes(b"\x80")
    with pytest.raises(CharEmbedError, match="the saved pipeline is damaged"):
        nlp.get_pipe("charembed").from_bytes(b"")
    with pytest.raises(CharEmbedError, match="the saved pipeline contains no model"):
        nlp.get_pipe("charembed").from_bytes(b"\x01")


def tok2vec(folder: Path, width: int | None):
    from spacy import registry

    return registry.architectures.get("charembed.CharEmbedTok2Vec.v1")(model=str(folder), width=width)


@pytest.mark.parametrize("width", [None, 5])
def test_architecture_computes_vectors_and_is_saved(width: int | None, folder: Path, embedder) -> None:
    import spacy

    tokenizer = spacy.blank("en")
    docs = [tokenizer(text) for text in (TEXT, "", "two words")]
    model = tok2vec(folder, width)
    model.initialize(X=docs)
    vectors, backprop = model.begin_update(docs)
    assert [len(each) for each in vectors] == [len(doc) for doc in docs]
    assert model.get_dim("nO") == (width or embedder.embedding_dim)
    assert {each.shape[1] for each in vectors} == {width or embedder.embedding_dim}
    backprop(vectors)
    if width is None:
        assert np.array_equal(vectors[0], embedder.embed([spans_of(docs[0])])[0].vectors)
    loaded = tok2vec(folder, width)
    loaded.from_bytes(model.to_bytes())
    shutil.rmtree(folder)
    for before, after in zip(model.predict(docs), loaded.predict(docs), strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize("destination", ["disk", "bytes"])
def test_options_of_the_component_are_saved_with_the_pipeline(destination: str, folder: Path, tmp_path: Path) -> None:
    import spacy

    expected = CharEmbedder.from_pretrained(folder, **EMBEDDER_OPTIONS)
    pipeline = spacy.blank("en")
    pipeline.add_pipe("charembed", config={"model": str(folder), **EMBEDDER_OPTIONS})
    vectors = pipeline(TEXT).tensor
    if destination == "disk":
        pipeline.to_disk(tmp_path / "pipeline")
        loaded = spacy.load(tmp_path / "pipeline")
    else:
        loaded = spacy.blank("en").from_config(pipeline.config).from_bytes(pipeline.to_bytes())
    for each in (pipeline, loaded):
        embedder = each.get_pipe("charembed").embedder
        assert embedder.options == expected.options
        assert embedder.pretrained.readout == "separator"
    assert np.array_equal(loaded(TEXT).tensor, vectors)
    assert vectors.shape[1] == 4


def test_options_of_a_saved_pipeline_can_be_overridden(nlp, tmp_path: Path) -> None:
    import spacy

    nlp.to_disk(tmp_path / "pipeline")
    loaded = spacy.load(tmp_path / "pipeline", config={"components": {"charembed": {"precision": "int8"}}})
    assert loaded.get_pipe("charembed").embedder.precision == "int8"


def test_options_of_the_architecture_are_saved_with_the_pipeline(folder: Path, tmp_path: Path) -> None:
    import spacy

    expected = CharEmbedder.from_pretrained(folder, **EMBEDDER_OPTIONS)
    config = {
        "@architectures": "charembed.CharEmbedTok2Vec.v1",
        "model": str(folder),
        "width": None,
        **EMBEDDER_OPTIONS,
    }
    pipeline = spacy.blank("en")
    pipeline.add_pipe("tok2vec", config={"model": config})
    pipeline.initialize()
    pipeline.to_disk(tmp_path / "pipeline")
    shutil.rmtree(folder)
    for each in (pipeline, spacy.load(tmp_path / "pipeline")):
        embedder = each.get_pipe("tok2vec").model.shims[0].embedder
        assert embedder.options == expected.options
        assert embedder.pretrained.readout == "separator"


def test_defaults_are_those_of_the_embedder(nlp, folder: Path) -> None:
    """Except the cache of the architecture, which holds the texts of all epochs."""
    expected = CharEmbedder.from_pretrained(folder).options
    assert nlp.get_pipe("charembed").embedder.options == expected
    model = tok2vec(folder, None)
    assert model.shims[0].embedder.options == expected | {"cache_mb": 1000}


@pytest.mark.parametrize(
    ("option", "value"), [("precision", "int4"), ("readout", "middle"), ("engine", "steam"), ("threads", "two")]
)
def test_config_with_an_invalid_option_is_refused(option: str, value: str) -> None:
    import spacy
    from confection import ConfigValidationError

    with pytest.raises(ConfigValidationError, match=f"charembed -> {option}.*'{value}'"):
        spacy.blank("en").add_pipe("charembed", config={option: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [({"threads": 0}, "threads must be "), ({"device": "abacus"}, "device 'abacus' cannot be used")],
)
def test_invalid_option_is_reported_on_first_use(options: dict, message: str, folder: Path) -> None:
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("charembed", config={"model": str(folder), **options})
    with pytest.raises(CharEmbedError, match=message):
        pipeline("text")


CONFIG = """
[nlp]
lang = "en"
pipeline = ["tok2vec","tagger","ner"]
[components]
[components.tok2vec]
factory = "tok2vec"
[components.tok2vec.model]
@architectures = "charembed.CharEmbedTok2Vec.v1"
model = {model}
width = 24
[components.tagger]
factory = "tagger"
[components.tagger.model]
@architectures = "spacy.Tagger.v2"
[components.tagger.model.tok2vec]
@architectures = "spacy.Tok2VecListener.v1"
width = 24
[components.ner]
factory = "ner"
[components.ner.model]
@architectures = "spacy.TransitionBasedParser.v2"
state_type = "ner"
extra_state_tokens = false
hidden_width = 16
maxout_pieces = 2
use_upper = true
[components.ner.model.tok2vec]
@architectures = "spacy.Tok2VecListener.v1"
width = 24
"""


def test_tagger_and_ner_train_on_one_shared_tok2vec(folder: Path, tmp_path: Path) -> None:
    import spacy
    from spacy.training import Example
    from spacy.util import fix_random_seed, load_model_from_config
    from thinc.api import Config

    fix_random_seed(1)
    config = Config().from_str(CONFIG.format(model=f'"{folder}"'))
    pipeline = load_model_from_config(config, auto_fill=True)
    examples = []
    for text in SENTENCES:
        doc = pipeline.make_doc(text)
        start = text.index(text.split()[1])
        entity = (start, start + 3, "ANIMAL")
        examples.append(Example.from_dict(doc, {"tags": [TAGS[t.text] for t in doc], "entities": [entity]}))
    pipeline.initialize(lambda: examples)
    for _ in range(120):
        pipeline.update(examples)
    pipeline.to_disk(tmp_path / "pipeline")
    shutil.rmtree(folder)
    for each in (pipeline, spacy.load(tmp_path / "pipeline")):
        for doc in each.pipe(SENTENCES):
            assert [token.tag_ for token in doc] == [TAGS[token.text] for token in doc]
            assert [(entity.start, entity.label_) for entity in doc.ents] == [(1, "ANIMAL")]


@needs("spacy")
def test_example_config_trains_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    columns = "\n\n".join(["Peter\tB-PER\nruns\tO", "Ann\tB-PER\njumps\tO", "the\tO\nParis\tB-LOC"] * 4)
    (tmp_path / "train.conll").write_text(columns + "\n")
    text = str(tmp_path / "train.spacy")
    config = str(ROOT / "configs" / "spacy_ner.cfg")
    train = ["train", config, "-o", str(tmp_path / "tagger")]
    train += ["--paths.model", str(folder), "--paths.train", text, "--paths.dev", text]
    train += ["--training.max_steps", "40", "--training.eval_frequency", "20"]
    commands = [
        ["init", "fill-config", config, str(tmp_path / "filled.cfg")],
        ["convert", str(tmp_path / "train.conll"), str(tmp_path), "--converter", "conll"],
        train,
        ["evaluate", str(tmp_path / "tagger" / "model-best"), text],
    ]
    # A new process, in which spaCy finds the component by the entry point of this package alone.
    done = run_python(f"""
import shutil
from spacy.cli import app
from typer.main import get_command
for arguments in {commands}:
    get_command(app)(arguments, standalone_mode=False)
    if arguments[0] == "train":
        shutil.rmtree({str(folder)!r})
""")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NER F" in done.stdout
    assert (tmp_path / "filled.cfg").exists()


def test_vectors_do_not_change_in_training(folder: Path) -> None:
    import spacy
    from thinc.api import Adam

    doc = spacy.blank("en")(TEXT)
    model = tok2vec(folder, 5)
    model.initialize(X=[doc])
    expected = CharEmbedder.from_pretrained(folder).embed([spans_of(doc)])[0].vectors
    vectors, backprop = model.begin_update([doc])
    backprop([each + 1 for each in vectors])
    model.finish_update(Adam(0.1))
    assert not np.array_equal(model.predict([doc])[0], vectors[0])
    assert np.array_equal(model.layers[0].predict([doc])[0], expected)


@pytest.mark.parametrize("destination", ["disk", "bytes"])
def test_static_vectors_are_part_of_a_saved_pipeline(destination: str, with_words, tmp_path: Path) -> None:
    import spacy

    with_words.save(tmp_path / "model")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("charembed", config={"model": str(tmp_path / "model"), "parts": ["words", "backward"]})
    doc = pipeline(TEXT)
    vectors = doc.tensor
    expected = CharEmbedder(with_words).embed([spans_of(doc)])[0].vectors
    assert vectors.shape[1] == 16
    if destination == "disk":
        pipeline.to_disk(tmp_path / "pipeline")
        shutil.rmtree(tmp_path / "model")
        loaded = spacy.load(tmp_path / "pipeline")
    else:
        loaded = spacy.blank("en").from_config(pipeline.config).from_bytes(pipeline.to_bytes())
    assert np.array_equal(loaded(TEXT).tensor, vectors)
    np.testing.assert_allclose(vectors, expected[:, 12:], atol=1e-5)
