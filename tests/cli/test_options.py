"""Spelling of options, help texts, error messages and start-up of the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import EXCERPT, ROOT

from charembed.cli.main import COMMANDS, build_parser, main


def parse(*arguments: str) -> dict:
    """Return the options of a command line."""
    options = build_parser(arguments).parse_args(arguments)
    return options[options.command].as_dict()


def help_of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def refusal_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the error message of a command line that is refused."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


PROBE = ("probe", "--train", "a.conll", "--models", "[en]")
TRAIN = ("train", "--data.train", "a.txt", "--output", "out")


@pytest.mark.parametrize("separator", ["-", "_"])
@pytest.mark.parametrize("equals", [True, False])
def test_dashes_and_underscores_are_interchangeable(separator: str, equals: bool) -> None:
    given = {
        "batch_size": "8",
        "checkpoint_minutes": "2",
        "data.held_out": "0.1",
        "data.text_column": "body_of-text",
        "model.hidden_size": "24",
        "optimizer.warmup_steps": "3",
        "budget.minutes": "5",
    }
    arguments: list[str] = []
    for key, value in given.items():
        name = "--" + key.replace("_", separator)
        arguments += [f"{name}={value}"] if equals else [name, value]
    options = parse(*TRAIN, *arguments)
    assert (options["batch_size"], options["checkpoint_minutes"]) == (8, 2.0)
    assert (options["data"]["held_out"], options["data"]["text_column"]) == (0.1, "body_of-text")
    assert options["model"]["hidden_size"] == 24
    assert options["optimizer"]["warmup_steps"] == 3
    assert options["budget"]["minutes"] == 5.0


@pytest.mark.parametrize("name", ["--dry-run", "--dry_run"])
def test_dry_run_in_both_spellings(name: str) -> None:
    assert parse(*TRAIN, name)["dry_run"] is True
    assert parse(*TRAIN)["dry_run"] is False


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], False),
        (["--overwrite"], True),
        (["--overwrite", "true"], True),
        (["--overwrite=true"], True),
        (["--overwrite", "false"], False),
        (["--overwrite=False"], False),
        (["--overwrite", "--seed", "2"], True),
    ],
)
def test_overwrite_is_a_flag_and_its_old_form_is_accepted(given: list[str], expected: bool) -> None:
    assert parse(*TRAIN, *given)["overwrite"] is expected


@pytest.mark.parametrize("given", [["--overwrite", "a.txt"], ["a.txt", "--overwrite"], ["--overwrite=true", "a.txt"]])
def test_a_flag_takes_no_file_as_its_value(given: list[str]) -> None:
    options = parse("embed", "-m", "en", "-o", "out", *given)
    assert (options["overwrite"], options["files"]) == (True, ["a.txt"])


def test_flags_inside_groups() -> None:
    options = parse(*TRAIN, "--data.streaming", "--vocab.grow", "--model.reset-after", "false")
    assert options["data"]["streaming"] is options["vocab"]["grow"] is True
    assert options["model"]["reset_after"] is False


def test_a_configuration_file_keeps_underscores(tmp_path: Path) -> None:
    config = {"output": "out", "data": {"train": "a.txt", "held_out": 0.1}, "batch_size": 8, "overwrite": True}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    options = parse("train", "--config", str(tmp_path / "run.yaml"))
    assert (options["batch_size"], options["overwrite"], options["data"]["held_out"]) == (8, True, 0.1)
    options = parse("train", "--config", str(tmp_path / "run.yaml"), "--overwrite", "false", "--batch-size", "4")
    assert (options["batch_size"], options["overwrite"]) == (4, False)


def test_values_are_left_alone() -> None:
    assert parse("generate", "-m", "en", "--prompt", "a_b --c-d")["prompt"] == "a_b --c-d"
    assert parse("generate", "-m", "en", "--prompt=--c-d")["prompt"] == "--c-d"
    assert parse("evaluate", "-m", "my_model-1", "--", "--my_text-1")["files"] == ["--my_text-1"]


@pytest.mark.parametrize("option", ["--model", "-m"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", "a.txt", "--output", "out"),
        ("evaluate", "a.txt"),
        ("generate",),
        ("neighbors", "a.txt", "--sentence", "A word.", "--word", "word"),
        ("export-onnx", "out"),
    ],
)
def test_every_command_names_its_model_by_the_same_option(
    option: str, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse(*arguments, option, "en")["model"] == "en"
    error = refusal_of(capsys, *arguments)
    assert "error: missing: --model" in error
    assert f"usage: charembed {arguments[0]}" in error


def test_the_model_as_an_argument_of_export_onnx_is_refused_with_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    message = "error: unrecognized arguments: out; name the model with --model, as in: charembed export-onnx --model en"
    assert message in refusal_of(capsys, "export-onnx", "en", "out")
    assert message in refusal_of(capsys, "export-onnx", "en", "out", "--precision", "int8")


def test_missing_arguments_are_named_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert "error: missing: --output, --data.train" in refusal_of(capsys, "train")
    assert "FORWARD" in refusal_of(capsys, "import-flair").upper()
    assert "--text-colum" in refusal_of(capsys, "evaluate", "-m", "en", "a.txt", "--text-colum", "body")
    assert "error: --seed must be a whole number, got x\n" in refusal_of(capsys, "generate", "-m", "en", "--seed", "x")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, name)
    assert COMMANDS[name].summary.split()[0] in text
    assert "examples:\n  charembed " + name in text
    assert not re.findall(r"--[\w.-]*_[\w.-]*", text), "an option with an underscore"
    assert "\b" not in text, "a control character, which is shown as an escape"
    assert not re.search(r"type: |Literal\[|\{true,false\}|\[options\] ", text)
    for action in build_parser([name])._subcommands_action.choices[name]._actions:
        assert action.help or type(action).__name__ in ("_ActionConfigLoad", "ActionSubCommands"), action.dest


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_are_valid(name: str) -> None:
    import shlex

    for example in COMMANDS[name].examples:
        program, command, *arguments = shlex.split(example)
        assert (program, command) == ("charembed", name)
        parse(command, *(argument.replace("configs/", f"{ROOT}/configs/") for argument in arguments))


def test_help_of_train(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of(capsys, "train").split())
    for piece in (
        "--data.train",
        "a glob such as",
        "--data.held-out",
        "--budget.minutes",
        "Wall-clock minutes",
        "--optimizer.lr",
        "--model.cell",
        "--overwrite Start",
        "(default: 0)",
    ):
        assert piece in text, piece


def test_help_of_the_program_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of(capsys).split())
    for name, command in COMMANDS.items():
        assert f"{name} {command.summary}" in text


def test_help_imports_no_torch() -> None:
    """The program starts quickly; only the chosen command imports what it needs."""
    code = (
        "import sys\nfrom charembed.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(*sorted({'torch', 'numpy'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""


def test_the_parser_of_one_command_knows_its_options_only() -> None:
    options = build_parser(["evaluate"]).parse_args(["evaluate", "-m", "en", str(EXCERPT)])
    assert options.evaluate.model == "en"
    with pytest.raises(SystemExit):
        build_parser(["evaluate"]).parse_args(["generate", "-m", "en"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embed", "a.txt", "-o", "v", "--modle", "en"), "unrecognized arguments: --modle en; did you mean --model?"),
        (("train", "--data.trian", "a.txt"), "unrecognized arguments: --data.trian a.txt; did you mean --data.train?"),
        (("embed", "a.txt", "-o", "v", "-m", "en", "--zzz"), "unrecognized arguments: --zzz\n"),
        (
            ("embed", "a.txt", "-o", "v", "-m", "en", "--readout", "seperator"),
            "must be one of word, separator, got seperator\n",
        ),
        (
            ("embed", "a.txt", "-o", "v", "-m", "en", "--precision", "int4"),
            "must be one of auto, float32, tf32, int8, bfloat16, got int4\n",
        ),
    ],
)
def test_misspelt_options_and_values(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal_of(capsys, *arguments)


COMMANDS_WITH_FILES = {"train": TRAIN, "tag train": ("tag", "train", "--train", "a.conll", "--output", "out")}


@pytest.mark.parametrize(
    ("command", "content", "message"),
    [
        ("train", "optimizer:\n  lrr: 3\n", "there is no option 'optimizer.lrr'; did you mean optimizer.lr?"),
        ("train", "bogus: 1", "there is no option 'bogus'"),
        ("tag train", "bogus: 1", "there is no option 'bogus'"),
        ("tag train", "fit:\n  epoch: 3\n", "there is no option 'fit.epoch'; did you mean fit.epochs?"),
        ("tag train", "help: 1", "there is no option 'help'"),
        ("train", "model:\n  hidden_size: x\n", "model.hidden_size must be a whole number, got x"),
        ("tag train", "dim: x", "dim must be a whole number, got x"),
        ("tag train", "fit: 3", "fit must be a mapping of its options, such as epochs: …, got 3"),
        ("tag train", "fit:", "fit must be a mapping of its options, such as epochs: …, got nothing"),
        ("tag train", "tag_columns: 1", "tag_columns must be a mapping, such as '{name: 1}', got 1"),
        ("train", "- a\n- b\n", "a configuration must consist of lines such as option: value, got - a"),
        ("tag train", "", "a configuration must consist of lines such as option: value, got nothing"),
        ("tag train", "a: [1\n", "this is not valid YAML: line 2, column 1: "),
        ("tag train", b"\xff\xfe", "cannot be read as UTF-8 text: "),
    ],
)
def test_a_wrong_configuration_file_is_named_with_its_key(
    command: str, content: str | bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert f"error: {config}: {message}" in refusal_of(capsys, *COMMANDS_WITH_FILES[command], "--config", str(config))


@pytest.mark.parametrize("command", COMMANDS_WITH_FILES)
def test_a_wrong_configuration_on_the_command_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = COMMANDS_WITH_FILES[command]
    assert "error: there is no option 'bogus'\n" in refusal_of(capsys, *arguments, "--config", "{bogus: 1}")


def test_a_wrong_file_for_a_group_of_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(content: str) -> str:
        (tmp_path / "fit.yaml").write_text(content)
        return refusal_of(capsys, *COMMANDS_WITH_FILES["tag train"], "--fit", str(tmp_path / "fit.yaml"))

    assert "error: --fit: there is no option 'fit.epoch'; did you mean fit.epochs?\n" in refusal("epoch: 3")
    assert f"error: {tmp_path}/fit.yaml: fit.epochs must be a whole number, got x\n" in refusal("epochs: x")
    assert "error: --fit must be a YAML file of its options, " in refusal("- 3")
    no_yaml = refusal("Words: and: more\n")
    assert f"such as --fit.epochs, got {tmp_path}/fit.yaml: mapping values are not allowed here" in no_yaml
    absent = refusal_of(capsys, *COMMANDS_WITH_FILES["tag train"], "--fit", "absent.yaml")
    assert "such as --fit.epochs, got absent.yaml, which does not exist\n" in absent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tag", "train", "--tag-columns", "1"), "--tag-columns must be a mapping, such as '{name: 1}', got 1"),
        (("tag", "evaluate", "en-ner", "a", "--tag-columns", "1"), "--tag-columns must be a mapping, such as"),
        ((*TRAIN, "--budget.minutes", "x"), "--budget.minutes must be a number, got x"),
        ((*TRAIN, "--overwrite=3"), "--overwrite must be true or false, got 3"),
        ((*TRAIN, "--budget.minutes", "x" * 5000), f"--budget.minutes must be a number, got {'x' * 200} …"),
        (("embed", "a.txt", "--context-characters", "0"), "must be a whole number of at least 1, got 0"),
        (("evaluate", "-m", "en", "a.txt", "--errors", "x"), "--errors must be one of strict, replace, got x"),
        ((*PROBE, "--seeds", "[1.5]"), "each element of --seeds must be a whole number, got 1.5"),
        ((*PROBE, "--seeds", "x"), "--seeds must be a list, such as '[1]', got x"),
        (("tag", "predict", "en-ner", "a.txt", "--min-score", "2"), "--min-score must be a number from 0 to 1, got 2"),
        (("tag",), "missing: a command, one of train, predict, evaluate"),
        (("tag", "bogus"), "the command must be one of train, predict, evaluate, got bogus"),
    ],
)
def test_a_refused_value_is_explained_without_python_types(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal_of(capsys, *arguments).partition("error: ")[2]
    assert message in error
    assert error.count("\n") == 1, "more than one line"


@pytest.mark.parametrize(
    "arguments",
    [(*TRAIN, "b.txt"), (*TRAIN, "--data.train", "b.txt"), (*TRAIN, "--data.valid=a.txt", "--data.valid", "b.txt")],
)
def test_several_files_for_an_option_are_not_dropped(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "name several files in a list, --data." in refusal_of(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tag", "train", "--train", "a.conll", "--train=b.conll", "--output", "out"), "--train is given 2 times"),
        (("embed", "a.txt", "-o", "out", "--output", "other"), "-o is given 2 times"),
        (("embed", "a.txt", "-m", "en", "-m", "de", "-o", "out"), "-m is given 2 times"),
    ],
)
def test_a_file_or_model_is_given_once(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{message}; give it once" in refusal_of(capsys, *arguments)


def test_of_several_numbers_the_last_one_counts() -> None:
    assert parse(*TRAIN, "--budget.minutes", "1", "--budget.minutes", "2")["budget"]["minutes"] == 2
