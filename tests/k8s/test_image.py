"""What can be checked of the Dockerfile without building it."""

import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from cluster.project_root import PROJECT_ROOT
from tests.k8s.rendering import K8S, of_kind, pod_templates, rendered

Instruction = tuple[str, str]


@pytest.fixture(scope="module")
def instructions() -> list[Instruction]:
    """The Dockerfile's instructions with their arguments, continued lines joined, comments left out."""
    text = (K8S / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word, rest) for word, rest in pairs]


def _all(instructions: list[Instruction], word: str) -> list[str]:
    return [rest for name, rest in instructions if name == word]


def test_every_stage_starts_from_one_that_is_there(instructions: list[Instruction]) -> None:
    stages: set[str] = set()
    for line in _all(instructions, "FROM"):
        origin, _, stage = line.partition(" AS ")
        assert origin in stages or origin == "${ACCELERATOR}" or re.fullmatch(r"python:3\.11-[a-z-]+", origin)
        stages.add(stage)

    assert {"cpu", "cuda"} < stages
    assert _all(instructions, "ARG") == ["ACCELERATOR=cpu"]


def test_what_is_copied_is_in_the_checkout_and_in_the_context(instructions: list[Instruction]) -> None:
    ignored = (K8S / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    sources = [path for line in _all(instructions, "COPY") for path in line.split()[:-1]]

    for path in sources:
        assert (PROJECT_ROOT / path).exists()
        assert f"!{path}" in ignored
    packages = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    for pattern in packages["packages"]["find"]["include"]:
        assert any(fnmatch(path, pattern) for path in sources)


def test_every_package_is_pinned_by_the_constraints(instructions: list[Instruction]) -> None:
    installs = re.findall(r"pip install ([^&>]*)", " && ".join(_all(instructions, "RUN")))

    assert len(installs) == 5
    for arguments in installs:
        # The project itself, whose packages are there by then, brings no other.
        assert arguments.startswith("-c constraints.txt ") or "--no-deps --no-build-isolation" in arguments


def test_the_list_of_packages_is_that_of_the_project_with_table_formats_and_gguf(
    instructions: list[Instruction],
) -> None:
    (command,) = re.findall(r'python -c "(import tomllib[^"]*)"', " ".join(_all(instructions, "RUN")))
    done = subprocess.run([sys.executable, "-c", command], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    extras = project["optional-dependencies"]
    wanted = [requirement for extra in ("delta", "iceberg", "gguf") for requirement in extras[extra]]
    assert done.stdout.splitlines() == [*project["dependencies"], *wanted]


def test_compiler_shell_and_probe_are_installed(instructions: list[Instruction]) -> None:
    commands = _all(instructions, "RUN")

    assert any({"bash", "g++", "wget"} <= set(command.split()) for command in commands)
    dependencies = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(requirement.startswith("ninja") for requirement in dependencies["dependencies"])


def test_it_runs_as_the_user_of_the_pods(instructions: list[Instruction]) -> None:
    user, group = _all(instructions, "USER")[-1].split(":")
    (job,) = of_kind(rendered("smoke"), "RayJob")

    assert instructions.index(("USER", f"{user}:{group}")) > max(
        index for index, (word, _) in enumerate(instructions) if word == "RUN"
    )
    for pod in pod_templates(job):
        assert str(pod.spec["securityContext"]["runAsUser"]) == user
        assert str(pod.spec["securityContext"]["runAsGroup"]) == group


def test_the_program_starts_from_any_folder(instructions: list[Instruction], tmp_path: Path) -> None:
    """The image puts the checkout on PYTHONPATH and starts `python -m pipeline` elsewhere."""
    assert ("ENV", "PYTHONPATH=/opt/dealrec") in instructions
    assert _all(instructions, "CMD") == ['["python", "-m", "pipeline", "--help"]']
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0
    assert "run" in done.stdout


def test_the_data_of_smoke_is_what_its_first_container_writes() -> None:
    (job,), (config_map,) = (of_kind(rendered("smoke"), kind) for kind in ("RayJob", "ConfigMap"))
    (prepare,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["initContainers"]
    module, folder = prepare["command"][2:]

    assert (PROJECT_ROOT / module.replace(".", "/")).with_suffix(".py").exists()
    assert f"{folder}/movielens.parquet" in config_map["data"]["config.yaml"]
    assert f"{folder}/smollm2-135m-instruct" in config_map["data"]["config.yaml"]
