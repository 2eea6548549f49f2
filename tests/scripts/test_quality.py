"""Labelled text, and the comparison of embedders by the taggers on them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import COLUMNS, TREEBANK, run_script

from charembed import CharEmbedder, CharEmbedError, Context
from charembed.lm.model import BiCharLM
from charembed.pretrained.model_folder import Pretrained
from charembed.tagging.labelled_text import LabelledSentence, divide, read_labelled
from scripts.quality.embedders import ComparedEmbedder, EmbeddedSentence, EmbedderConfig, load_embedder
from scripts.quality.results import drop_incomplete_line
from scripts.quality.taggers import ScaledProjection
from scripts.quality.tasks import TaskConfig, embed_task, read_task


@pytest.fixture
def model(embedder, tmp_path: Path) -> Path:
    embedder.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


SENTENCES = [
    LabelledSentence(["George", "went"], ["B-PER", "O"]),
    LabelledSentence(["to", "Washington", "unbelievably"], ["O", "B-LOC", "O"]),
]


def read(config: EmbedderConfig) -> list[np.ndarray]:
    return load_embedder(config).read(SENTENCES)


def assert_same(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_language_models_of_ours(model: Path, embedder) -> None:
    words = [sentence.words for sentence in SENTENCES]
    plain = [found.vectors for found in embedder.embed(words)]
    assert_same(read(EmbedderConfig(model=str(model))), plain)
    in_context = [found.vectors for found in embedder.embed(words, Context(sentences=1))]
    assert_same(read(EmbedderConfig(model=str(model), context_sentences=1)), in_context)
    apart = [replace(sentence, document=number) for number, sentence in enumerate(SENTENCES)]
    assert_same(load_embedder(EmbedderConfig(model=str(model), context_sentences=1)).read(apart), plain)
    separator = [found.vectors for found in CharEmbedder.from_pretrained(model, readout="separator").embed(words)]
    assert_same(read(EmbedderConfig(model=str(model), readout="separator")), separator)
    for direction in ("forward", "backward"):
        one = BiCharLM(embedder.model.config, [direction])
        one.direction(direction).load_state_dict(embedder.model.direction(direction).state_dict())
        Pretrained(one, embedder.pretrained.vocab).save(model.parent / direction)
    two_folders = EmbedderConfig(model=str(model.parent / "forward"), backward=str(model.parent / "backward"))
    assert_same(read(two_folders), plain)
    assert load_embedder(two_folders).weights == load_embedder(EmbedderConfig(model=str(model))).weights
    untrained = read(EmbedderConfig(model=str(model), untrained=True))
    assert untrained[0].shape == plain[0].shape
    assert np.abs(untrained[0] - plain[0]).max() > 0.01
    assert_same(read(EmbedderConfig(model=str(model), untrained=True)), untrained)
    near = [found.vectors for found in embedder.embed(words, Context(characters=3))]
    assert_same(read(EmbedderConfig(model=str(model), context_characters=3)), near)
    int8 = [found.vectors for found in CharEmbedder.from_pretrained(model, precision="int8").embed(words)]
    assert np.abs(int8[0] - plain[0]).max() > 1e-4
    assert_same(read(EmbedderConfig(model=str(model), precision="int8")), int8)


def test_sentences_as_they_were_written(model: Path, embedder, tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(TREEBANK)
    sentences = read_labelled(tmp_path / "a.conllu")
    for original, texts in ((True, [one.text for one in sentences]), (False, [one.words for one in sentences])):
        wanted = [found.vectors for found in embedder.embed(texts)]
        assert_same(load_embedder(EmbedderConfig(model=str(model), original=original)).read(sentences), wanted)
    assert sentences[0].text != sentences[0].words


def test_a_task_keeps_its_sentences_apart(tmp_path: Path) -> None:
    """Each file is learnt from, chosen with or scored as its name says; files without their own are divided."""
    for name, count in (("train", 40), ("dev", 2), ("test", 3)):
        text = "".join(f"{name}{number} B-A\n\n" for number in range(count))
        (tmp_path / f"{name}.conll").write_text(text)
    embedder = ComparedEmbedder(lambda sentences: [np.ones((1, 2), np.float32) for _ in sentences], 0.0, "")
    names = {f"{name}.conll" for name in ("train", "dev", "test")}
    for given, sizes in (
        (names, [40, 2, 3]),
        ({"train.conll", "test.conll"}, [36, 4, 3]),
        ({"train.conll"}, [27, 3, 10]),
    ):
        dev, test = (name if name in given else None for name in ("dev.conll", "test.conll"))
        files = read_task(TaskConfig("train.conll", dev, test), str(tmp_path))
        embedded = embed_task(embedder, files)
        assert [len(split) for split in embedded] == sizes
        assert [[one.labelled for one in split] for split in embedded] == list(
            divide(files.train, files.dev, files.test)
        )
        found = [{word for one in split for word in one.labelled.words} for split in embedded]
        assert len(set.union(*found)) == sum(sizes)
        for own, name, file in zip(found, ("train", "dev", "test"), (True, dev, test), strict=True):
            assert all(word.startswith(name if file else "train") for word in own)


def test_the_probe_centres_and_scales() -> None:
    seen = torch.randn(1_000, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 2, 3, 4]) + 7
    stored = ScaledProjection(seen, 4, dropout=0.5).eval()
    torch.nn.init.eye_(stored.projection.weight)
    torch.nn.init.zeros_(stored.projection.bias)
    sentences = [EmbeddedSentence(LabelledSentence([], []), part) for part in seen.split([400, 600])]
    with torch.no_grad():
        vectors, mask = stored(sentences)
    assert mask.sum(dim=1).tolist() == [400, 600]
    assert vectors[mask].mean(dim=0).abs().max() < 1e-4
    assert vectors[mask].var(dim=0).mean() == pytest.approx(1.0, rel=1e-4)
    assert vectors[mask].var(dim=0)[3] > 10 * vectors[mask].var(dim=0)[0]  # all by one number


def test_language_models_of_flair(model: Path, embedder, tmp_path: Path) -> None:
    from charembed.integrations.flair import export_flair

    files = [str(tmp_path / f"{direction}.pt") for direction in ("forward", "backward")]
    export_flair(embedder, *files)
    wanted = read(EmbedderConfig(model=str(model), readout="separator"))
    assert_same(read(EmbedderConfig(flair=files)), wanted)
    ours = load_embedder(EmbedderConfig(model=str(model)))
    # Both without the decoder; PyTorch's LSTM has two biases, one of which is zero.
    assert load_embedder(EmbedderConfig(flair=files)).megabytes == pytest.approx(ours.megabytes, rel=0.05)
    with pytest.raises(CharEmbedError, match=r"no such file: absent\.pt"):
        load_embedder(EmbedderConfig(flair=["absent.pt"]))


@pytest.fixture(scope="module")
def transformer(tmp_path_factory) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("transformer")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "george", "went", "to", "washing", "##ton", "un", "##able"]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(pieces), **shape)).save_pretrained(folder)
    return folder


def test_transformers(transformer: Path, model: Path) -> None:
    """Against the transformer itself, one sentence at a time, the pieces by hand."""
    from transformers import BertModel

    theirs = BertModel.from_pretrained(transformer).eval()
    with torch.inference_mode():
        layers = theirs(torch.tensor([[2, 7, 8, 9, 1, 3]]), output_hidden_states=True).hidden_states
    states = sum(layers)[0].numpy() / 3
    found = read(EmbedderConfig(transformer=str(transformer)))
    np.testing.assert_allclose(found[1], [states[1], (states[2] + states[3]) / 2, states[4]], atol=1e-5)
    both = read(EmbedderConfig(model=str(model), transformer=str(transformer)))
    assert_same([one[:, -8:] for one in both], found)
    assert_same([one[:, :-8] for one in both], read(EmbedderConfig(model=str(model))))
    for absent in ("/absent", "absent/model"):
        with pytest.raises(CharEmbedError, match=r"no transformer .*: neither a folder nor"):
            load_embedder(EmbedderConfig(transformer=absent))


def test_word_vectors(model: Path, tmp_path: Path) -> None:
    """With the heading of word2vec's files, which GloVe's lack; a word may hold a space."""
    file = tmp_path / "words.txt"
    file.write_text("3 2\nwent 1 2\nWashington 3 4\nat once -1 5e-1\n")
    found = read(EmbedderConfig(words=str(file)))
    assert_same(found, [np.array([[0, 0], [1, 2]]), np.array([[0, 0], [3, 4], [0, 0]])])
    beside = read(EmbedderConfig(model=str(model), words=str(file)))
    assert_same([one[:, -2:] for one in beside], found)
    assert_same([one[:, :-2] for one in beside], read(EmbedderConfig(model=str(model))))
    assert load_embedder(EmbedderConfig(words=str(file))).megabytes == pytest.approx(3 * 2 * 4 / 1e6)
    digests = {load_embedder(EmbedderConfig(words=str(file))).weights}
    for content in ("went 1 2\nTO 7 8\nto 5 6\n", "want 1 2\nTO 7 8\nto 5 6\n"):
        file.write_text(content)
        assert_same(read(EmbedderConfig(words=str(file)))[1:], [np.array([[5, 6], [0, 0], [0, 0]])])
        digests.add(load_embedder(EmbedderConfig(words=str(file))).weights)
    assert len(digests) == 3
    for content, line in (("went 1 2\nto 5\n", 2), ("2 2\nThey went to\n", 2), ("", 1), ("2 2\n\nto 5 6", 2)):
        file.write_text(content)
        with pytest.raises(CharEmbedError, match=rf"words\.txt, line {line} is not a word and as many numbers"):
            load_embedder(EmbedderConfig(words=str(file)))
    with pytest.raises(CharEmbedError, match=r"no such file: absent\.txt"):
        load_embedder(EmbedderConfig(words="absent.txt"))


@pytest.mark.usefixtures("columns")
def test_evaluate_quality_goes_on(model: Path, embedder, tmp_path: Path) -> None:
    """All in one file, which the tagger learns by heart; the second run computes nothing that the first has done."""
    tasks = {"names": {"train": "train.conll", "dev": "train.conll", "test": "train.conll", "epochs": 150}}
    settings: dict[str, Any] = {
        "embedders": {"mine": {"model": str(model)}, "fresh": {"model": str(model), "untrained": True}},
        "tasks": tasks,
        "labelled": str(tmp_path),
        "output": str(tmp_path / "quality.jsonl"),
    }
    (tmp_path / "quality.yaml").write_text(json.dumps(settings))
    command = ["quality/evaluate.py", "scores", "--config", tmp_path / "quality.yaml", "--only_embedders", "[mine]"]
    printed = run_script(*command, "--seeds", "[1, 2]")
    assert re.search(r"\| probe +\| names, entity F1 +\|", printed)
    assert re.search(r"\| mine +\| 100\.00 ± 0\.00 +\|\n\| fresh +\| +\|", printed)
    lines = (tmp_path / "quality.jsonl").read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [1, 2]
    printed = run_script(*command, "--seeds", "[1]", "--taggers", "[probe, flair]")
    again = (tmp_path / "quality.jsonl").read_text().splitlines()
    assert again[:2] == lines
    (added,) = map(json.loads, again[2:])
    assert (added["tagger"], added["metric"], added["settings"]["model"]) == ("flair", "entity F1", str(model))
    assert re.search(r"\| flair +\| names, entity F1 +\|", printed)
    assert [json.loads(line)["dev_score"] for line in again] == [100.0, 100.0, None]
    before = (tmp_path / "quality.jsonl").read_text()

    def refuses(reason: str, *arguments: str | Path) -> None:
        with pytest.raises(AssertionError, match=reason):
            run_script(*command, *arguments)
        assert (tmp_path / "quality.jsonl").read_text() == before

    settings["tasks"]["names"]["epochs"] = 3
    (tmp_path / "quality.yaml").write_text(json.dumps(settings))
    refuses("contains results of names made with other epochs: rename it")
    tasks["names"]["epochs"] = 150
    settings["tasks"] = {"names": tasks["names"] | {"test": "other.conll"}}
    (tmp_path / "quality.yaml").write_text(json.dumps(settings))
    refuses("contains results of names made with other test: rename it")
    settings["tasks"] = tasks
    (tmp_path / "quality.yaml").write_text(json.dumps(settings))
    (tmp_path / "train.conll").write_text(COLUMNS.replace("rejects", "accepts"))
    refuses("contains results of names made with other sentences: rename it", "--seeds", "[3]")
    (tmp_path / "train.conll").write_text(COLUMNS)
    refuses("no such folder: .*absent", "--output", tmp_path / "absent" / "quality.jsonl")
    embedder.model.forward_lm.embedding.weight.data[0, 0] += 1
    embedder.save_pretrained(model)
    refuses("contains results of mine made with other weights: rename it")
    before += '{"embedder": "mine"}\n'
    (tmp_path / "quality.jsonl").write_text(before)
    refuses("quality.jsonl, line 4 is not a result, or was written by another version")


def test_an_incomplete_line_is_dropped(tmp_path: Path) -> None:
    """After a kill in the middle of a line, and in the hands of an editor that ends no last line."""
    file = tmp_path / "quality.jsonl"
    drop_incomplete_line(str(file))
    assert not file.exists()
    for content, wanted in (
        ('{"a": 1}\n', '{"a": 1}\n'),
        ('{"a": 1}\n{"a": 2}', '{"a": 1}\n{"a": 2}\n'),
        ('{"a": 1}\n{"a": 2', '{"a": 1}\n'),
        ('{"a', ""),
        ("", ""),
    ):
        file.write_text(content)
        drop_incomplete_line(str(file))
        assert file.read_text() == wanted


@pytest.mark.usefixtures("columns")
def test_evaluate_speed(model: Path, tmp_path: Path) -> None:
    embedders = {"mine": {"model": str(model)}, "absent": {"model": "absent"}}
    settings = {"embedders": embedders, "tasks": {"names": {"train": "train.conll"}}, "only_embedders": ["mine"]}
    (tmp_path / "quality.yaml").write_text(json.dumps(settings | {"labelled": str(tmp_path)}))
    printed = run_script("quality/evaluate.py", "speed", "--config", tmp_path / "quality.yaml", "--rounds", "1")
    assert "names, 3 sentences, 7 words" in printed
    assert re.search(r"\| mine +\| 1\.00 ", printed)


def test_flairs_trainer(tmp_path: Path) -> None:
    text = "".join(f"Line {number} of a text that is read.\n\n" for number in range(400))
    (tmp_path / "train.txt").write_text(text)
    command = [
        "quality/train_flair_language_model.py",
        "--train",
        tmp_path / "train.txt",
        "--dev",
        tmp_path / "train.txt",
    ]
    command += ["--hidden_size", "8", "--output", tmp_path / "run", "--direction", "backward"]
    run_script(*command, "--minutes", "0.02")
    first = json.loads((tmp_path / "run" / "clock.json").read_text())
    assert (tmp_path / "run" / "best-lm.pt").exists()
    run_script(*command, "--minutes", "0.03")
    second = json.loads((tmp_path / "run" / "clock.json").read_text())
    assert second["steps"] > first["steps"]
    assert second["seconds"] > first["seconds"]


def test_text_overlap(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Before. The cat, the dog and the bird went OUT!\n\nSome other words.\n")
    lines = ["the cat the dog and", "and the bird went in", "the bird the cat went", "other words"]
    (tmp_path / "a.conll").write_text("\n".join(" O\n".join(f"{line} .".split()) + " O\n" for line in lines))
    command = (
        "quality/text_overlap.py",
        "--text",
        tmp_path / "text.txt",
        "--labelled",
        tmp_path / "a.conll",
        "--run",
        "4",
    )
    printed = run_script(*command)
    assert "4 sentences, 3 of them of at least 4 words; 2 share 4 consecutive words with the text, 1 all" in printed
