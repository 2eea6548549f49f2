"""The comparison of embedders: tasks, taggers, results files, and the scripts around it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import COLUMNS, ROOT, run_script

from charembed import CharEmbedError
from charembed.tagging.splits import divide
from scripts.quality.embedders import ComparedEmbedder, EmbedderConfig
from scripts.quality.evaluate import Scores
from scripts.quality.results import drop_incomplete_line, read_results
from scripts.quality.tasks import TaskConfig, embed_task, read_task


def test_each_file_is_its_own_split(tmp_path: Path) -> None:
    """A split without a file is drawn from the training sentences."""
    for name, count in (("train", 40), ("dev", 2), ("test", 3)):
        text = "".join(f"{name}{number} B-A\n\n" for number in range(count))
        (tmp_path / f"{name}.conll").write_text(text)
    embedder = ComparedEmbedder(lambda sentences: [np.ones((1, 2), np.float32) for _ in sentences], 0.0, "")
    for dev, test, sizes in (
        ("dev.conll", "test.conll", [40, 2, 3]),
        (None, "test.conll", [36, 4, 3]),
        (None, None, [27, 3, 10]),
    ):
        files = read_task(TaskConfig("train.conll", dev, test), str(tmp_path))
        embedded = embed_task(embedder, files)
        assert [len(split) for split in embedded] == sizes
        labelled = [[sentence.labelled for sentence in split] for split in embedded]
        assert labelled == list(divide(files.train, files.dev, files.test))
        words = [{word for sentence in split for word in sentence.words} for split in labelled]
        assert len(set.union(*words)) == sum(sizes)
        for of_split, file in zip(words, ("train", dev, test), strict=True):
            assert all(word.startswith((file or "train").removesuffix(".conll")) for word in of_split)
    # The end of the file is the test split.
    last = embed_task(embedder, read_task(TaskConfig("train.conll", split="last"), str(tmp_path)))
    assert [len(split) for split in last] == [27, 3, 10]
    assert [sentence.labelled.words for sentence in last.test] == [[f"train{number}"] for number in range(30, 40)]
    with pytest.raises(CharEmbedError, match="leave out split or test"):
        read_task(TaskConfig("train.conll", test="test.conll", split="last"), str(tmp_path))
    with pytest.raises(CharEmbedError, match=r"no such file: .*absent\.conll; set --labelled"):
        read_task(TaskConfig("absent.conll"), str(tmp_path))


def test_a_limit_takes_sentences_at_equal_distances(tmp_path: Path) -> None:
    """The test file has no limit; a context reads the sentences that are left."""
    (tmp_path / "a.conll").write_text("".join(f"{number} B-A\n\n" for number in range(10)))
    task = TaskConfig("a.conll", "a.conll", "a.conll", train_limit=3, dev_limit=20)
    files = read_task(task, str(tmp_path))
    sizes = [0 if split is None else len(split) for split in (files.train, files.dev, files.test)]
    assert sizes == [3, 10, 10]
    assert [sentence.words for sentence in files.train] == [["0"], ["3"], ["6"]]
    task.train_limit = 0
    with pytest.raises(CharEmbedError, match="train_limit and dev_limit must be at least 1, got 0"):
        read_task(task, str(tmp_path))


@dataclass
class Comparison:
    """A comparison of two embedders on one task, in a folder."""

    folder: Path
    model: Path
    task: dict[str, Any] = field(
        default_factory=lambda: {"train": "train.conll", "dev": "train.conll", "test": "train.conll", "epochs": 150}
    )

    @property
    def output(self) -> Path:
        return self.folder / "quality.jsonl"

    def run(self, *arguments: str) -> str:
        """Run the script on one of the embedders, and return what it prints."""
        settings = {
            "embedders": {"mine": {"model": str(self.model)}, "fresh": {"model": str(self.model), "untrained": True}},
            "tasks": {"names": self.task},
            "labelled": str(self.folder),
            "output": str(self.output),
        }
        (self.folder / "quality.yaml").write_text(json.dumps(settings))
        config = ("--config", self.folder / "quality.yaml", "--only-embedders", "[mine]")
        return run_script("quality/evaluate.py", "scores", *config, *arguments)

    def refusal(self, *, output: Path | None = None, seed: int = 1, **task: Any) -> str:
        """Return the error of a run, which must leave the results alone."""
        before = self.output.read_text()
        scores = Scores(
            {"mine": EmbedderConfig(model=str(self.model))},
            {"names": TaskConfig(**self.task | task)},
            str(self.folder),
            str(output or self.output),
            seeds=[seed],
        )
        with pytest.raises(CharEmbedError) as refused:
            scores()
        assert self.output.read_text() == before
        return str(refused.value)


@pytest.mark.usefixtures("columns")
def test_scores_are_computed_once(model: Path, embedder, tmp_path: Path) -> None:
    """Train, dev and test are the same three sentences, which the tagger memorizes."""
    pytest.importorskip("flair")
    comparison = Comparison(tmp_path, model)
    printed = comparison.run("--seeds", "[1, 2]")
    assert re.search(r"\| probe +\| names, entity F1 +\|", printed)
    assert re.search(r"\| mine +\| 100\.00 ± 0\.00 +\|\n\| fresh +\| +\|", printed)
    lines = comparison.output.read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [1, 2]

    # A second run adds what is missing, and computes nothing twice.
    printed = comparison.run("--seeds", "[1]", "--taggers", "[probe, flair]")
    lines_after = comparison.output.read_text().splitlines()
    assert lines_after[:2] == lines
    (added,) = map(json.loads, lines_after[2:])
    assert (added["tagger"], added["metric"], added["settings"]["model"]) == ("flair", "entity F1", str(model))
    assert re.search(r"\| flair +\| names, entity F1 +\|", printed)
    assert [json.loads(line)["dev_score"] for line in lines_after] == [100.0, 100.0, None]

    # Anything that would mix other results into the file is refused.
    assert "contains results of names made with other epochs: rename it" in comparison.refusal(epochs=3)
    assert "contains results of names made with other test: rename it" in comparison.refusal(test="other.conll")
    (tmp_path / "train.conll").write_text(COLUMNS.replace("rejects", "accepts"))
    assert "contains results of names made with other sentences: rename it" in comparison.refusal(seed=3)
    (tmp_path / "train.conll").write_text(COLUMNS)
    absent = tmp_path / "absent"
    assert f"no such folder: {absent}" in comparison.refusal(output=absent / "quality.jsonl")
    embedder.model.forward_lm.embedding.weight.data[0, 0] += 1
    embedder.save_pretrained(model)
    assert "contains results of mine made with other weights: rename it" in comparison.refusal(seed=3)
    with comparison.output.open("a") as file:
        file.write('{"embedder": "mine"}\n')
    assert "quality.jsonl, line 4 is not a result, or was written by another version" in comparison.refusal()


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "quality").glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_of_the_repository(path: Path) -> None:
    """Each names options that exist, and rows and tasks that are the same in all files."""
    for key, kind in (("embedders", EmbedderConfig), ("tasks", TaskConfig)):
        for name, settings in yaml.safe_load(path.read_text(encoding="utf-8")).get(key, {}).items():
            kind(**settings)
            for other in path.parent.glob("*.yaml"):
                others = yaml.safe_load(other.read_text(encoding="utf-8")).get(key, {})
                assert others.get(name, settings) == settings, f"{name} in {other.name}"


@pytest.mark.parametrize("page", ["quality", "quality-0.1", "speed"])
def test_commands_of_the_documentation_name_rows_and_tasks_that_exist(page: str) -> None:
    """The last configuration that has any rows, or any tasks, replaces those before it."""
    text = (ROOT / "docs" / "benchmarks" / f"{page}.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^python -m scripts\.quality\.evaluate.*$", text, re.MULTILINE)
    assert commands
    for command in commands:
        known = {}
        for path in re.findall(r"--config (\S+)", command):
            known |= yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
        for key in ("embedders", "tasks"):
            for names in re.findall(rf"--only-{key} '\[([^]]*)\]'", command):
                assert set(names.split(", ")) <= set(known[key]), command


def test_unknown_names_are_refused(model: Path, tmp_path: Path) -> None:
    scores = Scores({"mine": EmbedderConfig(model=str(model))}, {}, str(tmp_path), str(tmp_path / "quality.jsonl"))
    scores.only_embedders = ["mind"]
    with pytest.raises(CharEmbedError, match="no embedders named mind: choose from mine"):
        scores()


def test_an_incomplete_last_line_is_dropped(tmp_path: Path) -> None:
    """A kill cuts a line; some editors leave out the last line break."""
    file = tmp_path / "quality.jsonl"
    drop_incomplete_line(str(file))
    assert not file.exists()
    assert read_results(str(file)) == []
    for content, expected in (
        ('{"a": 1}\n', '{"a": 1}\n'),
        ('{"a": 1}\n{"a": 2}', '{"a": 1}\n{"a": 2}\n'),
        ('{"a": 1}\n{"a": 2', '{"a": 1}\n'),
        ('{"a', ""),
        ("", ""),
    ):
        file.write_text(content)
        drop_incomplete_line(str(file))
        assert file.read_text() == expected


@pytest.mark.usefixtures("columns")
def test_noise_on_the_test_sentences(model: Path, tmp_path: Path) -> None:
    """The tagger memorizes the clean sentences; noise on every character leaves nothing that it knows."""
    task = {"train": "train.conll", "dev": "train.conll", "test": "train.conll", "test_noise": [1.0, 0.001]}
    comparison = Comparison(tmp_path, model, task)
    printed = comparison.run("--taggers", "[linear]")
    (line,) = map(json.loads, comparison.output.read_text().splitlines())
    assert (line["seed"], line["score"]) == (0, 100.0)
    assert line["noisy_scores"]["0.001"] == 100.0  # rarely changes any of these few characters
    assert line["noisy_scores"]["1.0"] < 100.0
    assert re.search(r"names, entity F1 +\| names, noise 0\.001 +\| names, noise 1\.0 +\|", printed)
    assert re.search(rf"\| mine +\| 100\.00 +\| 100\.00 +\| {line['noisy_scores']['1.0']:.2f} +\|", printed)

    scores = Scores({"mine": EmbedderConfig(model=str(model))}, {"names": TaskConfig(**task)}, str(tmp_path), "")
    scores.output, scores.taggers = str(comparison.output), ["flair"]
    with pytest.raises(CharEmbedError, match="test_noise of names does not work with the tagger flair"):
        scores()


@pytest.mark.usefixtures("columns")
def test_speed(model: Path, tmp_path: Path) -> None:
    embedders = {"mine": {"model": str(model)}, "absent": {"model": "absent"}}
    settings = {"embedders": embedders, "tasks": {"names": {"train": "train.conll"}}, "only_embedders": ["mine"]}
    (tmp_path / "quality.yaml").write_text(json.dumps(settings | {"labelled": str(tmp_path)}))
    printed = run_script("quality/evaluate.py", "speed", "--config", tmp_path / "quality.yaml", "--rounds", "1")
    assert "names, 3 sentences, 7 words" in printed
    assert re.search(r"\| mine +\| 1\.00 ", printed)


@pytest.mark.slow
def test_training_of_a_flair_model_resumes(tmp_path: Path) -> None:
    text = tmp_path / "train.txt"
    text.write_text("".join(f"Line {number} of a text.\n\n" for number in range(400)))
    command = ["quality/train_flair_language_model.py", "--train", text, "--dev", text, "--output", tmp_path / "run"]
    command += ["--hidden-size", "8", "--direction", "backward"]
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
    files = ("--text", tmp_path / "text.txt", "--labelled", tmp_path / "a.conll")
    printed = run_script("quality/text_overlap.py", *files, "--run", "4")
    assert "4 sentences, 3 of them of at least 4 words; 2 share 4 consecutive words with the text, 1 all" in printed
