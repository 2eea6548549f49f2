"""The command charembed probe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import small_model

from charembed.cli.main import main


def test_table_conclusion_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    small_model().save("one")
    small_model(seed=4).save("two")
    Path("train.conll").write_text("The B-A\nlazy O\ndog B-A\n\nquick O\nfox B-A\n\n" * 8, encoding="utf-8")
    arguments = ["--train", "train.conll", "--models", "[one, two]", "--seeds", "[1, 2]", "--output", "out.json"]
    assert main(["probe", *arguments, "--fit.epochs", "1", "--hidden-size", "4"]) == 0
    printed = capsys.readouterr().out
    content = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in content["summary"]] == ["one", "two"]
    assert printed.startswith("model ")
    for row, line in zip(content["summary"], printed.splitlines()[2:4], strict=True):
        expected = f"{row['model']} {row['layer']}, entity F1 24 {row['dev']['mean']:.2f} ± "
        assert " ".join(line.split()).startswith(expected)
    assert printed.endswith("\n\n" + content["conclusions"][0] + "\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "train.conll"], "missing: --models"),
        (["--train", "train.conll", "--models", "[en]", "--fit.seed", "3"], "fit.seed 3 has no effect here: set seeds"),
        (["--train", "train.conll", "--models", "[en]", "--seeds", "[one]"], "one"),
        (["--train", "absent.conll", "--models", "[en]"], "absent.conll"),
    ],
)
def test_wrong_options_have_one_clear_error(capsys, arguments: list[str], message: str) -> None:
    try:
        status = main(["probe", *arguments])
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err
