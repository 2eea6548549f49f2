"""The commands charembed tag train, predict and evaluate."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import small_model, unix_only

from charembed import CharEmbedder
from charembed.cli.main import main
from charembed.tagging.network import NetworkConfig, TaggerNetwork
from charembed.tagging.tag_layer import TagLayer
from charembed.tagging.tagger import Tagger

COLUMNS = "The X B-A\nlazy Y O\ndog X B-A\n\nquick X O\nfox Y B-A\n\n" * 8


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tagger of two layers, text and ner, trained by the command."""
    folder = tmp_path_factory.mktemp("tag")
    small_model().save(folder / "model")
    (folder / "train.conll").write_text(COLUMNS, encoding="utf-8")
    arguments = ["--train", str(folder / "train.conll"), "--model", str(folder / "model")]
    arguments += ["--output", str(folder / "tagger"), "--tag-columns", "{text: 1, ner: 2}", "--fit.epochs", "2"]
    assert main(["tag", "train", *arguments]) == 0
    return folder / "tagger"


def test_predictions_as_records(tagger: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("The lazy dog.\n\nquick fox\n", encoding="utf-8")
    assert main(["tag", "predict", str(tagger), str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.jsonl")]) == 0
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    expected = Tagger.load(tagger).predict([record["text"] for record in records])
    assert [record["text"] for record in records if record["text"]] == ["The lazy dog.", "quick fox"]
    for record, tagged in zip(records, expected, strict=True):
        assert [token["text"] for token in record["tokens"]] == tagged.words
        assert [token["tags"]["text"] for token in record["tokens"]] == tagged.tags["text"]
        assert [entity["start"] for entity in record["entities"]] == [entity.start for entity in tagged.entities]


def test_predictions_as_columns_can_be_evaluated(tagger: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "in.txt").write_text("The lazy dog .\nquick fox\n", encoding="utf-8")
    assert main(["tag", "predict", str(tagger), str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.conll")]) == 0
    lines = (tmp_path / "out.conll").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines if line] == ["The", "lazy", "dog", ".", "quick", "fox"]
    options = ["--tag-columns", "{text: 1}"]
    assert main(["tag", "evaluate", str(tagger), str(tmp_path / "out.conll"), *options]) == 0
    assert "accuracy 100.00" in capsys.readouterr().out


def test_the_splits_are_said(tagger: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    train, model, output = (
        str(path) for path in (tagger.parent / "train.conll", tagger.parent / "model", tmp_path / "out")
    )
    arguments = ["--train", train, "--dev", train, "--model", model, "--output", output, "--tag-columns", "{text: 1}"]
    assert main(["tag", "train", *arguments, "--fit.epochs", "1"]) == 0
    assert f"sentences: 12 train ({train}), 16 dev ({train}), 4 test (drawn from train)" in caplog.text


def test_doubtful_entities_are_left_out(tagger: Path, tmp_path: Path) -> None:
    """Those with a lower score are neither in the records nor in the tags of the columns."""
    (tmp_path / "in.txt").write_text("The lazy dog fox The quick fox\n" * 3, encoding="utf-8")
    found = Tagger.load(tagger).predict((tmp_path / "in.txt").read_text(encoding="utf-8").splitlines())
    scores = sorted(round(entity.score, 4) for text in found for entity in text.entities)
    least = scores[len(scores) // 2]
    kept = [score for score in scores if score >= least]
    assert 0 < len(kept) < len(scores)

    def predict(output: str) -> str:
        command = ["tag", "predict", str(tagger), str(tmp_path / "in.txt"), "-o", str(tmp_path / output)]
        assert main([*command, "--min-score", str(least - 1e-4)]) == 0
        return (tmp_path / output).read_text(encoding="utf-8")

    records = [json.loads(line) for line in predict("out.jsonl").splitlines()]
    assert sorted(entity["score"] for record in records for entity in record["entities"]) == kept
    assert predict("out.conll").count("\tB-A") == len(kept)


def test_a_file_is_not_replaced_by_its_own_tags(tagger: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "Fox"}\n', encoding="utf-8")
    assert main(["tag", "predict", str(tagger), str(path), "-o", str(tmp_path / "." / "in.jsonl")]) == 2
    assert "is also a file to tag: choose another one" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == '{"text": "Fox"}\n'


@unix_only
def test_tags_are_written_through_a_link(tagger: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("lazy\n", encoding="utf-8")
    (tmp_path / "link.conll").symlink_to("tags")  # the name of the link says the format
    assert main(["tag", "predict", str(tagger), str(tmp_path / "in.txt"), "-o", str(tmp_path / "link.conll")]) == 0
    assert (tmp_path / "link.conll").is_symlink()
    assert (tmp_path / "tags").read_text(encoding="utf-8").startswith("lazy\t")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "link.conll", "tags"]


def test_white_space_in_a_tag_makes_no_second_column(tmp_path: Path) -> None:
    network = TaggerNetwork(NetworkConfig(24), [TagLayer("a", "tags", ("two words\n",))])
    Tagger(CharEmbedder(small_model()), network).save(tmp_path / "tagger")
    (tmp_path / "in.txt").write_text("lazy\n", encoding="utf-8")
    main(["tag", "predict", str(tmp_path / "tagger"), str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.conll")])
    assert (tmp_path / "out.conll").read_text(encoding="utf-8") == "lazy\ttwo_words_\n\n"


@unix_only
def test_sigterm_leaves_nothing_beside_the_output(
    tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.txt").write_text("The lazy dog.\n", encoding="utf-8")

    def predict_until_killed(*_: object) -> Iterator[None]:
        os.kill(os.getpid(), signal.SIGTERM)
        yield

    monkeypatch.setattr(Tagger, "iter_predict", predict_until_killed)
    arguments = ["tag", "predict", str(tagger), str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.jsonl")]
    assert main(arguments) == 143
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--hidden-size", 100_000_000, "hidden_size must be a whole number from 1 to 65536, got 100000000"),
        ("--projection-size", 10**30, "projection_size must be a whole number from 1 to 65536, got 1000"),
        ("--threads", 10**9, "threads must be a whole number from 1 to 1024, got 1000000000"),
    ],
)
def test_an_absurd_size_is_refused_with_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, option: str, value: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.conll").write_text(COLUMNS, encoding="utf-8")
    assert main(["tag", "train", "--train", "train.conll", "--output", "out", option, str(value)]) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "TAGGER", "in.txt", "-o", "out.txt"], "must end in .jsonl or .conll"),
        (["predict", "TAGGER", "in.txt", "-o", "absent/out.jsonl"], "no such folder: absent; create it"),
        (["predict", "nothing", "in.txt"], "no tagger 'nothing'"),
        (["predict", "en", "in.txt"], "is a language model, not a tagger"),
        (["predict", "TAGGER", "absent.txt"], "absent.txt"),
        (["evaluate", "TAGGER", "absent.conll", "--tag-columns", "{ner: 2}"], "absent.conll"),
        (["train", "--train", "absent.conll", "--output", "out"], "absent.conll"),
        (["train", "--output", "out"], "missing: --train"),
        (["predict", "en-ner"], "missing: FILES"),
        (["train", "--train", "", "--output", "out"], "the name of a file or folder is empty"),
        (["train", "--train", "in.txt", "--output", ""], "the name of a file or folder is empty"),
        (["evaluate", "TAGGER", "", "--tag-columns", "{ner: 2}"], "the name of a file or folder is empty"),
        (["predict", "", "in.txt"], "the name of a file or folder is empty"),
    ],
)
def test_wrong_input_has_one_clear_error(
    tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("The lazy dog.\n", encoding="utf-8")
    try:
        status = main(["tag", *(str(tagger) if argument == "TAGGER" else argument for argument in arguments)])
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt"]
