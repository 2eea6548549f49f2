"""The files for SLURM and Kubernetes: their syntax, and that the commands in them are commands of this version."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from helpers import ROOT

from charembed.cli.main import build_parser

FOLDER = ROOT / "configs" / "cluster"
BATCH = sorted(path.name for path in FOLDER.glob("*.sbatch"))
MANIFESTS = sorted(path.name for path in FOLDER.glob("*.yaml"))


def commands(text: str) -> list[list[str]]:
    """Return the arguments of each call of charembed in a script."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    found = [match[1] for line in lines if (match := re.search(r"(?:^|--module )charembed ((?:embed|train) .*)", line))]
    return [shlex.split(command.replace("$", "")) for command in found]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("name", BATCH)
def test_batch_scripts_are_bash_and_call_commands_of_this_version(name: str) -> None:
    done = subprocess.run(["bash", "-n", str(FOLDER / name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    text = (FOLDER / name).read_text()
    assert len(re.findall(r"^#SBATCH --[a-z-]+(=\S+)?$", text, re.MULTILINE)) == text.count("#SBATCH") > 4
    called = commands(text)
    assert called
    for command in called:
        if command[0] == "embed":
            assert build_parser(command).parse_args(command).embed.cluster


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_name_what_they_need(name: str) -> None:
    documents = list(yaml.safe_load_all((FOLDER / name).read_text()))
    assert all({"apiVersion", "kind", "metadata", "spec"} == document.keys() for document in documents)
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    for document in documents:
        if document["kind"] != "RayJob":  # of KubeRay, whose schema is not among those of Kubernetes
            validate.validate(document, validate.latest_version(), strict=True)


def test_the_pods_of_the_ray_job_are_pods() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    (job,) = yaml.safe_load_all((FOLDER / "embed.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}
        validate.validate(pod, validate.latest_version(), strict=True)


def test_the_ray_job_calls_a_command_of_this_version() -> None:
    (job,) = yaml.safe_load_all((FOLDER / "embed.yaml").read_text())
    command = shlex.split(job["spec"]["entrypoint"])
    assert command[0] == "charembed"
    assert build_parser(command[1:]).parse_args(command[1:]).embed.cluster == "auto"
