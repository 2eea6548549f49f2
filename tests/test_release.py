"""What a release consists of agrees with itself."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from helpers import ROOT

from charembed.version import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def test_citation_and_changelog_have_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == __version__


def test_every_supported_python_is_tested() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    matrix = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]["test"]["strategy"]
    assert matrix["matrix"]["python"] == versions
    assert PROJECT["requires-python"] == f">={versions[0]}"


def test_all_has_every_extra_for_users_except_flair_and_those_of_clusters() -> None:
    named = set(re.findall(r"[a-z]+", " ".join(re.findall(r"\[(.*?)\]", " ".join(EXTRAS["all"])))))
    # `train` contains parquet, and `explore` report.
    others = {"flair", "ray", "s3", "cluster-tests", "docs", "dev"}
    assert named == EXTRAS.keys() - {"all", "parquet", "report", *others}
    assert "charembed[report]" in EXTRAS["explore"]
    assert "charembed[parquet]" in EXTRAS["train"]


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        (
            "constraints.txt",
            ["train", "parquet", "spacy", "onnx", "report", "dev", "docs", "ray", "s3", "cluster-tests"],
        ),
        ("constraints-flair.txt", ["flair"]),
    ],
)
def test_constraints_name_every_dependency(file: str, extras: list[str]) -> None:
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE))
    requirements = PROJECT["dependencies"] + [one for extra in extras for one in EXTRAS[extra]]
    names = {re.match(r"[\w.-]+", one)[0].lower() for one in requirements} - {"charembed"}
    assert names - pinned == set()
    assert ("flair" in pinned) == (extras == ["flair"])
