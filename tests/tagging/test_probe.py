"""Compare models by taggers: the scores, resumption, conclusions, errors before anything is trained."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import small_model
from tagger_helpers import small_options, tagger_config, write_columns

from charembed.errors import CharEmbedError
from charembed.pretrained.model_folder import Pretrained
from charembed.tagging import probe
from charembed.tagging.comparison import Comparison, ProbeResult
from charembed.tagging.fitting import FitConfig
from charembed.tagging.probe import ProbeConfig, compare_models
from charembed.tagging.training import train_tagger


@pytest.fixture
def config(tmp_path: Path, pretrained: Pretrained) -> ProbeConfig:
    """The configuration of a comparison of two models with two seeds, and an output file."""
    pretrained.save(tmp_path / "model")
    small_model(seed=4).save(tmp_path / "other")
    options: dict = small_options(tmp_path)
    models = [str(tmp_path / "model"), str(tmp_path / "other")]
    return ProbeConfig(**options, models=models, seeds=[1, 2], output=str(tmp_path / "out.json"))


def without_minutes(path: str) -> dict:
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    for result in content["results"]:
        del result["minutes"]
    return content


def test_taggers_are_those_of_train_tagger(
    config: ProbeConfig, tmp_path: Path, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    comparison = compare_models(dataclasses.replace(config, seeds=[2], output=None))
    fit = dataclasses.replace(config.fit, seed=2)
    for result, model in zip(comparison.results, config.models, strict=True):
        _, report = train_tagger(tagger_config(tmp_path, pretrained, model=model, fit=fit, overwrite=True))
        assert result.test == pytest.approx({name: one.score for name, one in report.test.scores.items()}, abs=1e-4)
        assert result.dev == pytest.approx({name: one.score for name, one in report.dev.scores.items()}, abs=1e-4)
        assert (result.best_epoch, result.dimensions) == (report.best_epoch, 24)
    assert not list((tmp_path / "temporary").iterdir())


def test_models_that_differ_in_more_than_training_get_a_hint(
    config: ProbeConfig, tmp_path: Path, with_words: Pretrained, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    dataclasses.replace(with_words, readout="separator").save(tmp_path / "other")
    compare_models(dataclasses.replace(config, seeds=[1], fit=FitConfig(epochs=1)))
    one, other = config.models
    for difference in (
        f"readout ({one} word, {other} separator), which may decide the comparison: give them the same one",
        f"static word vectors ({one} without, {other} with), which may decide the comparison: compare models that all",
        f"dimensions ({one} 24, {other} 28), which may decide the comparison: --dim reduces them",
    ):
        assert f"the models differ in {difference}" in caplog.text


def test_interrupted_comparison_resumes_and_can_be_extended(
    config: ProbeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare_models(config)
    expected = without_minutes(config.output)
    Path(config.output).unlink()
    fit_network, trained = probe.fit_network, []

    def die_in_the_second_tagger(*arguments: object) -> object:
        trained.append(arguments[-1].seed)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return fit_network(*arguments)

    monkeypatch.setattr(probe, "fit_network", die_in_the_second_tagger)
    with pytest.raises(KeyboardInterrupt):
        compare_models(config)
    assert without_minutes(config.output)["conclusions"] == []
    compare_models(dataclasses.replace(config, threads=2))
    assert without_minutes(config.output) == expected
    assert trained == [1, 2, 2, 1, 2]

    # One more seed; then a part of what is there, which loses nothing.
    assert len(compare_models(dataclasses.replace(config, seeds=[1, 2, 3])).results) == 6
    part = compare_models(dataclasses.replace(config, models=config.models[:1], seeds=[3]))
    assert trained[5:] == [3, 3]
    assert part.conclusions() == []


def test_a_file_in_use_is_refused(config: ProbeConfig, tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / ".out.json.lock"),
        pytest.raises(CharEmbedError, match=r"out\.json is in use by another run"),
    ):
        compare_models(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"test": {"other": 1.0}},
        {"dev": {"pos": None, "ner": 1.0}},
        {"minutes": "x"},
        {"seed": "1"},
        {"model": ["m"]},
        {"a": 1},
    ],
)
def test_damaged_results_are_refused_before_any_training(config: ProbeConfig, changes: dict) -> None:
    compare_models(dataclasses.replace(config, models=config.models[:1], seeds=[1]))
    content = json.loads(Path(config.output).read_text(encoding="utf-8"))
    content["results"][0] |= changes
    Path(config.output).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CharEmbedError, match=r"out\.json is damaged: .* is not the result of a tagger"):
        compare_models(config)


def test_results_of_anything_else_are_refused(config: ProbeConfig, tmp_path: Path) -> None:
    compare_models(config)
    before = Path(config.output).read_bytes()
    for changes, message in (
        ({"hidden_size": 5}, "were made with other hidden_size: choose another output"),
        ({"fit": dataclasses.replace(config.fit, epochs=2)}, "were made with other fit"),
    ):
        with pytest.raises(CharEmbedError, match=message):
            compare_models(dataclasses.replace(config, **changes))
    small_model(seed=5).save(config.models[0])
    with pytest.raises(CharEmbedError, match=r"were made with other weights of .*model: choose"):
        compare_models(config)
    write_columns(tmp_path / "columns.conll", seed=8)
    with pytest.raises(CharEmbedError, match="were made with other sentences, weights of"):
        compare_models(config)
    assert Path(config.output).read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "out.json cannot be read as JSON"),
        ('{"scores": 1}', "out.json is not the output of charembed probe"),
        ('{"format_version": 2}', "format version 2, but this version"),
        ('{"format_version": 1, "settings": {}, "digests": {}, "results": [{"seed": 1}]}', "out.json is damaged"),
    ],
)
def test_other_files_are_not_replaced(config: ProbeConfig, content: str, message: str) -> None:
    Path(config.output).write_text(content, encoding="utf-8")
    with pytest.raises(CharEmbedError, match=message):
        compare_models(config)
    assert Path(config.output).read_text(encoding="utf-8") == content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": []}, "models is an empty list"),
        ({"seeds": []}, "seeds is an empty list"),
        ({"models": ["en", "en"]}, "models contains en twice"),
        ({"seeds": [1, 2, 1]}, "seeds contains 1 twice"),
        ({"seeds": [-1]}, "seed must be from 0"),
        ({"fit": FitConfig(seed=5)}, "fit.seed 5 has no effect here: set seeds"),
        ({"models": ["en", "nothing"]}, "no model 'nothing'"),
        ({"models": ["en", "MODELS/en"]}, "en and .*/en are the same model"),
        ({"output": "absent/out.json"}, "no such folder: .*absent"),
        ({"dropout": 1.0, "models": ["en"]}, "dropout must be"),
    ],
)
def test_wrong_options_have_one_clear_error(config: ProbeConfig, tmp_path: Path, changes: dict, message: str) -> None:
    if "models" in changes:
        Pretrained.load("en").save(tmp_path / "en")
        changes = changes | {"models": [name.replace("MODELS", str(tmp_path)) for name in changes["models"]]}
    with pytest.raises(CharEmbedError, match=message):
        compare_models(dataclasses.replace(config, **changes))
    assert not Path(config.output).exists()


def comparison(scores: dict[str, list[float]], seeds: list[int]) -> Comparison:
    results = [
        ProbeResult(model, "", 4, seed, {"ner": score}, {"ner": score}, 1, 0.5)
        for model, of_model in scores.items()
        for seed, score in zip(seeds, of_model, strict=False)
    ]
    return Comparison({}, {}, {}, {"ner": "entities"}, dict.fromkeys(scores, ""), seeds, results)


def test_conclusion_says_whether_the_difference_is_larger_than_the_spread() -> None:
    scores = {"en": [50.0, 51.0], "mine": [60.0, 61.1], "worse": [40.0, 41.1], "same": [52.0, 50.5]}
    assert comparison(scores, [1, 2]).conclusions() == [
        "ner: mine is better than en by more than the spread of the seeds: +10.05 points, 95 % interval +9.41 to +10.69"
        " (paired t-test over 2 seeds)",
        "ner: worse is worse than en by more than the spread of the seeds: -9.95 points, 95 % interval -10.59 to -9.31"
        " (paired t-test over 2 seeds)",
        "ner: same and en do not differ by more than the spread of the seeds: +0.75 points, 95 % interval -15.13 to"
        " +16.63 (paired t-test over 2 seeds)",
    ]
    assert comparison({"en": [50.0], "mine": [60.0]}, [1]).conclusions() == [
        "ner: one seed says nothing about the difference of mine from en: give at least 2"
    ]
    assert comparison({"en": [50.0, 51.0], "mine": [60.0]}, [1, 2]).conclusions() == []
    [equal] = comparison({"en": [33.3332, 33.3332], "mine": [33.3333, 33.3333]}, [1, 2]).conclusions()
    assert equal.startswith("ner: the seeds agree too well to measure a spread")


def test_table_has_mean_spread_and_single_scores() -> None:
    head, _, first, second = comparison({"en": [50.0, 52.0], "mine": [60.0, 60.5]}, [3, 7]).table().splitlines()
    assert head.split("  ")[0] == "model"
    assert "test by seed (3 7)" in head
    assert " ".join(first.split()) == "en ner, entity F1 4 51.00 ± 1.41 51.00 ± 1.41 50.00 52.00 0.5"
    assert " ".join(second.split()) == "mine ner, entity F1 4 60.25 ± 0.35 60.25 ± 0.35 60.00 60.50 0.5"
