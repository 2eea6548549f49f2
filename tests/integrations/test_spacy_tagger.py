"""The component `charembed_tagger`: tags of a trained tagger in spaCy documents."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import small_tagger

from charembed import CharEmbedder, CharEmbedError
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagger import Tagger

# spaCy and its dependencies raise warnings of their own.
pytestmark = pytest.mark.filterwarnings("default")

TEXT = "The lazy  dog, don't\n東 jump over the quick brown fox."
NER = TagLayer("ner", "entities", ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))


@pytest.fixture
def tagger(with_words) -> Tagger:
    return small_tagger(CharEmbedder(with_words))


@pytest.fixture
def folder(tagger: Tagger, tmp_path: Path) -> Path:
    tagger.save(tmp_path / "tagger")
    return tmp_path / "tagger"


def blank(folder: Path, **config: object):
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("charembed_tagger", config={"tagger": str(folder), **config})
    return pipeline


@pytest.fixture
def nlp(folder: Path):
    return blank(folder)


def annotations(doc) -> tuple:
    entities = [(entity.start, entity.end, entity.label_) for entity in doc.ents]
    return entities, [token.ent_iob_ for token in doc], [(token.tag_, token.pos_) for token in doc]


def predicted(tagger: Tagger, doc):
    """Return what the tagger says about the tokens of a document that are not white space."""
    spans = [(token.idx, token.idx + len(token)) for token in doc if not token.is_space]
    return tagger.predict([(doc.text, spans)])[0]


def test_tags_and_entities_are_those_of_the_tagger(nlp, tagger: Tagger) -> None:
    doc = nlp(TEXT)
    expected = predicted(tagger, doc)
    assert [(entity.start_char, entity.end_char, entity.label_) for entity in doc.ents] == [
        (entity.start, entity.end, entity.label) for entity in expected.entities
    ]
    assert len(doc.ents) > 2
    words = [token for token in doc if not token.is_space]
    assert [token.pos_ for token in words] == expected.tags["upos"]
    assert len(words) < len(doc)
    assert {(token.pos_, token.ent_type_) for token in doc if token.is_space} <= {
        ("SPACE", label) for label in ("", "LOC", "PER")
    }
    # Tokens outside entities are known to be outside, as after spaCy's own component.
    assert all(token.ent_iob_ in ("B", "I", "O") for token in doc)
    assert not any(token.tag_ for token in doc)


@pytest.mark.parametrize(
    ("layer", "attribute"),
    [
        (TagLayer("upos", "tags", ("NOUN", "VERB")), "pos_"),
        (TagLayer("POS", "tags", ("NOUN", "VERB")), "pos_"),
        (TagLayer("pos", "tags", ("NN", "VBZ")), "tag_"),
        (TagLayer("xpos", "tags", ("NN", "VBZ")), "tag_"),
        (TagLayer("chunk of words", "tags", ("NN", "VBZ")), "tag_"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_layers_of_tags_set_the_attribute_of_their_name(
    layer: TagLayer, attribute: str, embedder, tmp_path: Path
) -> None:
    tagger = small_tagger(embedder, [layer])
    tagger.save(tmp_path / "tagger")
    doc = blank(tmp_path / "tagger")(TEXT)
    assert [getattr(token, attribute) for token in doc if not token.is_space] == predicted(tagger, doc).tags[layer.name]
    other = {"pos_": "tag_", "tag_": "pos_"}[attribute]
    assert not any(getattr(token, other) for token in doc)
    assert not doc.has_annotation("ENT_IOB")


def test_entities_of_other_components_are_kept(nlp) -> None:
    from spacy.tokens import Span

    free = nlp(TEXT)
    first, *others = free.ents
    doc = nlp.make_doc(TEXT)
    existing = Span(doc, first.start, first.end, "RULE", kb_id="Q1")
    others_start = others[0].start
    doc.set_ents([existing], blocked=[doc[others_start : others_start + 1]], default="missing")
    doc = nlp.get_pipe("charembed_tagger")(doc)
    assert [(entity.start, entity.end, entity.label_, entity.kb_id_) for entity in doc.ents] == [
        (first.start, first.end, "RULE", "Q1"),
        *((entity.start, entity.end, entity.label_, "") for entity in others[1:]),
    ]
    assert doc[others_start].ent_type_ == ""


def test_the_longest_of_overlapping_entities_is_kept(embedder, tmp_path: Path) -> None:
    labels = ("O", "B-ANIMAL", "I-ANIMAL")
    tagger = small_tagger(embedder, [NER, TagLayer("species", "entities", labels)])
    tagger.save(tmp_path / "tagger")
    doc = blank(tmp_path / "tagger")(TEXT)
    kept = {(entity.start, entity.end, entity.label_) for entity in doc.ents}
    assert {"ANIMAL"} < {label for _, _, label in kept}
    entities = [doc.char_span(each.start, each.end, each.label) for each in predicted(tagger, doc).entities]
    dropped = [entity for entity in entities if (entity.start, entity.end, entity.label_) not in kept]
    assert dropped
    for entity in dropped:
        rivals = [end - start for start, end, _ in kept if start < entity.end and entity.start < end]
        assert max(rivals) >= len(entity)


def test_layers_that_set_the_same_attribute_must_be_chosen(embedder, tmp_path: Path) -> None:
    layers = [NER, TagLayer("xpos", "tags", ("NN", "VBZ")), TagLayer("chunk", "tags", ("NP", "VP"))]
    small_tagger(embedder, layers).save(tmp_path / "tagger")
    with pytest.raises(CharEmbedError, match=r"both layer xpos and layer chunk of the tagger would set token\.tag_"):
        blank(tmp_path / "tagger")(TEXT)
    doc = blank(tmp_path / "tagger", layers=["chunk"])(TEXT)
    assert {"_SP"} < {token.tag_ for token in doc} <= {"NP", "VP", "_SP"}
    assert not doc.ents
    with pytest.raises(CharEmbedError, match="the tagger has no layer deprel, only ner, xpos, chunk"):
        blank(tmp_path / "tagger", layers=["deprel"])(TEXT)


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"n_process": 2}], ids=str)
def test_pipe_equals_single_documents(options: dict, nlp) -> None:
    texts = ["the fox jumps", "", "over another, lazier dog", " "] * 2
    expected = [annotations(nlp(text)) for text in texts]
    docs = list(nlp.pipe(texts, **options))
    assert [doc.text for doc in docs] == texts
    assert [annotations(doc) for doc in docs] == expected


@pytest.mark.parametrize("destination", ["disk", "bytes"])
@pytest.mark.parametrize("with_static", [False, True], ids=["embedder only", "static vectors"])
def test_saved_pipeline_needs_no_tagger_folder(
    destination: str, with_static: bool, with_words, embedder, tmp_path: Path
) -> None:
    import spacy

    small_tagger(embedder, static=with_words.static if with_static else None).save(tmp_path / "tagger")
    options = {"precision": "int8", "engine": "onnx", "threads": 1, "layers": ["ner"]}
    nlp = blank(tmp_path / "tagger", **options)
    expected = annotations(nlp(TEXT))
    if destination == "disk":
        nlp.to_disk(tmp_path / "pipeline")
        nlp.to_disk(tmp_path / "pipeline")  # replaces the first
        shutil.rmtree(tmp_path / "tagger")
        loaded = spacy.load(tmp_path / "pipeline")
        assert (tmp_path / "pipeline" / "charembed_tagger" / "tagger.json").is_file()
    else:
        data = nlp.to_bytes()
        shutil.rmtree(tmp_path / "tagger")
        loaded = spacy.blank("en").from_config(nlp.config).from_bytes(data)
    component = loaded.get_pipe("charembed_tagger")
    assert (component.tagger.embedder.precision, component.tagger.embedder.engine) == ("int8", "onnx")
    assert annotations(loaded(TEXT)) == expected


def test_a_bundled_language_model_is_referred_to(tmp_path: Path) -> None:
    import spacy

    small_tagger(CharEmbedder.from_pretrained("en", parts=["words"])).save(tmp_path / "tagger")
    nlp = blank(tmp_path / "tagger")
    data = nlp.to_bytes()
    assert len(data) < 1_000_000
    loaded = spacy.blank("en").from_config(nlp.config).from_bytes(data)
    assert annotations(loaded(TEXT)) == annotations(nlp(TEXT))


def test_missing_tagger_is_reported(with_words, tmp_path: Path) -> None:
    import spacy
    from confection import ConfigValidationError

    with pytest.raises(ConfigValidationError, match=r"charembed_tagger -> tagger.*missing required argument"):
        spacy.blank("en").add_pipe("charembed_tagger")
    with pytest.raises(CharEmbedError, match="no tagger 'absent'"):
        blank(Path("absent"))("text")
    with_words.save(tmp_path / "model")
    with pytest.raises(CharEmbedError, match="is a language model, not a tagger"):
        blank(tmp_path / "model")("text")
    with pytest.raises(ConfigValidationError, match=r"charembed_tagger -> precision.*'int4'"):
        blank(tmp_path / "model", precision="int4")


def test_damaged_pipeline_is_reported(nlp, tmp_path: Path) -> None:
    import spacy
    import srsly

    component = nlp.get_pipe("charembed_tagger")
    contents = srsly.msgpack_loads(component.to_bytes())
    nlp.to_disk(tmp_path / "pipeline")
    weights = tmp_path / "pipeline" / "charembed_tagger" / "tagger.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CharEmbedError, match="cannot be read as safetensors"):
        spacy.load(tmp_path / "pipeline")
    with pytest.raises(CharEmbedError, match="the saved pipeline is damaged"):
        component.from_bytes(b"")
    for damaged in (None, [], {}):
        with pytest.raises(CharEmbedError, match=r"the saved pipeline contains no complete tagger: tagger\.json"):
            component.from_bytes(srsly.msgpack_dumps(damaged))
    for name, message in {
        "tagger.safetensors": r"contains no complete tagger: tagger\.safetensors missing",
        "language_model/model.safetensors": "the saved pipeline/language_model contains no model: model",
    }.items():
        damaged = {other: content for other, content in contents.items() if other != name}
        with pytest.raises(CharEmbedError, match=message):
            component.from_bytes(srsly.msgpack_dumps(damaged))
    component.from_bytes(srsly.msgpack_dumps(contents))
