"""Read labelled sentences from files of every format, with entity tags in BIO whatever the file has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from charembed.errors import CharEmbedError
from charembed.tagging.annotations import ANNOTATION_SUFFIXES, read_annotations
from charembed.tagging.columns import Columns as Columns
from charembed.tagging.columns import read_columns
from charembed.tagging.doc_bin import DOC_BIN_SUFFIX, read_doc_bin
from charembed.tagging.source_file import SourceFile
from charembed.tagging.tag_schemes import LayerKind as LayerKind
from charembed.tagging.tag_schemes import bio_tags, detect_scheme, entity_spans, split_tag
from charembed.tagging.treebank import is_treebank, read_treebank
from charembed.text.opening import format_suffix
from charembed.text.words import SpannedText, TextInput
from charembed.util.files import user_path

NO_TAG = "_"
"""What many files have where a word has no tag."""


@dataclass(frozen=True)
class LabelledSentence:
    """A sentence and its tags."""

    words: list[str]
    """The words."""
    tags: dict[str, list[str]]
    """Tags of each layer, one per word. Entities have BIO tags."""
    original: SpannedText | None = None
    """The text before tokenization with the spans of the words, where the file gives it."""
    document: int = 0
    """Number of the document in its file."""

    @property
    def text(self) -> TextInput:
        """The input for an embedder that reads the sentence as it was written; without `original`, the words."""
        return self.words if self.original is None else self.original


@dataclass(frozen=True)
class LabelledFile:
    """The sentences of a file."""

    sentences: list[LabelledSentence]
    """Sentences in the order of the file."""
    kinds: dict[str, LayerKind]
    """Kind of each layer of tags, by its name."""
    notes: list[str]
    """What was converted, widened or left out: sentences for a log, each with the name of the file."""


def read_labelled(
    path: str | Path, columns: Columns | None = None, kinds: Mapping[str, LayerKind] | None = None
) -> LabelledFile:
    """Read the sentences of a file, which may be compressed.

    The name says what the file is: `.conllu` CoNLL-U, `.jsonl`, `.ndjson` and `.json` records with annotated spans (see
    `read_annotations`), `.spacy` a DocBin of spaCy, anything else columns (see `read_columns`).

    Args:
        path: the file.
        columns: where words and tags are in files of columns and CoNLL-U.
        kinds: kinds of layers that are known already, such as those of the training file. Other layers are entities if
            all their tags are O or PREFIX-KIND. If both the file and `kinds` have one layer, and `columns` names none,
            it gets the name that it has in `kinds`.

    Raises:
        CharEmbedError: the file has no sentences or no tags, a line is wrong, or the file cannot be read.
        MissingExtraError: a package that reads this format is not installed.
    """
    path = user_path(path)
    columns = columns or Columns()
    kinds = kinds or {}
    source = _read_source(path, columns)
    if not source.sentences:
        raise CharEmbedError(f"{path} has no labelled sentences")

    layers: dict[str, list[list[str | None]]] = {}
    found_kinds: dict[str, LayerKind] = {}
    notes = list(source.notes)
    for layer in source.sentences[0].tags:
        kind = source.kinds.get(layer)
        name = _layer_name(layer, source, columns, kinds)
        kind = kinds.get(name) or kind or _find_kind(layer, source, path)
        name = name or kind
        found_kinds[name] = kind
        tags = [sentence.tags[layer] for sentence in source.sentences]
        _check_any_tag(name, tags, path)
        if kind == "entities":
            layers[name] = _convert_entities(name, layer, source, path, notes)
            continue
        layers[name] = tags
        # In the fields of CoNLL-U that `columns` may name, it is a value like any other.
        if not is_treebank(path) and (count := sum(tag == NO_TAG for of_sentence in tags for tag in of_sentence)):
            notes.append(f"{count} words have {NO_TAG} in layer {name}, which is learnt like any other tag")
    sentences = _complete_sentences(source, layers, path, notes)
    return LabelledFile(sentences, found_kinds, [f"{path.name}: {note}" for note in notes])


def _read_source(path: Path, columns: Columns) -> SourceFile:
    suffix = format_suffix(path)
    if is_treebank(path):
        return read_treebank(path, columns)
    if suffix in ANNOTATION_SUFFIXES:
        return read_annotations(path)
    if suffix == DOC_BIN_SUFFIX:
        return read_doc_bin(path)
    return read_columns(path, columns)


def _layer_name(layer: str, source: SourceFile, columns: Columns, kinds: Mapping[str, LayerKind]) -> str:
    """Return the name of a layer; an empty one if its kind must be found first."""
    has_own_name = columns.tags is not None and layer in columns.tags
    if len(kinds) == 1 and len(source.sentences[0].tags) == 1 and not has_own_name:
        ((name, kind),) = kinds.items()
        if source.kinds.get(layer, kind) == kind:
            return name
    return layer


def _find_kind(layer: str, source: SourceFile, path: Path) -> LayerKind:
    """Return what a layer holds, judged by its tags.

    Raises:
        CharEmbedError: few tags keep the others from being entity tags, which is most likely a mistake.
    """
    counts = Counter(tag for sentence in source.sentences for tag in sentence.tags[layer])
    entity_tags = {tag for tag in counts if tag is not None and split_tag(tag) is not None}
    if entity_tags <= {"O"}:
        return "tags"
    other_tags = counts.keys() - entity_tags - {NO_TAG, None}
    if not other_tags:
        return "entities"
    if "O" in entity_tags and sum(counts[tag] for tag in other_tags) < sum(counts[tag] for tag in entity_tags):
        _refuse_other_tags(layer, source, path)
    return "tags"


def _refuse_other_tags(layer: str, source: SourceFile, path: Path) -> None:
    """Raise an error that names the first tag of a layer that is not an entity tag, if there is one."""
    for sentence in source.sentences:
        for position, tag in enumerate(sentence.tags[layer]):
            if tag not in (None, NO_TAG) and split_tag(tag) is None:
                where = str(path) if sentence.lines is None else f"{path}, line {sentence.lines[position]}"
                raise CharEmbedError(
                    f"{where}: {tag!r} is not an entity tag, such as O, B-KIND and I-KIND, but those around it are:"
                    " correct it, or the column of the tags"
                )


def _check_any_tag(name: str, tags: list[list[str | None]], path: Path) -> None:
    if all(tag in (None, NO_TAG) for of_sentence in tags for tag in of_sentence):
        raise CharEmbedError(f"{path} has no tags: layer {name} is empty; choose another column or field")


def _convert_entities(
    name: str, layer: str, source: SourceFile, path: Path, notes: list[str]
) -> list[list[str | None]]:
    """Return BIO tags, and note what the file has instead."""
    _refuse_other_tags(layer, source, path)
    tags = [["O" if tag in (None, NO_TAG) else str(tag) for tag in one.tags[layer]] for one in source.sentences]
    scheme = detect_scheme(tags)
    converted = [bio_tags(entity_spans(of_sentence), len(of_sentence)) for of_sentence in tags]
    changed = sum(old != new for pair in zip(tags, converted, strict=True) for old, new in zip(*pair, strict=True))
    untagged = sum(tag in (None, NO_TAG) for sentence in source.sentences for tag in sentence.tags[layer])
    if scheme != "BIO":
        notes.append(f"layer {name} has {scheme} tags, read as BIO")
    elif changed:
        notes.append(f"{changed} entities of layer {name} begin with I-, read as B-")
    if untagged:
        notes.append(f"{untagged} words without a tag in layer {name} are read as O")
    return [list(of_sentence) for of_sentence in converted]


def _complete_sentences(
    source: SourceFile, layers: dict[str, list[list[str | None]]], path: Path, notes: list[str]
) -> list[LabelledSentence]:
    """Return the sentences whose words all have tags in all layers."""
    sentences = []
    for number, sentence in enumerate(source.sentences):
        tags = {name: [tag for tag in of_file[number] if tag is not None] for name, of_file in layers.items()}
        if all(len(of_layer) == len(sentence.words) for of_layer in tags.values()):
            sentences.append(LabelledSentence(sentence.words, tags, sentence.original, sentence.document))
    left_out = len(source.sentences) - len(sentences)
    if not sentences:
        raise CharEmbedError(f"{path} has no labelled sentences: all {left_out} have words without a tag")
    if left_out:
        notes.append(f"{left_out} sentences with words without a tag were left out")
    return sentences
